//! Providers that change while they have sessions: replaced, reloaded, one for each tenant.

mod binding;
mod calls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use session_warden::event::EventKind;
use session_warden::key::{ProviderName, Tenant};
use session_warden::policy::{Policy, ProviderLimits};
use session_warden::provider::oauth2::{ClientCredentials, OAuth2};
use session_warden::provider::{FailureClass, Registration, SourceError};
use session_warden::session::State;
use session_warden::testing::{Endpoint, FakeAuthServer, ManualClock, Reply, ScriptedProvider};
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session, SessionKey, Sessions, Supervisor};
use tokio_stream::StreamExt;
use url::Url;

use crate::fixtures::{ScriptedFixture, established, fixture};
use crate::support::{LIFE, SECOND, callers, provider_of, until};

fn scripted() -> ScriptedProvider {
    ScriptedProvider::new().lifetime(LIFE)
}

fn sessions(fixture: &ScriptedFixture) -> Sessions<ScriptedProvider> {
    fixture.supervisor.sessions("p").unwrap()
}

#[tokio::test]
async fn another_secret_takes_effect_on_the_next_exchange_and_loses_no_session() {
    let fixture = established().await;
    fixture.clock.advance(LIFE).await;
    fixture.script.refresh(Reply::Fail(FailureClass::InvalidClient));
    let refused = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    // The client is stopped, and the failure is remembered.
    assert_eq!(
        fixture.session.permission_token().await.unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    let renewed = scripted();
    let script = renewed.script();
    sessions(&fixture).replace(renewed).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 2));
    assert_eq!((fixture.script.refreshes(), script.refreshes()), (1, 1));
}

#[tokio::test]
async fn an_exchange_that_runs_ends_with_the_settings_that_it_began_with() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let renewed = scripted();
    let script = renewed.script();
    sessions(&fixture).replace(renewed).await.unwrap();
    fixture.script.release();
    assert_eq!(refreshing.await.unwrap().unwrap().generation(), 2);
    assert_eq!(fixture.session.refresh().await.unwrap().generation(), 3);
    assert_eq!((fixture.script.refreshes(), script.refreshes()), (1, 1));
}

#[tokio::test]
async fn another_site_gets_nothing_of_the_former_ones_sessions_until_that_is_back() {
    let mut fixture = established().await;
    assert_eq!(fixture.happened().await, [EventKind::Established]);
    let elsewhere = Url::parse("https://elsewhere.invalid/").unwrap();
    let other = scripted().authority(elsewhere);
    let script = other.script();
    sessions(&fixture).replace(other).await.unwrap();
    assert_eq!(fixture.happened().await, [EventKind::IssuerMismatch]);
    assert!(fixture.session.try_permission_token().is_none());
    let refused = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    assert_eq!(script.refreshes(), 0);
    sessions(&fixture).replace(scripted()).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 1);
}

#[tokio::test]
async fn a_server_that_asked_to_be_left_alone_still_is_after_a_replace() {
    let fixture = established().await;
    fixture.clock.advance(LIFE).await;
    fixture.script.refresh(Reply::FailFor(FailureClass::Throttled, 30 * SECOND));
    assert_eq!(fixture.session.permission_token().await.unwrap_err().kind(), ErrorKind::RetryLater);
    let renewed = scripted();
    let script = renewed.script();
    sessions(&fixture).replace(renewed).await.unwrap();
    let other = sessions(&fixture).session(SessionKey::new("tenant", "other").unwrap());
    let shut = other.establish(()).await.unwrap_err();
    assert_eq!((shut.kind(), shut.retry_after()), (ErrorKind::RetryLater, Some(30 * SECOND)));
    assert_eq!(script.establishes(), 0);
}

