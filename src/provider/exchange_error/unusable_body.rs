//! What is wrong with a response that cannot be used.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, header};
use serde_json::error::Category;

/// What is wrong with a body, and where. The parser's own message is not used, because it quotes
/// the text, which may be a token.
#[derive(Debug)]
pub(in crate::provider) struct UnusableBody {
    /// What the response does: it "has no access_token", for example.
    pub(super) words: Cow<'static, str>,
    pub(super) content_type: Option<String>,
    /// Line and column.
    position: Option<(usize, usize)>,
}

impl UnusableBody {
    pub(in crate::provider) fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self { words: words.into(), content_type: None, position: None }
    }

    /// With the content type of the response.
    pub(in crate::provider) fn of_type(self, headers: &HeaderMap) -> Self {
        Self { content_type: shown_type(headers), ..self }
    }
}

impl From<&serde_json::Error> for UnusableBody {
    fn from(error: &serde_json::Error) -> Self {
        let words = match error.classify() {
            Category::Syntax | Category::Io => "is no JSON",
            Category::Eof => "is cut short",
            Category::Data => "has members that cannot be used",
        };
        let position = (error.line() > 0).then(|| (error.line(), error.column()));
        Self { position, ..Self::new(words) }
    }
}

/// The caller's error has the words.
impl fmt::Display for UnusableBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body cannot be used")?;
        match self.position {
            None => Ok(()),
            Some((line, column)) => write!(f, " (line {line}, column {column})"),
        }
    }
}

impl std::error::Error for UnusableBody {}

/// The content type without its parameters. The server may have sent any text, so it ends before
/// the first character that cannot be in a media type (RFC 6838 section 4.2).
fn shown_type(headers: &HeaderMap) -> Option<String> {
    const LONGEST: usize = 64;

    let value = headers.get(header::CONTENT_TYPE)?.as_bytes().trim_ascii_start();
    let in_type = |byte: &&u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(byte);
    let shown: String =
        value.iter().take(LONGEST).take_while(in_type).map(|byte| char::from(*byte)).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_can_be_a_content_type_is_shown() {
        let shown = |value: &[u8]| {
            let value = HeaderValue::from_bytes(value).unwrap();
            shown_type(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        assert_eq!(shown(b"text/html; charset=canary").as_deref(), Some("text/html"));
        assert_eq!(shown(b" application/x+json").as_deref(), Some("application/x+json"));
        assert_eq!(shown(b"text/\xff\xfe").as_deref(), Some("text/"));
        assert_eq!(shown("x".repeat(500).as_bytes()).map(|shown| shown.len()), Some(64));
        assert_eq!(
            (shown(b""), shown(b"\"a\""), shown_type(&HeaderMap::new())),
            (None, None, None)
        );
    }
}
