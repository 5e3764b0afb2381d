//! A shape in the words of its client, which are settings as JSON, and in those of its server. Each
//! is written from the survey alone, so that a test fails if the two do not meet.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use session_warden::provider::oauth2::{
    ClientAuthentication, GrantTypes, LifetimeUnit, Pkce, RequestBody,
};
use session_warden::testing::FakeServerShape;

use super::shape::Shape;

pub const REDIRECT_URI: &str = "https://app.example.com/callback";

/// When the token of a client with its own margin is due, before it expires.
pub const MARGIN: u64 = 1800;

/// The value of a parameter or member with this name.
pub fn value_of(name: &str) -> String {
    format!("{name} & its = value")
}

fn header_value(name: &str) -> String {
    let value = match name {
        "content-type" => "application/x-www-form-urlencoded;charset=UTF-8",
        _ => "application/json",
    };
    value.to_owned()
}

fn values<'n>(names: impl IntoIterator<Item = &'n String>) -> BTreeMap<String, String> {
    names.into_iter().map(|name| (name.clone(), value_of(name))).collect()
}

fn headers(names: &[String]) -> BTreeMap<String, String> {
    names.iter().map(|name| (name.clone(), header_value(name))).collect()
}

/// The client of a tenant.
pub struct Client<'a> {
    pub url: &'a str,
    pub id: &'a str,
    pub secret: &'a str,
    pub authentication: &'a Value,
    /// The host and port that a redirect may name.
    pub home: Option<&'a str>,
}

impl Client<'_> {
    /// The row of a backend's table.
    pub fn settings(&self, shape: &Shape) -> Value {
        let url = self.url;
        let mut row = json!({
            "token_endpoint": format!("{url}/token"),
            "revocation_endpoint": format!("{url}/revoke"),
            "client_id": self.id,
            "client_secret": self.secret,
            "client_authentication": self.authentication,
            "scope": "read write",
            "token_request": {
                "parameters": values(&shape.token_parameters),
                "headers": headers(&shape.token_request_headers),
            },
            "refresh_request": { "parameters": refresh_parameters(shape) },
        });
        let mut set = |pointer: &str, value: Value| put(&mut row, pointer, value);
        if shape.acts_for_itself() {
            set("/client_credentials", true.into());
        }
        if !["authorization_code", "client_credentials", "password"].contains(&&*shape.grant_type) {
            set("/token_request/grant_types/client_credentials", (&*shape.grant_type).into());
        }
        if shape.refresh_parameters.iter().any(|name| name == "scope") {
            set("/refresh_request/scope", true.into());
        }
        if shape.scope_in_token_request {
            set("/token_request/scope", true.into());
        }
        if shape.refresh_url.is_some() {
            set("/refresh_endpoint", format!("{url}/refresh").into());
        }
        if shape.due.is_some() {
            set("/due", json!({ "at_least": MARGIN }));
        }
        let texts = [
            ("/authorization_request/pkce", &shape.pkce),
            ("/request_body", &shape.body),
            ("/scope_separator", &shape.scope_separator),
            ("/token_response/lifetime_unit", &shape.expires_in_unit),
            ("/token_response/under", &shape.answer_under),
        ];
        for (pointer, text) in texts {
            if let Some(text) = text {
                set(pointer, text.as_str().into());
            }
        }
        for name in &shape.answer_members_kept {
            let member = format!("/{}", name.replace('.', "/"));
            set(&format!("/token_response/attributes/{name}"), member.into());
        }
        if shape.has_browser() {
            self.set_login(shape, &mut row);
        }
        row
    }

    fn set_login(&self, shape: &Shape, row: &mut Value) {
        let mut set = |pointer: &str, value: Value| put(row, pointer, value);
        let place = match &shape.authorization_url {
            Some(_) => "login#/oauth/authorize",
            None => "authorize",
        };
        set("/authorization_endpoint", format!("{}/{place}", self.url).into());
        set("/redirect_uri", REDIRECT_URI.into());
        set("/authorization_request/parameters", json!(values(&shape.authorization_parameters)));
        if shape.code_parameter.is_some() {
            set("/authorization_response/code_parameter", "the_code".into());
        }
        for name in shape.callback_attributes() {
            set(&format!("/authorization_response/attributes/{name}"), name.as_str().into());
        }
        if let (Some(parameter), Some(home)) = (shape.host_parameter(), self.home) {
            let mut host = json!({ "callback_parameter": parameter, "allowed": [home] });
            if parameter == "subdomain" {
                // What is below `0.0.1` on the loopback interface is a subdomain elsewhere.
                put(&mut host, "/below", home.split_once('.').unwrap().1.into());
            }
            set("/session_host", host);
        }
    }
}

