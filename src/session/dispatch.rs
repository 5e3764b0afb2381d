//! The way from a handle to its session.

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::context::Context;
use super::exchange::RequestedBy;
use super::job::Job;
use super::load;
use super::machine::{Renewable, State, serving};
use super::message::Message;
use super::single_flight::{Flight, FlightOutcome};
use super::slot::{ErasedValue, Slot, TokenRequest};
use super::token_request::{RequestOutcome, request};
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
use crate::policy::{ASK_AGAIN, ASKED_AGAIN_AT_ONCE, REPLY_WAIT, RESENDS};
use crate::task::TaskGuard;
use crate::token::PermissionToken;

/// Makes a grant that needs no user.
pub(crate) type Offer<'a> = &'a (dyn Fn() -> ErasedValue + Send + Sync);

/// What every handle of one supervisor holds. The supervisor goes when the last handle does.
pub(crate) struct Dispatcher {
    pub(crate) context: Arc<Context>,
    _shutdown_guard: Box<dyn Any + Send + Sync>,
}

impl Dispatcher {
    pub(crate) fn new(context: Arc<Context>, task_context: Box<dyn Any + Send + Sync>) -> Self {
        Self { context, _shutdown_guard: task_context }
    }

    /// The slot of a session, if it is resident.
    pub(crate) fn find(&self, id: &SessionId) -> Option<SlotRef<'_>> {
        self.context.registry.find(id).map(|slot| self.hold(slot))
    }

    /// The slot of a session, made if there is none.
    pub(crate) fn obtain(&self, id: &SessionId) -> Result<SlotRef<'_>> {
        self.context.registry.obtain(id).map(|slot| self.hold(slot))
    }

    pub(crate) fn hold(&self, slot: Arc<Slot>) -> SlotRef<'_> {
        let leave = Leave { slot: Arc::downgrade(&slot), dispatcher: self };
        SlotRef { slot, _leave: leave }
    }

    /// A token above `newer_than`, or the one in hand if that takes longer than a call may. `offer`
    /// makes a grant for the case that there is no session.
    pub(crate) async fn token_newer_than(
        &self,
        slot: &Arc<Slot>,
        newer_than: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<PermissionToken> {
        let newer = self.waiting(slot, self.wait_for_newer(slot, newer_than, offer)).await;
        newer.or_else(|error| {
            let too_long = error.kind() == ErrorKind::Deadline;
            if too_long { self.served_token(slot) } else { Err(error) }
        })
    }

    /// A token above `newer_than`, for as long as it takes.
    async fn wait_for_newer(
        &self,
        slot: &Arc<Slot>,
        newer_than: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<PermissionToken> {
        let mut rounds = 0;
        loop {
            match self.ask_once(slot, newer_than, offer).await? {
                FlightOutcome::Token(token) if token.generation() > newer_than => return Ok(token),
                // What only a new grant helps is no end for who has one.
                FlightOutcome::Failed(error) if offer.is_none() || !is_lost(&error) => {
                    return Err(error);
                }
                FlightOutcome::Failed(_) | FlightOutcome::Token(_) | FlightOutcome::AskAgain => {}
            }
            rounds += 1;
            self.before_asking_again(rounds).await;
        }
    }

    /// The token that is served now: what a caller gets whose time is over.
    fn served_token(&self, slot: &Slot) -> Result<PermissionToken> {
        let now = self.context.now().boot;
        let served = |state: &State| serving(state, now).and_then(|held| held.token.clone());
        slot.with_state(served).ok_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the session's exchange takes longer than a call may wait")
                .of_session(slot.id())
        })
    }

    /// Asks the session once, and waits for what runs or is started.
    async fn ask_once(
        &self,
        slot: &Arc<Slot>,
        newer_than: u64,
        offer: Option<Offer<'_>>,
    ) -> Result<FlightOutcome> {
        let context = &self.context;
        let client = context
            .resolve(&slot.tenant_client)
            .await
            .map_err(|error| error.of_session(slot.id()))?;
        let renewable = offer.map_or_else(|| slot.renewable(), |_| Renewable::Vouched);
        let need = TokenRequest { newer_than, renewable, fresh: false };
        let make = offer.map(|make| make as &dyn Fn() -> ErasedValue);
        match request(context, (slot, &client), need, (RequestedBy::ByCaller, make)) {
            RequestOutcome::Ready(token) => Ok(FlightOutcome::Token(token)),
            // What turned out to be lost just now may have a renewal that it did not have before.
            RequestOutcome::Failed(error) if is_lost(&error) && slot.renewable() > renewable => {
                Ok(FlightOutcome::AskAgain)
            }
            RequestOutcome::Failed(error) => Err(error),
            RequestOutcome::Join(flight) => Ok(self.await_flight(slot, flight).await),
            RequestOutcome::Load(reading) => {
                load::one(context, &client, reading).await;
                Ok(FlightOutcome::AskAgain)
            }
            RequestOutcome::Start(work, flight) => {
                if !context.mailbox.send(slot, Message::Start(work)) {
                    self.connected(slot).await?;
                }
                Ok(self.await_flight(slot, flight).await)
            }
        }
    }

    /// Waits for a flight. What has not begun after a while is given up: a message that arrives
    /// while a mailbox closes is sometimes neither handled nor dropped.
    async fn await_flight(&self, slot: &Arc<Slot>, flight: Flight) -> FlightOutcome {
        loop {
            let flight_outcome =
                timeout(&*self.context.clock, REPLY_WAIT, flight.clone().outcome()).await;
            if let Some(flight_outcome) = flight_outcome {
                return flight_outcome;
            }
            self.context.give_up(slot, |of| of.is(&flight));
            if !slot.has_flight(&flight) {
                return FlightOutcome::AskAgain;
            }
        }
    }

    /// Starts what is due, for nobody who waits.
    pub(crate) fn due(&self, slot: &Arc<Slot>) {
        let context = &self.context;
        // Without a client nothing was handed out that could be due.
        let Some(client) = slot.tenant_client.client() else { return };
        let need = TokenRequest { newer_than: 0, renewable: slot.renewable(), fresh: true };
        if let RequestOutcome::Start(work, _) =
            request(context, (slot, &client), need, (RequestedBy::ByCaller, None))
        {
            context.deliver(slot, Message::Start(work));
        }
    }

    /// Asking again always lets others run, the clock that ends the caller's wait among them. Who
    /// is told to ask again and again waits a little in between.
    async fn before_asking_again(&self, rounds: u32) {
        if rounds > ASKED_AGAIN_AT_ONCE {
            self.context.clock.sleep(ASK_AGAIN).await;
        }
        tokio::task::yield_now().await;
    }

    /// Reads the session's record, if it is not read yet.
    pub(crate) async fn ensure_loaded(&self, slot: &Arc<Slot>) -> Result<()> {
        if !slot.with_state(State::is_unloaded) {
            return Ok(());
        }
        self.waiting(slot, async { load::ready(&self.context, slot).await.map(drop) }).await
    }

    /// Queues a job, brings it to the actor's notice and waits for its end.
    ///
    /// It is parked in the slot before its message: whoever dies with the message does not have
    /// it. It is not parked at all for a caller who has no place to wait. The place among the tasks
    /// is for jobs that a shutdown waits for.
    pub(crate) async fn run_job<T>(
        &self,
        slot: &Arc<Slot>,
        job: impl FnOnce(oneshot::Sender<Result<T>>, TaskGuard) -> Job,
    ) -> Result<T> {
        let Some(task_guard) = self.context.tasks.enter() else {
            return Err(slot.unbegun(ErrorKind::ShuttingDown));
        };
        self.bounded(slot, async {
            let (reply, end) = oneshot::channel();
            let most = self.context.policy.max_queued_grants;
            slot.enqueue(job(reply, task_guard), most)
                .map_err(|full| full.of_session(slot.id()))?;
            self.job_outcome(slot, end).await
        })
        .await
    }

    /// Waits for the end of a queued job. A shutdown refuses it at once if it has not begun and
    /// makes a session; so is every job that has not begun when nobody is left to begin it.
    async fn job_outcome<T>(
        &self,
        slot: &Arc<Slot>,
        mut end: oneshot::Receiver<Result<T>>,
    ) -> Result<T> {
        let tasks = &self.context.tasks;
        let (closing, gone) = (tasks.closing(), tasks.runtime_gone());
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
            if let Err(failed) =
                self.send_until_answered(slot, |reply| Message::Queued { reply }).await
            {
                return failed;
            }
            self.context.clock.sleep(REPLY_WAIT).await;
        }
    }

    /// Sends a message and waits for its reply. A reply that was dropped means that an actor
    /// died with the message in its mailbox: it is sent again, because messages are idempotent.
    /// So is one without a reply: a message that arrives while a mailbox closes is sometimes
    /// neither handled nor dropped.
    async fn send_until_answered<R>(
        &self,
        slot: &Arc<Slot>,
        message: impl Fn(oneshot::Sender<R>) -> Message,
    ) -> Result<R> {
        let mut sent = 0;
        while sent <= RESENDS {
            let (reply, answer) = oneshot::channel();
            if self.context.mailbox.send(slot, message(reply)) {
                sent += 1;
                let answer = timeout(&*self.context.clock, REPLY_WAIT, answer).await;
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
        let closing = self.context.tasks.closing();
        tokio::select! {
            biased;
            () = closing.cancelled() => {
                Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()))
            }
            () = self.context.mailbox.connected() => Ok(()),
        }
    }

    /// Takes a waiter's place and waits no longer than a call may, nor longer than the supervisor's
    /// runtime lives.
    pub(crate) async fn waiting<T>(
        &self,
        slot: &Arc<Slot>,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let gone = self.context.tasks.runtime_gone();
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
        let Context { clock, policy, tasks, .. } = &*self.context;
        if tasks.is_closing() {
            return Err(slot.unbegun(ErrorKind::ShuttingDown));
        }
        let named = |error: Error| error.of_session(slot.id());
        let _task_guard = slot.waiter_permit(policy.max_waiters).map_err(named)?;
        timeout(&**clock, policy.call_timeout, wait)
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
    dispatcher: &'a Dispatcher,
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
            self.dispatcher.context.let_go(slot);
        }
    }
}

#[cfg(test)]
mod tests;
