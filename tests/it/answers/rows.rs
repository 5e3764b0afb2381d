//! The responses, and the expected result of each.

use session_warden::testing::ManualClock;

/// An answer, to a grant or to a refresh of a session whose tokens are `a1`, for an hour, and `r1`.
pub struct Row {
    pub at: At,
    pub status: u16,
    pub kind: &'static str,
    pub body: &'static str,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Establish,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The session has these.
    Tokens { access: &'static str, refresh: Option<&'static str>, seconds: Option<u64> },
    /// The session is lost: a new grant is needed.
    SignInAgain,
    /// Only this session backs off, and callers get its access token while it is valid.
    Ladder,
    /// The client is named: one event, and no session is lost.
    Client,
    /// The request may have been processed.
    InDoubt,
    /// It was not processed.
    Later,
    /// There is no session, and the error names the refusal.
    NoToken(&'static str),
}

pub const JSON: &str = "application/json";
pub const HTML: &str = "text/html";
pub const TEXT: &str = "text/plain";
pub const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

pub const fn tokens(
    access: &'static str,
    refresh: Option<&'static str>,
    seconds: Option<u64>,
) -> Expect {
    Expect::Tokens { access, refresh, seconds }
}

pub const fn granted(kind: &'static str, body: &'static str, expect: Expect) -> Row {
    Row { at: At::Establish, status: 200, kind, body, expect }
}

pub const fn refreshed(status: u16, kind: &'static str, body: &'static str, expect: Expect) -> Row {
    Row { at: At::Refresh, status, kind, body, expect }
}

pub const GRANTS: &[Row] = &[
    granted(
        FORM,
        "access_token=a1&expires_in=28800&refresh_token=r1&refresh_token_expires_in=15811200\
         &scope=&token_type=bearer",
        tokens("a1", Some("r1"), Some(28_800)),
    ),
    granted(
        JSON,
        "\u{feff}{\"access_token\":\"a1\",\"token_type\":\"bearer\",\"expires_in\":60,\
         \"refresh_token\":\"r1\"}",
        tokens("a1", Some("r1"), Some(60)),
    ),
    granted(
        HTML,
        r#"{"access_token":"a1","token_type":"Bearer","expires_in":3600,"refresh_token":"r1"}"#,
        tokens("a1", Some("r1"), Some(3600)),
    ),
    granted(
        JSON,
        r#"{"access_token":"a1","access_token":"a2","token_type":"bearer","expires_in":60,
            "refresh_token":"r1"}"#,
        tokens("a2", Some("r1"), Some(60)),
    ),
    granted(
        JSON,
        r#"{"access_token":"a1","token_type":"BearerToken","expires_in":3600,
            "refresh_token":"r1"}"#,
        tokens("a1", Some("r1"), Some(3600)),
    ),
    granted(
        JSON,
        r#"{"access_token":"a1","expires_in":3600,"refresh_token":"r1"}"#,
        tokens("a1", Some("r1"), Some(3600)),
    ),
    granted(
        JSON,
        r#"{"access_token":"a1","token_type":"bearer","expires_at":1999999999,
            "refresh_token":"r1"}"#,
        tokens("a1", Some("r1"), Some(1_999_999_999 - ManualClock::START_WALL.as_secs())),
    ),
    granted(
        JSON,
        r#"{"access_token":"a1","token_type":"DPoP","expires_in":60}"#,
        Expect::NoToken("that has the token_type DPoP"),
    ),
    granted(
        JSON,
        r#"{"access_token":"error: token is expired by 23m","id_token":"","refresh_token":"",
            "token_type":"","expires_in":0,"scope":""}"#,
        Expect::NoToken("that has an access_token with characters that no header can carry"),
    ),
];

pub const REFRESHES: &[Row] = &[
    refreshed(
        200,
        JSON,
        r#"{"access_token":"a2","token_type":"bearer","expires_in":3600,"refresh_token":""}"#,
        tokens("a2", Some("r1"), Some(3600)),
    ),
    refreshed(
        200,
        JSON,
        r#"{"access_token":"a2","token_type":"Something","expires_in":"3600",
            "refresh_token":"r2"}"#,
        tokens("a2", Some("r2"), Some(3600)),
    ),
    refreshed(
        400,
        JSON,
        r#"{"error":"interaction_required","error_description":"AADSTS50076",
            "suberror":"basic_action"}"#,
        Expect::SignInAgain,
    ),
    refreshed(
        401,
        JSON,
        r#"{"error":"invalid_token","error_description":"Invalid refresh token (expired)"}"#,
        Expect::SignInAgain,
    ),
    refreshed(401, TEXT, "invalid_grant", Expect::SignInAgain),
    refreshed(401, JSON, r#"{"error":"invalid_client"}"#, Expect::Client),
    refreshed(500, JSON, r#"{"error":"invalid_grant"}"#, Expect::InDoubt),
    refreshed(502, HTML, "<html>Bad gateway</html>", Expect::InDoubt),
    refreshed(429, JSON, "{}", Expect::Later),
    refreshed(
        400,
        JSON,
        r#"{"error":"invalid_request","error_description":"The refresh_token is invalid."}"#,
        Expect::Ladder,
    ),
    refreshed(400, JSON, r#"{"error":"token_expired"}"#, Expect::Ladder),
    refreshed(400, JSON, r#"{"error":"unauthorized_client"}"#, Expect::Ladder),
    refreshed(400, JSON, r#"{"error":"invalid_scope"}"#, Expect::Ladder),
    refreshed(403, HTML, "<html>Request blocked</html>", Expect::Ladder),
    refreshed(404, JSON, r#"{"message":"user not found"}"#, Expect::Ladder),
    refreshed(302, HTML, "", Expect::Ladder),
];

/// Answers that need settings to be understood as their servers mean them, with the reason. What
/// is expected here is what holds without the settings.
pub const WAIT_FOR_SETTINGS: &[(&str, Row)] = &[
    (
        "the lifetime is called `expires`",
        granted(TEXT, "access_token=a1&expires=5183999", tokens("a1", None, None)),
    ),
    (
        "`instance_url` should be an attribute of the session",
        granted(
            JSON,
            r#"{"access_token":"a1","refresh_token":"r1","instance_url":"https://na1.example.com",
                "issued_at":"1278448384422","token_type":"Bearer"}"#,
            tokens("a1", Some("r1"), None),
        ),
    ),
    (
        "the tokens are in the object `body`",
        granted(
            JSON,
            r#"{"status":0,"body":{"access_token":"a1","expires_in":10800,"refresh_token":"r1",
                "token_type":"Bearer","userid":"7"}}"#,
            Expect::NoToken("that has no access_token"),
        ),
    ),
    (
        "`invalid_refresh_token` is a vendor's word for `invalid_grant`",
        refreshed(200, JSON, r#"{"ok":false,"error":"invalid_refresh_token"}"#, Expect::Ladder),
    ),
    (
        "`BAD_REFRESH_TOKEN` in `status` is a vendor's word for `invalid_grant`",
        refreshed(
            400,
            JSON,
            r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}"#,
            Expect::Ladder,
        ),
    ),
];