#[tokio::test]
async fn one_provider_is_replaced_and_many_are_reloaded() {
    let fixture = fixture().await;
    let refused = sessions(&fixture).reload(None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let tenants = Tenants::start(Policy::default()).await;
    let refused = tenants.sessions.replace(scripted()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

/// The result of the source for a tenant.
#[derive(Clone)]
enum Entry {
    /// Taken by the first call: a second call is a failure of the test.
    Here(Arc<Mutex<Option<ScriptedProvider>>>),
    Down,
    Hangs,
    Panics,
}

impl From<ScriptedProvider> for Entry {
    fn from(provider: ScriptedProvider) -> Self {
        Self::Here(Arc::new(Mutex::new(Some(provider))))
    }
}

/// A supervisor whose tenants have each their own provider.
struct Tenants {
    clock: ManualClock,
    supervisor: Supervisor,
    sessions: Sessions<ScriptedProvider>,
    entries: Arc<Mutex<Vec<(&'static str, Entry)>>>,
    asked: Arc<AtomicU64>,
}

impl Tenants {
    async fn start(policy: Policy) -> Self {
        let clock = ManualClock::new();
        let entries: Arc<Mutex<Vec<(&str, Entry)>>> = Arc::default();
        let asked: Arc<AtomicU64> = Arc::default();
        let (table, count) = (Arc::clone(&entries), Arc::clone(&asked));
        let source = move |tenant: Tenant| {
            count.fetch_add(1, Ordering::SeqCst);
            let row = table.lock().iter().find(|row| row.0 == tenant.as_str()).cloned();
            async move {
                match row.map(|row| row.1) {
                    Some(Entry::Here(provider)) => {
                        Ok(Registration::new(provider.lock().take().expect("asked once")))
                    }
                    Some(Entry::Down) => Err(std::io::Error::other("the database is down"))?,
                    Some(Entry::Hangs) => std::future::pending().await,
                    Some(Entry::Panics) => panic!("of the source"),
                    None => Err(SourceError::UnknownTenant),
                }
            }
        };
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .policy(policy)
            .provider_per_tenant("p", source)
            .start()
            .await
            .unwrap();
        let sessions = supervisor.sessions("p").unwrap();
        Self { clock, supervisor, sessions, entries, asked }
    }

    fn put(&self, tenant: &'static str, entry: impl Into<Entry>) {
        let mut entries = self.entries.lock();
        entries.retain(|row| row.0 != tenant);
        entries.push((tenant, entry.into()));
    }

    fn session(&self, tenant: &str) -> Session<ScriptedProvider> {
        self.sessions.session(SessionKey::new(tenant, "device").unwrap())
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    async fn kind(&self, tenant: &str) -> ErrorKind {
        let session = self.session(tenant);
        until(&self.clock, session.establish(())).await.unwrap_err().kind()
    }
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

#[tokio::test]
async fn each_tenant_has_its_own_provider_and_its_source_is_asked_once() {
    let tenants = Tenants::start(Policy::default()).await;
    let (one, other) = (scripted(), scripted());
    let (script_of_one, script_of_other) = (one.script(), other.script());
    tenants.put("one", one);
    tenants.put("other", other);
    for name in ["one", "other"] {
        let _ = tenants.session(name).establish(()).await.unwrap();
        tenants.session(name).refresh().await.unwrap();
    }
    assert_eq!((script_of_one.establishes(), script_of_other.establishes()), (1, 1));
    assert_eq!((script_of_one.refreshes(), script_of_other.refreshes()), (1, 1));
    assert_eq!(tenants.asked(), 2);
}

#[tokio::test]
async fn a_thousand_sessions_of_one_tenant_that_begin_at_once_ask_the_source_once() {
    let tenants = Tenants::start(Policy::default()).await;
    tenants.put("one", scripted());
    let sessions = tenants.sessions.clone();
    let number = AtomicU64::new(0);
    let beginning = callers(1_000, || {
        let device = number.fetch_add(1, Ordering::SeqCst).to_string();
        let session = sessions.session(SessionKey::new("one", device).unwrap());
        async move { session.establish(()).await.map(drop) }
    });
    for begun in until(&tenants.clock, beginning.join_all()).await {
        begun.unwrap();
    }
    assert_eq!(tenants.asked(), 1);
}

#[tokio::test]
async fn a_tenant_that_is_not_known_is_told_and_reported_and_others_go_on() {
    let tenants = Tenants::start(Policy::default()).await;
    tenants.put("one", scripted());
    let mut events = tenants.supervisor.subscribe();
    assert_eq!(tenants.kind("stranger").await, ErrorKind::Misconfigured);
    assert_eq!(tenants.kind("stranger").await, ErrorKind::Misconfigured);
    assert_eq!(tenants.asked(), 1, "not again before the back-off is over");
    let event = events.next().await.unwrap();
    let provider = ProviderName::new("p").unwrap();
    let tenant = tenant("stranger");
    assert_eq!(event.kind, EventKind::ProviderUnresolved { provider, tenant });
    let _ = tenants.session("one").establish(()).await.unwrap();
    // The tenant is added: the source is asked again after the back-off, or by `reload`.
    tenants.put("stranger", scripted());
    tenants.clock.advance(SECOND).await;
    let _ = tenants.session("stranger").establish(()).await.unwrap();
    assert_eq!(events.next().await.unwrap().kind, EventKind::Established);
}

#[tokio::test]
async fn a_source_that_fails_hangs_or_panics_is_retry_later_and_nothing_is_lost() {
    let tenants = Tenants::start(Policy::default()).await;
    for broken in [Entry::Down, Entry::Hangs, Entry::Panics] {
        tenants.put("one", broken);
        let refused =
            until(&tenants.clock, tenants.session("one").establish(())).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::RetryLater);
        assert!(refused.retry_after().is_some_and(|wait| wait > Duration::ZERO));
        tenants.clock.advance(Duration::from_secs(300)).await;
    }
    tenants.put("one", scripted());
    let _ = tenants.session("one").establish(()).await.unwrap();
}

#[tokio::test]
async fn a_reload_takes_effect_and_one_that_fails_leaves_what_was_there() {
    let tenants = Tenants::start(Policy::default()).await;
    let (old, new) = (scripted(), scripted());
    let (script_of_old, script_of_new) = (old.script(), new.script());
    tenants.put("one", old);
    let session = tenants.session("one");
    let _ = session.establish(()).await.unwrap();
    tenants.put("one", Entry::Down);
    let failed = tenants.sessions.reload(Some(&tenant("one"))).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RetryLater);
    session.refresh().await.unwrap();
    assert_eq!(script_of_old.refreshes(), 1);
    tenants.put("one", new);
    tenants.sessions.reload(None).await.unwrap();
    session.refresh().await.unwrap();
    assert_eq!((script_of_old.refreshes(), script_of_new.refreshes()), (1, 1));
    // A tenant whose provider was never needed has nothing to reload.
    tenants.sessions.reload(Some(&tenant("nobody"))).await.unwrap();
}

#[tokio::test]
async fn a_restart_finds_the_sessions_of_each_tenant_at_its_own_provider() {
    let fixture = fixture().await;
    let store = fixture.store.clone();
    let start = || async {
        let source = |tenant: Tenant| async move {
            let site = format!("https://{}.invalid/", tenant.as_str());
            let site = Url::parse(&site).map_err(SourceError::from)?;
            Ok::<_, SourceError>(Registration::new(scripted().authority(site)))
        };
        let builder = Supervisor::builder().store(store.clone()).provider_per_tenant("p", source);
        let supervisor = builder.start().await.unwrap();
        let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").unwrap();
        (supervisor, sessions)
    };
    let key = |name| SessionKey::new(name, "device").unwrap();
    let (first, sessions) = start().await;
    for name in ["one", "other"] {
        let _ = sessions.session(key(name)).establish(()).await.unwrap();
    }
    assert!(first.shutdown(SECOND).await.is_clean());
    let (_second, sessions) = start().await;
    for name in ["one", "other"] {
        assert_eq!(sessions.session(key(name)).permission_token().await.unwrap().epoch(), 1);
    }
}

/// A source whose first answer is wrong, and its second right.
async fn mended(server: &FakeAuthServer, clock: &ManualClock) -> (Supervisor, Arc<AtomicU64>) {
    let asked: Arc<AtomicU64> = Arc::default();
    let (count, right) = (Arc::clone(&asked), provider_of(server).client_credentials());
    let source = move |_: Tenant| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let provider = if first { right.clone().client_secret_basic("old") } else { right.clone() };
        async move { Ok::<_, SourceError>(Registration::new(provider)) }
    };
    let supervisor = Supervisor::builder()
        .clock(clock.clone())
        .transport(
            TransportConfig::default().allow_loopback_http().tenants_reach_internal_addresses(),
        )
        .provider_per_tenant::<OAuth2>("p", source)
        .start()
        .await
        .unwrap();
    (supervisor, asked)
}

#[tokio::test]
async fn a_client_that_is_called_invalid_is_asked_for_once_more_before_it_is_stopped() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().client("client", "secret").start().await.unwrap();
    let (supervisor, asked) = mended(&server, &clock).await;
    let mut events = supervisor.subscribe();
    let sessions: Sessions<OAuth2> = supervisor.sessions("p").unwrap();
    let session = sessions.session(SessionKey::new("one", "service").unwrap());
    session.permission_token().await.unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), server.count(Endpoint::Token)), (2, 2));
    assert_eq!(events.next().await.unwrap().kind, EventKind::Established, "and no alarm");
    // The server's secret changes, and the source does not know: the client is stopped.
    server.set_client_secret("client", "another");
    clock.advance(60 * SECOND).await;
    let refused = session.refresh().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let refused = session.ensure(ClientCredentials::new()).await;
    assert!(refused.is_ok(), "what lives is served");
    assert_eq!(session.refresh().await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(asked.load(Ordering::SeqCst), 3, "not for every session and call");
    assert_eq!(events.next().await.unwrap().kind.name(), "provider_rejecting");
}

#[tokio::test]
async fn the_bounds_of_a_replaced_provider_are_in_force_at_once() {
    let fixture = established().await;
    let slow = scripted();
    let script = slow.script();
    let limits = ProviderLimits { exchanges: 1, ..ProviderLimits::default() };
    sessions(&fixture).replace(Registration::new(slow).limits(limits)).await.unwrap();
    script.next(Reply::Hold);
    script.next(Reply::Hold);
    let sessions = sessions(&fixture);
    let number = AtomicU64::new(0);
    let beginning = callers(2, || {
        let device = number.fetch_add(1, Ordering::SeqCst).to_string();
        let session = sessions.session(SessionKey::new("tenant", device).unwrap());
        async move { session.establish(()).await.map(drop) }
    });
    script.held(1).await;
    fixture.clock.advance(Duration::ZERO).await;
    assert_eq!(script.most_at_once(), 1);
    script.release();
    fixture.clock.advance(Duration::ZERO).await;
    script.held(1).await;
    script.release();
    for begun in beginning.join_all().await {
        begun.unwrap();
    }
    assert_eq!(script.most_at_once(), 1);
}
