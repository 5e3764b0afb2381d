//! The slot: the part of a session in memory that outlives its actor.

mod claims;
mod client_and_clock;
mod evictable;
mod job_queue;
mod renewal;
mod token_need;
mod token_snapshot;
mod unsaved;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorId};

use self::claims::Claims;
pub(crate) use self::client_and_clock::offset;
pub(crate) use self::evictable::Leaves;
pub(crate) use self::renewal::Renewal;
use self::renewal::Renews;
pub(crate) use self::token_need::{PendingLoad, SlotReply, TokenRequest};
use self::token_snapshot::TokenSnapshot;
pub(crate) use self::unsaved::Unsaved;
use super::job::Job;
use super::machine::{
    self, CredentialState, Due, Effects, Input, MachinePolicy, Renewable, Start, State,
    StepContext, TokenDecision,
};
use super::outcome::Invalidation;
use super::schedule::KnownTo;
use super::single_flight::{Flight, FlightOutcome, FlightSender};
use crate::client::tenant_client::TenantClient;
use crate::clock::{BootTime, Clock, Now};
use crate::error::{Error, ErrorKind};
use crate::key::SessionId;
use crate::policy::{DRIFT, DUE_WITHIN};
pub(crate) use crate::provider::erased::ErasedValue;
use crate::store::ClaimId;
use crate::token::PermissionToken;

/// A session's slot: the state that must survive a crash of the session actor and of the supervisor
/// actor.
///
/// Only the slot steps the machine, under a lock that is never held across an await. It publishes
/// the token for readers under the same lock, so that readers never see an older token again.
pub(crate) struct Slot {
    id: SessionId,
    pub(crate) tenant_client: Arc<TenantClient>,
    /// The published token. Readers take it without a lock and without the actor.
    snapshot: ArcSwapOption<TokenSnapshot>,
    /// Tokens up to this generation are not handed out, even if one is published. Never lowered
    /// while the slot exists.
    rejected_through: AtomicU64,
    /// A reader has reported that the published token is due.
    due_was_sent: AtomicBool,
    /// Rejections of the token are damped until an API accepts it.
    damped: AtomicBool,
    waiters: AtomicUsize,
    /// The last read or change, in seconds of monotonic time.
    used: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    flight: Option<Flight>,
    /// The flight's task has begun: it is no longer only on its way to the actor.
    begun: bool,
    /// The load that callers wait for.
    load: Option<Flight>,
    /// A load or a restore that a step has started and no caller waits for.
    background_start: Option<Start>,
    queue: VecDeque<Job>,
    /// Credentials that are not saved: the only copy of a rotated token.
    unsaved: Option<Arc<Unsaved>>,
    claims: Claims,
    /// The actor of this session. The next one starts when this one has ended.
    actor: Option<ActorCell>,
    /// The end of the session's quarantine.
    quarantine: Option<BootTime>,
    /// The time of the next check, as the schedule has it.
    armed: Option<BootTime>,
    /// The highest generation that was published.
    published: u64,
    /// The generation that an API rejected before the record was loaded.
    rejected_before_load: u64,
    /// The version of the client that the state was last compared with.
    client: u64,
    /// The provider's last answer on a renewal.
    renews: Option<Renews>,
}

/// The result of a lock-free read.
#[derive(Debug)]
pub(crate) enum SnapshotRead {
    Fresh,
    /// The token is valid, and this reader is the first to see that it is due.
    Due,
    Stale,
}

