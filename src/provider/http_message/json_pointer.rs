//! JSON pointers (RFC 6901).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, quoted};

/// A JSON pointer (RFC 6901): where a JSON body has a member. `/error/code` is the member `code` of
/// the object in the member `error`, and `/0` is the first item of a list.
///
/// ```
/// use session_warden::provider::http_message::JsonPointer;
///
/// let pointer: JsonPointer = "/error/code".parse()?;
/// assert_eq!(pointer.to_string(), "/error/code");
/// assert!(JsonPointer::new("error.code").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPointer {
    /// The names on the way, unescaped.
    names: Vec<String>,
}

impl JsonPointer {
    /// The pointer with this text. The empty text points to the whole body.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the text is not empty and does not begin with `/`, or has a
    /// `~` that neither `0` nor `1` follows.
    pub fn new(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::new(ErrorKind::InvalidInput).about(format!(
                "{} is not a JSON pointer; write a / before each name, for example /error/code",
                quoted(text)
            ))
        };
        let mut parts = text.split('/');
        if parts.next().is_some_and(|before| !before.is_empty()) {
            return Err(invalid());
        }
        let names: Option<Vec<_>> = parts.map(unescaped).collect();
        names.map(|names| Self { names }).ok_or_else(invalid)
    }

    /// The pointer to the member of this name.
    pub(in crate::provider) fn of_member(name: &str) -> Self {
        Self { names: vec![name.to_owned()] }
    }

    /// The names on the way, unescaped.
    pub(in crate::provider) fn names(&self) -> &[String] {
        &self.names
    }
}

/// RFC 6901 section 4: `~1` stands for `/` and `~0` for `~`.
fn unescaped(name: &str) -> Option<String> {
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    let whole = name.split('~').skip(1).all(is_escape);
    whole.then(|| name.replace("~1", "/").replace("~0", "~"))
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |name: &String| name.replace('~', "~0").replace('/', "~1");
        self.names.iter().try_for_each(|name| write!(f, "/{}", escaped(name)))
    }
}

impl FromStr for JsonPointer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for JsonPointer {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(&text)
    }
}

impl From<JsonPointer> for String {
    fn from(pointer: JsonPointer) -> Self {
        pointer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_and_written_as_rfc_6901_says() {
        for (text, names) in [
            ("", &[][..]),
            ("/", &[""]),
            ("/error/code", &["error", "code"]),
            ("/a~1b/m~0n/~01", &["a/b", "m~n", "~1"]),
            ("/0", &["0"]),
        ] {
            let pointer = JsonPointer::new(text).unwrap();
            assert_eq!(pointer.names(), names, "{text}");
            assert_eq!(pointer.to_string(), text);
        }
        for text in ["error", "error/code", "/a~2", "/a~"] {
            let error = JsonPointer::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
