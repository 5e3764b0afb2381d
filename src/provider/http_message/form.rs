//! Forms (`application/x-www-form-urlencoded`), written and read.

use bytes::Bytes;
use http::HeaderMap;
use zeroize::Zeroizing;

use super::percent;
use super::read_json::{is_of_type, without_byte_order_mark};
use super::whole_message::HttpResponse;

/// The content type of a form.
pub(in crate::provider) const FORM: &str = "application/x-www-form-urlencoded";

/// An `application/x-www-form-urlencoded` body of these fields: name, value. Its memory is wiped
/// when the request is done. See the [example of the module](super).
#[must_use]
pub fn form_body<'v>(fields: impl IntoIterator<Item = (&'v str, &'v str)>) -> Bytes {
    Bytes::from_owner(form_text(fields))
}

/// The text of a form with these fields.
pub(in crate::provider) fn form_text<'v>(
    fields: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> Zeroizing<String> {
    // There is room for every byte to be escaped. So the text never moves to other memory, which
    // would leave a copy of the secret behind.
    let fields: Vec<_> = fields.into_iter().collect();
    let room = |(name, value): &(&str, &str)| escaped_room(name) + escaped_room(value) + 2;
    let mut text = Zeroizing::new(String::with_capacity(fields.iter().map(room).sum()));
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        escape(name, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// Appends `text` as a form's value; `to` has [`escaped_room`] for it.
pub(crate) fn escape(text: &str, to: &mut String) {
    to.extend(url::form_urlencoded::byte_serialize(text.as_bytes()));
}

/// The most bytes that `text` has once it is escaped.
pub(crate) fn escaped_room(text: &str) -> usize {
    3 * text.len()
}

/// Whether the content type allows a form. Some servers send a form as plain text.
pub(in crate::provider) fn is_form(headers: &HeaderMap) -> bool {
    is_of_type(headers, FORM) || is_of_type(headers, "text/plain")
}

/// The fields of a response that is a form; None if it is JSON, or cannot be a form. JSON is known
/// by how it begins, whatever its content type is.
pub(in crate::provider) fn fields_of(
    response: &HttpResponse,
) -> Option<impl Iterator<Item = (Zeroizing<String>, Zeroizing<String>)>> {
    let body = without_byte_order_mark(response.body());
    let is_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
    (!is_json && is_form(response.headers())).then(|| fields(body))
}

/// The fields of a form, decoded. Each value is wiped when it is dropped. A field that is not UTF-8
/// is left out.
pub(in crate::provider) fn fields(
    body: &[u8],
) -> impl Iterator<Item = (Zeroizing<String>, Zeroizing<String>)> {
    body.trim_ascii().split(|byte| *byte == b'&').filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(at);
        Some((decoded(name)?, decoded(value.strip_prefix(b"=").unwrap_or_default())?))
    })
}

/// A name or a value, decoded as the URL standard says; None if it is not UTF-8.
fn decoded(text: &[u8]) -> Option<Zeroizing<String>> {
    let bytes = percent::decoded(text);
    let text = std::str::from_utf8(&bytes).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::header;
    use proptest::prelude::*;

    use super::*;

    fn read(body: &[u8]) -> Vec<(String, String)> {
        fields(body).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_form_escapes_names_and_values_as_the_url_standard_says() {
        let body = form_body([("grant_type", "password"), ("password", "a b&c=d+é")]);
        assert_eq!(&body[..], b"grant_type=password&password=a+b%26c%3Dd%2B%C3%A9");
        assert!(form_body([]).is_empty());
    }

    #[test]
    fn a_form_is_read_as_the_url_standard_says() {
        let expected = [("a", "x y&z"), ("b", "é%zz%"), ("c", ""), ("d", ""), ("e", "f=g")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read(b"\na=x+y%26z&b=%C3%A9%zz%&c=&d&e=f=g\r\n"), expected);
        assert_eq!(read(b"a=%ff&b=%c3&c=1"), [("c".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_form_is_known_by_its_content_type() {
        let known = |kind: &str| {
            let kind = http::HeaderValue::from_str(kind).unwrap();
            is_form(&HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]))
        };
        assert!(known("application/x-www-form-urlencoded; charset=utf-8"));
        assert!(known("Text/Plain"));
        assert!(!known("application/json") && !known("text/html") && !known(""));
        assert!(!is_form(&HeaderMap::new()));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_panics() {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config.clone(), |(value: String)| {
            let body = form_body([("token", value.as_str())]);
            prop_assert_eq!(read(&body), [("token".to_owned(), value)]);
        });
        proptest!(config, |(body in proptest::collection::vec(any::<u8>(), 0..100))| {
            let standard: Vec<_> = url::form_urlencoded::parse(body.trim_ascii()).into_owned()
                .filter(|(name, value)| !format!("{name}{value}").contains('\u{fffd}')).collect();
            let read = read(&body);
            prop_assert!(standard.iter().all(|pair| read.contains(pair)));
        });
    }
}
