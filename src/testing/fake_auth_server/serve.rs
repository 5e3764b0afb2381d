//! The wire: connections, requests, and the ways to spoil an answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::dialect::{FakeDialect, Route};
use super::fault::Fault;
use super::reply::{Reply, json_headers};
use super::request::Call;
use super::shared::Shared;
use crate::clock::{Clock as _, SystemClock};

mod bodies;

/// Serves until the server is stopped, and ends with the last connection.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = router(&shared);
    // The connections are tasks of this set, and go when it goes.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.update(|state| state.counts.connections += 1);
                    connections.spawn(converse(stream, router.clone(), Arc::clone(&shared)));
                }
                // Out of file descriptors, most likely: the next attempt fails at once too.
                Err(_) => SystemClock::new().sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = shared.stopping() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = SystemClock::new().sleep(STOP_LIMIT) => {}
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    Router::new().fallback(receive).with_state(Arc::clone(shared))
}

async fn converse(stream: TcpStream, router: Router, shared: Arc<Shared>) {
    // Bodies that come byte by byte would wait for acknowledgements otherwise. It is only slower
    // if it fails.
    drop(stream.set_nodelay(true));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        async move {
            let Ok(response) = answer.await;
            match response.extensions().get::<CloseConnection>() {
                // hyper closes a connection whose service fails, and writes nothing.
                Some(CloseConnection) => Err(ClosedOnPurpose),
                None => Ok(response),
            }
        }
    });
    let connection = http1::Builder::new()
        // A request is not taken back by a client that goes away, not even while it is held.
        .half_close(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shared.stopping() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn receive(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let call = Call::new(head, body);
    let mut response = match shared.dialect.route(&call) {
        Ok(route) => answer(&shared, &route, &call).await,
        Err(nowhere) => nowhere.into_response(),
    };
    // By the server's clock, where hyper would put the machine's.
    let date = httpdate::fmt_http_date(shared.clock.now().wall);
    response.headers_mut().extend(header(DATE, &date));
    response
}

async fn answer(shared: &Arc<Shared>, route: &Route, call: &Call) -> Response {
    let Some(fault) = shared.arrive(route) else {
        return shared.process(route, call).into_response();
    };
    match fault {
        Fault::CloseBeforeProcessing => close(),
        Fault::HoldBeforeProcessing => {
            shared.hold().await;
            shared.process(route, call).into_response()
        }
        Fault::Status { code, retry_after, body } => status(code, retry_after, body),
        Fault::OAuthError { status, code } => {
            let body = shared.dialect.error(call, &code).to_string();
            (status_code(status), json_headers(), body).into_response()
        }
        Fault::RedirectTo(place) => {
            (StatusCode::TEMPORARY_REDIRECT, header(LOCATION, &place)).into_response()
        }
        Fault::Delay(duration) => {
            let reply = shared.process(route, call);
            shared.sleep(duration).await;
            reply.into_response()
        }
        Fault::HoldUntilReleased => {
            let reply = shared.process(route, call);
            shared.hold().await;
            reply.into_response()
        }
        Fault::DropAfterCommit
        | Fault::StatusAfterCommit(_)
        | Fault::BodyAfterCommit(_)
        | Fault::Malformed
        | Fault::WrongTypes
        | Fault::Html
        | Fault::Empty200
        | Fault::NoAccessToken
        | Fault::TornBody
        | Fault::HugeBody
        | Fault::SlowBody(_) => spoil(shared, shared.process(route, call), fault),
    }
}

/// What the client gets in place of the answer to what was processed.
fn spoil(shared: &Arc<Shared>, reply: Reply, fault: Fault) -> Response {
    let json = |body: Body| (json_headers(), body).into_response();
    match fault {
        Fault::DropAfterCommit => close(),
        Fault::StatusAfterCommit(code) => status_code(code).into_response(),
        Fault::BodyAfterCommit(body) => json(body.into()),
        Fault::Malformed => json(MALFORMED.into()),
        Fault::WrongTypes if shared.dialect == FakeDialect::OAuth2 => json(WRONG_TYPES.into()),
        Fault::WrongTypes => json(reply.with_wrong_types().body().into()),
        Fault::Html => (header(CONTENT_TYPE, "text/html"), HTML).into_response(),
        Fault::Empty200 => json(Body::empty()),
        Fault::NoAccessToken => reply.without_access_token().into_response(),
        Fault::TornBody => {
            let whole = Bytes::from(reply.body());
            let length = header(CONTENT_LENGTH, &whole.len().to_string());
            let body = bodies::torn(whole.slice(..whole.len() / 2));
            (reply.status, reply.headers(), length, body).into_response()
        }
        Fault::HugeBody => json(bodies::huge()),
        Fault::SlowBody(pause) => {
            let body = bodies::slow(reply.body().into(), pause, Arc::clone(shared));
            (reply.status, reply.headers(), body).into_response()
        }
        // Those which `answer` has dealt with.
        Fault::CloseBeforeProcessing
        | Fault::HoldBeforeProcessing
        | Fault::Status { .. }
        | Fault::OAuthError { .. }
        | Fault::RedirectTo(_)
        | Fault::Delay(_)
        | Fault::HoldUntilReleased => reply.into_response(),
    }
}

fn status(code: u16, retry_after: Option<String>, body: Option<String>) -> Response {
    let body = body.unwrap_or_default();
    let content_type = if body.starts_with('{') { "application/json" } else { "text/plain" };
    let mut headers = header(CONTENT_TYPE, content_type);
    if let Some(retry_after) = retry_after {
        headers.extend(header(RETRY_AFTER, &retry_after));
    }
    (status_code(code), headers, body).into_response()
}

fn status_code(code: u16) -> StatusCode {
    // hyper does not send 1xx as a final answer.
    let code = StatusCode::from_u16(code).ok().filter(|code| !code.is_informational());
    code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The header, or none if the value cannot be one.
fn header(name: HeaderName, value: &str) -> HeaderMap {
    HeaderValue::from_str(value).ok().map(|value| (name, value)).into_iter().collect()
}

fn close() -> Response {
    axum::Extension(CloseConnection).into_response()
}

/// Marks a response that is not to be sent.
#[derive(Clone, Copy)]
struct CloseConnection;

#[derive(Debug, thiserror::Error)]
#[error("the connection is closed on purpose")]
struct ClosedOnPurpose;

/// How long a stop waits for clients that neither read nor finish their request.
const STOP_LIMIT: Duration = Duration::from_secs(1);

const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// More than any request of this protocol has.
const BODY_LIMIT: usize = 1 << 20;

const MALFORMED: &str = r#"{"access_token": "abc", "token_type" "Bearer""#;

const WRONG_TYPES: &str = r#"{"access_token": 12345, "token_type": ["Bearer"], "expires_in": {}, "refresh_token": false}"#;

const HTML: &str =
    "<!DOCTYPE html><title>Sign in</title><p>Please accept the terms of this network";
