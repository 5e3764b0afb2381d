//! The small resident part of a session, which outlives its actor.

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

/// A session's slot: what must survive the death of its actor and of the supervisor actor.
///
/// It is the one place that steps the machine: actor and exchange go through
/// [`apply`](Self::apply), under a lock that is never held across an await. What readers see is
/// published under the same lock, so it never goes back.
pub(crate) struct Slot {
    id: SessionId,
    pub(crate) tenant_client: Arc<TenantClient>,
    /// What fresh reads are served from: no lock, no actor.
    snapshot: ArcSwapOption<TokenSnapshot>,
    /// Tokens up to this generation are not handed out, whatever is published. Only ever raised,
    /// until the session is forgotten.
    rejected_through: AtomicU64,
    /// A reader has told the actor that the token is due.
    due_was_sent: AtomicBool,
    /// Rejections of the token are damped, and an API that accepts it changes that.
    damped: AtomicBool,
    waiters: AtomicUsize,
    /// When it was last read or changed, in seconds of monotonic time.
    used: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    flight: Option<Flight>,
    /// What the flight is for has begun: it is not only on its way to the actor.
    begun: bool,
    /// The reading that callers wait for.
    reading: Option<Flight>,
    /// What a step began that no caller waits for: a reading, or a restore.
    background_start: Option<Start>,
    queue: VecDeque<Job>,
    /// Credentials that are not saved: the only copy of a rotated token.
    unsaved: Option<Arc<Unsaved>>,
    claims: Claims,
    /// The actor that serves this slot; its successor waits for its end.
    actor: Option<ActorCell>,
    /// The session is set aside until then.
    quarantine: Option<BootTime>,
    /// When the schedule will look at this slot, as it was told.
    armed: Option<BootTime>,
    /// The highest generation that was published.
    published: u64,
    /// Reported as rejected before the record was read.
    rejected_before_load: u64,
    /// The version of the client that the state was last seen with.
    client: u64,
    /// What the provider was last asked of a renewal.
    renews: Option<Renews>,
}

/// What a reader finds without asking anybody.
#[derive(Debug)]
pub(crate) enum SnapshotRead {
    Fresh,
    /// Good, and this reader is the first to see that it is due.
    Due,
    Stale,
}

