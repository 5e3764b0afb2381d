//! Requests to APIs with a session's token.

mod placing;
mod recording_api;
mod redirects;
mod reqwest_middleware;
mod shown_tokens;
mod tonic;
mod tower;
mod vendor_words;

use std::time::Duration;

use ::reqwest::Body;
use futures_util::{StreamExt, stream};
use session_warden::middleware::reqwest::RequestError;
use session_warden::middleware::{CallerHeader, Resend};
use session_warden::provider::{FailureClass, Registration};
use session_warden::testing::{Reply, Script, ScriptedProvider};
use session_warden::{ErrorKind, Session, SessionKey, Supervisor};

use self::placing::{Place, Placing};
use self::recording_api::RecordingApi;

/// How many requests are on their way at once.
const MANY: usize = 1000;

/// An API, and a session whose token may go there.
struct Setup {
    api: RecordingApi,
    session: Session,
    script: Script,
    _supervisor: Supervisor,
}

impl Setup {
    async fn new() -> Self {
        Self::placing(Place::Bearer).await
    }

    async fn placing(place: Place) -> Self {
        let api = RecordingApi::start().await;
        let inner: ScriptedProvider = ScriptedProvider::new();
        let script = inner.script();
        let provider = Registration::new(Placing::new(inner, place)).api_origins([&*api.url]);
        let supervisor = Supervisor::builder().provider("acme", provider).start().await.unwrap();
        let sessions = supervisor.sessions::<Placing>("acme").unwrap();
        let session = sessions.session(SessionKey::single("device").unwrap());
        let _ = session.establish(()).await.unwrap();
        let session = session.erase();
        Self { api, session, script, _supervisor: supervisor }
    }
}

/// Allows this process as many open files as it may have.
fn open_more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_whose_token_is_rejected_at_once_cause_one_refresh_and_one_resend_each()
{
    open_more_files();
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    api.gather(MANY);
    let requests = (0..MANY).map(|number| async move {
        let response = session.get(api.at(&format!("/item/{number}"))).send().await.unwrap();
        assert_eq!(response.extensions().get(), Some(&Resend::Resent));
        response.status().as_u16()
    });
    let statuses: Vec<_> = stream::iter(requests).buffer_unordered(MANY).collect().await;
    assert_eq!(statuses, vec![200; MANY]);
    assert_eq!(script.refreshes(), 1);
    assert_eq!((api.count("access-1"), api.count("access-2")), (MANY, MANY));
    for number in 0..MANY {
        let path = format!("/item/{number}");
        let sent = api.requests().iter().filter(|request| request.path == path).count();
        assert_eq!(sent, 2, "{path}");
    }
}

#[tokio::test]
async fn the_second_rejection_comes_as_it_came_and_so_does_a_damped_one() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    for token in ["access-1", "access-2"] {
        api.reject(token);
    }
    for (resend, refreshes) in [(Some(&Resend::Resent), 1), (None, 1)] {
        let response = session.get(api.at("/item")).send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["x-reason"], "dead");
        assert_eq!(response.extensions().get(), resend);
        assert_eq!(response.url().as_str(), api.at("/item"));
        assert_eq!(response.text().await.unwrap(), "the token is dead");
        assert_eq!(script.refreshes(), refreshes);
    }
    assert_eq!(api.requests().len(), 3);
}

#[tokio::test]
async fn a_small_body_is_sent_again_and_a_stream_is_not_and_says_so() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    let streamed = Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>("streamed")]));
    let request = session.post(api.at("/item")).configure(|request| request.body(streamed));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.extensions().get(), Some(&Resend::BodyNotRepeatable));
    assert_eq!(response.text().await.unwrap(), "the token is dead");
    assert_eq!((api.requests().len(), script.refreshes()), (1, 0));

    let request = session.post(api.at("/item")).configure(|request| request.body("small"));
    let response = request.send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "small");
    assert_eq!(script.refreshes(), 1);
    let bodies: Vec<_> = api.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["streamed", "small"], "the token was known to be dead already");
}

#[tokio::test]
async fn a_body_is_sent_a_second_time_as_a_whole() {
    let Setup { api, session, .. } = &Setup::new().await;
    api.reject("access-1");
    let request = session.put(api.at("/item")).configure(|request| request.body("whole"));
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "whole");
    let bodies: Vec<_> = api.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["whole", "whole"]);
}

#[tokio::test]
async fn a_vendors_word_in_the_body_is_seen_and_the_body_stays_whole() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    for token in ["access-1", "access-2"] {
        api.reject(token);
    }
    let response = session.get(api.at("/dead")).send().await.unwrap();
    assert_eq!((script.refreshes(), response.status().as_u16()), (1, 400));
    let body = response.text().await.unwrap();
    assert!(body.starts_with("{\"status\":\"BAD_TOKEN\"") && body.ends_with("xx\"}"), "{body}");
    assert_eq!(body.len(), 40_000 + 31);
}

#[tokio::test]
async fn a_stream_of_events_is_not_held_back() {
    let Setup { api, session, .. } = &Setup::new().await;
    let mut response = session.get(api.at("/events")).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: 1\n\n");
    api.end_streams();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: 2\n\n");
}

