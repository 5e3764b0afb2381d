//! The rules of the settings for responses that mean something else than by the standard.

use http::StatusCode;

use super::OAuth2;
use super::settings::{DeadTokenRule, ErrorClass, ErrorRule, JsonScalar};
use crate::error::Refusal;
use crate::provider::http_message::lenient::Scalar;
use crate::provider::http_message::{HttpResponse, JsonPointer, member_at, value_at};
use crate::provider::{ExchangeError, Exchanged, FailureClass, HttpSender, Rejection, Revoked};

impl OAuth2 {
    /// The failure that a rule says a response without a token is; None if no rule fits.
    pub(super) fn ruled(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        invalid_grant: FailureClass,
    ) -> Option<ExchangeError> {
        let rule = fitting(&self.error_rules, response)?;
        Some(failure(rule, sender, response, invalid_grant))
    }

    /// What a rule says of a response without a token; None if no rule fits.
    pub(super) fn ruled_class(&self, response: &HttpResponse) -> Option<ErrorClass> {
        fitting(&self.error_rules, response).map(|rule| rule.class)
    }

    /// What a rule says of a response of the vendor's API; None if no rule fits.
    pub(super) fn ruled_rejection(&self, status: StatusCode, body: &[u8]) -> Option<Rejection> {
        let fits = |rule: &&DeadTokenRule| rule.status == status.as_u16() && is_word(rule, body);
        let rule = self.token_dead_on.iter().find(fits)?;
        Some(if rule.session { Rejection::SessionDead } else { Rejection::TokenDead })
    }

    /// Whether a rule looks for a word in the body of such a response.
    pub(super) fn has_dead_word(&self, status: StatusCode) -> bool {
        let reads = |rule: &DeadTokenRule| rule.pointer.is_some() || rule.value.is_some();
        self.token_dead_on.iter().any(|rule| rule.status == status.as_u16() && reads(rule))
    }
}

/// The result that a revocation endpoint's response means (RFC 7009 section 2.2).
pub(super) fn revoked(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    rules: &[ErrorRule],
) -> Exchanged<Revoked> {
    match fitting(rules, response) {
        // The token is no longer valid.
        Some(rule) if rule.class == ErrorClass::InvalidGrant => return Ok(Revoked::AtServer),
        Some(rule) => {
            let invalid_grant = FailureClass::Refused(Refusal::Other);
            return Err(failure(rule, sender, response, invalid_grant));
        }
        None => {}
    }
    if response.status().is_success() {
        return Ok(Revoked::AtServer);
    }
    let failed = sender.oauth_error(response, FailureClass::Rejected);
    match failed.code.as_ref().map(|code| code.as_str()) {
        Some("unsupported_token_type") if response.status().is_client_error() => {
            Ok(Revoked::NotSupported)
        }
        // The standard requires a 200 for an unknown token, but Google, for example, sends this.
        Some("invalid_token" | "invalid_grant") if response.status().is_client_error() => {
            Ok(Revoked::AtServer)
        }
        // RFC 7009 section 2.2.1: the token still exists.
        _ if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
            Err(ExchangeError { class: FailureClass::NotProcessed, ..failed })
        }
        _ => Err(failed),
    }
}

/// The first rule that fits.
fn fitting<'r>(rules: &'r [ErrorRule], response: &HttpResponse) -> Option<&'r ErrorRule> {
    let has_word = |rule: &ErrorRule| {
        let found = member_at(response, None, &rule.pointer);
        found.ok().flatten().is_some_and(|found| is_equal(&rule.value, &found))
    };
    let status = response.status().as_u16();
    rules.iter().find(|rule| rule.status == status && has_word(rule))
}

/// The failure that the rule says. It keeps the `Retry-After` of the response.
fn failure(
    rule: &ErrorRule,
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    invalid_grant: FailureClass,
) -> ExchangeError {
    let class = match rule.class {
        ErrorClass::InvalidGrant => invalid_grant,
        ErrorClass::AccessDenied if invalid_grant == FailureClass::Rejected => invalid_grant,
        ErrorClass::AccessDenied => FailureClass::Refused(Refusal::NotPermitted),
        ErrorClass::InvalidClient => FailureClass::InvalidClient,
        ErrorClass::NotProcessed => FailureClass::NotProcessed,
        ErrorClass::Throttled => FailureClass::Throttled,
        ErrorClass::Ambiguous => FailureClass::Ambiguous,
        ErrorClass::Unclassified => FailureClass::Unclassified,
    };
    let failed = ExchangeError { class, ..sender.status_error(response) };
    match &rule.value {
        JsonScalar::Text(code) => failed.with_code(code),
        JsonScalar::Number(_) | JsonScalar::Bool(_) => failed,
    }
}

/// Whether the body has the word of the rule. A body that is cut has none.
fn is_word(rule: &DeadTokenRule, body: &[u8]) -> bool {
    if rule.pointer.is_none() && rule.value.is_none() {
        return true;
    }
    let names = rule.pointer.as_ref().map_or(&[][..], JsonPointer::names);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let found = value_at(body, &names).ok().flatten().unwrap_or(Scalar::Null);
    match &rule.value {
        Some(word) => is_equal(word, &found),
        None => !matches!(found, Scalar::Null),
    }
}

#[expect(clippy::float_cmp, reason = "a code is the same number or another one")]
fn is_equal(word: &JsonScalar, found: &Scalar) -> bool {
    match (word, found) {
        (JsonScalar::Text(word), Scalar::Text(found)) => word == found,
        (JsonScalar::Number(word), Scalar::Number(found)) => word == found,
        (JsonScalar::Bool(word), Scalar::Bool(found)) => word == found,
        (JsonScalar::Text(_) | JsonScalar::Number(_) | JsonScalar::Bool(_), _) => false,
    }
}
