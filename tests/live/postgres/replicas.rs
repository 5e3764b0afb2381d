//! Supervisors on one database, at one authorization server.

use std::time::Duration;

use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::store::postgres::PostgresStore;
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{Error, ErrorKind, PermissionToken, Session, SessionKey, Supervisor};

use crate::peer::in_time;
use crate::processes::orders::{Waits, keys, policy};

/// The name under which the server's client is registered.
const PROVIDER: &str = "server";

/// Long enough for a restart of a database in the middle of an exchange.
pub const WAITS: Waits = Waits {
    budget: Duration::from_secs(2),
    lease: Duration::from_secs(10),
    hold: Duration::from_secs(10),
};

/// A supervisor with its store at this URL.
pub struct Replica {
    pub supervisor: Supervisor,
}

impl Replica {
    pub async fn start(url: &str, server: &FakeAuthServer) -> Self {
        let client = OAuth2::discover(&server.issuer(), "app").unwrap();
        let supervisor = Supervisor::builder()
            .policy(policy(WAITS))
            .key_ring(keys())
            .store(PostgresStore::connect(url).await.expect("the store opens"))
            .transport(TransportConfig::default().allow_loopback_http())
            .provider(PROVIDER, client)
            .start()
            .await
            .unwrap();
        Self { supervisor }
    }

    pub fn session(&self, name: &str) -> Session<OAuth2> {
        let key = SessionKey::new("tenant", name).unwrap();
        self.supervisor.sessions(PROVIDER).unwrap().session(key)
    }

    /// Signs in to a session.
    pub async fn establish(&self, name: &str) {
        let established = self.session(name).establish(Password::new("alice", "ok")).await;
        let _ = established.unwrap();
    }

    /// The generation of the token that a refresh gives in the end.
    pub async fn refresh(&self, name: &str) -> u64 {
        let session = self.session(name);
        insist(async || session.refresh().await).await.generation()
    }

    /// The generation of the token that is served in the end.
    pub async fn serves(&self, name: &str) -> u64 {
        let session = self.session(name);
        insist(async || session.permission_token().await).await.generation()
    }

    /// The generation that is served in the end to a caller whose token an API rejected.
    pub async fn serves_after(&self, name: &str, rejected: &PermissionToken) -> u64 {
        let session = self.session(name);
        insist(async || {
            session.invalidate(rejected);
            session.permission_token().await
        })
        .await
        .generation()
    }
}

/// Whether the call may be repeated.
pub fn may_be_repeated(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::RetryLater | ErrorKind::Store)
}

/// Repeats a call while its error says that it may succeed later.
///
/// # Panics
///
/// If it fails for good.
pub async fn insist(call: impl AsyncFn() -> Result<PermissionToken, Error>) -> PermissionToken {
    in_time(async {
        loop {
            match call().await {
                Ok(token) => return token,
                Err(error) if may_be_repeated(&error) => rest(Duration::from_millis(50)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "a database has no clock of ours")]
pub async fn rest(time: Duration) {
    // The database and its faults run by the system's clock.
    tokio::time::sleep(time).await;
}
