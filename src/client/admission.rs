//! Admission to one client: how many exchanges run at once, and when none may.

mod client_stop;
mod exchange_counts;
mod held_back;
mod permit;
mod permit_lanes;
mod retry_pace;
mod sharing;
mod successes;
#[cfg(test)]
mod tests;
mod waiting_sign_in;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use self::client_stop::ClientStop;
use self::exchange_counts::ExchangeCounts;
pub(crate) use self::permit::Permit;
use self::permit::SlowRequests;
pub(crate) use self::permit_lanes::ScheduledPermit;
use self::permit_lanes::{Held, PermitLanes};
use self::retry_pace::{RetryPace, paced};
use self::successes::Successes;
use self::waiting_sign_in::WaitingSignIn;
use super::request_history::{ConditionChange, Reported, RequestHistory};
use crate::clock::{BootTime, Clock, Now, timeout};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::health::Condition;
use crate::key::SessionId;
use crate::policy::{FAULT_PACE, ProviderLimits, SLOW_RETRY};
use crate::provider::resources::Replicas;
use crate::provider::{ExchangeError, FailureClass};

/// The limits that all sessions of one client share: its permits, the wait that the server asked
/// for, and whether the server accepts the client.
pub(crate) struct Admission {
    lanes: PermitLanes,
    /// Held by a scheduled refresh while retries are paced.
    scheduled: Arc<Semaphore>,
    slow: SlowRequests,
    counts: ExchangeCounts,
    limits: ProviderLimits,
    replicas: Arc<Replicas>,
    /// Held while this process changes the client in the store.
    writing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Notifies that the client was accepted or rejected, or that a sign-in has stopped waiting for
    /// that. Waiting exchanges then check again.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// The server asked for no requests until then. A later success does not shorten that.
    throttled_until: BootTime,
    /// The wait that the store knows.
    shared_throttle: BootTime,
    /// When the store last answered a change of this client.
    answered_at: Option<BootTime>,
    /// The client waits until its changes are written to the store.
    queued: bool,
    stop: ClientStop,
    pace: RetryPace,
    successes: Successes,
    history: RequestHistory,
}

/// An exchange that wants to run.
#[derive(Clone, Copy)]
pub(crate) struct Entrant<'a> {
    pub(crate) session: &'a SessionId,
    pub(crate) lane: Lane,
}

/// The lane of an exchange, by the kind of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A grant of a user, who waits for it.
    SignIn,
    /// A refresh or a renewal. `again`: since the last success, a refresh got an unclassified
    /// answer or a renewal failed. `scheduled`: no caller asked for it.
    Own { again: bool, scheduled: bool },
}

impl Entrant<'_> {
    /// Moves the exchange to the callers' lane if a caller has joined it.
    fn note_joined(&mut self, joined: Pin<&mut impl Future<Output = ()>>) {
        if self.lane.is_scheduled() && joined.now_or_never().is_some() {
            self.lane = self.lane.of_caller();
        }
    }
}

impl Lane {
    fn is_scheduled(self) -> bool {
        matches!(self, Self::Own { scheduled: true, .. })
    }

    /// The same exchange, with a caller who waits for it.
    fn of_caller(self) -> Self {
        match self {
            Self::SignIn => Self::SignIn,
            Self::Own { again, .. } => Self::Own { again, scheduled: false },
        }
    }
}

/// Why an exchange may not run now, and when it may.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: Error,
    pub(crate) until: BootTime,
    /// The rejection comes from pacing. The session keeps its own former failure as the cause,
    /// because that says more than this error.
    pub(crate) paced: bool,
}

/// The kind of an exchange, for the pacing of retries and the history of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// A caller's grant, or an operation.
    Grant,
    /// A refresh or a renewal.
    Own,
}

impl Admission {
    /// `former` is the admission that this one replaces. A wait that its server asked for still
    /// holds, and its history goes on; a rejection of the former client does not hold.
    pub(crate) fn after(
        limits: ProviderLimits,
        replicas: &Arc<Replicas>,
        former: Option<&Self>,
    ) -> Self {
        let lanes = PermitLanes::new(replicas.part_of(limits.exchanges));
        let (replicas, writing) = (Arc::clone(replicas), tokio::sync::Mutex::default());
        let state = former.map(|former| State::after(&former.state.lock())).unwrap_or_default();
        let state = Mutex::new(state);
        let scheduled = Arc::new(Semaphore::new(1));
        let (slow, changed) = (SlowRequests::default(), Notify::new());
        // Shared, because exchanges that run or wait keep the former client.
        let counts = former.map(|former| former.counts.clone()).unwrap_or_default();
        let admission =
            Self { lanes, scheduled, slow, counts, limits, replicas, writing, state, changed };
        admission.share();
        admission
    }

