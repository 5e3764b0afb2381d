//! Many sessions of many tenants at one server, which responds to each session as the test says.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{StatusCode, response};
use parking_lot::Mutex;
use session_warden::key::SessionId;
use session_warden::policy::Policy;
use session_warden::provider::{
    ExchangeError, FailureClass, HttpSender, Issued, Provider, Registration, Rejection, Revoked,
    Rotation,
};
use session_warden::secret::Secret;
use session_warden::store::MemoryStore;
use session_warden::testing::ManualClock;
use session_warden::token::{Placement, Tokens};
use session_warden::{Session, SessionKey, Supervisor};
use url::Url;

/// A provider whose refreshes fail as the rule says. Clones are one server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    authority: Url,
    life: Duration,
    refuse: Mutex<Rule>,
    requests: Mutex<HashMap<SessionId, u64>>,
}

type Rule = Box<dyn Fn(&SessionId) -> Option<Answer> + Send>;

/// A server's answer that brings no tokens.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub class: FailureClass,
    pub status: u16,
    pub code: Option<&'static str>,
}

impl Answer {
    /// One that is not understood.
    pub const fn unknown(status: u16, code: Option<&'static str>) -> Self {
        Self { class: FailureClass::Unclassified, status, code }
    }
}

impl Server {
    pub fn new(life: Duration) -> Self {
        Self(Arc::new(Shared {
            authority: Url::parse("https://fleet.invalid/").unwrap(),
            life,
            refuse: Mutex::new(Box::new(|_| None)),
            requests: Mutex::default(),
        }))
    }

    /// Answers refreshes by this rule.
    pub fn refuse(&self, rule: impl Fn(&SessionId) -> Option<Answer> + Send + 'static) {
        *self.0.refuse.lock() = Box::new(rule);
    }

    /// How many refreshes and grants arrived.
    pub fn requests(&self) -> u64 {
        self.0.requests.lock().values().sum()
    }

    /// How many of them for this session.
    pub fn requests_of(&self, session: &SessionId) -> u64 {
        self.0.requests.lock().get(session).copied().unwrap_or_default()
    }

    fn answer(
        &self,
        sender: &HttpSender<'_>,
        answer: Option<Answer>,
    ) -> Result<Tokens<()>, ExchangeError> {
        let session = sender.session().unwrap().clone();
        let mut requests = self.0.requests.lock();
        let number = requests.entry(session).or_default();
        *number += 1;
        if let Some(Answer { class, status, code }) = answer {
            let failed =
                ExchangeError::new(class).with_status(StatusCode::from_u16(status).unwrap());
            return Err(code.into_iter().fold(failed, ExchangeError::with_code));
        }
        let end = sender.expires_in(self.0.life.as_secs_f64());
        let tokens = Tokens::new(()).with_access_token(format!("access-{number}"), Some(end));
        Ok(tokens.with_refresh_token(format!("refresh-{number}"), None))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Provider for Server {
    type Grant = ();
    type Challenge = ();
    type Attributes = ();

    fn authority_url(&self) -> &Url {
        &self.0.authority
    }

    fn client_id(&self) -> &str {
        "fleet"
    }

    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Strict
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        (): (),
    ) -> Result<Issued<Self>, ExchangeError> {
        self.answer(sender, None).map(Issued::Tokens)
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        _: &Secret,
        _: &Tokens<()>,
    ) -> Result<Tokens<()>, ExchangeError> {
        let answer = (*self.0.refuse.lock())(sender.session().unwrap());
        self.answer(sender, answer)
    }

    async fn revoke(&self, _: &HttpSender<'_>, _: &Tokens<()>) -> Result<Revoked, ExchangeError> {
        Ok(Revoked::AtServer)
    }

    fn rejection(&self, _: &response::Parts, _: &[u8]) -> Rejection {
        Rejection::None
    }
}

/// A supervisor over the server, with sessions that are signed in.
pub struct Fleet {
    pub clock: ManualClock,
    pub store: MemoryStore,
    pub supervisor: Supervisor,
    pub server: Server,
    pub sessions: Vec<Session<Server>>,
}

impl Fleet {
    /// So many sessions of so many tenants.
    pub async fn of(sessions: usize, tenants: usize, life: Duration) -> Self {
        let server = Server::new(life);
        let mut fleet = Self::on(MemoryStore::new(), ManualClock::new(), server).await;
        for n in 0..sessions {
            let session = fleet.session(&format!("tenant-{}", n % tenants), n);
            let _ = session.establish(()).await.unwrap();
            fleet.sessions.push(session);
        }
        fleet
    }

    /// A process on this store, without handles so far.
    pub async fn on(store: MemoryStore, clock: ManualClock, server: Server) -> Self {
        let policy = Policy { events: 65_536, ..Policy::default() };
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(store.clone())
            .policy(policy)
            .provider("p", Registration::new(server.clone()))
            .start()
            .await
            .unwrap();
        Self { clock, store, supervisor, server, sessions: Vec::new() }
    }

    pub fn session(&self, tenant: &str, n: usize) -> Session<Server> {
        let key = SessionKey::new(tenant, format!("device-{n}")).unwrap();
        self.supervisor.sessions("p").unwrap().session(key)
    }

    /// A user signs in, and does not wait.
    pub async fn signs_in(&self, n: usize) {
        let session = self.session("newcomer", n);
        let _ = at_once(session.establish(())).await.unwrap();
    }
}

/// The output of the future, which must end without any time passing.
pub async fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..10_000 {
        if let Some(done) = future.as_mut().now_or_never() {
            return done;
        }
        tokio::task::yield_now().await;
    }
    panic!("it waits for time to pass");
}
