//! The server as a client sees it, over the wire.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::*;
use crate::testing::ManualClock;

mod administration;
mod browser_login;

mod dialects;
mod injected_faults;
mod oauth2;
mod ordinary_requests;
mod rotation;
mod shapes;

const SECOND: Duration = Duration::from_secs(1);

/// A status and a JSON body.
type Answer = (u16, Value);

/// An HTTP client that takes every answer as it is.
struct Peer<'a> {
    server: &'a FakeAuthServer,
    http: reqwest::Client,
}

impl<'a> Peer<'a> {
    fn new(server: &'a FakeAuthServer) -> Self {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        Self { server, http: http.no_proxy().build().unwrap() }
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        self.http
            .post(format!("{}{path}", self.server.url()))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
    }

    fn login_request(&self) -> reqwest::RequestBuilder {
        let form = [("grant_type", "password"), ("username", "alice"), ("password", "ok")];
        self.post("/token", &form)
    }

    fn refresh_request(&self, token: &str) -> reqwest::RequestBuilder {
        self.post("/token", &[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    async fn token(&self, form: &[(&str, &str)]) -> Answer {
        answer(self.post("/token", form)).await
    }

    async fn login(&self) -> Tokens {
        Tokens::of(&answer(self.login_request()).await)
    }

    async fn refresh(&self, token: &str) -> Answer {
        answer(self.refresh_request(token)).await
    }

    /// The status of the protected resource.
    async fn visit(&self, access_token: &str) -> u16 {
        let request = self.http.get(format!("{}/resource", self.server.url()));
        request.bearer_auth(access_token).send().await.unwrap().status().as_u16()
    }

    async fn introspect(&self, token: &str) -> Value {
        answer(self.post("/introspect", &[("token", token)])).await.1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of((status, json): &Answer) -> Self {
        assert_eq!(*status, 200, "{json}");
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A refusal, to compare an [`Answer`] with.
fn refusal(status: u16, code: &str) -> Answer {
    (status, serde_json::json!({ "error": code }))
}

fn basic(id: &str, secret: &str) -> (reqwest::header::HeaderName, String) {
    let encode =
        |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    (AUTHORIZATION, format!("Basic {pair}"))
}