    /// Waits for a permit. Nothing is claimed yet, so a caller that gives up loses nothing.
    ///
    /// With `scheduled_permit`, the exchange waits for no permit. A scheduled exchange without one
    /// waits in the schedule's lane, without a deadline, until a caller has joined it: then it
    /// waits as a caller's exchange. `claim_probe` asks the store which process may probe the client;
    /// it is called only if the exchange would be the probe.
    pub(crate) async fn enter<C: Future<Output = ()>>(
        &self,
        clock: &dyn Clock,
        mut entrant: Entrant<'_>,
        scheduled_permit: Option<ScheduledPermit>,
        (joined, claim_probe): (impl Future<Output = ()>, impl Fn() -> C),
    ) -> Result<Permit, Rejected> {
        self.state.lock().stop.count_user(entrant.session.key().tenant());
        let last = clock.now().boot.after(self.limits.admission_timeout);
        let mut scheduled_permit =
            scheduled_permit.filter(|scheduled_permit| self.lanes.owns(scheduled_permit));
        let mut joined = pin!(joined);
        loop {
            entrant.note_joined(joined.as_mut());
            let _waiting = self.wait_for_client(clock, entrant, last).await?;
            let mut held = match scheduled_permit.take() {
                Some(ScheduledPermit(held)) => held,
                None => self.permit_of_lane(clock, &mut entrant, joined.as_mut()).await?,
            };
            if !entrant.lane.is_scheduled() {
                held.leave_schedule();
            }
            if self.wants_claim(entrant, clock.now().boot) {
                claim_probe().await;
            }
            let now = clock.now().boot;
            // Checked again, because the state may have changed while this exchange waited.
            self.check_slow(now)?;
            let mut state = self.state.lock();
            state.check_throttle(now)?;
            let scheduled = self.pace(&mut state, entrant, now)?;
            match state.stop.pass(entrant, now, self.limits.probe) {
                Ok(()) => return Ok(self.permitted(held, scheduled)),
                // Another sign-in became the probe; this one waits for the probe's end.
                Err(_) if entrant.lane == Lane::SignIn && now < last => {}
                Err(rejected) => return Err(rejected),
            }
        }
    }