impl Slot {
    pub(crate) fn new(id: SessionId, tenant_client: Arc<TenantClient>) -> Self {
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
                reading: None,
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

    /// The hot path: what `read` makes of the published token, if it is good.
    pub(crate) fn read_snapshot<R>(
        &self,
        clock: &dyn Clock,
        read: impl FnOnce(&PermissionToken) -> R,
    ) -> (SnapshotRead, Option<R>) {
        let snapshot = self.snapshot.load();
        let Some(seen) = &*snapshot else { return (SnapshotRead::Stale, None) };
        let coarse = clock.coarse();
        let offset = coarse.wall.saturating_sub(coarse.monotonic);
        let rejected = seen.token.generation() <= self.rejected_through();
        if rejected || coarse.monotonic >= seen.expires || offset.abs_diff(seen.offset) > DRIFT {
            return (SnapshotRead::Stale, None);
        }
        self.touch(coarse.monotonic);
        let due = coarse.monotonic >= seen.due && self.must_send_due(seen, clock);
        (if due { SnapshotRead::Due } else { SnapshotRead::Fresh }, Some(read(&seen.token)))
    }

    /// Notes that it is used. Written once a second at most, because many readers share it.
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

    /// Whether a token that is due by the coarse clock is so by the true one too, which the actor
    /// goes by, and nobody has said so yet. The coarse clock may be ahead: an actor that is told
    /// too early does nothing, and nobody would tell it again.
    #[cold]
    fn must_send_due(&self, seen: &TokenSnapshot, clock: &dyn Clock) -> bool {
        if self.due_was_sent.load(Ordering::Acquire) {
            return false;
        }
        let due = seen.due_at.is_some_and(|due| clock.now().boot >= due);
        due && !self.due_was_sent.swap(true, Ordering::AcqRel)
    }

    /// Steps the machine, publishes what readers may see, and says what is to be started.
    pub(crate) fn apply(&self, input: Input, at: &StepContext) -> Effects {
        self.touch(at.now.monotonic);
        let forgotten = matches!(input, Input::Forgotten);
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        if forgotten {
            inner.forget();
        }
        let effects = inner.step(input, at);
        self.reject_as_reported(&mut inner, at);
        self.publish(&mut inner, at.now);
        effects
    }

    /// Rejects what was reported before the record was read.
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

    /// What those who wait for a token above `newer_than` get when what runs has ended.
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

    /// As [`reject`](Self::reject), unless the last rejection brought this very token a moment ago:
    /// then the token goes on being handed out, because the next one would be no better.
    pub(crate) fn invalidate(&self, generation: u64, at: &StepContext) -> Invalidation {
        // Looked at and rejected in two steps. A refresh between the two makes this a rejection of
        // a former token, which changes nothing.
        if self.with_state(|state| machine::is_damped(state, generation, at.now.boot)) {
            return Invalidation::Damped;
        }
        self.reject(generation, at);
        Invalidation::Refresh
    }

    /// An API accepted the token of this generation. Looks at one flag, for that is the rule.
    pub(crate) fn accept(&self, generation: u64, at: impl FnOnce() -> StepContext) {
        if self.damped.load(Ordering::Acquire) {
            self.apply(Input::Accepted { generation }, &at());
        }
    }

    /// Never hands out tokens up to this generation again, from now on. One that this session
    /// has not reached is another session's: it would make every token up to it be refreshed.
    pub(crate) fn reject(&self, generation: u64, at: &StepContext) {
        let mut inner = self.inner.lock();
        if inner.state.is_unloaded() && generation > inner.published {
            // Applied when the record is read, which is done now.
            inner.rejected_before_load = inner.rejected_before_load.max(generation);
            let number = machine::read(&mut inner.state);
            inner.background_start = Some(Start::Load(number));
            return;
        }
        let newest = inner.published.max(inner.state.counters().1);
        if generation > newest {
            return;
        }
        // First the readers, then the machine: a reader between the two must not be served. Under
        // the lock, or a forget between the two would leave its successor rejected.
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

    /// Ends a flight: first out of the slot, so that nobody joins it any more, then completed.
    pub(crate) fn complete(&self, sender: &FlightSender, flight_outcome: FlightOutcome) {
        let mut inner = self.inner.lock();
        if inner.flight.as_ref().is_some_and(|flight| flight.is_of(sender)) {
            inner.flight = None;
        }
        drop(inner);
        sender.complete(flight_outcome);
    }

    pub(crate) fn keep_unsaved(&self, unsaved: Unsaved) {
        self.inner.lock().unsaved = Some(Arc::new(unsaved));
    }

    pub(crate) fn unsaved(&self) -> Option<Arc<Unsaved>> {
        self.inner.lock().unsaved.clone()
    }

    /// The id of the next claim, the claim that it replaces, and when it was first asked for.
    pub(crate) fn begin_claim(&self, now: Now) -> (ClaimId, Option<ClaimId>, Now) {
        self.inner.lock().claims.begin(now)
    }

    /// Whether a claim was granted, as far as its answer says.
    pub(crate) fn claim_answered(&self, claim: ClaimId, granted: bool) {
        self.inner.lock().claims.answered(claim, granted);
    }

    /// A claim is no longer in the store.
    pub(crate) fn claim_ended(&self, claim: ClaimId) {
        self.inner.lock().claims.ended(claim);
    }

    /// Forgets what was owed, if it is still this.
    pub(crate) fn clear_unsaved(&self, paid: &Arc<Unsaved>) -> bool {
        let mut inner = self.inner.lock();
        inner.claims.ended(paid.commit.attempt.claim);
        let same = inner.unsaved.as_ref().is_some_and(|unsaved| Arc::ptr_eq(unsaved, paid));
        if same {
            inner.unsaved = None;
        }
        same
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

    /// Lets the next reader say once more that the token is due: whoever was told may have died
    /// with the message in its mailbox.
    pub(crate) fn reset_due(&self) {
        self.due_was_sent.store(false, Ordering::Release);
    }

    pub(crate) fn quarantine(&self, until: Option<BootTime>) {
        self.inner.lock().quarantine = until;
    }

    /// Forgets a quarantine that is over.
    pub(crate) fn end_quarantine(&self, now: BootTime) {
        self.inner.lock().quarantine.take_if(|until| *until <= now);
    }

    pub(crate) fn quarantined(&self, now: BootTime) -> Option<BootTime> {
        self.inner.lock().quarantine.filter(|until| now < *until)
    }

    /// What to tell the schedule about this slot: the time of the next look, if any. `None` if the
    /// schedule knows it. A time that the record has and that is not soon is left to the store.
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

    /// The schedule looks at this slot, and knows no later time.
    pub(crate) fn disarm(&self) {
        self.inner.lock().armed = None;
    }

    /// What the schedule has to do now.
    pub(crate) fn due(&self, policy: &MachinePolicy, now: BootTime) -> Due {
        self.with_state(|state| machine::due_now(state, policy, now))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.inner.lock().state.is_busy()
    }

    /// Whether it has what the store may not know.
    pub(crate) fn knows_more(&self) -> bool {
        let inner = self.inner.lock();
        inner.unsaved.is_some() || !inner.queue.is_empty() || !inner.state.is_disposable()
    }

    /// Whether nothing is lost with this slot: no credentials, challenge, flight, debt, actor or
    /// mark. The quick look comes first, because every handle asks when it is dropped.
    pub(crate) fn is_disposable(&self) -> bool {
        if self.snapshot.load().is_some() {
            return false;
        }
        let inner = self.inner.lock();
        // What an API rejected is not handed out again, so it is not forgotten before the session
        // has something newer.
        let rejected = self.rejected_through() > inner.state.counters().1
            || (inner.state.is_unloaded() && self.rejected_through() > 0);
        let rejected = rejected || inner.rejected_before_load > 0;
        inner.rests() && !rejected && inner.state.is_disposable()
    }

    /// Publishes what the state serves. Never a lower generation than before: what is in memory
    /// may be behind another process's store for a moment, but never behind itself.
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
        self.due_was_sent.store(false, Ordering::Release);
    }
}

impl Inner {
    fn step(&mut self, input: Input, at: &StepContext) -> Effects {
        let state = std::mem::take(&mut self.state);
        let (state, mut effects) = machine::step(state, input, at);
        self.state = state;
        if let Some(read) = effects.start.take_if(|start| start.is_load()) {
            self.background_start = Some(read);
        }
        effects
    }

    /// Whether nobody works on the session: no flight, reading, job, debt, claim, actor or mark.
    fn rests(&self) -> bool {
        self.flight.is_none()
            && self.reading.is_none()
            && self.queue.is_empty()
            && self.unsaved.is_none()
            && self.claims.are_none()
            && self.actor.is_none()
            && self.quarantine.is_none()
    }

    fn quarantined(&self, now: BootTime) -> Option<BootTime> {
        self.quarantine.filter(|until| now < *until)
    }

    /// Drops what belongs to a record that is deleted: what is owed, too, or it would be saved.
    fn forget(&mut self) {
        self.unsaved = None;
        self.claims = Claims::default();
        self.quarantine = None;
    }
}

pub(crate) fn set_aside(pause: Duration) -> Error {
    Error::new(ErrorKind::RetryLater)
        .about("the session is set aside because its actor kept dying")
        .with_retry_after(pause)
}

#[cfg(test)]
mod tests;
