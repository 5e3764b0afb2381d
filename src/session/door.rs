//! The way from a handle to its session.

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::core::Core;
use super::flight::Landing;
use super::machine::{Answer, Renewable};
use super::message::{Answered, Job, Message};
use super::slot::{Parcel, Slot};
use crate::clock::within;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
use crate::policy::{ASK_AGAIN, ASKED_AGAIN_AT_ONCE, REPLY_WAIT, RESENDS};
use crate::task::Place;
use crate::token::PermissionToken;

/// Makes a grant that needs no user.
pub(crate) type Offer<'a> = &'a (dyn Fn() -> Parcel + Send + Sync);

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

    /// A token above `above`. `offer` makes a grant for the case that there is no session.
    pub(crate) async fn token_above(
        &self,
        slot: &Arc<Slot>,
        above: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<PermissionToken> {
        self.waiting(slot, async {
            let mut rounds = 0;
            loop {
                match self.asked(slot, above, offer).await? {
                    Answered::Token(token) => return Ok(token),
                    Answered::Failed(error) => return Err(error),
                    Answered::Wait(flight) => match flight.landing().await {
                        Landing::Token(token) if token.generation() > above => return Ok(token),
                        // What only a new grant helps is no end for who has one.
                        Landing::Failed(error) if offer.is_none() || !is_lost(&error) => {
                            return Err(error);
                        }
                        Landing::Failed(_) => {}
                        Landing::Token(_) | Landing::Again => {}
                    },
                    Answered::Again => {}
                }
                rounds += 1;
                self.before_asking_again(rounds).await;
            }
        })
        .await
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
        if !slot.look(super::machine::State::is_unloaded) {
            return Ok(());
        }
        self.waiting(slot, async { self.ask(slot, |reply| Message::Look { reply }).await? }).await
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

    /// What is known without asking, or what the actor says.
    async fn asked(
        &self,
        slot: &Arc<Slot>,
        above: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<Answered> {
        let renewable = offer.map_or_else(|| slot.renewable(), |_| Renewable::Vouched);
        let failed = |error: Error| Answered::Failed(error.of_session(slot.id()));
        match slot.answer(above, renewable, &self.core.moment(slot)) {
            (Answer::Token(token), _) => Ok(Answered::Token(token)),
            (Answer::Fail(error), _) => Ok(failed(error)),
            (Answer::Wait, Some(flight)) => Ok(Answered::Wait(flight)),
            (Answer::Wait, None) | (Answer::Ask, _) => {
                let need = |reply| Message::Need { above, offer: offer.map(|make| make()), reply };
                self.ask(slot, need).await
            }
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
            let closing = self.core.tasks.closing();
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    return Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()));
                }
                () = self.core.host.connected() => {}
            }
        }
        Err(Error::new(ErrorKind::RetryLater)
            .about("the session's actor keeps dying")
            .of_session(slot.id()))
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
        within(&**clock, policy.wait, wait)
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
