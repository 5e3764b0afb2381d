//! The failures that responses without a token mean: by OAuth 2.0 error codes, and by the statuses
//! that take precedence over them.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::form;
use super::lenient::Scalar;
use super::read_json::{members, without_byte_order_mark};
use super::whole_message::HttpResponse;
use crate::error::Refusal;
use crate::provider::FailureClass;

/// The error in the body of a response without a token.
pub(in crate::provider) struct ErrorResponse {
    /// The code of an OAuth 2.0 error response (RFC 6749 section 5.2), if there is one.
    pub(in crate::provider) code: Option<String>,
    /// Whether the body says that the request failed.
    pub(in crate::provider) failed: bool,
}

impl ErrorResponse {
    pub(in crate::provider) fn of(response: &HttpResponse) -> Self {
        if let Ok(Members { error, ok }) = members::<Members>(response.body()) {
            let failed = is_error(&error) || matches!(ok, Scalar::Bool(false));
            return Self { code: error.text(), failed };
        }
        let code = form_code(response).or_else(|| whole_code(response));
        Self { failed: code.is_some(), code }
    }

    /// The class of the code under this status; None if the code is not known here.
    pub(in crate::provider) fn class(
        &self,
        status: StatusCode,
        invalid_grant: FailureClass,
    ) -> Option<FailureClass> {
        class_at(self.code.as_deref()?, status, invalid_grant)
    }
}

fn class_at(code: &str, status: StatusCode, invalid_grant: FailureClass) -> Option<FailureClass> {
    let named = match code {
        // RFC 6750 section 3.1 defines it for access tokens; some servers use it for a refresh
        // token.
        "invalid_token" if status == StatusCode::UNAUTHORIZED => Some(invalid_grant),
        code => class_of_code(code, invalid_grant),
    };
    match named {
        // `server_error`: with a status below 500 the server means a request that failed.
        Some(FailureClass::Ambiguous) if !status.is_server_error() => {
            Some(FailureClass::NotProcessed)
        }
        named => named,
    }
}

/// Whether a member `error` reports an error: not if it is null, false, zero or empty.
fn is_error(error: &Scalar) -> bool {
    match error {
        Scalar::Text(text) => !text.is_empty(),
        Scalar::Number(number) => *number != 0.0,
        Scalar::Bool(is_error) => *is_error,
        Scalar::Null => false,
        Scalar::Other => true,
    }
}

/// The code in a form.
fn form_code(response: &HttpResponse) -> Option<String> {
    let body =
        form::is_form(response.headers()).then(|| without_byte_order_mark(response.body()))?;
    let (_, code) = form::fields(body).filter(|(name, _)| name.as_str() == "error").last()?;
    (!code.is_empty()).then(|| code.to_string())
}

/// The code that is the whole body of a 4xx. Only a known code counts, because a body may be any
/// text.
fn whole_code(response: &HttpResponse) -> Option<String> {
    let status = response.status();
    let code = std::str::from_utf8(without_byte_order_mark(response.body())).ok()?.trim();
    let known = class_at(code, status, FailureClass::Rejected).is_some();
    (status.is_client_error() && known).then(|| code.to_owned())
}

/// Members of any type. If a member is there twice, the last one counts.
struct Members {
    error: Scalar,
    ok: Scalar,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Error,
    Ok,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
        let mut read = Members { error: Scalar::Null, ok: Scalar::Null };
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::Error => read.error = members.next_value()?,
                Name::Ok => read.ok = members.next_value()?,
                Name::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(read)
    }
}

/// The class of a code by itself; None if the code is not known here.
pub(in crate::provider) fn class_of_code(
    code: &str,
    invalid_grant: FailureClass,
) -> Option<FailureClass> {
    Some(match code {
        // GitHub sends the second and the third.
        "invalid_grant" | "bad_refresh_token" | "bad_verification_code" => invalid_grant,
        "access_denied" => FailureClass::Refused(Refusal::NotPermitted),
        // GitHub sends the second.
        "invalid_client" | "incorrect_client_credentials" => FailureClass::InvalidClient,
        "invalid_request"
        | "unauthorized_client"
        | "invalid_scope"
        | "invalid_target"
        | "unsupported_grant_type"
        // This crate does not implement RFC 9449.
        | "use_dpop_nonce"
        | "invalid_dpop_proof" => FailureClass::Unclassified,
        // OpenID Connect Core 1.0 section 3.1.2.6: the user has to be asked.
        "interaction_required"
        | "login_required"
        | "consent_required"
        | "account_selection_required" => {
            let is_refresh = invalid_grant == FailureClass::Rejected;
            if is_refresh { invalid_grant } else { FailureClass::Refused(Refusal::Other) }
        }
        "temporarily_unavailable" | "slow_down" => FailureClass::NotProcessed,
        "server_error" => FailureClass::Ambiguous,
        _ => return None,
    })
}

/// The class to use, of the code's class and the status's class.
pub(in crate::provider) fn by_code_or_status(
    status: StatusCode,
    code: Option<FailureClass>,
    by_status: FailureClass,
) -> FailureClass {
    let final_status = status.is_redirection()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
    match code {
        _ if final_status => by_status,
        // A gateway's error is no verdict on the grant: the server may have sent a response.
        Some(class) if status.is_server_error() && class != FailureClass::NotProcessed => by_status,
        Some(class) => class,
        None => by_status,
    }
}
