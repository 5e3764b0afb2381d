//! The rows of the survey.

use serde::Deserialize;
use serde_json::{Map, Value};

/// How 454 providers differ from the standard, and from each other.
pub const SURVEY: &str = include_str!("shapes.json");

/// A shape, and how many providers have it. A field that a row does not have is as in the standard.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub providers: u32,
    pub client_auth: String,
    pub grant_type: String,
    pub login: String,
    #[serde(default)]
    pub client_certificate: bool,
    pub host: Option<String>,
    pub pkce: Option<String>,
    #[serde(default)]
    pub authorization_parameters: Vec<String>,
    #[serde(default)]
    pub answer_members_kept: Vec<String>,
    #[serde(default)]
    pub callback_parameters_kept: Vec<String>,
    pub body: Option<String>,
    #[serde(default)]
    pub token_parameters: Vec<String>,
    #[serde(default)]
    pub refresh_parameters: Vec<String>,
    pub refresh_url: Option<String>,
    pub scope_separator: Option<String>,
    #[serde(default)]
    pub scope_in_token_request: bool,
    pub code_parameter: Option<String>,
    pub authorization_url: Option<String>,
    pub due: Option<String>,
    pub expires_in_unit: Option<String>,
    pub answer_under: Option<String>,
    #[serde(default)]
    pub token_request_headers: Vec<String>,
    /// The whole row without `providers`.
    #[serde(skip)]
    pub name: String,
}

/// The test that drives a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    BrowserAtOneServer,
    BrowserAtAServerPerTenant,
    RedirectNamesTheHost,
    NobodyAtOneServer,
    NobodyAtAServerPerTenant,
}

/// All rows, in the order of the survey.
pub fn shapes() -> Vec<Shape> {
    let rows: Vec<Map<String, Value>> = serde_json::from_str(SURVEY).unwrap();
    rows.into_iter().map(Shape::of).collect()
}

impl Shape {
    fn of(mut row: Map<String, Value>) -> Self {
        let mut shape: Self = serde_json::from_value(row.clone().into()).unwrap();
        row.remove("providers");
        let text = |value: &Value| match (value.as_str(), value.as_array()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(items)) => {
                items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(" ")
            }
            (None, None) => value.to_string(),
        };
        let parts = row.iter().map(|(name, value)| format!("{name}: {}", text(value)));
        shape.name = parts.collect::<Vec<_>>().join("; ");
        shape
    }

    pub fn group(&self) -> Group {
        match (&*self.login, self.is_per_tenant()) {
            ("browser", _) if self.host_parameter().is_some() => Group::RedirectNamesTheHost,
            ("browser", false) => Group::BrowserAtOneServer,
            ("browser", true) => Group::BrowserAtAServerPerTenant,
            (_, false) => Group::NobodyAtOneServer,
            (_, true) => Group::NobodyAtAServerPerTenant,
        }
    }

    pub fn is_per_tenant(&self) -> bool {
        self.host.is_some()
    }

    /// Whether the client signs assertions, and has no secret.
    pub fn has_private_key(&self) -> bool {
        self.client_auth == "private_key_jwt"
    }

    pub fn has_browser(&self) -> bool {
        self.login == "browser"
    }

    /// Whether the client acts for itself: then it gets no refresh token.
    pub fn acts_for_itself(&self) -> bool {
        !self.has_browser() && self.grant_type != "password"
    }

    /// The parameter of the redirect that names the host of the session.
    pub fn host_parameter(&self) -> Option<&str> {
        let names = self.callback_parameters_kept.iter().map(String::as_str);
        names.into_iter().find(|name| ["accounts-server", "subdomain"].contains(name))
    }

    /// The parameters of the redirect that the session keeps.
    pub fn callback_attributes(&self) -> impl Iterator<Item = &String> {
        let host = self.host_parameter();
        self.callback_parameters_kept.iter().filter(move |name| Some(name.as_str()) != host)
    }

    /// The ways in which its clients authenticate.
    pub fn authentications(&self) -> Vec<Value> {
        match self.client_auth.as_str() {
            "credentials_in_query_or_header" => {
                let headers = serde_json::json!({
                    "client_id": "x-client-id",
                    "client_secret": "x-client-secret",
                });
                vec!["query".into(), serde_json::json!({ "header": headers })]
            }
            "private_key_jwt" => {
                vec![serde_json::json!({ "private_key_jwt": { "algorithm": "ES256" } })]
            }
            usual => vec![usual.into()],
        }
    }
}

impl Group {
    /// The name of the test.
    pub fn test(self) -> &'static str {
        match self {
            Self::BrowserAtOneServer => "users_log_in_through_a_browser_at_one_server",
            Self::BrowserAtAServerPerTenant => {
                "users_log_in_through_a_browser_at_a_server_for_each_tenant"
            }
            Self::RedirectNamesTheHost => "a_redirect_names_the_host_of_its_session",
            Self::NobodyAtOneServer => "sessions_without_a_browser_live_at_one_server",
            Self::NobodyAtAServerPerTenant => {
                "sessions_without_a_browser_live_at_a_server_for_each_tenant"
            }
        }
    }
}
