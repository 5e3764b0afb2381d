//! An API server that records every request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// A running server, which ends with this.
pub struct RecordingApi {
    pub url: String,
    state: Arc<ApiState>,
    task: tokio::task::JoinHandle<()>,
}

/// A request that the server got.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct ApiState {
    requests: Mutex<Vec<Recorded>>,
    rejected: Mutex<HashSet<String>>,
    /// How many requests with a rejected token have come; they are answered when there are enough.
    gathered: watch::Sender<usize>,
    gather: Mutex<usize>,
    stream_ends: Notify,
}

impl Recorded {
    /// Whether the request carries this token anywhere.
    pub fn carries(&self, token: &str) -> bool {
        format!("{self:?}").contains(token)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl RecordingApi {
    pub async fn start() -> Self {
        let state = Arc::<ApiState>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, state, task }
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Rejects requests that carry this token.
    pub fn reject(&self, token: &str) {
        self.state.rejected.lock().insert(token.to_owned());
    }

    /// Answers requests with a rejected token only when there are so many.
    pub fn gather(&self, requests: usize) {
        *self.state.gather.lock() = requests;
    }

    /// Stops the server and gives its port back.
    pub async fn stop(&self) {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub fn end_streams(&self) {
        self.state.stream_ends.notify_waiters();
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().clone()
    }

    pub fn count(&self, token: &str) -> usize {
        self.requests().iter().filter(|request| request.carries(token)).count()
    }
}

impl Drop for RecordingApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let recorded = Recorded {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body,
    };
    let is_rejected = state.rejected.lock().iter().any(|token| recorded.carries(token));
    state.requests.lock().push(recorded.clone());
    if is_rejected {
        state.gathered.send_modify(|gathered| *gathered += 1);
        let enough = *state.gather.lock();
        state.gathered.subscribe().wait_for(|gathered| *gathered >= enough).await.unwrap();
    }
    match recorded.path.split('?').next().unwrap() {
        "/redirect" => redirect(&recorded.path),
        "/around" => (StatusCode::FOUND, [(header::LOCATION, "/around")]).into_response(),
        "/events" => events(&state),
        "/dead" if is_rejected => {
            let body = format!("{{\"status\":\"BAD_TOKEN\",\"pad\":\"{}\"}}", "x".repeat(40_000));
            (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body)
                .into_response()
        }
        "/word" if is_rejected => {
            ([(header::CONTENT_TYPE, "application/json")], "{\"error\":\"token_revoked\"}")
                .into_response()
        }
        _ if is_rejected => {
            (StatusCode::UNAUTHORIZED, [("x-reason", "dead")], "the token is dead").into_response()
        }
        _ => recorded.body.into_response(),
    }
}

/// `/redirect?307&http://127.0.0.1:1/path`, with `?` and `&` of the target percent-encoded.
fn redirect(path: &str) -> Response {
    let (status, to) = path.split_once('?').and_then(|(_, of)| of.split_once('&')).unwrap();
    // A provider may have added its token to the query.
    let to = to.split('&').next().unwrap().replace("%3F", "?").replace("%26", "&");
    let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
    (status, [(header::LOCATION, to)]).into_response()
}

/// One event at once, and the end when the test says so.
fn events(state: &Arc<ApiState>) -> Response {
    let ends = Arc::clone(state);
    let first = stream::iter([Ok::<_, std::io::Error>("data: 1\n\n")]);
    let rest = stream::once(async move {
        tokio::select! {
            () = ends.stream_ends.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        Ok("data: 2\n\n")
    });
    let body = Body::from_stream(first.chain(rest));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
