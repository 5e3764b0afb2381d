//! A proxy before the server, which forwards every request and records token requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::history::{Exchange, History};
use super::orders::{boot_now, hash};

/// Goes with its test.
pub struct Front {
    url: String,
    _served: JoinSet<()>,
}

struct Desk {
    /// The URLs of the server and of this proxy.
    urls: (String, String),
    http: reqwest::Client,
    way: Duration,
    history: History,
    /// The users of refresh tokens, by the tokens' hashes.
    owners: Mutex<HashMap<String, String>>,
}

impl Front {
    /// Token requests take up to so long on their way, and as long back.
    pub async fn start(server: &str, history: &History, way: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (urls, history) = ((server.to_owned(), url.clone()), history.clone());
        let desk = Arc::new(Desk { urls, http, way, history, owners: Mutex::default() });
        let router = Router::new().fallback(serve).with_state(desk);
        let mut served = JoinSet::new();
        served.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _served: served }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn serve(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    // In a task of its own: the server goes on with a request whose sender was killed.
    #[expect(clippy::disallowed_methods, reason = "it ends with the answer")]
    let passed = tokio::spawn(async move { desk.pass(request).await });
    passed.await.expect("the server answers")
}

impl Desk {
    async fn pass(&self, request: Request) -> Response {
        let at = boot_now();
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let url = format!("{}{}", self.urls.0, parts.uri);
        let mut asked = self.http.request(parts.method, url).body(body.clone());
        for (name, value) in &parts.headers {
            if name != "host" && name != "content-length" {
                asked = asked.header(name, value);
            }
        }
        let is_slow = parts.uri.path() == "/token";
        if is_slow {
            self.goes().await;
        }
        let reply = asked.send().await.expect("the server answers");
        let (status, kind) = (reply.status(), reply.headers().get("content-type").cloned());
        let text = reply.text().await.expect("the server answers in full");
        if is_slow {
            self.note(at, &body, &text);
            self.goes().await;
        }
        // The metadata name the server.
        let text = text.replace(&self.urls.0, &self.urls.1);
        let mut response = Response::builder().status(status);
        if let Some(kind) = kind {
            response = response.header("content-type", kind);
        }
        response.body(Body::from(text)).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a process outside has no clock of ours")]
    async fn goes(&self) {
        // The way of a request takes real time, so that processes are killed and stopped on it.
        tokio::time::sleep(self.way.mul_f64(fastrand::f64())).await;
    }

    fn note(&self, at: u64, asked: &[u8], answered: &str) {
        let form: HashMap<_, _> = url::form_urlencoded::parse(asked).into_owned().collect();
        let answer: Value = serde_json::from_str(answered).unwrap_or_default();
        let told = |name: &str| answer[name].as_str();
        let sent = form.get("refresh_token").map(|token| hash(token));
        let mut owners = self.owners.lock().unwrap();
        let key = match &sent {
            Some(sent) => owners.get(sent).cloned().unwrap_or_default(),
            None => form.get("username").cloned().unwrap_or_default(),
        };
        let refresh = told("refresh_token").map(hash);
        if let Some(refresh) = &refresh {
            owners.insert(refresh.clone(), key.clone());
        }
        let (access, error) = (told("access_token").map(hash), told("error").map(str::to_owned));
        self.history.exchanged(Exchange { at, key, sent, access, refresh, error });
    }
}
