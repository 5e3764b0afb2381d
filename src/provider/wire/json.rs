//! JSON bodies of requests.

use std::io;

use bytes::Bytes;
use zeroize::Zeroizing;

/// A JSON object of texts as a body that is wiped when the request is done.
#[must_use]
pub fn json<'v>(members: impl IntoIterator<Item = (&'static str, &'v str)>) -> Bytes {
    let members: Vec<_> = members.into_iter().collect();
    // Room for every byte to be escaped (`\u0000`), so that the text never moves and leaves a copy
    // behind.
    let room =
        members.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum::<usize>();
    let mut body = Body(Zeroizing::new(Vec::with_capacity(room + 2)));
    body.push(b"{");
    for (at, (name, value)) in members.into_iter().enumerate() {
        if at > 0 {
            body.push(b",");
        }
        body.text(name);
        body.push(b":");
        body.text(value);
    }
    body.push(b"}");
    Bytes::from_owner(body.0)
}

struct Body(Zeroizing<Vec<u8>>);

impl Body {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        // A text can always be written, and so can memory.
        drop(serde_json::to_writer(self, text));
    }
}

impl io::Write for &mut Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_is_what_a_parser_reads_back() {
        assert_eq!(&json([])[..], b"{}");
        assert_eq!(
            &json([("a", "b\"\\\n"), ("c", "é")])[..],
            r#"{"a":"b\"\\\n","c":"é"}"#.as_bytes()
        );
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(one: String, two: String)| {
            let body = json([("one", one.as_str()), ("two", two.as_str())]);
            let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(read, serde_json::json!({ "one": one, "two": two }));
        });
    }
}
