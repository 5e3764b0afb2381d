//! The layer for services of tower.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use session_warden::middleware::tower::{BoxError, SessionLayer};
use session_warden::middleware::{CallerHeader, RepeatableBody, Resend, SessionChoice};
use session_warden::{Error, ErrorKind, Session};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{MANY, Setup};

fn get(url: String) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_of_a_service_cause_one_refresh_and_one_resend_each() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let (counted, gate) = (Arc::clone(&sent), Arc::new(tokio::sync::Barrier::new(MANY)));
    let inner = service_fn(move |request: Request<RepeatableBody<Full<Bytes>>>| {
        counted.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gate);
        async move {
            let mut response = Response::new(Full::<Bytes>::default());
            if request.headers()[header::AUTHORIZATION] == "Bearer access-1" {
                assert!(request.headers()[header::AUTHORIZATION].is_sensitive());
                gate.wait().await;
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let service = SessionLayer::new(session.clone()).layer(inner);
    let calls = (0..MANY).map(|_| {
        let call = service.clone().oneshot(get(api.at("/item")));
        async move { call.await.unwrap().status() }
    });
    let statuses: Vec<_> = stream::iter(calls).buffer_unordered(MANY).collect().await;
    assert_eq!(statuses, vec![StatusCode::OK; MANY]);
    assert_eq!((script.refreshes(), sent.load(Ordering::SeqCst)), (1, 2 * MANY));
}

#[tokio::test]
async fn a_client_of_hyper_sends_a_streamed_body_again_if_it_is_small() {
    for (pieces, resend, lengths) in
        [(3, Resend::Resent, vec![3000, 3000]), (100, Resend::BodyNotRepeatable, vec![100_000])]
    {
        let Setup { api, session, script, .. } = &Setup::new().await;
        api.reject("access-1");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let layer = SessionLayer::new(session.clone());
        let mut client = ServiceBuilder::new().layer(layer).service(client);
        let piece = || Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b'x'; 1000])));
        let body = StreamBody::new(stream::iter((0..pieces).map(|_| piece()).collect::<Vec<_>>()));
        let request = Request::post(api.at("/item")).body(body).unwrap();
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.extensions().get(), Some(&resend));
        let is_resent = resend == Resend::Resent;
        assert_eq!(response.status().is_success(), is_resent);
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer.len(), if is_resent { 3000 } else { "the token is dead".len() });
        let sent: Vec<_> = api.requests().iter().map(|request| request.body.len()).collect();
        assert_eq!((sent, script.refreshes()), (lengths, u64::from(is_resent)));
    }
}

#[tokio::test]
async fn a_client_of_reqwest_is_a_service_too() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    let layer = SessionLayer::new(SessionChoice::from_extension());
    let mut client = ServiceBuilder::new().layer(layer).service(reqwest::Client::new());
    let mut request = Request::post(api.at("/item")).body("body").unwrap();
    request.extensions_mut().insert::<Session>(session.clone());
    let request = reqwest::Request::try_from(request).unwrap();
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Resend::Resent));
    assert_eq!(response.url().as_str(), api.at("/item"));
    assert_eq!(response.text().await.unwrap(), "body");
    assert_eq!(script.refreshes(), 1);
}

/// A service whose calls panic unless it was polled ready just before.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl Clone for Strict {
    /// A clone is not ready, as tower documents.
    fn clone(&self) -> Self {
        Self { ready: false, calls: Arc::clone(&self.calls) }
    }
}

impl Service<Request<RepeatableBody<Full<Bytes>>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Full<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<RepeatableBody<Full<Bytes>>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "it was not polled ready");
        let mut response = Response::new(Full::default());
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(response))
    }
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_called_and_made_ready_again_before_the_resend() {
    let Setup { api, session, .. } = &Setup::new().await;
    let strict = Strict::default();
    let calls = Arc::clone(&strict.calls);
    let mut service = SessionLayer::new(session.clone()).layer(strict);
    for sent in [2, 3] {
        let call = service.ready().await.unwrap().call(get(api.at("/item")));
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
        assert_eq!(calls.load(Ordering::SeqCst), sent);
    }
}

#[tokio::test]
async fn the_session_is_chosen_for_each_request_and_a_request_without_one_is_not_sent() {
    let Setup { api, session, .. } = &Setup::new().await;
    let strict = Strict::default();
    let calls = Arc::clone(&strict.calls);
    let known = session.clone();
    let choice = SessionChoice::by(move |request| {
        request.headers.contains_key("x-device").then(|| known.clone())
    });
    let service = SessionLayer::new(choice).layer(strict);
    let error = service.clone().oneshot(get(api.at("/item"))).await.unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let mut request = get(api.at("/item"));
    request.headers_mut().insert("x-device", "1".parse().unwrap());
    service.oneshot(request).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_code_of_grpc_is_a_rejection() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    let inner = service_fn(|request: Request<RepeatableBody<Full<Bytes>>>| async move {
        let dead = request.headers()[header::AUTHORIZATION] == "Bearer access-1";
        let code = if dead { "16" } else { "0" };
        let response = Response::builder()
            .header(header::CONTENT_TYPE, "application/grpc+proto")
            .header("grpc-status", code);
        Ok::<_, BoxError>(response.body(Full::<Bytes>::default()).unwrap())
    });
    let service = SessionLayer::new(session.clone()).layer(inner);
    let response = service.oneshot(get(api.at("/pkg.Service/Call"))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "0");
    assert_eq!(script.refreshes(), 1);
}

#[tokio::test]
async fn a_callers_header_is_kept_or_refused() {
    let Setup { api, session, .. } = &Setup::new().await;
    let inner = service_fn(|request: Request<RepeatableBody<Full<Bytes>>>| async move {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Basic own");
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
    });
    for (setting, is_sent) in [(CallerHeader::Refuse, false), (CallerHeader::Keep, true)] {
        let layer = SessionLayer::new(session.clone()).caller_header(setting);
        let mut request = get(api.at("/item"));
        request.headers_mut().insert(header::AUTHORIZATION, "Basic own".parse().unwrap());
        let sent = layer.layer(inner).oneshot(request).await;
        assert_eq!(sent.is_ok(), is_sent, "{setting:?}");
    }
}