#[tokio::test]
async fn a_token_goes_to_no_other_origin() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    let other = RecordingApi::start().await;
    let refused = |sent: Result<_, RequestError>| {
        let Err(RequestError::Session(error)) = sent.map(drop) else { panic!("it was sent") };
        (error.kind(), error.to_string())
    };
    for (url, words) in [
        (other.at("/item"), "is not among the API origins of the provider"),
        ("https://api.example.com/".to_owned(), "is not among the API origins of the provider"),
        ("http://api.example.com/".to_owned(), "plain http is not encrypted"),
        (api.url.replace("127.0.0.1", "localhost"), "plain http is not encrypted"),
    ] {
        let (kind, text) = refused(session.get(&url).send().await);
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(text.contains(words), "{url}: {text}");
    }
    assert!(other.requests().is_empty() && api.requests().is_empty());
    assert_eq!(script.refreshes(), 0);
}

#[tokio::test]
async fn without_api_origins_nothing_is_sent() {
    let api = RecordingApi::start().await;
    let provider: ScriptedProvider = ScriptedProvider::new();
    let supervisor = Supervisor::builder().provider("acme", provider).start().await.unwrap();
    let session = supervisor.session("acme", SessionKey::single("device").unwrap()).unwrap();
    let Err(RequestError::Session(error)) = session.get(api.at("/item")).send().await else {
        panic!("it was sent");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("set them with `Registration::api_origins`"), "{error}");
    assert!(api.requests().is_empty());
}

#[tokio::test]
async fn an_origin_that_cannot_be_used_is_reported_at_the_start() {
    let provider: ScriptedProvider = ScriptedProvider::new();
    let provider = Registration::new(provider).api_origins(["http://api.example.com"]);
    let refused = Supervisor::builder().provider("acme", provider).start().await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "wrong configuration: provider \"acme\": the API origin \"http://api.example.com\" is \
         refused because plain http is not encrypted"
    );
}

#[tokio::test]
async fn a_header_of_the_caller_is_not_replaced() {
    let Setup { api, session, .. } = &Setup::new().await;
    let request = session.get(api.at("/item"));
    let request = request.configure(|request| request.header("authorization", "Basic own"));
    let Err(RequestError::Session(error)) = request.send().await else { panic!("it was sent") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("remove it, or set `CallerHeader::Keep`"), "{error}");
    assert_eq!(
        error.to_string().matches("authorization").count(),
        1,
        "one header is named once: {error}"
    );
    assert!(api.requests().is_empty());

    let request = session.get(api.at("/redirect?307&/item")).caller_header(CallerHeader::Keep);
    let request = request.configure(|request| request.header("authorization", "Basic own"));
    assert_eq!(request.send().await.unwrap().status(), 200);
    let sent = api.requests();
    assert_eq!(sent.len(), 2, "the redirect stays at the origin");
    assert!(sent.iter().all(|request| request.header("authorization") == "Basic own"));
}

#[tokio::test]
async fn without_another_token_the_caller_gets_the_sessions_error() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    script.refresh(Reply::Fail(FailureClass::Rejected));
    let Err(RequestError::Session(error)) = session.get(api.at("/item")).send().await else {
        panic!("it has an answer");
    };
    assert!(matches!(error.kind(), ErrorKind::SignInAgain(_)), "{error}");
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn each_send_has_a_signature_of_its_own() {
    let Setup { api, session, .. } = &Setup::placing(Place::Signature).await;
    api.reject("access-1");
    assert_eq!(session.get(api.at("/item")).send().await.unwrap().status(), 200);
    let signatures: Vec<_> =
        api.requests().iter().map(|request| request.header("authorization").to_owned()).collect();
    assert_eq!(signatures, ["Signature 0 of access-1", "Signature 1 of access-2"]);
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_no_refresh() {
    let Setup { api, session, script, .. } = &Setup::new().await;
    api.reject("access-1");
    script.refresh(Reply::Hold);
    let request = session.get(api.at("/item"));
    let sending = tokio::spawn(async move { request.send().await.map(drop) });
    script.held(1).await;
    sending.abort();
    assert!(sending.await.unwrap_err().is_cancelled());
    script.release();
    assert_eq!(session.permission_token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(script.refreshes(), 1);
}

#[tokio::test]
async fn the_client_of_the_supervisor_takes_the_settings_of_the_program() {
    let api = RecordingApi::start().await;
    let provider: ScriptedProvider = ScriptedProvider::new();
    let provider = Registration::new(provider).api_origins([&*api.url]);
    let builder = Supervisor::builder().provider("acme", provider);
    let builder = builder.api_client(|client| {
        client.user_agent("my-backend/1.0").timeout(Duration::from_millis(200))
    });
    let supervisor = builder.start().await.unwrap();
    let sessions = supervisor.sessions::<ScriptedProvider>("acme").unwrap();
    let session = sessions.session(SessionKey::single("device").unwrap());
    let _ = session.establish(()).await.unwrap();
    session.get(api.at("/item")).send().await.unwrap();
    assert_eq!(api.requests()[0].header("user-agent"), "my-backend/1.0");
    api.reject("access-1");
    api.gather(2);
    let Err(RequestError::Http(error)) = session.get(api.at("/item?secret")).send().await else {
        panic!("it does not answer");
    };
    assert!(error.is_timeout() && !format!("{error:?} {error}").contains("secret"), "{error:?}");
}
