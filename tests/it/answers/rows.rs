//! The responses of the survey, and the expected result of each.

use serde::Deserialize;
use session_warden::testing::ManualClock;

/// An answer, to a grant or to a refresh of a session whose tokens are `a1`, for an hour, and `r1`.
#[derive(Clone, Debug)]
pub struct Row {
    pub at: At,
    pub status: u16,
    pub kind: String,
    pub body: String,
    pub expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    Establish,
    Refresh,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The session has these.
    Tokens { access: String, refresh: Option<String>, seconds: Option<u64> },
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

/// Answers that need settings to be understood as their servers mean them: a part of the body, and
/// the settings. The survey expects what holds with them.
pub const SETTINGS: &[(&str, &str)] = &[
    ("&expires=", r#"{"token_response": {"expires_in": "/expires"}}"#),
    ("instance_url", r#"{"token_response": {"attributes": {"instance_url": "/instance_url"}}}"#),
    (r#""body":{"#, r#"{"token_response": {"under": "/body"}}"#),
    (
        "invalid_refresh_token",
        r#"{"error_rules": [{"status": 200, "pointer": "/error",
            "value": "invalid_refresh_token", "class": "invalid_grant"}]}"#,
    ),
    (
        "BAD_REFRESH_TOKEN",
        r#"{"error_rules": [{"status": 400, "pointer": "/status",
            "value": "BAD_REFRESH_TOKEN", "class": "invalid_grant"}]}"#,
    ),
];

/// The rows with their settings, or with none.
pub fn with_settings() -> Vec<(Row, &'static str)> {
    let rows = survey().into_iter();
    rows.map(|row| (row.clone(), settings_of(&row).unwrap_or("{}"))).collect()
}

/// The rows that need settings, and what holds without them.
pub fn without_settings() -> Vec<(Row, &'static str)> {
    let rows = survey().into_iter().filter(|row| settings_of(row).is_some()).map(|mut row| {
        if row.body.contains(r#""body":{"#) {
            row.expect = Expect::NoToken("has no access_token");
        } else if row.expect == Expect::SignInAgain {
            row.expect = Expect::Ladder;
        } else if let Expect::Tokens { seconds, .. } = &mut row.expect {
            *seconds = None;
        }
        (row, "{}")
    });
    rows.collect()
}

/// All rows, each with what holds with its settings.
pub fn survey() -> Vec<Row> {
    #[derive(Deserialize)]
    struct Survey {
        rows: Vec<Written>,
    }
    let survey: Survey = serde_json::from_str(include_str!("../servers/answers.json")).unwrap();
    survey.rows.into_iter().map(Written::read).collect()
}

#[derive(Deserialize)]
struct Written {
    at: At,
    status: u16,
    #[serde(rename = "type")]
    kind: String,
    body: String,
    expect: String,
    access: Option<String>,
    refresh: Option<String>,
}

impl Written {
    fn read(self) -> Row {
        let expect = match self.expect.as_str() {
            "tokens" => Expect::Tokens {
                access: self.access.clone().unwrap(),
                refresh: self.refresh.clone().or(self.body.contains("r1").then(|| "r1".into())),
                seconds: self.seconds(),
            },
            "sign_in_again" => Expect::SignInAgain,
            "ladder" => Expect::Ladder,
            "client" => Expect::Client,
            "in_doubt" => Expect::InDoubt,
            "later" => Expect::Later,
            "refused by name" => Expect::NoToken("has the token_type DPoP"),
            "no token" => {
                Expect::NoToken("has an access_token with characters that no header can carry")
            }
            other => panic!("the survey has an unknown result: {other}"),
        };
        let Self { at, status, kind, body, .. } = self;
        Row { at, status, kind, body, expect }
    }

    /// The lifetime in the body, as a person reads it.
    fn seconds(&self) -> Option<u64> {
        let after = |name: &str| {
            let rest = self.body.split_once(name)?.1.trim_start_matches(['"', ':', '=']);
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let end = || Some(after("expires_at")? - ManualClock::START_WALL.as_secs());
        after("expires_in").or_else(end).or_else(|| after("expires"))
    }
}

fn settings_of(row: &Row) -> Option<&'static str> {
    SETTINGS.iter().find(|(part, _)| row.body.contains(part)).map(|(_, settings)| *settings)
}
