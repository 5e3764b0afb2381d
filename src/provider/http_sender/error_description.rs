//! The log line with a server's description of an error (RFC 6749 section 5.2), which helps an
//! operator who reads the log at the level `debug`. Nothing else in the crate reads a description.

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tracing::Level;
use zeroize::Zeroizing;

use super::request_secrets::RequestSecrets;
use crate::error::{Endpoint, ProviderCode};
use crate::key::{SessionId, misleads};
use crate::log::current_span;
use crate::policy::DESCRIPTION_CHARACTERS;
use crate::provider::http_message::lenient::Scalar;
use crate::provider::http_message::{ErrorResponse, HttpRequest, HttpResponse, form, value_at};

/// What a description says that holds a secret which cannot be masked in it.
const REDACTED: &str = "[redacted]";

const NAME: &str = "error_description";

/// The parts of a request that may hold secrets. They share the request's memory.
pub(super) struct SentParts {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl SentParts {
    /// The parts of the request; None if descriptions are not logged.
    pub(super) fn of_logged(request: &HttpRequest) -> Option<Self> {
        tracing::enabled!(Level::DEBUG).then(|| Self::of(request))
    }

    fn of(request: &HttpRequest) -> Self {
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        Self { uri, headers, body: request.body().clone() }
    }

    /// Logs the description of the error that the request caused, if the response has one.
    pub(super) fn log_description(&self, session: Option<&SessionId>, response: &HttpResponse) {
        let error = ErrorResponse::of(response);
        if response.status().as_u16() < 400 && !error.failed {
            return;
        }
        let Some(description) = self.description(response) else { return };
        let code = error.code.as_deref().and_then(ProviderCode::new);
        tracing::debug!(
            parent: current_span().id(),
            provider = session.map(|id| id.provider().as_str()),
            tenant = session.map(|id| id.key().tenant().as_str()),
            token_id = session.map(|id| id.key().token_id()),
            endpoint = response.extensions().get::<Endpoint>().map(Endpoint::url),
            status = response.status().as_u16(),
            code = code.as_ref().map(ProviderCode::as_str),
            error_description = description.as_str(),
            "the server describes the error of its response"
        );
    }

    /// The description without the secrets of the request, on one line, and cut.
    fn description(&self, response: &HttpResponse) -> Option<String> {
        let text = on_one_line(&stated(response)?);
        if text.is_empty() {
            return None;
        }
        Some(match RequestSecrets::of(&self.uri, &self.headers, &self.body) {
            Some(secrets) => secrets.masked(&text, REDACTED, DESCRIPTION_CHARACTERS),
            None => REDACTED.to_owned(),
        })
    }
}

/// The description as the server wrote it, from a form or from JSON.
fn stated(response: &HttpResponse) -> Option<Zeroizing<String>> {
    if let Some(fields) = form::fields_of(response) {
        return fields.filter(|(name, _)| name.as_str() == NAME).last().map(|(_, text)| text);
    }
    let found = value_at::<Scalar>(response.body(), &[NAME]).ok()??;
    found.text().map(Zeroizing::new)
}

/// The text without control characters and without characters that are invisible or change the
/// order of text. Line breaks and other white space are single spaces.
fn on_one_line(text: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(text.len()));
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control() && !misleads(*c)));
    }
    line
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn sent(body: &'static str) -> SentParts {
        let request = Request::post("https://as.example/token?token=queried-secret")
            .header("content-type", form::FORM)
            .header("authorization", "Basic YmFja2VuZDpwJTQwc3MrcGhyYXNl");
        SentParts::of(&request.body(Bytes::from_static(body.as_bytes())).unwrap())
    }

    fn answer(kind: &str, body: impl Into<Bytes>) -> HttpResponse {
        Response::builder().status(400).header("content-type", kind).body(body.into()).unwrap()
    }

    fn shown(description: &str) -> Option<String> {
        let body = serde_json::json!({"error": "invalid_grant", NAME: description});
        let response = answer("application/json", body.to_string());
        sent("grant_type=refresh_token&refresh_token=rt-0123456789").description(&response)
    }

    #[test]
    fn an_ordinary_description_is_shown_as_it_is() {
        let text = "AADSTS700082: The refresh token has expired due to inactivity.";
        assert_eq!(shown(text).as_deref(), Some(text));
        assert_eq!(
            shown("grant_type refresh_token: ü").as_deref(),
            Some("grant_type refresh_token: ü")
        );
    }

    #[test]
    fn a_description_is_read_from_a_form_too() {
        let response = answer(form::FORM, "error=invalid_grant&error_description=no+such%20token");
        assert_eq!(sent("").description(&response).as_deref(), Some("no such token"));
    }

    #[test]
    fn a_response_without_a_text_as_description_has_none() {
        for body in ["", "<p>", "[]", "{}", r#"{"error_description":7}"#, "error_description=a"] {
            assert_eq!(sent("").description(&answer("application/json", body)), None, "{body}");
        }
        let latin: &[u8] = b"{\"error_description\":\"\xfc\"}";
        assert_eq!(sent("").description(&answer("application/json", latin)), None);
        assert_eq!(shown(" \u{200b}\n"), None);
    }

    #[test]
    fn nothing_in_a_description_moves_the_cursor_or_turns_text_around() {
        let text = "no\u{1b}[31m \u{202e}such\r\n\ttoken\u{200b}\u{0}\u{2028}Trace";
        assert_eq!(shown(text).as_deref(), Some("no[31m such token Trace"));
    }

    #[test]
    fn a_description_is_cut_to_the_bound_after_its_secrets_are_masked() {
        let text = shown(&"é".repeat(DESCRIPTION_CHARACTERS + 1)).unwrap();
        assert_eq!(text, "é".repeat(DESCRIPTION_CHARACTERS));
        let before = "x".repeat(DESCRIPTION_CHARACTERS - 4);
        let text = shown(&format!("{before}rt-0123456789 and more")).unwrap();
        assert_eq!(text, format!("{before}[red"));
        assert_eq!(shown(&"rt-0123456789".repeat(50)).as_deref(), Some(REDACTED));
    }

    #[test]
    fn secrets_of_body_query_and_header_are_masked() {
        let text = "no rt-0123456789, queried-secret, p@ss phrase, p%40ss+phrase, or \
                    YmFja2VuZDpwJTQwc3MrcGhyYXNl of backend";
        let expected = "no [redacted], [redacted], [redacted], [redacted], or [redacted] of \
                        [redacted]";
        assert_eq!(shown(text).as_deref(), Some(expected));
    }

    #[test]
    fn a_secret_too_short_to_be_masked_hides_the_whole_description() {
        let response = answer("application/json", r#"{"error_description":"no 123"}"#);
        let sent = sent("grant_type=mfa&code=123");
        assert_eq!(sent.description(&response).as_deref(), Some(REDACTED));
    }
}
