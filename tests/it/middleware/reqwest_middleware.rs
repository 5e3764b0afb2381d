//! The middleware for the crate of that name.

use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use session_warden::middleware::reqwest_middleware::SessionMiddleware;
use session_warden::middleware::{CallerHeader, Resend, SessionChoice};
use session_warden::{Error, ErrorKind};

use super::Setup;

fn client(middleware: SessionMiddleware) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new()).with(middleware).build()
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_the_request_sent_once_more() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    let client = client(SessionMiddleware::new(session.clone()));
    let response = client.post(api.at("/item")).body("body").send().await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Resend::Resent));
    assert_eq!(response.text().await.unwrap(), "body");
    assert_eq!((script.refreshes(), api.requests().len()), (1, 2));
}

#[tokio::test]
async fn the_session_comes_with_the_request() {
    let Setup { api, session, .. } = &Setup::new().await;
    let client = client(SessionMiddleware::new(SessionChoice::from_extension()));
    let request = client.get(api.at("/item")).with_extension(session.clone());
    assert_eq!(request.send().await.unwrap().status(), 200);
    assert_eq!(api.count("access-1"), 1);

    let refused = client.get(api.at("/item")).send().await.unwrap_err();
    let reqwest_middleware::Error::Middleware(cause) = refused else { panic!("{refused:?}") };
    let error = cause.downcast_ref::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("has no session for this request"), "{error}");
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn a_header_of_the_caller_is_kept_if_the_program_says_so() {
    let Setup { api, session, .. } = &Setup::new().await;
    let middleware = SessionMiddleware::new(session.clone()).caller_header(CallerHeader::Keep);
    let own = client(middleware).get(api.at("/item")).header("authorization", "Basic own");
    assert_eq!(own.send().await.unwrap().status(), 200);
    assert_eq!(api.requests()[0].header("authorization"), "Basic own");
}
