//! Writing JSON bodies.

use std::io::{self, Write};

use bytes::Bytes;
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// A JSON body. Its memory is wiped when the request is done. See the
/// [example of the module](super).
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if `value` cannot be written as JSON.
pub fn json_body<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    let invalid = |_| {
        Error::new(ErrorKind::InvalidInput)
            .about("the arguments cannot be written as JSON, so see the cause of this error")
    };
    // The length is measured first, so that the text never moves to other memory, which would leave
    // a copy behind.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_err(invalid)?;
    let mut body = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *body, value).map_err(invalid)?;
    Ok(Bytes::from_owner(body))
}

/// A JSON object of these members, whose names may be configured.
pub(in crate::provider) struct Members<'m, V>(pub(in crate::provider) &'m [(&'m str, V)]);

impl<V: Serialize> Serialize for Members<'_, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct Length(usize);

impl Write for Length {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += text.len();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_in_their_order_and_escaped() {
        let body = json_body(&Members(&[("b", "x\"\n\u{1}é"), ("a", "")])).unwrap();
        assert_eq!(&body[..], "{\"b\":\"x\\\"\\n\\u0001é\",\"a\":\"\"}".as_bytes());
    }

    #[test]
    fn what_cannot_be_json_is_refused_and_not_quoted() {
        let map = std::collections::BTreeMap::from([(vec!["canary"], 1)]);
        let error = json_body(&map).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!format!("{error:?}").contains("canary"));
    }
}
