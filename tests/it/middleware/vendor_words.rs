//! Vendors that say in the body of a response that the token is no longer valid.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use session_warden::middleware::tower::{BoxError, SessionLayer};
use session_warden::middleware::{RepeatableBody, Resend};
use session_warden::provider::oauth2::{OAuth2, OAuth2Settings, Password};
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Supervisor};
use tower::{Layer, ServiceExt, service_fn};

use super::Setup;
use super::recording_api::RecordingApi;

/// Settings of a vendor that rejects tokens with the status 200.
fn settings(server: &FakeAuthServer, api_origin: &str) -> OAuth2Settings {
    let issuer = server.issuer();
    let text = format!(
        r#"{{"issuer": "{issuer}", "client_id": "client", "client_secret": "secret",
             "token_dead_on": [{{"status": 200, "pointer": "/error", "value": "token_revoked"}}],
             "api_origins": ["{api_origin}"]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_rejection_with_the_status_200_is_seen_by_the_rules_of_the_settings() {
    let server = FakeAuthServer::builder().client("client", "secret").start().await.unwrap();
    let api = RecordingApi::start().await;
    let client = OAuth2::from_settings(settings(&server, &api.url)).unwrap();
    let transport = TransportConfig::default().allow_loopback_http();
    let builder = Supervisor::builder().transport(transport).provider("acme", client);
    let supervisor = builder.start().await.unwrap();
    let sessions = supervisor.sessions::<OAuth2>("acme").unwrap();
    let session = sessions.session(SessionKey::single("device").unwrap());
    let _ = session.establish(Password::new("ada", "ok")).await.unwrap();
    api.reject(session.permission_token().await.unwrap().expose_secret());

    let request = session.post(api.at("/word")).configure(|request| request.body("sent"));
    let response = request.send().await.unwrap();
    assert_eq!(response.extensions().get(), Some(&Resend::Resent));
    assert_eq!(response.text().await.unwrap(), "sent");
    assert_eq!((server.refreshes(), api.requests().len()), (1, 2));

    // The second rejection in a row is damped, and its body comes whole.
    api.reject(session.permission_token().await.unwrap().expose_secret());
    let response = session.get(api.at("/word")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "{\"error\":\"token_revoked\"}");
    assert_eq!(server.refreshes(), 1);
}

#[tokio::test]
async fn an_origin_in_the_settings_that_cannot_be_used_is_refused_with_its_field() {
    let server = FakeAuthServer::builder().start().await.unwrap();
    let refused = OAuth2::from_settings(settings(&server, "http://localhost:1")).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("`api_origins`") && text.contains("write 127.0.0.1"), "{text}");
}

/// The provider wants to see the body of every response with a status of 4xx.
#[tokio::test(start_paused = true)]
async fn the_body_of_a_stream_is_not_waited_for() {
    let Setup { api, session, .. } = &Setup::new().await;
    for kind in ["text/event-stream; charset=utf-8", "application/x-ndjson", "Application/GRPC"] {
        let inner = service_fn(move |_: Request<RepeatableBody<Empty<Bytes>>>| async move {
            let first = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from("first")))]);
            let body = StreamBody::new(first.chain(stream::pending()));
            let response = Response::builder().status(400).header(header::CONTENT_TYPE, kind);
            Ok::<_, BoxError>(response.body(body).unwrap())
        });
        let call = SessionLayer::new(session.clone()).layer(inner);
        let call = call.oneshot(Request::get(api.at("/item")).body(Empty::new()).unwrap());
        let answered = tokio::time::timeout(Duration::from_secs(60), call).await;
        let mut body = answered.unwrap_or_else(|_| panic!("{kind} was waited for")).unwrap();
        let first = body.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first", "{kind}");
    }
}
