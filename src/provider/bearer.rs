//! What an API says of a bearer token (RFC 6750 section 3).

use http::{HeaderMap, StatusCode, header};

use super::Rejection;

/// Reads the response of an API that was called with a bearer token.
pub(crate) fn rejection(response: &http::response::Parts) -> Rejection {
    let code = error(&response.headers);
    match response.status {
        StatusCode::UNAUTHORIZED => match code.as_deref() {
            Some("insufficient_scope" | "invalid_request") => Rejection::OtherReason,
            _ => Rejection::TokenDead,
        },
        StatusCode::FORBIDDEN => Rejection::OtherReason,
        StatusCode::BAD_REQUEST if code.as_deref() == Some("invalid_request") => {
            Rejection::OtherReason
        }
        _ => Rejection::None,
    }
}

/// The `error` of the Bearer challenge, at any position among other challenges (RFC 9110 section
/// 11.6.1).
pub(crate) fn error(headers: &HeaderMap) -> Option<String> {
    let mut pieces = values(headers).flat_map(pieces);
    pieces.find(Piece::is_bearer_error).map(|piece| piece.value.trim_matches('"').to_owned())
}

/// Whether one of the challenges is of this scheme.
pub(super) fn challenges(headers: &HeaderMap, scheme: &str) -> bool {
    values(headers).flat_map(pieces).any(|piece| piece.scheme.eq_ignore_ascii_case(scheme))
}

fn values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok())
}

/// A parameter of a challenge; without a name and a value, the scheme alone.
struct Piece<'h> {
    scheme: &'h str,
    name: &'h str,
    value: &'h str,
}

impl Piece<'_> {
    fn is_bearer_error(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("bearer") && self.name.eq_ignore_ascii_case("error")
    }
}

fn pieces(list: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut scheme = "";
    items(list).map(move |item| {
        let (name, value) = match item.split_once('=') {
            Some((before, value)) => (before.trim_end(), value.trim_start()),
            None => (item, ""),
        };
        // "Bearer realm": a new challenge begins here; a parameter's name is one word.
        let name = match name.split_once(char::is_whitespace) {
            Some((begins, name)) => {
                scheme = begins;
                name.trim_start()
            }
            None if item.contains('=') => name,
            None => {
                scheme = name;
                ""
            }
        };
        Piece { scheme, name, value }
    })
}

/// The items of a list, split at the commas that are outside of quotes.
fn items(list: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let split = list.split(move |c| {
        quoted ^= c == '"' && !escaped;
        escaped = quoted && !escaped && c == '\\';
        c == ',' && !quoted
    });
    split.map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, challenges: &[&str]) -> Rejection {
        let mut response = http::Response::builder().status(status);
        for challenge in challenges {
            response = response.header(header::WWW_AUTHENTICATE, *challenge);
        }
        rejection(&response.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_401_means_a_dead_token_unless_the_challenge_says_otherwise() {
        for dead in [
            &[][..],
            &["Bearer"],
            &["Bearer realm=\"x\""],
            &["Bearer realm=\"x\", error=\"invalid_token\""],
            &["bearer error=invalid_token"],
            &["Basic realm=\"error\", error=\"insufficient_scope\""],
            &["Negotiate abc==, Bearer realm=\"a, error=\\\"insufficient_scope\\\"\""],
            &["Bearer error=\"invalid_token\", Basic error=\"insufficient_scope\""],
        ] {
            assert_eq!(judged(401, dead), Rejection::TokenDead, "{dead:?}");
        }
        for other in [
            &["Bearer error=\"insufficient_scope\", scope=\"write\""][..],
            &["Basic realm=\"x\"", "BEARER realm=\"x\" , Error = \"insufficient_scope\""],
            &["Basic realm=\"x, y\", Bearer error=insufficient_scope"],
            &["Bearer error=\"invalid_request\""],
        ] {
            assert_eq!(judged(401, other), Rejection::OtherReason, "{other:?}");
        }
    }

    #[test]
    fn a_challenge_is_found_among_others_and_not_in_their_parameters() {
        let found = |values: &[&'static str]| {
            let values = values.iter().map(|value| http::HeaderValue::from_static(value));
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
            challenges(&headers, "basic")
        };
        for there in [
            &["Basic"][..],
            &["BASIC realm=\"x\""],
            &["Bearer realm=\"x, y\", error=\"invalid_token\", basic realm=\"z\""],
            &["Negotiate abc==", "Basic realm=\"x\""],
            &["Basic realm = \"x\", charset=\"UTF-8\""],
        ] {
            assert!(found(there), "{there:?}");
        }
        for other in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer realm=\"a, Basic realm=b\""],
            &["Bearer scope=\"\\\", Basic\""],
            &["Basically realm=\"x\""],
            &["Bearer basic=\"x\""],
        ] {
            assert!(!found(other), "{other:?}");
        }
    }

    #[test]
    fn no_other_status_kills_a_token() {
        assert_eq!(judged(403, &["Bearer error=\"insufficient_scope\""]), Rejection::OtherReason);
        assert_eq!(judged(403, &[]), Rejection::OtherReason);
        assert_eq!(judged(400, &["Bearer error=\"invalid_request\""]), Rejection::OtherReason);
        for status in [200, 204, 302, 400, 404, 429, 500, 503] {
            assert_eq!(judged(status, &[]), Rejection::None, "{status}");
        }
    }
}
