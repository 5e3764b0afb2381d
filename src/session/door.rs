//! The way from a handle to its session.

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::core::Core;
use super::flight::{Flight, Landing};
use super::machine::{Renewable, State, serving};
use super::message::{Job, Message};
use super::read;
use super::slot::{ErasedValue, Slot, Wants};
use super::token_request::{Asked, Requested, request};
use crate::clock::within;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
use crate::policy::{ASK_AGAIN, ASKED_AGAIN_AT_ONCE, REPLY_WAIT, RESENDS};
use crate::task::Place;
use crate::token::PermissionToken;

/// Makes a grant that needs no user.
pub(crate) type Offer<'a> = &'a (dyn Fn() -> ErasedValue + Send + Sync);

/// What every handle of one supervisor holds. The supervisor goes when the last handle does.
pub(crate) struct Door {
    pub(crate) core: Arc<Core>,
    _keeper: Box<dyn Any + Send + Sync>,
}

impl Door {
    pub(crate) fn new(core: Arc<Core>, keeper: Box<dyn Any + Send + Sync>) -> Self {
        Self { core, _keeper: keeper }
    }

    /// The slot of a session, if it is resident.
    pub(crate) fn find(&self, id: &SessionId) -> Option<SlotRef<'_>> {
        self.core.host.find(id).map(|slot| self.hold(slot))
    }

    /// The slot of a session, made if there is none.
    pub(crate) fn obtain(&self, id: &SessionId) -> Result<SlotRef<'_>> {
        self.core.host.slot(id).map(|slot| self.hold(slot))
    }

    pub(crate) fn hold(&self, slot: Arc<Slot>) -> SlotRef<'_> {
        let leave = Leave { slot: Arc::downgrade(&slot), door: self };
        SlotRef { slot, _leave: leave }
    }

    /// A token above `above`, or the one in hand if that takes longer than a call may. `offer`
    /// makes a grant for the case that there is no session.
    pub(crate) async fn token_above(
        &self,
        slot: &Arc<Slot>,
        above: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<PermissionToken> {
        let newer = self.waiting(slot, self.newer(slot, above, offer)).await;
        newer.or_else(|error| {
            let too_long = error.kind() == ErrorKind::Deadline;
            if too_long { self.in_hand(slot) } else { Err(error) }
        })
    }

    /// A token above `above`, for as long as it takes.
    async fn newer(
        &self,
        slot: &Arc<Slot>,
        above: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<PermissionToken> {
        let mut rounds = 0;
        loop {
            match self.landed(slot, above, offer).await? {
                Landing::Token(token) if token.generation() > above => return Ok(token),
                // What only a new grant helps is no end for who has one.
                Landing::Failed(error) if offer.is_none() || !is_lost(&error) => {
                    return Err(error);
                }
                Landing::Failed(_) | Landing::Token(_) | Landing::Again => {}
            }
            rounds += 1;
            self.before_asking_again(rounds).await;
        }
    }

    /// The token that is served now: what a caller gets whose time is over.
    fn in_hand(&self, slot: &Slot) -> Result<PermissionToken> {
        let now = self.core.now().boot;
        let served = |state: &State| serving(state, now).and_then(|held| held.token.clone());
        slot.look(served).ok_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the session's exchange takes longer than a call may wait")
                .of_session(slot.id())
        })
    }

    /// Asks the session once, and waits for what runs or is started.
    async fn landed(
        &self,
        slot: &Arc<Slot>,
        above: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<Landing> {
        let core = &self.core;
        let client = core.resolve(&slot.site).await.map_err(|error| error.of_session(slot.id()))?;
        let renewable = offer.map_or_else(|| slot.renewable(), |_| Renewable::Vouched);
        let wants = Wants { above, renewable, fresh: false };
        let make = offer.map(|make| make as &dyn Fn() -> ErasedValue);
        match request(core, (slot, &client), wants, (Asked::ByCaller, make)) {
            Requested::Ready(token) => Ok(Landing::Token(token)),
            // What turned out to be lost just now may have a renewal that it did not have before.
            Requested::Failed(error) if is_lost(&error) && slot.renewable() > renewable => {
                Ok(Landing::Again)
            }
            Requested::Failed(error) => Err(error),
            Requested::Join(flight) => Ok(self.landing(slot, flight).await),
            Requested::Read(reading) => {
                read::one(core, &client, reading).await;
                Ok(Landing::Again)
            }
            Requested::Start(work, flight) => {
                if !core.host.send(slot, Message::Start(work)) {
                    self.connected(slot).await?;
                }
                Ok(self.landing(slot, flight).await)
            }
        }
    }

    /// Waits for a flight. What has not begun after a while is given up: a message that arrives
    /// while a mailbox closes is sometimes neither handled nor dropped.
    async fn landing(&self, slot: &Arc<Slot>, flight: Flight) -> Landing {
        loop {
            let landing = within(&*self.core.clock, REPLY_WAIT, flight.clone().landing()).await;
            if let Some(landing) = landing {
                return landing;
            }
            self.core.give_up(slot, |of| of.is(&flight));
            if !slot.has_flight(&flight) {
                return Landing::Again;
            }
        }
    }

    /// Starts what is due, for nobody who waits.
    pub(crate) fn due(&self, slot: &Arc<Slot>) {
        let core = &self.core;
        // Without a client nothing was handed out that could be due.
        let Some(client) = slot.site.client() else { return };
        let wants = Wants { above: 0, renewable: slot.renewable(), fresh: true };
        if let Requested::Start(work, _) =
            request(core, (slot, &client), wants, (Asked::ByCaller, None))
        {
            core.deliver(slot, Message::Start(work));
        }
    }

    /// Asking again always lets others run, the clock that ends the caller's wait among them. Who
    /// is told to ask again and again waits a little in between.
    async fn before_asking_again(&self, rounds: u32) {
        if rounds > ASKED_AGAIN_AT_ONCE {
            self.core.clock.sleep(ASK_AGAIN).await;
        }
        tokio::task::yield_now().await;
    }

    /// Reads the session's record, if it is not read yet.
    pub(crate) async fn look(&self, slot: &Arc<Slot>) -> Result<()> {
        if !slot.look(State::is_unread) {
            return Ok(());
        }
        self.waiting(slot, async { read::ready(&self.core, slot).await.map(drop) }).await
    }

    /// Queues a job, brings it to the actor's notice and waits for its end.
    ///
    /// It is parked in the slot before its message: whoever dies with the message does not have
    /// it. It is not parked at all for a caller who has no place to wait. The place among the tasks
    /// is for jobs that a shutdown waits for.
    pub(crate) async fn queued<T>(
        &self,
        slot: &Arc<Slot>,
        job: impl FnOnce(oneshot::Sender<Result<T>>, Place) -> Job,
    ) -> Result<T> {
        let Some(place) = self.core.tasks.enter() else {
            return Err(slot.unbegun(ErrorKind::ShuttingDown));
        };
        self.bounded(slot, async {
            let (reply, end) = oneshot::channel();
            let most = self.core.policy.max_queued_grants;
            slot.enqueue(job(reply, place), most).map_err(|full| full.of_session(slot.id()))?;
            self.ended(slot, end).await
        })
        .await
    }

    /// Waits for the end of a queued job. A shutdown refuses it at once if it has not begun and
    /// makes a session; so is every job that has not begun when nobody is left to begin it.
    async fn ended<T>(&self, slot: &Arc<Slot>, mut end: oneshot::Receiver<Result<T>>) -> Result<T> {
        let tasks = &self.core.tasks;
        let (closing, gone) = (tasks.closing(), tasks.gone());
        let mut reminding = pin!(self.remind(slot));
        let (mut closed, mut over) = (false, false);
        loop {
            tokio::select! {
                biased;
                // A job is dropped without an answer only with the whole supervisor.
                end = &mut end => return end.unwrap_or_else(|_| Err(slot.unbegun(ErrorKind::ShuttingDown))),
                () = gone.cancelled(), if !over => {
                    over = true;
                    slot.refuse(|_| true);
                }
                () = closing.cancelled(), if !closed => {
                    closed = true;
                    slot.refuse(Job::makes_session);
                }
                failed = &mut reminding, if !over => {
                    if failed.kind() != ErrorKind::ShuttingDown {
                        return Err(failed);
                    }
                    over = true;
                    slot.refuse(|_| true);
                }
            }
        }
    }

    /// Says that there is a job, and says it again now and then: the message that an exchange
    /// before it has ended may have died with an actor. Ends when that cannot be said.
    async fn remind(&self, slot: &Arc<Slot>) -> Error {
        loop {
            if let Err(failed) = self.ask(slot, |reply| Message::Queued { reply }).await {
                return failed;
            }
            self.core.clock.sleep(REPLY_WAIT).await;
        }
    }

    /// Sends a message and waits for its reply. A reply that was dropped means that an actor
    /// died with the message in its mailbox: it is sent again, because messages are idempotent.
    /// So is one without a reply: a message that arrives while a mailbox closes is sometimes
    /// neither handled nor dropped.
    async fn ask<R>(
        &self,
        slot: &Arc<Slot>,
        message: impl Fn(oneshot::Sender<R>) -> Message,
    ) -> Result<R> {
        let mut sent = 0;
        while sent <= RESENDS {
            let (reply, answer) = oneshot::channel();
            if self.core.host.send(slot, message(reply)) {
                sent += 1;
                let answer = within(&*self.core.clock, REPLY_WAIT, answer).await;
                if let Some(Ok(answer)) = answer {
                    return Ok(answer);
                }
            }
            tokio::task::yield_now().await;
            self.connected(slot).await?;
        }
        Err(Error::new(ErrorKind::RetryLater)
            .about("the session's actor keeps dying")
            .of_session(slot.id()))
    }

    /// Waits until there is a supervisor actor.
    async fn connected(&self, slot: &Slot) -> Result<()> {
        let closing = self.core.tasks.closing();
        tokio::select! {
            biased;
            () = closing.cancelled() => {
                Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()))
            }
            () = self.core.host.connected() => Ok(()),
        }
    }

    /// Takes a waiter's place and waits no longer than a call may, nor longer than the supervisor's
    /// runtime lives.
    pub(crate) async fn waiting<T>(
        &self,
        slot: &Arc<Slot>,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let gone = self.core.tasks.gone();
        self.bounded(slot, async {
            tokio::select! {
                biased;
                done = wait => done,
                () = gone.cancelled() => {
                    Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()))
                }
            }
        })
        .await
    }

    /// Takes a waiter's place and waits no longer than a call may.
    async fn bounded<T>(
        &self,
        slot: &Arc<Slot>,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Core { clock, policy, tasks, .. } = &*self.core;
        if tasks.is_closing() {
            return Err(slot.unbegun(ErrorKind::ShuttingDown));
        }
        let named = |error: Error| error.of_session(slot.id());
        let _place = slot.wait_place(policy.max_waiters).map_err(named)?;
        within(&**clock, policy.call_timeout, wait)
            .await
            .unwrap_or_else(|| Err(named(Error::new(ErrorKind::Deadline))))
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SignInAgain(_))
}

/// A call's hold on a slot. It borrows the door, because a counter that all sessions share would
/// be fought over by all processors.
pub(crate) struct SlotRef<'a> {
    slot: Arc<Slot>,
    /// After the hold itself: fields are dropped in this order.
    _leave: Leave<'a>,
}

struct Leave<'a> {
    slot: Weak<Slot>,
    door: &'a Door,
}

impl Deref for SlotRef<'_> {
    type Target = Arc<Slot>;

    fn deref(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.upgrade() {
            self.door.core.let_go(slot);
        }
    }
}

#[cfg(test)]
mod tests;
