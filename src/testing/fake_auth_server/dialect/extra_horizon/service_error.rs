//! Errors of the service, by number.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};

/// An error of the service.
pub(super) fn service_error(status: StatusCode, number: u16) -> FakeResponse {
    FakeResponse::refusal(status, &number.to_string(), error_json(number))
}

pub(super) fn error_json(number: u16) -> Map<String, Value> {
    let (name, message) = name_and_message(number);
    members([("code", number.into()), ("name", name.into()), ("message", message.into())])
}

/// Names and messages of the API description; this server invents those that it lacks.
pub(super) fn name_and_message(number: u16) -> (&'static str, &'static str) {
    match number {
        10 => ("NO_PERMISSION_EXCEPTION", "No permission"),
        16 => ("RESOURCE_UNKNOWN_EXCEPTION", "Requested resource is unknown"),
        101 => (
            "APPLICATION_NOT_AUTHENTICATED_EXCEPTION",
            "The X-Forwarded-Application header is required",
        ),
        103 => (
            "APPLICATION_UNKOWN_EXCEPTION",
            "The X-Forwarded-Application is not a valid application",
        ),
        104 => ("USER_NOT_AUTHENTICATED_EXCEPTION", "User is not authenticated"),
        106 => ("AUTHENTICATION_EXCEPTION", "This password email combination is unknown"),
        107 => ("OAUTH_KEY_EXCEPTION", "The consumer key is unknown"),
        108 => ("OAUTH_TOKEN_EXCEPTION", "The consumer key and token combination is unknown"),
        109 => ("OAUTH_SIGNATURE_EXCEPTION", "The oAuth signature is invalid"),
        110 => (
            "DUPLICATE_REQUEST_EXCEPTION",
            "A request with identical parameters was already received",
        ),
        115 => ("AUTHORIZATION_UNKNOWN_EXCEPTION", "The associated authorization is unknown"),
        117 => ("ACCESS_TOKEN_UNKNOWN_EXCEPTION", "The access token is unknown"),
        118 => ("ACCESS_TOKEN_EXPIRED_EXCEPTION", "The access token is expired"),
        119 => ("REFRESH_TOKEN_UNKNOWN_EXCEPTION", "The refresh token is unknown"),
        120 => ("REFRESH_TOKEN_EXPIRED_EXCEPTION", "The refresh token is expired"),
        121 => ("UNSUPPORTED_GRANT_EXCEPTION", "Invalid grant type provided"),
        124 => ("OAUTH2_CLIENT_SECRET_EXCEPTION", "Client is not authorized"),
        129 => ("MFA_REQUIRED_EXCEPTION", "Multifactor authentication is required for this user"),
        130 => ("INVALID_MFA_CODE_EXCEPTION", "The supplied MFA code is incorrect"),
        131 => {
            ("INVALID_MFA_TOKEN_EXCEPTION", "The supplied MFA token is not (or no longer) valid")
        }
        134 => (
            "MFA_REATTEMPT_DELAY_EXCEPTION",
            "The MFA authentication attempt was too soon after a failed attempt",
        ),
        139 => ("OIDC_INVALID_AUTHORIZATION_CODE_EXCEPTION", "The code is not valid"),
        211 => ("LOGIN_TIMEOUT_EXCEPTION", "Login attempt too fast"),
        212 => {
            ("LOGIN_FREEZE_EXCEPTION", "Login timeout in progress, too many failed login attempts")
        }
        213 => (
            "TOO_MANY_FAILED_ATTEMPTS_EXCEPTION",
            "Account is locked due to too many failed login attempts",
        ),
        _ => ("SERVER_EXCEPTION", "There was an internal server error, please try again!"),
    }
}
