//! The members of a token response that a session keeps as attributes.

use serde_json::Value;

use crate::policy::MAX_ATTRIBUTE_BYTES;
use crate::provider::http_message::{HttpResponse, JsonPointer, member_at};
use crate::provider::oauth2::OAuth2;

impl OAuth2 {
    /// The members that the session keeps, with the names of their attributes.
    pub(in crate::provider::oauth2) fn kept_members(
        &self,
        response: &HttpResponse,
    ) -> impl Iterator<Item = (String, String)> {
        let kept = self.token_response.attributes.iter();
        kept.filter_map(|(attribute, pointer)| Some((attribute.clone(), text(response, pointer)?)))
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