impl Slot {
    pub(crate) fn new(id: SessionId, tenant_client: Arc<TenantClient>) -> Self {
        tenant_client.owner().session_came();
        Self {
            id,
            tenant_client,
            snapshot: ArcSwapOption::empty(),
            rejected_through: AtomicU64::new(0),
            due_was_sent: AtomicBool::new(false),
            damped: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            used: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                state: State::default(),
                flight: None,
                begun: false,
                load: None,
                background_start: None,
                queue: VecDeque::new(),
                unsaved: None,
                claims: Claims::default(),
                actor: None,
                quarantine: None,
                armed: None,
                published: 0,
                rejected_before_load: 0,
                client: 0,
                renews: None,
            }),
        }
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// The hot path: calls `read` with the published token if that is valid.
    pub(crate) fn read_snapshot<R>(
        &self,
        clock: &dyn Clock,
        read: impl FnOnce(&PermissionToken) -> R,
    ) -> (SnapshotRead, Option<R>) {
        let snapshot = self.snapshot.load();
        let Some(seen) = &*snapshot else { return (SnapshotRead::Stale, None) };
        let coarse = clock.coarse();
        let offset = coarse.wall.saturating_sub(coarse.monotonic);
        // Compared in every read, because a step that holds an older state may publish the token
        // once more after `reject` has returned.
        let rejected = seen.token.generation() <= self.rejected_through();
        if rejected || coarse.monotonic >= seen.expires || offset.abs_diff(seen.offset) > DRIFT {
            return (SnapshotRead::Stale, None);
        }
        self.touch(coarse.monotonic);
        let due = coarse.monotonic >= seen.due && self.must_send_due(seen, clock);
        (if due { SnapshotRead::Due } else { SnapshotRead::Fresh }, Some(read(&seen.token)))
    }

    /// Notes a use, once a second at most, because many readers share the cache line.
    #[inline]
    fn touch(&self, now: Duration) {
        if self.used.load(Ordering::Relaxed) != now.as_secs() {
            self.set_used(now.as_secs());
        }
    }

    #[cold]
    fn set_used(&self, now: u64) {
        self.used.store(now, Ordering::Relaxed);
    }

    /// Whether this reader is the first to see that the token is due, by the exact clock too. The
    /// coarse clock may be ahead, and the machine starts nothing for a report that is too early.
    #[cold]
    fn must_send_due(&self, seen: &TokenSnapshot, clock: &dyn Clock) -> bool {
        if self.due_was_sent.load(Ordering::Acquire) {
            return false;
        }
        let due = seen.due_at.is_some_and(|due| clock.now().boot >= due);
        // Swap only when the token is due: after a swap that is too early no reader reports again.
        due && !self.due_was_sent.swap(true, Ordering::AcqRel)
    }

    /// Steps the machine, publishes the token for readers, and returns what to start.
    pub(crate) fn apply(&self, input: Input, at: &StepContext) -> Effects {
        self.touch(at.now.monotonic);
        let forgotten = matches!(input, Input::Forgotten);
        let mut inner = self.inner.lock();
        // First, so that the machine judges the input with the present client and clock.
        self.follow(&mut inner, at);
        if forgotten {
            // Otherwise `until_saved` would write the forgotten credentials to the store again.
            self.set_unsaved(&mut inner, None);
            inner.forget();
        }
        let effects = inner.step(input, at);
        // Before the publication: a load must not publish a token that an API has rejected.
        self.reject_as_reported(&mut inner, at);
        // Before the lock is released: of two steps, the later one must publish last.
        self.publish(&mut inner, at.now);
        effects
    }

    /// Rejects the token that was reported before the record was loaded.
    fn reject_as_reported(&self, inner: &mut Inner, at: &StepContext) {
        if inner.rejected_before_load == 0 || inner.state.is_unloaded() {
            return;
        }
        let generation = std::mem::take(&mut inner.rejected_before_load);
        if generation <= inner.state.counters().1 {
            self.rejected_through.fetch_max(generation, Ordering::AcqRel);
            inner.step(Input::Rejected { generation }, at);
        }
    }

    /// The decision for callers that wait for a token above `newer_than`.
    pub(crate) fn token_decision(
        &self,
        newer_than: u64,
        renewable: Renewable,
        at: &StepContext,
    ) -> TokenDecision {
        let newer_than = newer_than.max(self.rejected_through());
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        machine::token_decision(&inner.state, newer_than, renewable, at.now.boot)
    }

    /// As [`reject`](Self::reject), unless this token has just replaced a rejected one: then the
    /// token is still handed out, because the next one would be rejected too.
    pub(crate) fn invalidate(&self, generation: u64, at: &StepContext) -> Invalidation {
        // Two locks are enough here: if a refresh comes between them, this rejects a former token,
        // which changes nothing.
        if self.with_state(|state| machine::is_damped(state, generation, at.now.boot)) {
            return Invalidation::Damped;
        }
        self.reject(generation, at);
        Invalidation::Refresh
    }

    /// An API accepted the token of this generation. Usually reads only one flag.
    pub(crate) fn accept(&self, generation: u64, at: impl FnOnce() -> StepContext) {
        if self.damped.load(Ordering::Acquire) {
            self.apply(Input::Accepted { generation }, &at());
        }
    }

    /// Never hands out tokens up to this generation again. A generation that this session has not
    /// reached belongs to another session and is ignored: it would reject every token up to it.
    pub(crate) fn reject(&self, generation: u64, at: &StepContext) {
        let mut inner = self.inner.lock();
        if inner.state.is_unloaded() && generation > inner.published {
            // The session's counters are unknown: keep the report until the load that starts here.
            inner.rejected_before_load = inner.rejected_before_load.max(generation);
            let number = machine::begin_load(&mut inner.state);
            inner.background_start = Some(Start::Load(number));
            return;
        }
        let newest = inner.published.max(inner.state.counters().1);
        if generation > newest {
            return;
        }
        // Raise the mark before the step: a reader that comes between the two must not get the
        // token. Raise it under the lock that covers the check above: if a forget came between
        // them, the tokens of the next session would count as rejected.
        self.rejected_through.fetch_max(generation, Ordering::AcqRel);
        drop(inner);
        self.apply(Input::Rejected { generation }, at);
    }

    fn rejected_through(&self) -> u64 {
        self.rejected_through.load(Ordering::Acquire)
    }

    pub(crate) fn with_state<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.inner.lock().state)
    }

    /// Takes the flight out of the slot and completes it.
    pub(crate) fn complete(&self, sender: &FlightSender, flight_outcome: FlightOutcome) {
        let mut inner = self.inner.lock();
        // Out of the slot before it is completed: a caller whose token was rejected after the
        // exchange must start a new one, not join a flight that gives it the rejected token.
        if inner.flight.as_ref().is_some_and(|flight| flight.is_of(sender)) {
            inner.flight = None;
        }
        // The waiters that wake up take this lock.
        drop(inner);
        sender.complete(flight_outcome);
    }

    /// As [`Claims::begin`].
    pub(crate) fn begin_claim(&self, now: Now) -> (ClaimId, Option<ClaimId>, Now) {
        self.inner.lock().claims.begin(now)
    }

    /// The store has answered this claim, and perhaps granted it.
    pub(crate) fn claim_answered(&self, claim: ClaimId, granted: bool) {
        self.inner.lock().claims.answered(claim, granted);
    }

    /// The claim is no longer in the store.
    pub(crate) fn claim_ended(&self, claim: ClaimId) {
        self.inner.lock().claims.ended(claim);
    }

    pub(crate) fn actor(&self) -> Option<ActorCell> {
        self.inner.lock().actor.clone()
    }

    pub(crate) fn set_actor(&self, actor: ActorCell) {
        self.inner.lock().actor = Some(actor);
    }

    pub(crate) fn clear_actor(&self, actor: ActorId) {
        self.inner.lock().actor.take_if(|current| current.get_id() == actor);
    }

    /// Lets the next reader report again that the token is due: the actor may have crashed with the
    /// message in its mailbox.
    pub(crate) fn reset_due(&self) {
        self.due_was_sent.store(false, Ordering::Release);
    }

    pub(crate) fn quarantine(&self, until: Option<BootTime>) {
        self.inner.lock().quarantine = until;
    }

    pub(crate) fn end_quarantine(&self, now: BootTime) {
        self.inner.lock().quarantine.take_if(|until| *until <= now);
    }

    pub(crate) fn quarantined(&self, now: BootTime) -> Option<BootTime> {
        self.inner.lock().quarantine.filter(|until| now < *until)
    }

    /// The next entry of the schedule: the time of the next check, or none. `None` if the schedule has it
    /// already. A time beyond [`DUE_WITHIN`] that is in the record is left out: the scheduler reads
    /// it from the store.
    pub(crate) fn arm(
        &self,
        policy: &MachinePolicy,
        now: BootTime,
    ) -> Option<(Option<BootTime>, KnownTo)> {
        let mut inner = self.inner.lock();
        let in_record = machine::is_in_record(&inner.state);
        let wake = machine::next_wake(&inner.state, policy);
        let wake = wake.filter(|at| !in_record || *at <= now.after(DUE_WITHIN));
        if inner.armed == wake {
            return None;
        }
        inner.armed = wake;
        let known = if in_record { KnownTo::All } else { KnownTo::ThisProcess };
        Some((wake, known))
    }

    /// The schedule checks this slot, and has no later time for it.
    pub(crate) fn disarm(&self) {
        self.inner.lock().armed = None;
    }

    /// The work that the schedule must do now.
    pub(crate) fn due(&self, policy: &MachinePolicy, now: BootTime) -> Due {
        self.with_state(|state| machine::due_now(state, policy, now))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.inner.lock().state.is_busy()
    }

    /// Whether memory has something that the store may not have.
    pub(crate) fn knows_more(&self) -> bool {
        let inner = self.inner.lock();
        inner.unsaved.is_some() || !inner.queue.is_empty() || !inner.state.is_disposable()
    }

    /// Whether the slot can be removed without a loss: it has no credentials, challenge, flight,
    /// unsaved credentials, actor or mark.
    pub(crate) fn is_disposable(&self) -> bool {
        // The check without the lock comes first, because every handle asks when it is dropped.
        if self.snapshot.load().is_some() {
            return false;
        }
        let inner = self.inner.lock();
        // Keep a slot with a rejection until the session has newer tokens: a new slot would load
        // the rejected token from the record and hand it out.
        let rejected = self.rejected_through() > inner.state.counters().1
            || (inner.state.is_unloaded() && self.rejected_through() > 0);
        let rejected = rejected || inner.rejected_before_load > 0;
        inner.rests() && !rejected && inner.state.is_disposable()
    }

    /// Publishes the token that the state serves, but never a lower generation than before: the
    /// store may show an older record than memory had for a moment.
    fn publish(&self, inner: &mut Inner, now: Now) {
        let serving: Option<&CredentialState> = machine::serving(&inner.state, now.boot);
        let damping = serving.and_then(|held| held.damping.as_ref());
        self.damped.store(damping.is_some_and(|damping| !damping.accepted), Ordering::Release);
        let Some((held, token)) = serving.and_then(|held| Some((held, held.token.as_ref()?)))
        else {
            if self.snapshot.load().is_some() {
                self.snapshot.store(None);
            }
            return;
        };
        if held.generation < inner.published {
            return;
        }
        let next = TokenSnapshot::new(held, token, &inner.state, now);
        if self.snapshot.load().as_ref().is_some_and(|seen| seen.is_like(&next)) {
            return;
        }
        inner.published = held.generation;
        self.snapshot.store(Some(Arc::new(next)));
        // Reset the flag after the store: otherwise a reader of the old snapshot could set it
        // again, and no reader would report that the new token is due.
        self.due_was_sent.store(false, Ordering::Release);
    }
}

