//! A token that the middleware puts on a request is shown to nobody but the API.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use reqwest_middleware::ClientBuilder;
use session_warden::middleware::reqwest_middleware::SessionMiddleware;
use session_warden::middleware::tower::{BoxError, SessionLayer};
use session_warden::middleware::{CallerHeader, RepeatableBody, SessionChoice};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::Setup;
use super::placing::{PLACES, Place};
use super::recording_api::RecordingApi;

/// Everything of an error that a program may log.
fn all_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error:?}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        text.push_str(&format!(" {error}"));
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_shows_no_token(shown: &str) {
    assert!(!shown.contains("access-"), "{shown}");
}

#[tokio::test]
async fn the_url_of_a_response_has_no_token() {
    for refused in [false, true] {
        let Setup { api, session, .. } = &Setup::placing(Place::Query).await;
        api.reject("access-1");
        if refused {
            api.reject("access-2");
        }
        let url = api.at("/item?a=b");
        let layer = SessionLayer::new(session.clone());
        let middleware = SessionMiddleware::new(session.clone());
        let client = ClientBuilder::new(reqwest::Client::new()).with(middleware).build();
        let request = reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
        let responses = [
            session.get(&*url).send().await.unwrap(),
            layer.layer(reqwest::Client::new()).oneshot(request).await.unwrap(),
            client.get(&*url).send().await.unwrap(),
        ];
        let sent = api.requests();
        assert!(sent.iter().all(|request| request.path.contains("token=access-")), "{sent:?}");
        for response in responses {
            assert_eq!(response.url().as_str(), url);
            assert_shows_no_token(&format!("{response:?}"));
            let status = response.error_for_status();
            assert_eq!(status.is_err(), refused);
            if let Err(error) = status {
                assert_shows_no_token(&all_of(&error));
            }
        }
    }
}

#[tokio::test]
async fn an_error_of_a_request_has_no_token() {
    for place in PLACES {
        let Setup { api, session, .. } = &Setup::placing(place).await;
        api.stop().await;
        let url = api.at("/item?a=b");
        let layer = SessionLayer::new(session.clone());
        let request = || reqwest::Request::new(reqwest::Method::GET, url.parse().unwrap());
        let error = layer.layer(reqwest::Client::new()).oneshot(request()).await.unwrap_err();
        let of_reqwest = error.downcast_ref::<reqwest::Error>().unwrap();
        assert_eq!(of_reqwest.url().unwrap().as_str(), url, "the caller's own URL stays");
        assert_shows_no_token(&all_of(&*error));

        let middleware = SessionMiddleware::new(session.clone());
        let client = ClientBuilder::new(reqwest::Client::new()).with(middleware).build();
        let error = client.execute(request()).await.unwrap_err();
        assert_eq!(error.url().unwrap().as_str(), url);
        assert_shows_no_token(&all_of(&error));

        assert_shows_no_token(&all_of(&session.execute(request()).await.unwrap_err()));
    }
}

#[tokio::test]
async fn nothing_that_the_middleware_makes_shows_a_token() {
    let Setup { api, session, .. } = &Setup::new().await;
    let inner = service_fn(|request: Request<RepeatableBody<Full<Bytes>>>| async move {
        let headers = format!("{:?}", request.headers());
        let shown = format!("{headers} {:?}", request.body());
        Ok::<_, BoxError>(Response::new(Full::<Bytes>::from(shown)))
    });
    let layer = SessionLayer::new(SessionChoice::from(session.clone()));
    let mut service = layer.layer(inner);
    let request = Request::get(api.at("/item")).body(Full::default()).unwrap();
    let call = service.call(request);
    let mut shown = format!("{call:?} {layer:?}");
    let response = call.await.unwrap();
    shown.push_str(&format!("{response:?} {:?}", SessionMiddleware::new(session.clone())));
    shown.push_str(&format!("{:?}", session.get(api.at("/item"))));
    assert_shows_no_token(&shown);
    let of_inner = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    let of_inner = String::from_utf8(of_inner.to_bytes().to_vec()).unwrap();
    assert!(of_inner.contains("\"authorization\": Sensitive"), "{of_inner}");
    assert_shows_no_token(&of_inner);
}

/// Without `redirect_policy`, a client of reqwest goes to another server by itself.
#[tokio::test]
async fn a_rejection_by_a_server_behind_a_redirect_is_not_a_rejection_of_the_token() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    let other = RecordingApi::start().await;
    // Every request.
    other.reject("");
    let middleware = SessionMiddleware::new(session.clone()).caller_header(CallerHeader::Refuse);
    let client = ClientBuilder::new(reqwest::Client::new()).with(middleware).build();
    let url = api.at(&format!("/redirect?307&{}", other.at("/file")));
    let response = client.get(url).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.url().as_str()), (401, &*other.at("/file")));
    assert_eq!((other.requests().len(), script.refreshes()), (1, 0));
    assert_eq!(session.permission_token().await.unwrap().expose_secret(), "access-1");
}
