//! Mistakes that users make, and the exact text that each of them gets. The text of the outermost
//! error alone must say what is wrong, where, and what to do.

mod files;
mod lifetime;
mod logins;
mod providers;
mod servers;

use std::error::Error as StdError;

use session_warden::provider::Provider;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::supervisor::SupervisorBuilder;
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, Session, SessionKey, Sessions, Supervisor};

/// Checks kind and text, and that the text repeats no cause.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, text: &str) {
    assert_eq!((error.to_string().as_str(), error.kind()), (text, kind));
    repeats_no_cause(error);
}

#[track_caller]
fn repeats_no_cause(error: &dyn StdError) {
    let (text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        assert!(!text.contains(&next.to_string()), "{text:?} repeats {next:?}");
        cause = next.source();
    }
}

fn builder() -> SupervisorBuilder {
    Supervisor::builder().transport(TransportConfig::default().allow_loopback_http())
}

fn https() -> OAuth2 {
    OAuth2::new("https://login.example.com/token", "my-backend").unwrap()
}

async fn fake_server() -> FakeAuthServer {
    let server = FakeAuthServer::builder().client("client", "secret").user("ada", "pw");
    server.start().await.unwrap()
}

fn session<P: Provider>(supervisor: &Supervisor, provider: &str) -> Session<P> {
    let sessions: Sessions<P> = supervisor.sessions(provider).unwrap();
    sessions.session(SessionKey::new("tenant-1", "device-17").unwrap())
}

async fn refused(provider: OAuth2) -> Error {
    let supervisor = builder().provider("acme", provider).start().await.unwrap();
    let password = Password::new("ada", "pw");
    session::<OAuth2>(&supervisor, "acme").establish(password).await.map(drop).unwrap_err()
}
