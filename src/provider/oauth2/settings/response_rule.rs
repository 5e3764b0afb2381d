//! Rules for responses that mean something else than the standard says.

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;
use crate::provider::http_message::JsonPointer;

/// What a failed response of the server means, by its status and one member of its body.
///
/// The rules apply to responses without a token of token requests, refreshes and revocations,
/// before the codes of RFC 6749 and before what the status alone means. In a form, a `pointer` of
/// one name means the field of that name. A `value` that is a text is the code of the error.
///
/// ```
/// use session_warden::provider::http_message::JsonPointer;
/// use session_warden::provider::oauth2::{
///     DeadTokenRule, ErrorClass, ErrorRule, JsonScalar, OAuth2,
/// };
///
/// let client = OAuth2::new("https://login.example.com/token", "backend")?
///     // 400 {"status": "BAD_REFRESH_TOKEN"}
///     .error_rule(ErrorRule {
///         status: 400,
///         pointer: JsonPointer::new("/status")?,
///         value: JsonScalar::from("BAD_REFRESH_TOKEN"),
///         class: ErrorClass::InvalidGrant,
///     })
///     // The API answers 400 {"error": {"code": 190}}.
///     .token_dead_on(DeadTokenRule {
///         pointer: Some(JsonPointer::new("/error/code")?),
///         value: Some(JsonScalar::from(190)),
///         ..DeadTokenRule::of_status(400)
///     });
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "the three parts of a condition, and what it means")]
pub struct ErrorRule {
    /// The status of the response.
    pub status: u16,
    /// The place in the JSON body that is compared with `value`.
    pub pointer: JsonPointer,
    /// The value that the body must have there.
    pub value: JsonScalar,
    /// What it means.
    pub class: ErrorClass,
}

/// What a failed response means. See the example of [`ErrorRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorClass {
    /// The refresh token or the grant is not valid: the session is lost, or the grant is refused.
    InvalidGrant,
    /// The server rejected the client. See
    /// [`FailureClass::InvalidClient`](crate::provider::FailureClass::InvalidClient).
    InvalidClient,
    /// The user may not do this: the session is lost, or the grant is refused.
    AccessDenied,
    /// The server did not process the request.
    NotProcessed,
    /// The server did not process the request because it gets too many.
    Throttled,
    /// The server may have processed the request.
    Ambiguous,
    /// The server did not process the request, for a reason that concerns this session alone. See
    /// [`FailureClass::Unclassified`](crate::provider::FailureClass::Unclassified).
    Unclassified,
}

/// A text, a number or a boolean in a JSON body. See the example of [`ErrorRule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "the scalars of JSON")]
pub enum JsonScalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text, compared character by character.
    Text(String),
}

impl From<&str> for JsonScalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i32> for JsonScalar {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for JsonScalar {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// A response of the vendor's API that means that the access token is no longer valid. See the
/// example of [`ErrorRule`].
///
/// These rules apply before those of RFC 6750 section 3. A rule with a `pointer` applies only if
/// the caller passes the whole body to
/// [`Provider::rejection`](crate::provider::Provider::rejection).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct DeadTokenRule {
    /// The status of the response.
    pub status: u16,
    /// The place in the JSON body that is compared with `value`. Without a pointer, the whole body
    /// is compared: it must be a single JSON text, number or boolean. With neither `pointer` nor
    /// `value`, every response with this status matches.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pointer: Option<JsonPointer>,
    /// The value that the body must have there. Without it, every value matches, except `null`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub value: Option<JsonScalar>,
    /// Whether the whole session is no longer valid, so that only a new grant helps.
    #[serde(default, skip_serializing_if = "is_default")]
    pub session: bool,
}

impl DeadTokenRule {
    /// A rule for every response with this status.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        Self { status, pointer: None, value: None, session: false }
    }
}