    /// Waits for a permit for a scheduled refresh, without a deadline. It takes no permit for which
    /// a caller already waits.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub(crate) async fn acquire_for_schedule(&self) -> ScheduledPermit {
        self.lanes.acquire_for_schedule().await
    }

    /// Until when no scheduled refresh of any session is admitted. `None` if the next one may try;
    /// it may still be rejected for what its own session or tenant did.
    pub(crate) fn closed_to_schedule_until(&self, now: BootTime) -> Option<BootTime> {
        let state = self.state.lock();
        let lane = Lane::Own { again: false, scheduled: true };
        let checks =
            [self.check_slow(now), state.check_throttle(now), self.check_pace(&state, lane, now)];
        let rejected = checks.into_iter().filter_map(Result::err).map(|rejected| rejected.until);
        rejected.chain(state.stop.all_kept_out_until(now, self.limits.admission_timeout)).max()
    }

    /// Completes when the answer of [`closed_to_schedule_until`](Self::closed_to_schedule_until)
    /// may have changed since this call. Call this before you ask, so that no change is missed.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Waits for a permit for a call that is not an exchange. Such a call is never the probe: its
    /// success is not reported, so the admission would not learn that the server accepts the client
    /// again. `session` is `None` if the call belongs to no session. With `scheduled_permit`, the
    /// call waits for no permit.
    pub(crate) async fn enter_untracked(
        &self,
        clock: &dyn Clock,
        session: Option<&SessionId>,
        scheduled_permit: Option<ScheduledPermit>,
    ) -> Result<Permit, Rejected> {
        let check = |now| {
            self.check_slow(now)?;
            let state = self.state.lock();
            state.check_throttle(now)?;
            state.stop.check_untracked(session, now)
        };
        check(clock.now().boot)?;
        let held =
            match scheduled_permit.filter(|scheduled_permit| self.lanes.owns(scheduled_permit)) {
                Some(ScheduledPermit(held)) => held,
                None => self.permit(clock).await?,
            };
        check(clock.now().boot)?;
        Ok(self.permitted(held, None))
    }

    /// Notes how an exchange ended. Returns the condition of the server if it has changed.
    pub(crate) fn report(
        &self,
        at: Now,
        of: ExchangeKind,
        session: Option<&SessionId>,
        result: Result<(), &ExchangeError>,
    ) -> Option<ConditionChange> {
        let now = at.boot;
        let mut state = self.state.lock();
        state.stop.ended(session);
        match result {
            Ok(()) => {
                if let Some(session) = session {
                    state.successes.note(session, now);
                }
                state.pace = RetryPace::default();
                state.accept(session);
            }
            Err(failed) => {
                if let (ExchangeKind::Own, Some(session)) = (of, session) {
                    state.pace.note(failed, session, now);
                }
                self.note_failure(&mut state, now, session, failed);
            }
        }
        let (stopped, throttled_until) = (state.stop.is_on(), state.throttled_until);
        let is_own = of == ExchangeKind::Own;
        let reported = Reported { at, is_own, stopped, throttled_until };
        let change = state.history.note(&reported, result);
        drop(state);
        // In every case, because waiting exchanges also wait for a probe that failed.
        self.changed.notify_waiters();
        change
    }

    /// How the client's requests have ended so far.
    pub(crate) fn history(&self) -> RequestHistory {
        self.state.lock().history.clone()
    }

    /// How the client's server has responded lately.
    pub(crate) fn condition(&self) -> Condition {
        self.state.lock().history.condition
    }

    /// When a session other than this one last succeeded.
    pub(crate) fn other_success_at(&self, session: &SessionId) -> Option<BootTime> {
        self.state.lock().successes.of_another(session)
    }

    pub(crate) fn limits(&self) -> &ProviderLimits {
        &self.limits
    }

    /// Checks everything that may reject the exchange. Only a sign-in waits, for a probe that is
    /// near, because it may become the probe. Every other exchange fails at once.
    async fn wait_for_client(
        &self,
        clock: &dyn Clock,
        entrant: Entrant<'_>,
        last: BootTime,
    ) -> Result<Option<WaitingSignIn<'_>>, Rejected> {
        let mut waiting = None;
        loop {
            let changed = self.changed.notified();
            let now = clock.now().boot;
            self.check_slow(now)?;
            let rejected = {
                let mut state = self.state.lock();
                state.check_throttle(now)?;
                self.check_pace(&state, entrant.lane, now)?;
                match state.stop.check(entrant, now, self.limits.probe) {
                    Ok(()) => return Ok(waiting),
                    Err(rejected) => rejected,
                }
            };
            let near =
                now < last && (rejected.until <= last || self.state.lock().stop.is_probing());
            if entrant.lane != Lane::SignIn || !near {
                return Err(rejected);
            }
            waiting.get_or_insert_with(|| WaitingSignIn::new(self));
            tokio::select! {
                biased;
                () = changed => {}
                () = clock.sleep(rejected.until.min(last).since(now)) => {}
            }
        }
    }

    /// Waits for a permit in the lane of the exchange, which changes when a caller joins it.
    async fn permit_of_lane(
        &self,
        clock: &dyn Clock,
        entrant: &mut Entrant<'_>,
        joined: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Held, Rejected> {
        if entrant.lane.is_scheduled() {
            let _waiting = self.counts.wait();
            tokio::select! {
                biased;
                () = joined => entrant.lane = entrant.lane.of_caller(),
                ScheduledPermit(held) = self.acquire_for_schedule() => return Ok(held),
            }
        }
        self.permit(clock).await
    }

    fn permitted(&self, held: Held, scheduled: Option<OwnedSemaphorePermit>) -> Permit {
        Permit::new(held, scheduled, &self.slow, self.counts.begin())
    }

    async fn permit(&self, clock: &dyn Clock) -> Result<Held, Rejected> {
        let _waiting = self.counts.wait();
        let permit = timeout(clock, self.limits.admission_timeout, self.lanes.queue()).await;
        permit.flatten().ok_or_else(|| {
            let error = Error::new(ErrorKind::Capacity)
                .about(
                    "too many exchanges with this provider are running; raise \
                     `ProviderLimits::exchanges`, or try again later",
                )
                .with_outcome(ExchangeOutcome::NotSent);
            let until = clock.now().boot.after(Duration::from_secs(1));
            Rejected { error, until, paced: false }
        })
    }

    /// Rejects new requests while too many are slow.
    fn check_slow(&self, now: BootTime) -> Result<(), Rejected> {
        if self.slow.count() < self.replicas.part_of(self.limits.slow_requests) {
            return Ok(());
        }
        let error = Error::new(ErrorKind::RetryLater)
            .about("too many requests wait for the server's response; try again later")
            .with_outcome(ExchangeOutcome::NotSent)
            .with_retry_after(SLOW_RETRY);
        Err(Rejected { error, until: now.after(SLOW_RETRY), paced: false })
    }

    fn check_pace(&self, state: &State, lane: Lane, now: BootTime) -> Result<(), Rejected> {
        let Some(next) = state.pace.next() else { return Ok(()) };
        match lane {
            Lane::SignIn | Lane::Own { again: false, scheduled: false } => Ok(()),
            Lane::Own { again: true, .. } if now < next => Err(paced(next)),
            Lane::Own { scheduled: true, .. } if self.scheduled.available_permits() == 0 => {
                Err(paced(now.after(FAULT_PACE)))
            }
            Lane::Own { .. } => Ok(()),
        }
    }

    /// Takes the next paced retry, if retries are paced. Returns the permit of the only scheduled
    /// refresh that may then run, if this is it.
    fn pace(
        &self,
        state: &mut State,
        entrant: Entrant<'_>,
        now: BootTime,
    ) -> Result<Option<OwnedSemaphorePermit>, Rejected> {
        self.check_pace(state, entrant.lane, now)?;
        let (again, scheduled) = match entrant.lane {
            Lane::SignIn => return Ok(None),
            Lane::Own { again, scheduled } => (again, scheduled && state.pace.next().is_some()),
        };
        let permit = scheduled.then(|| Arc::clone(&self.scheduled).try_acquire_owned());
        let permit = permit.transpose().map_err(|_| paced(now.after(FAULT_PACE)))?;
        if again {
            state.pace.take(now, self.replicas.pace());
        }
        Ok(permit)
    }

    /// Updates the state after a failure. Only `InvalidClient` stops the client; an answer that
    /// judges a grant shows that the server accepts the client.
    fn note_failure(
        &self,
        state: &mut State,
        now: BootTime,
        session: Option<&SessionId>,
        failed: &ExchangeError,
    ) {
        match failed.class() {
            FailureClass::Throttled => {
                let wait = failed.retry_after().unwrap_or(Duration::from_secs(1));
                let until = now.after(wait.min(self.limits.longest_retry_after));
                state.throttled_until = state.throttled_until.max(until);
            }
            FailureClass::InvalidClient => {
                let tenant = session.map(|session| session.key().tenant());
                state.stop.reject(tenant, failed, now.after(self.limits.probe));
            }
            // The server judged a grant, so it accepted the client.
            FailureClass::Rejected | FailureClass::Refused(_) if failed.judges_grant() => {
                state.accept(session);
            }
            FailureClass::Rejected
            | FailureClass::Refused(_)
            | FailureClass::Untrusted
            | FailureClass::Unclassified
            | FailureClass::Misconfigured
            | FailureClass::NotSent
            | FailureClass::NotProcessed
            | FailureClass::Ambiguous => {}
        }
    }
}

impl State {
    fn after(former: &Self) -> Self {
        Self {
            throttled_until: former.throttled_until,
            history: former.history.clone(),
            stop: ClientStop::of_replacement(),
            ..Self::default()
        }
    }

    fn check_throttle(&self, now: BootTime) -> Result<(), Rejected> {
        if now >= self.throttled_until {
            return Ok(());
        }
        let error = Error::new(ErrorKind::RetryLater)
            .about("the server answered that it gets too many requests")
            .with_outcome(ExchangeOutcome::NotSent)
            .with_retry_after(self.throttled_until.since(now));
        Err(Rejected { error, until: self.throttled_until, paced: false })
    }

    /// Notes that the server accepted the client. A wait that it asked for before still holds,
    /// because this answer may be to a request that was sent earlier.
    fn accept(&mut self, session: Option<&SessionId>) {
        self.stop.accept(session.map(|session| session.key().tenant()));
    }
}
