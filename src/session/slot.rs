//! The small resident part of a session, which outlives its actor.

mod renewal;
mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use ractor::{ActorCell, ActorId};

pub(crate) use self::renewal::Renewal;
use self::snapshot::Snapshot;
use super::flight::{Flight, Landing, Pilot};
use super::machine::{self, Answer, Effects, Input, Moment, Renewable, Rules, State};
use super::message::Job;
use super::outcome::Invalidation;
use crate::clock::{BootTime, Clock, Now};
use crate::error::{Error, ErrorKind, ExchangeOutcome};
use crate::key::SessionId;
use crate::policy::DRIFT;
pub(crate) use crate::provider::erased::Parcel;
use crate::provider::site::Site;
use crate::store::Commit;
use crate::token::PermissionToken;

/// A session's slot: what must survive the death of its actor and of the supervisor actor.
///
/// It is the one place that steps the machine: actor and exchange go through
/// [`apply`](Self::apply), under a lock that is never held across an await. What readers see is
/// published under the same lock, so it never goes back.
pub(crate) struct Slot {
    id: SessionId,
    pub(crate) site: Arc<Site>,
    /// What fresh reads are served from: no lock, no actor.
    snapshot: ArcSwapOption<Snapshot>,
    /// Tokens up to this generation are not handed out, whatever is published. Only ever raised,
    /// until the session is forgotten.
    rejected_through: AtomicU64,
    /// A reader has told the actor that the token is due.
    told_due: AtomicBool,
    /// Rejections of the token are damped, and an API that accepts it changes that.
    damped: AtomicBool,
    waiters: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    flight: Option<Flight>,
    queue: VecDeque<Job>,
    /// Credentials that are not saved: the only copy of a rotated token.
    owed: Option<Arc<Commit>>,
    /// The actor that serves this slot; its successor waits for its end.
    occupant: Option<ActorCell>,
    /// The session is set aside until then.
    quarantine: Option<BootTime>,
    /// The earliest time at which the schedule will wake this slot.
    armed: Option<BootTime>,
    /// The highest generation that was published.
    published: u64,
    /// The version of the client that the state was last seen with.
    client: u64,
}

/// What a reader finds without asking anybody.
#[derive(Debug)]
pub(crate) enum Glance {
    Fresh,
    /// Good, and this reader is the first to see that it is due.
    Due,
    Stale,
}