impl Inner {
    fn step(&mut self, input: Input, at: &StepContext) -> Effects {
        let state = std::mem::take(&mut self.state);
        let (state, mut effects) = machine::step(state, input, at);
        self.state = state;
        if let Some(load) = effects.start.take_if(|start| start.is_load()) {
            self.background_start = Some(load);
        }
        effects
    }

    /// Whether there is no flight, load, job, unsaved credentials, claim, actor or quarantine.
    fn rests(&self) -> bool {
        self.flight.is_none()
            && self.load.is_none()
            && self.queue.is_empty()
            && self.unsaved.is_none()
            && self.claims.are_none()
            && self.actor.is_none()
            && self.quarantine.is_none()
    }

    fn quarantined(&self, now: BootTime) -> Option<BootTime> {
        self.quarantine.filter(|until| now < *until)
    }

    /// Drops what else belongs to the deleted record.
    fn forget(&mut self) {
        self.claims = Claims::default();
        self.quarantine = None;
    }
}

pub(crate) fn quarantined_error(pause: Duration) -> Error {
    Error::new(ErrorKind::RetryLater)
        .about(
            "the session's actor crashed too often, so the session is paused; see the log for the \
             panic",
        )
        .with_retry_after(pause)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let owner = self.tenant_client.owner();
        owner.session_left();
        if self.inner.get_mut().unsaved.is_some() {
            owner.unsaved_left();
        }
    }
}

#[cfg(test)]
mod tests;
