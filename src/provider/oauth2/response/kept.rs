//! The members of a token response that a session keeps as attributes.

use serde_json::Value;

use crate::error::{Refusal, quoted};
use crate::key::SessionId;
use crate::log::log_limited;
use crate::policy::MAX_ATTRIBUTE_BYTES;
use crate::provider::http_message::{HttpResponse, JsonPointer, member_at};
use crate::provider::oauth2::OAuth2;
use crate::provider::{ExchangeError, Exchanged, FailureClass, HttpSender};

impl OAuth2 {
    /// The members that the session keeps, with the names of their attributes.
    pub(in crate::provider::oauth2) fn kept_members(
        &self,
        response: &HttpResponse,
    ) -> impl Iterator<Item = (String, String)> {
        let kept = self.token_response.attributes.iter();
        kept.filter_map(|(attribute, pointer)| Some((attribute.clone(), text(response, pointer)?)))
    }

    /// The type of a token that was issued in exchange for another one (RFC 8693 section 2.2.1).
    pub(in crate::provider::oauth2) fn issued_token_type(
        response: &HttpResponse,
    ) -> Option<String> {
        text(response, &JsonPointer::new("/issued_token_type").ok()?)
    }

    /// The host that the response names for the session; None if it names none. A refresh never
    /// fails for a host that the settings do not allow, because the new tokens would be lost: then
    /// the session keeps its host.
    pub(in crate::provider::oauth2) fn named_host(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        is_refresh: bool,
    ) -> Exchanged<Option<String>> {
        let Some(settings) = &self.session_host else { return Ok(None) };
        let named = settings.response_member.as_ref().and_then(|member| text(response, member));
        let Some(named) = named.filter(|named| !named.trim().is_empty()) else { return Ok(None) };
        let refused = match self.allowed_host(settings, &named) {
            Ok(host) => return Ok(Some(host)),
            Err(refused) => refused,
        };
        if is_refresh {
            let session = sender.session();
            log_limited!(
                sender.log_limit(),
                warn,
                session.map(SessionId::provider),
                "the response names a host that the settings do not allow, so the session keeps \
                 its host; if it belongs to the vendor, add it to `session_host.allowed`",
                tenant = session.map(|session| session.key().tenant().as_str()),
                token_id = session.map(|session| session.key().token_id()),
                host = quoted(&named)
            );
            return Ok(None);
        }
        let class = FailureClass::Refused(Refusal::HostNotAllowed);
        let about = refused.explanation().map(Into::into);
        Err(ExchangeError { about, ..ExchangeError::of_response(class, response) })
    }
}

/// The text, number or boolean at a pointer; None if it is something else or too long.
fn text(response: &HttpResponse, pointer: &JsonPointer) -> Option<String> {
    let text = match member_at(response, None, pointer).ok()?? {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (text.len() <= MAX_ATTRIBUTE_BYTES).then_some(text)
}
