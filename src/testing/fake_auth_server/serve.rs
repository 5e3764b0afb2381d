//! Connections, requests, and the ways to spoil a response.

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

use super::dialect::Route;
use super::fake_response::{FakeResponse, json_headers};
use super::incoming_request::IncomingRequest;
use super::injected_fault::Fault;
use super::running::RunningServer;
use crate::clock::{Clock as _, SystemClock};

mod bodies;

/// Serves until the server is stopped, and ends with the last connection.
pub(super) async fn serve(listener: TcpListener, running: Arc<RunningServer>) {
    let router = router(&running);
    // The connections are tasks of this set, and go when it goes.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    running.update(|state| state.counts.connections += 1);
                    connections.spawn(serve_connection(stream, router.clone(), Arc::clone(&running)));
                }
                // Out of file descriptors, most likely: the next attempt fails at once too.
                Err(_) => SystemClock::new().sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = running.stopping() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = SystemClock::new().sleep(STOP_LIMIT) => {}
    }
}

fn router(running: &Arc<RunningServer>) -> Router {
    Router::new().fallback(receive).with_state(Arc::clone(running))
}

async fn serve_connection(stream: TcpStream, router: Router, running: Arc<RunningServer>) {
    // Bodies that come byte by byte would wait for acknowledgements otherwise. It is only slower
    // if it fails.
    drop(stream.set_nodelay(true));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let response = router.call(request);
        async move {
            let Ok(response) = response.await;
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
        () = running.stopping() => connection.as_mut().graceful_shutdown(),
    }
    drop(connection.await);
}

async fn receive(State(running): State<Arc<RunningServer>>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let request = IncomingRequest::new(head, body);
    let mut response = match running.read(|state| state.dialect.route(&request)) {
        Ok(route) => respond(&running, &route, &request).await,
        Err(status) => status.into_response(),
    };
    // By the server's clock, where hyper would put the machine's.
    let date = httpdate::fmt_http_date(running.clock.now().wall);
    response.headers_mut().extend(header(DATE, &date));
    response
}

async fn respond(
    running: &Arc<RunningServer>,
    route: &Route,
    request: &IncomingRequest,
) -> Response {
    let Some(fault) = running.arrive(route) else {
        return running.process(route, request).into_response();
    };
    match fault {
        Fault::CloseBeforeProcessing => close(),
        Fault::HoldBeforeProcessing => {
            running.hold().await;
            running.process(route, request).into_response()
        }
        Fault::Status { code, retry_after, body } => status(code, retry_after, body),
        Fault::OAuthError { status, code } => {
            let body = running.read(|state| state.dialect.error(request, &code)).to_string();
            (status_code(status), json_headers(), body).into_response()
        }
        Fault::RedirectTo(place) => {
            (StatusCode::TEMPORARY_REDIRECT, header(LOCATION, &place)).into_response()
        }
        Fault::Delay(duration) => {
            let response = running.process(route, request);
            running.sleep(duration).await;
            response.into_response()
        }
        Fault::HoldUntilReleased => {
            let response = running.process(route, request);
            running.hold().await;
            response.into_response()
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
        | Fault::SlowBody(_) => spoil(running, running.process(route, request), fault),
    }
}

/// What the client gets in place of the response to a request that was processed.
fn spoil(running: &Arc<RunningServer>, response: FakeResponse, fault: Fault) -> Response {
    let json = |body: Body| (json_headers(), body).into_response();
    match fault {
        Fault::DropAfterCommit => close(),
        Fault::StatusAfterCommit(code) => status_code(code).into_response(),
        Fault::BodyAfterCommit(body) => json(body.into()),
        Fault::Malformed => json(MALFORMED.into()),
        Fault::WrongTypes => json(running.read(|state| state.dialect.wrong_types(response)).into()),
        Fault::Html => (header(CONTENT_TYPE, "text/html"), HTML).into_response(),
        Fault::Empty200 => json(Body::empty()),
        Fault::NoAccessToken => response.without_access_token().into_response(),
        Fault::TornBody => {
            let whole = Bytes::from(response.body());
            let length = header(CONTENT_LENGTH, &whole.len().to_string());
            let body = bodies::torn(whole.slice(..whole.len() / 2));
            (response.status, response.headers(), length, body).into_response()
        }
        Fault::HugeBody => json(bodies::huge()),
        Fault::SlowBody(pause) => {
            let body = bodies::slow(response.body().into(), pause, Arc::clone(running));
            (response.status, response.headers(), body).into_response()
        }
        // `respond` handles these.
        Fault::CloseBeforeProcessing
        | Fault::HoldBeforeProcessing
        | Fault::Status { .. }
        | Fault::OAuthError { .. }
        | Fault::RedirectTo(_)
        | Fault::Delay(_)
        | Fault::HoldUntilReleased => response.into_response(),
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

const HTML: &str =
    "<!DOCTYPE html><title>Sign in</title><p>Please accept the terms of this network";