impl Slot {
    pub(crate) fn new(id: SessionId, site: Arc<Site>) -> Self {
        Self {
            id,
            site,
            snapshot: ArcSwapOption::empty(),
            rejected_through: AtomicU64::new(0),
            told_due: AtomicBool::new(false),
            damped: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                state: State::Unloaded { trouble: None },
                flight: None,
                queue: VecDeque::new(),
                owed: None,
                occupant: None,
                quarantine: None,
                armed: None,
                published: 0,
                client: 0,
            }),
        }
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// The hot path: what `read` makes of the published token, if it is good.
    pub(crate) fn glance<R>(
        &self,
        clock: &dyn Clock,
        read: impl FnOnce(&PermissionToken) -> R,
    ) -> (Glance, Option<R>) {
        let snapshot = self.snapshot.load();
        let Some(seen) = &*snapshot else { return (Glance::Stale, None) };
        let coarse = clock.coarse();
        let offset = coarse.wall.saturating_sub(coarse.monotonic);
        let rejected = seen.token.generation() <= self.rejected_through();
        if rejected || coarse.monotonic >= seen.expires || offset.abs_diff(seen.offset) > DRIFT {
            return (Glance::Stale, None);
        }
        let due = coarse.monotonic >= seen.due && self.is_to_be_told(seen, clock);
        (if due { Glance::Due } else { Glance::Fresh }, Some(read(&seen.token)))
    }

    /// Whether a token that is due by the coarse clock is so by the true one too, which the actor
    /// goes by, and nobody has said so yet. The coarse clock may be ahead: an actor that is told
    /// too early does nothing, and nobody would tell it again.
    #[cold]
    fn is_to_be_told(&self, seen: &Snapshot, clock: &dyn Clock) -> bool {
        if self.told_due.load(Ordering::Acquire) {
            return false;
        }
        let due = seen.due_at.is_some_and(|due| clock.now().boot >= due);
        due && !self.told_due.swap(true, Ordering::AcqRel)
    }

    /// Steps the machine, publishes what readers may see, and says what is to be started.
    pub(crate) fn apply(&self, mut input: Input, at: &Moment) -> Effects {
        if let Input::Need { above, .. } = &mut input {
            // A report that came before the load is known here alone.
            *above = (*above).max(self.rejected_through());
        }
        let forgotten = matches!(input, Input::Forgotten);
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        if forgotten {
            // Its successor counts from the beginning.
            self.rejected_through.store(0, Ordering::Release);
            inner.forget();
        }
        let effects = inner.step(input, at);
        self.publish(&mut inner, at.now);
        effects
    }

    /// Lets the state know, and readers, that the client was replaced. True if its credentials
    /// are foreign to the new one and were not to the old one.
    pub(crate) fn reconsider(&self, at: &Moment) -> bool {
        let mut inner = self.inner.lock();
        let is_foreign = |inner: &Inner| {
            let rest = inner.state.rest();
            rest.as_ref().and_then(|rest| rest.serving()).is_some_and(|held| held.foreign)
        };
        let was_foreign = is_foreign(&inner);
        self.follow(&mut inner, at);
        self.publish(&mut inner, at.now);
        !was_foreign && is_foreign(&inner)
    }

    /// Lets the state know that the client was replaced, if it does not know yet. At every step,
    /// and not only by whoever replaces it: so no slot is missed that an exchange is just writing.
    fn follow(&self, inner: &mut Inner, at: &Moment) {
        if self.site.version() == inner.client {
            return;
        }
        let Some(client) = self.site.client() else { return };
        inner.client = client.version;
        let foreign = inner.state.rest().is_some_and(|rest| {
            rest.credentials().is_some_and(|credentials| !client.issued(credentials))
        });
        inner.step(Input::Reconfigured { foreign }, at);
    }

    /// What a caller who wants a token above `above` gets.
    pub(crate) fn answer(
        &self,
        above: u64,
        renewable: Renewable,
        at: &Moment,
    ) -> (Answer, Option<Flight>) {
        let now = at.now;
        let above = above.max(self.rejected_through());
        let mut inner = self.inner.lock();
        self.follow(&mut inner, at);
        // Also where the clocks moved against each other: deadlines are boot time, so they tell
        // a suspend from a clock step by themselves.
        self.publish(&mut inner, now);
        let answer = machine::answer(&inner.state, above, renewable, now.boot);
        let quarantined = inner.quarantine.filter(|until| now.boot < *until);
        match (answer, quarantined) {
            (Answer::Ask, Some(until)) => (Answer::Fail(set_aside(until.since(now.boot))), None),
            (Answer::Wait, _) => (Answer::Wait, inner.flight.clone()),
            (answer, _) => (answer, None),
        }
    }

    /// As [`reject`](Self::reject), unless the last rejection brought this very token a moment ago:
    /// then the token goes on being handed out, because the next one would be no better.
    pub(crate) fn invalidate(&self, generation: u64, at: &Moment) -> Invalidation {
        // Looked at and rejected in two steps. A refresh between the two makes this a rejection of
        // a former token, which changes nothing.
        if self.look(|state| machine::is_damped(state, generation, at.now.boot)) {
            return Invalidation::Damped;
        }
        self.reject(generation, at);
        Invalidation::Refresh
    }

    /// An API accepted the token of this generation. Looks at one flag, for that is the rule.
    pub(crate) fn accept(&self, generation: u64, at: impl FnOnce() -> Moment) {
        if self.damped.load(Ordering::Acquire) {
            self.apply(Input::Accepted { generation }, &at());
        }
    }

    /// Never hands out tokens up to this generation again, from now on. One that this session
    /// has not reached is another session's: it would make every token up to it be refreshed.
    pub(crate) fn reject(&self, generation: u64, at: &Moment) {
        let inner = self.inner.lock();
        let held = inner.state.rest().map_or(0, |rest| rest.counters().1);
        let newest = inner.published.max(held);
        if generation > newest {
            return;
        }
        // First the readers, then the machine: a reader between the two must not be served. Under
        // the lock, or a forget between the two would leave its successor rejected.
        self.rejected_through.fetch_max(generation, Ordering::AcqRel);
        drop(inner);
        self.apply(Input::Rejected { generation }, at);
    }

    /// Forgets how far it had counted: another process deleted the record, and whatever comes after
    /// begins at 1.
    pub(crate) fn count_anew(&self) {
        let mut inner = self.inner.lock();
        if inner.state.is_unloaded() {
            self.rejected_through.store(0, Ordering::Release);
            inner.published = 0;
        }
    }

    fn rejected_through(&self) -> u64 {
        self.rejected_through.load(Ordering::Acquire)
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.inner.lock().state)
    }

    /// Makes room for one waiter more, until the place is dropped.
    pub(crate) fn wait_place(self: &Arc<Self>, most: usize) -> Result<WaitPlace, Error> {
        let place = WaitPlace(Arc::clone(self));
        if self.waiters.fetch_add(1, Ordering::AcqRel) >= most {
            return Err(full("too many callers wait"));
        }
        Ok(place)
    }

    pub(crate) fn enqueue(&self, job: Job, most: usize) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        if inner.queue.len() >= most {
            return Err(full("too many grants are queued"));
        }
        inner.queue.push_back(job);
        Ok(())
    }

    /// The first job whose caller has not gone.
    pub(crate) fn next_job(&self) -> Option<Job> {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        let job = inner.queue.pop_front();
        if inner.queue.is_empty() {
            // Grants are rare, and the room for them would stay with every session.
            inner.queue = VecDeque::new();
        }
        job
    }

    /// Refuses the jobs that a shutdown leaves unbegun, of those that `which` is true for.
    pub(crate) fn refuse(&self, which: impl Fn(&Job) -> bool) {
        let mut inner = self.inner.lock();
        let (refused, kept): (VecDeque<_>, _) = inner.queue.drain(..).partition(|job| which(job));
        inner.queue = kept;
        drop(inner);
        refused.into_iter().for_each(|job| job.refuse(self.unbegun(ErrorKind::ShuttingDown)));
    }

    /// The error of what was asked for and has not begun.
    pub(crate) fn unbegun(&self, kind: ErrorKind) -> Error {
        Error::new(kind).with_outcome(ExchangeOutcome::NotSent).of_session(&self.id)
    }

    pub(crate) fn board(&self, flight: Flight) {
        self.inner.lock().flight = Some(flight);
    }

    /// Ends a flight: first out of the slot, so that nobody joins it any more, then landed.
    pub(crate) fn land(&self, pilot: &Pilot, landing: Landing) {
        let mut inner = self.inner.lock();
        if inner.flight.as_ref().is_some_and(|flight| flight.is_of(pilot)) {
            inner.flight = None;
        }
        drop(inner);
        pilot.land(landing);
    }

    pub(crate) fn owe(&self, commit: Option<Arc<Commit>>) {
        self.inner.lock().owed = commit;
    }

    pub(crate) fn owed(&self) -> Option<Arc<Commit>> {
        self.inner.lock().owed.clone()
    }

    /// Forgets what was owed, if it is still this.
    pub(crate) fn pay(&self, commit: &Arc<Commit>) -> bool {
        let mut inner = self.inner.lock();
        let paid = inner.owed.as_ref().is_some_and(|owed| Arc::ptr_eq(owed, commit));
        if paid {
            inner.owed = None;
        }
        paid
    }

    pub(crate) fn occupant(&self) -> Option<ActorCell> {
        self.inner.lock().occupant.clone()
    }

    pub(crate) fn occupy(&self, actor: ActorCell) {
        self.inner.lock().occupant = Some(actor);
    }

    pub(crate) fn vacate(&self, actor: ActorId) {
        self.inner.lock().occupant.take_if(|occupant| occupant.get_id() == actor);
    }

    /// Lets the next reader say once more that the token is due: whoever was told may have died
    /// with the message in its mailbox.
    pub(crate) fn forget_told(&self) {
        self.told_due.store(false, Ordering::Release);
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

    /// When the schedule must be told to wake this slot, if earlier than it knows.
    pub(crate) fn arm(&self, rules: &Rules) -> Option<BootTime> {
        let mut inner = self.inner.lock();
        let wake = machine::next_wake(&inner.state, rules)?;
        if inner.armed.is_some_and(|armed| armed <= wake) {
            return None;
        }
        inner.armed = Some(wake);
        Some(wake)
    }

    /// The schedule has woken this slot.
    pub(crate) fn disarm(&self) {
        self.inner.lock().armed = None;
    }

    /// Whether there is a job that can be begun.
    pub(crate) fn has_work(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.queue.retain(|job| !job.is_abandoned());
        !inner.queue.is_empty() && !inner.state.is_busy()
    }

    /// Whether the schedule woke this slot for a refresh that nobody asked for.
    pub(crate) fn is_due_unasked(&self, rules: &Rules, now: BootTime) -> bool {
        self.look(|state| machine::next_wake(state, rules).is_some_and(|wake| wake <= now))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.inner.lock().state.is_busy()
    }

    /// Whether it has what the store may not know.
    pub(crate) fn knows_more(&self) -> bool {
        let inner = self.inner.lock();
        inner.owed.is_some() || !inner.queue.is_empty() || !inner.state.is_disposable()
    }

    /// Whether nothing is lost with this slot: no credentials, challenge, flight, debt, actor or
    /// mark. The quick look comes first, because every handle asks when it is dropped.
    pub(crate) fn is_disposable(&self) -> bool {
        if self.snapshot.load().is_some() {
            return false;
        }
        let inner = self.inner.lock();
        let idle = inner.flight.is_none() && inner.queue.is_empty() && inner.owed.is_none();
        idle && inner.occupant.is_none()
            && inner.quarantine.is_none()
            && inner.state.is_disposable()
    }

    /// Publishes what the state serves. Never a lower generation than before: what is in memory
    /// may be behind another process's store for a moment, but never behind itself.
    fn publish(&self, inner: &mut Inner, now: Now) {
        let serving = machine::serving(&inner.state, now.boot);
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
        let next = Snapshot::new(held, token, &inner.state, now);
        if self.snapshot.load().as_ref().is_some_and(|seen| seen.is_like(&next)) {
            return;
        }
        inner.published = held.generation;
        self.snapshot.store(Some(Arc::new(next)));
        self.told_due.store(false, Ordering::Release);
    }
}

impl Inner {
    fn step(&mut self, input: Input, at: &Moment) -> Effects {
        let state = std::mem::replace(&mut self.state, State::Unloaded { trouble: None });
        let (state, effects) = machine::step(state, input, at);
        self.state = state;
        effects
    }

    /// Drops what belongs to a record that is deleted: what is owed, too, or it would be saved.
    fn forget(&mut self) {
        self.owed = None;
        self.quarantine = None;
        self.published = 0;
    }
}

/// A waiter's place; given back when it is dropped.
pub(crate) struct WaitPlace(Arc<Slot>);

impl Drop for WaitPlace {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Nothing was sent: a grant that was turned away here is still good.
fn full(what: &'static str) -> Error {
    Error::new(ErrorKind::Capacity).about(what).with_outcome(ExchangeOutcome::NotSent)
}

pub(crate) fn set_aside(pause: Duration) -> Error {
    Error::new(ErrorKind::RetryLater)
        .about("the session is set aside because its actor kept dying")
        .with_retry_after(pause)
}

#[cfg(test)]
mod tests;
