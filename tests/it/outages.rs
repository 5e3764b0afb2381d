//! Outages of an authorization server with 200 sessions: how much the crate logs, which events it
//! publishes, and what its health says.

mod captured_log;
mod switchable_server;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use session_warden::event::{EventKind, Events};
use session_warden::health::Health;
use session_warden::policy::{RefreshPolicy, When};
use session_warden::provider::Registration;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::ManualClock;
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Sessions, Supervisor};

use self::captured_log::{CapturedLog, Line};
use self::switchable_server::{Mode, SwitchableServer};
use crate::support::SECOND;

const SESSIONS: usize = 200;

/// Callers ask for the token of every session in this interval.
const ROUND: Duration = Duration::from_secs(20);

/// The outages, with what the table calls them.
const OUTAGES: [(&str, Mode); 7] = [
    ("connection refused", Mode::Refuses),
    ("429", Mode::Fails(429, Some(30), None)),
    ("503", Mode::Fails(503, Some(30), None)),
    ("500", Mode::Fails(500, None, None)),
    ("connection cut after the request", Mode::Cuts),
    ("`invalid_client`", Mode::Fails(401, None, Some("invalid_client"))),
    ("all grants ended (`invalid_grant`)", Mode::Fails(400, None, Some("invalid_grant"))),
];

/// A process with all its sessions signed in.
struct Process {
    server: SwitchableServer,
    clock: ManualClock,
    supervisor: Supervisor,
    sessions: Vec<Session<OAuth2>>,
    events: Events,
}

impl Process {
    async fn start(when: When) -> Self {
        let (server, clock) = (SwitchableServer::start(), ManualClock::new());
        let provider = OAuth2::new(&server.url(), "client").unwrap().client_secret_basic("secret");
        let refresh = RefreshPolicy { when, ..RefreshPolicy::default() };
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .transport(TransportConfig::default().allow_loopback_http())
            .provider("acme", Registration::new(provider).refresh(refresh))
            .start()
            .await
            .unwrap();
        let of: Sessions<OAuth2> = supervisor.sessions("acme").unwrap();
        let key = |number| SessionKey::new("tenant", format!("device-{number:03}")).unwrap();
        let sessions: Vec<_> = (0..SESSIONS).map(|number| of.session(key(number))).collect();
        let events = supervisor.subscribe();
        let process = Self { server, clock, supervisor, sessions, events };
        process.sign_in().await;
        process
    }

    async fn sign_in(&self) {
        let grants = self.sessions.iter().map(|session| session.establish(Password::new("a", "b")));
        let granted: Vec<_> = stream::iter(grants).buffer_unordered(32).collect().await;
        assert!(granted.iter().all(Result::is_ok), "{granted:?}");
    }

    /// Lets time go on, and callers ask. Waits for all requests that are out.
    async fn run(&self, time: Duration) {
        let until = self.clock_reading() + time;
        while self.clock_reading() < until {
            for session in &self.sessions {
                let session = session.clone();
                tokio::spawn(async move { session.permission_token().await.map(drop) });
            }
            self.quiet().await;
            self.clock.advance(ROUND).await;
            self.quiet().await;
        }
    }

    fn clock_reading(&self) -> Duration {
        use session_warden::clock::Clock;
        self.clock.now().monotonic
    }

    /// Waits, without the clock, until no exchange is with the server.
    async fn quiet(&self) {
        loop {
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            if self.supervisor.snapshot().exchanging == 0 || self.in_flight().await == 0 {
                return;
            }
        }
    }

    async fn in_flight(&self) -> usize {
        self.supervisor.health().await.providers[0].in_flight
    }

    /// How often each kind of event was published since the last call, by its name.
    fn events(&mut self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        while let Some(Some(event)) = self.events.next().now_or_never() {
            assert!(!matches!(event.kind, EventKind::Missed(_)));
            *counts.entry(event.kind.name().to_owned()).or_default() += 1;
        }
        counts
    }
}

/// What one outage leaves behind.
struct Shown {
    outage: String,
    lines: Vec<Line>,
    events: BTreeMap<String, usize>,
    health: Health,
}

async fn outage(name: &str, mode: Mode, when: When) -> Shown {
    let (log, _guards) = CapturedLog::start();
    let mut process = Process::start(when).await;
    process.run(60 * SECOND).await;
    process.events();
    log.take();
    process.server.switch(mode).await;
    process.run(600 * SECOND).await;
    let health = process.supervisor.health().await;
    process.server.switch(Mode::Issues).await;
    process.run(180 * SECOND).await;
    if health.counted.as_ref().unwrap().sessions.states.lost > 0 {
        process.sign_in().await;
    }
    process.quiet().await;
    let healed = process.supervisor.health().await;
    assert!(healed.is_healthy(), "{name}: {healed:?}");
    let schedule = if when == When::Proactive { ", proactive" } else { "" };
    let (lines, events) = (log.take(), process.events());
    Shown { outage: format!("{name}{schedule}"), lines, events, health }
}

