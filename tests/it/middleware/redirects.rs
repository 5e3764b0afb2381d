//! A redirect to another origin never takes a token along.

use futures_util::stream;
use reqwest::Body;
use reqwest_middleware::ClientBuilder;
use session_warden::middleware::redirect_policy;
use session_warden::middleware::reqwest::RequestError;
use session_warden::middleware::reqwest_middleware::SessionMiddleware;
use session_warden::policy::REDIRECTS;

use super::Setup;
use super::placing::{PLACES, Place};
use super::recording_api::RecordingApi;

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

#[tokio::test]
async fn another_server_never_sees_the_token_of_a_session() {
    for place in PLACES {
        let Setup { api, session, .. } = &Setup::placing(place).await;
        let other = RecordingApi::start().await;
        for status in STATUSES {
            let url = api.at(&format!("/redirect?{status}&{}", other.at("/file")));
            let request = session.get(url);
            let request = request.configure(|request| request.header("cookie", "canary-cookie"));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{place:?} {status}");
            assert_eq!(response.url().as_str(), other.at("/file"));
        }
        assert_eq!(
            (api.count("access-1"), other.requests().len()),
            (STATUSES.len(), STATUSES.len())
        );
        for request in other.requests() {
            assert!(!request.carries("access-1") && !request.carries("canary"), "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_redirect_back_from_another_server_gets_no_token_either() {
    let Setup { api, session, .. } = &Setup::new().await;
    let other = RecordingApi::start().await;
    let back = format!("/redirect%3F307%26{}", api.at("/chosen"));
    let url = api.at(&format!("/redirect?307&{}", other.at(&back)));
    // The other server chooses the path, so the API must not take it for the session's.
    let response = session.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let chosen = api.requests().into_iter().find(|request| request.path == "/chosen").unwrap();
    assert!(!chosen.carries("access-1"), "{chosen:?}");
}

#[tokio::test]
async fn a_redirect_to_the_same_origin_is_authorized_anew() {
    let Setup { api, session, .. } = &Setup::placing(Place::Signature).await;
    let url = api.at("/redirect?307&/item");
    let response = session.post(url).configure(|request| request.body("kept")).send().await;
    assert_eq!(response.unwrap().text().await.unwrap(), "kept");
    let sent = api.requests();
    assert_eq!(sent[0].header("authorization"), "Signature 0 of access-1");
    assert_eq!(sent[1].header("authorization"), "Signature 1 of access-1");
    assert_eq!((&*sent[1].method, &*sent[1].path), ("POST", "/item"));
}

#[tokio::test]
async fn a_redirect_changes_the_method_as_the_standard_says() {
    let Setup { api, session, .. } = &Setup::new().await;
    for (status, method, body) in [
        (301, "GET", ""),
        (302, "GET", ""),
        (303, "GET", ""),
        (307, "POST", "b"),
        (308, "POST", "b"),
    ] {
        let url = api.at(&format!("/redirect?{status}&/item"));
        let request = session.post(url).configure(|request| request.body("b"));
        request.send().await.unwrap();
        let last = api.requests().pop().unwrap();
        assert_eq!((&*last.method, &*last.body), (method, body.as_bytes()), "{status}");
        assert_eq!(last.header("content-length").is_empty(), body.is_empty(), "{status}");
    }
    let streamed = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>("streamed")]));
    let request = session.post(api.at("/redirect?307&/item"));
    let response = request.configure(|request| request.body(streamed)).send().await.unwrap();
    assert_eq!(response.status(), 307, "a stream cannot be sent again");
}

#[tokio::test]
async fn redirects_end() {
    let Setup { api, session, .. } = &Setup::new().await;
    let ended = session.get(api.at("/around")).send().await;
    assert!(matches!(ended, Err(RequestError::TooManyRedirects)), "{ended:?}");
    assert_eq!(api.requests().len(), REDIRECTS + 1);
}

#[tokio::test]
async fn a_client_of_the_program_with_the_redirect_policy_keeps_the_token_at_home() {
    for place in PLACES {
        let Setup { api, session, .. } = &Setup::placing(place).await;
        let other = RecordingApi::start().await;
        let http = reqwest::Client::builder().redirect(redirect_policy()).build().unwrap();
        let client = ClientBuilder::new(http).with(SessionMiddleware::new(session.clone())).build();
        let url = api.at(&format!("/redirect?307&{}", other.at("/file")));
        let response = client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 307, "{place:?}");
        assert_eq!(api.count("access-1"), 1);
        let followed = client.get(api.at("/redirect?307&/item")).send().await.unwrap();
        assert_eq!(followed.status(), 200);
        assert!(other.requests().is_empty());
    }
}