/// The parameters of a refresh, without the scope, which has a setting of its own.
fn refresh_parameters(shape: &Shape) -> BTreeMap<String, String> {
    values(shape.refresh_parameters.iter().filter(|name| *name != "scope"))
}

/// Sets a member, and makes the objects on the way.
fn put(root: &mut Value, pointer: &str, value: Value) {
    let (parents, name) = pointer.rsplit_once('/').unwrap();
    let mut object = root;
    for parent in parents.split('/').skip(1) {
        object = &mut object[parent];
    }
    object[name] = value;
}

/// What the session of a client must keep.
pub fn kept(shape: &Shape) -> BTreeMap<String, String> {
    values(shape.callback_attributes().chain(&shape.answer_members_kept))
}

/// What the server of a shape accepts and sends. `home` is the value of the parameter that names
/// the host of a session.
pub fn of_server(shape: &Shape, authentication: &Value, home: Option<&str>) -> FakeServerShape {
    let mut callback_parameters = values(shape.callback_attributes());
    if let (Some(parameter), Some(home)) = (shape.host_parameter(), home) {
        callback_parameters.insert(parameter.to_owned(), home.to_owned());
    }
    let mut members = Value::Object(Map::new());
    for name in &shape.answer_members_kept {
        put(&mut members, &format!("/{}", name.replace('.', "/")), value_of(name).into());
    }
    let own_word = |usual: &str| (shape.grant_type != usual).then(|| shape.grant_type.clone());
    let usual = FakeServerShape::default();
    FakeServerShape {
        request_body: match shape.body.as_deref() {
            Some("json") => RequestBody::Json,
            Some("query") => RequestBody::Query,
            _ => RequestBody::Form,
        },
        client_authentication: Some(
            serde_json::from_value::<ClientAuthentication>(authentication.clone()).unwrap(),
        ),
        grant_types: GrantTypes {
            client_credentials: own_word("client_credentials").filter(|_| shape.acts_for_itself()),
            ..GrantTypes::default()
        },
        token_parameters: values(&shape.token_parameters),
        token_headers: headers(&shape.token_request_headers),
        scope_in_token_request: Some(!shape.has_browser()),
        refresh_path: shape.refresh_url.as_ref().map(|_| "/refresh".to_owned()),
        refresh_parameters: refresh_parameters(shape),
        scope_in_refresh: Some(shape.refresh_parameters.iter().any(|name| name == "scope")),
        scope_separator: shape.scope_separator.clone().unwrap_or(usual.scope_separator.clone()),
        authorization_page: shape.authorization_url.is_some(),
        authorization_parameters: values(&shape.authorization_parameters),
        pkce: Some(if shape.pkce.is_some() { Pkce::Off } else { Pkce::S256 }),
        callback_code_parameter: match shape.code_parameter {
            Some(_) => "the_code".to_owned(),
            None => "code".to_owned(),
        },
        // Few vendors send it, and the settings name no issuer.
        callback_issuer: false,
        callback_parameters,
        response_members: members.as_object().unwrap().clone(),
        response_under: shape.answer_under.as_deref().map(|under| under[1..].to_owned()),
        lifetime_unit: match shape.expires_in_unit {
            Some(_) => LifetimeUnit::Milliseconds,
            None => LifetimeUnit::Seconds,
        },
        ..usual
    }
}