impl Shown {
    /// The bar that every outage meets.
    #[track_caller]
    fn check(&self) {
        let Self { outage, lines, events, health } = self;
        assert!((1..=20).contains(&lines.len()), "{outage}: {lines:#?}");
        for line in lines {
            assert_eq!(line.field("provider"), "acme", "{outage}: {line:?}");
            let ends = line.field("event") == "provider_recovered";
            assert!(ends || !line.field("cause").is_empty(), "{outage}: {line:?}");
        }
        let of_provider = events.iter().filter(|(name, _)| name.starts_with("provider_"));
        let of_provider: Vec<_> = of_provider.collect();
        assert!(of_provider.len() == 2, "{outage}: {of_provider:?}");
        assert!(of_provider.iter().all(|(_, count)| **count == 1), "{outage}: {of_provider:?}");
        let [provider] = &health.providers[..] else { panic!("{outage}: {health:?}") };
        assert!(provider.consecutive_failures >= 10, "{outage}: {provider:?}");
        let failed_at = provider.last_failure.as_ref().unwrap().at;
        assert!(provider.last_success.unwrap() < provider.since.unwrap(), "{outage}");
        assert!(provider.since.unwrap() <= failed_at && failed_at <= health.at, "{outage}");
        let counted = health.counted.as_ref().unwrap();
        assert!(counted.age_seconds <= 60 && health.count_error.is_none(), "{outage}");
        assert_eq!(counted.sessions.total, SESSIONS as u64, "{outage}");
    }

    fn row(&self) -> String {
        let provider = &self.health.providers[0];
        let failure = provider.last_failure.as_ref().unwrap();
        let status = failure.status.map_or("no status".to_owned(), |status| status.to_string());
        let code = failure.code.as_deref().unwrap_or("no code");
        let states = self.health.counted.as_ref().unwrap().sessions.states;
        let counts =
            [(states.active, "active"), (states.in_doubt, "in doubt"), (states.lost, "lost")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts.map(|(count, state)| format!("{count} {state}")).collect();
        let mut by_event: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &self.lines {
            *by_event.entry(line.field("event")).or_default() += 1;
        }
        let lines: Vec<_> = by_event.iter().map(|(event, n)| format!("{n} `{event}`")).collect();
        // How often a session was refreshed before and after the outage says nothing about it.
        let of_outage = self
            .events
            .iter()
            .filter(|(name, _)| !["refreshed", "established"].contains(&name.as_str()));
        let events: Vec<_> = of_outage.map(|(name, n)| format!("{n} `{name}`")).collect();
        format!(
            "| {} | {}: {} | {} | {}: {}, {status}, {code} | {} |\n",
            self.outage,
            self.lines.len(),
            lines.join(", "),
            events.join(", "),
            provider.condition,
            failure.class,
            counts.join(", "),
        )
    }
}

/// The rows of one outage: the crate refreshes when callers ask, and before that.
fn rows(name: &str, mode: Mode) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = [When::OnDemand, When::Proactive].map(|when| {
        let shown = runtime.block_on(outage(name, mode, when));
        shown.check();
        shown.row()
    });
    rows.concat()
}

#[test]
fn each_outage_of_200_sessions_is_a_few_log_lines_and_one_event_at_its_begin_and_its_end() {
    let rows = std::thread::scope(|scope| {
        let spawn = |(name, mode): (&'static str, Mode)| scope.spawn(move || rows(name, mode));
        let threads = OUTAGES.map(spawn);
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    let expected = format!(
        "# What outages of a server leave in the log, the events and the health\n\n\
         {SESSIONS} sessions at one provider, an outage of 10 minutes, and callers that ask for \
         each\ntoken every {} s. The health is that at the end of the outage.\n\n\
         | outage | log lines at `info` and above | events | condition, and the last failure | \
         sessions |\n|---|---|---|---|---|\n{rows}",
        ROUND.as_secs()
    );
    if include_str!("outages.md") != expected {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outages.md");
        std::fs::write(&written, expected).unwrap();
        let written = written.display();
        panic!("tests/it/outages.md is not up to date; copy {written} to it");
    }
}
