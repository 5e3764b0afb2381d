//! Callers that ask for tokens, and a task that kills actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use session_warden::policy::Restarts;
use session_warden::provider::oauth2::OAuth2;
use session_warden::session::State;
use session_warden::testing::Chaos;
use session_warden::{PermissionToken, Session, Supervisor};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::measure::{Calls, Killed, refreshes};
use crate::{TENANTS, tenant_name};

const CALLERS_PER_TENANT: usize = 16;

/// A caller pauses this long after so many calls, so that other tasks get time too.
const REST: Duration = Duration::from_millis(5);
const CALLS_BETWEEN_RESTS: usize = 16;

/// How often a caller reports that an API rejected its token, and asks for another one. Without
/// that almost no call would wait, because tokens are refreshed before they expire.
const REJECTED_EVERY: Duration = Duration::from_secs(1);

const KILL_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Load {
    supervisor: Supervisor,
    pub(crate) sessions: Vec<Session<OAuth2>>,
    began: Instant,
    length: Duration,
    served: AtomicU64,
}

impl Load {
    pub(crate) fn new(
        supervisor: Supervisor,
        sessions: Vec<Session<OAuth2>>,
        length: Duration,
    ) -> Self {
        Self { supervisor, sessions, began: Instant::now(), length, served: AtomicU64::new(0) }
    }

    /// Runs all callers and the killer until they end.
    pub(crate) async fn run(self: &Arc<Self>) -> anyhow::Result<(Calls, Killed)> {
        let mut callers = JoinSet::new();
        for caller in 0..TENANTS * CALLERS_PER_TENANT {
            callers.spawn(Arc::clone(self).caller(caller % TENANTS));
        }
        let killer = tokio::spawn(Arc::clone(self).killer());
        self.show().await;
        let mut calls = Calls::default();
        while let Some(tally) = callers.join_next().await {
            calls.add(tally?);
        }
        Ok((calls, killer.await?))
    }

    fn goes_on(&self) -> bool {
        self.began.elapsed() < self.length
    }

    async fn caller(self: Arc<Self>, tenant: usize) -> Calls {
        let is_mine = |session: &&Session<OAuth2>| {
            session.id().key().tenant().as_str() == tenant_name(tenant)
        };
        let mine: Vec<_> = self.sessions.iter().filter(is_mine).collect();
        let mut calls = Calls::default();
        if mine.is_empty() {
            return calls;
        }
        let mut rejected_at = Instant::now() + REJECTED_EVERY.mul_f64(fastrand::f64());
        while self.goes_on() {
            for _ in 0..CALLS_BETWEEN_RESTS {
                let session = mine[fastrand::usize(..mine.len())];
                let token = ask(session, &mut calls).await;
                self.served.fetch_add(1, Relaxed);
                if let Some(token) = token.filter(|_| Instant::now() >= rejected_at) {
                    rejected_at += REJECTED_EVERY;
                    session.invalidate(&token);
                    ask(session, &mut calls).await;
                }
            }
            sleep(REST).await;
        }
        calls
    }

    /// Kills session actors, and half-way the supervisor actor with all of them.
    async fn killer(self: Arc<Self>) -> Killed {
        let chaos = Chaos::of(&self.supervisor);
        let (mut killed, mut deaths) = (Killed::default(), vec![0; self.sessions.len()]);
        while self.goes_on() {
            if killed.supervisors == 0 && self.began.elapsed() > self.length / 2 {
                killed.supervisors += u64::from(chaos.kill_supervisor());
            }
            if let Some(victim) = self.victim(&deaths).await {
                let died = chaos.kill_session(self.sessions[victim].id());
                deaths[victim] += u32::from(died);
                killed.sessions += u64::from(died);
            }
            sleep(KILL_EVERY).await;
        }
        killed
    }

    /// A session with an exchange in flight, or if there is none, any. The supervisor quarantines a
    /// session whose actor crashes too often, so no actor is killed that often.
    async fn victim(&self, deaths: &[u32]) -> Option<usize> {
        let first = fastrand::usize(..deaths.len());
        let may_die = |session: &usize| deaths[*session] < Restarts::default().intensity;
        for session in (first..deaths.len()).chain(0..first).filter(may_die) {
            let status = self.sessions[session].status().await;
            let exchanges = status
                .is_ok_and(|now| matches!(now.state, State::Refreshing | State::Establishing));
            if exchanges {
                return Some(session);
            }
        }
        Some(first).filter(may_die)
    }

    /// Shows the progress: a bar on a terminal, otherwise a line every two seconds.
    async fn show(&self) {
        let bar = ProgressBar::new(self.length.as_secs() * 10);
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        while self.goes_on() {
            sleep(Duration::from_millis(100)).await;
            let refreshes = HumanCount(refreshes(&self.supervisor.snapshot(), self.sessions.len()));
            let served = HumanCount(self.served.load(Relaxed));
            bar.set_message(format!("{served} tokens, {refreshes} refreshes"));
            bar.inc(1);
            if bar.is_hidden() && bar.position().is_multiple_of(20) {
                eprintln!("{} s: {}", bar.position() / 10, bar.message());
            }
        }
        bar.finish_and_clear();
    }
}

/// One call, measured.
async fn ask(session: &Session<OAuth2>, calls: &mut Calls) -> Option<PermissionToken> {
    let (asked, began) = (SystemTime::now(), Instant::now());
    let in_hand = session.try_permission_token();
    let latencies = if in_hand.is_some() { &mut calls.fresh } else { &mut calls.waiting };
    let got = match in_hand {
        Some(token) => Ok(token),
        None => session.permission_token().await,
    };
    latencies.add(began.elapsed());
    match &got {
        Ok(token) => {
            calls.served += 1;
            calls.expired += u64::from(token.expires_at().is_some_and(|end| end <= asked));
        }
        Err(failed) => calls.errors.add(failed),
    }
    got.ok()
}
