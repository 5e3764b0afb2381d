//! The dispatcher: the way from a handle to its session.

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tracing::{Instrument, Span};

use super::context::Context;
use super::exchange::{Exchange, Payload, RequestedBy};
use super::job::{Caller, Job};
use super::load;
use super::machine::{Renewable, Start, State, serving};
use super::message::{Message, Work};
use super::single_flight::{Flight, FlightOutcome};
use super::slot::{ErasedValue, PendingLoad, Slot, SlotReply, TokenRequest};
use crate::client::Client;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
use crate::measurements::WaitingCaller;
use crate::policy::{ASK_AGAIN, ASKED_AGAIN_AT_ONCE, REPLY_WAIT, RESENDS};
use crate::task::TaskGuard;
use crate::token::PermissionToken;

/// Makes a grant that needs no user.
pub(crate) type Offer<'a> = &'a (dyn Fn() -> ErasedValue + Send + Sync);

/// Every handle of one supervisor holds this. The supervisor stops when the last handle is dropped.
pub(crate) struct Dispatcher {
    pub(crate) context: Arc<Context>,
    _shutdown_guard: Box<dyn Any + Send + Sync>,
}

impl Dispatcher {
    pub(crate) fn new(context: Arc<Context>, shutdown_guard: Box<dyn Any + Send + Sync>) -> Self {
        Self { context, _shutdown_guard: shutdown_guard }
    }

    /// The slot of a session, if it is in memory.
    pub(crate) fn find(&self, id: &SessionId) -> Option<SlotRef<'_>> {
        self.context.registry.find(id).map(|slot| self.hold(slot))
    }

    /// The slot of a session. Makes one if there is none.
    pub(crate) fn obtain(&self, id: &SessionId) -> Result<SlotRef<'_>> {
        self.context.registry.obtain(id).map(|slot| self.hold(slot))
    }

    pub(crate) fn hold(&self, slot: Arc<Slot>) -> SlotRef<'_> {
        let leave = Leave { slot: Arc::downgrade(&slot), dispatcher: self };
        SlotRef { slot, _leave: leave }
    }

    /// A token above `newer_than`; after the call's timeout, the token that is served. `offer` makes
    /// a grant if there is no session.
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

    /// A token above `newer_than`, without a timeout.
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
                // A lost session needs a new grant, and this caller offers one.
                FlightOutcome::Failed(error) if offer.is_none() || !is_lost(&error) => {
                    return Err(error);
                }
                FlightOutcome::Failed(_) | FlightOutcome::Token(_) | FlightOutcome::AskAgain => {}
            }
            rounds += 1;
            self.before_asking_again(rounds).await;
        }
    }

    /// The token that is served now, for a caller that has timed out.
    fn served_token(&self, slot: &Slot) -> Result<PermissionToken> {
        let now = self.context.now().boot;
        let served = |state: &State| serving(state, now).and_then(|held| held.token.clone());
        slot.with_state(served).ok_or_else(|| {
            Error::new(ErrorKind::RetryLater)
                .about("the session's exchange takes longer than `Policy::call_timeout`")
                .of_session(slot.id())
        })
    }

    /// Asks the session once, and waits for the exchange that runs or starts.
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
            // The request may have found the session lost, and a lost session may have a renewal
            // that it did not have before: ask again with that.
            RequestOutcome::Failed(error) if is_lost(&error) && slot.renewable() > renewable => {
                Ok(FlightOutcome::AskAgain)
            }
            RequestOutcome::Failed(error) => Err(error),
            RequestOutcome::Join(flight) => {
                context.measurements.caller_joined(slot.id());
                let span = wait_span(slot.id(), &flight);
                Ok(self.await_flight(slot, flight).instrument(span).await)
            }
            RequestOutcome::Load(pending) => {
                load::one(context, &client, pending).await;
                Ok(FlightOutcome::AskAgain)
            }
            RequestOutcome::Start(work, flight) => {
                if !context.mailbox.send(slot, Message::Start(work)) {
                    // The mailbox has dropped the work, so the flight is complete. Wait for a
                    // supervisor first, or this caller would ask again in a busy loop.
                    self.connected(slot).await?;
                }
                Ok(self.await_flight(slot, flight).await)
            }
        }
    }

    /// Waits for a flight. Gives it up if its exchange has not begun after [`REPLY_WAIT`]: a message
    /// that arrives while a mailbox closes is sometimes neither handled nor dropped.
    async fn await_flight(&self, slot: &Arc<Slot>, flight: Flight) -> FlightOutcome {
        loop {
            let flight_outcome =
                timeout(&*self.context.clock, REPLY_WAIT, flight.clone().outcome()).await;
            if let Some(flight_outcome) = flight_outcome {
                return flight_outcome;
            }
            // Give up before the check: this does nothing to an exchange that has begun. The other
            // order would wait once more for a flight that this call has just given up.
            self.context.give_up(slot, |of| of.is(&flight));
            if !slot.has_flight(&flight) {
                return FlightOutcome::AskAgain;
            }
        }
    }

    /// Starts the refresh that is due. No caller waits for it, but readers use the token, so
    /// admission must not treat it as background work.
    pub(crate) fn due(&self, slot: &Arc<Slot>) {
        let context = &self.context;
        // Without a client the session has handed out no token that could be due.
        let Some(client) = slot.tenant_client.client() else { return };
        let need = TokenRequest { newer_than: 0, renewable: slot.renewable(), fresh: true };
        if let RequestOutcome::Start(work, _) =
            request(context, (slot, &client), need, (RequestedBy::ByCaller, None))
        {
            context.deliver(slot, Message::Start(work));
        }
    }

    /// Pauses between two requests of one caller, after the first few of them.
    async fn before_asking_again(&self, rounds: u32) {
        if rounds > ASKED_AGAIN_AT_ONCE {
            self.context.clock.sleep(ASK_AGAIN).await;
        }
        // In each round: a loop that is always ready would keep the timer of the caller's own
        // deadline from running.
        tokio::task::yield_now().await;
    }

    /// Loads the session's record, if it was not loaded.
    pub(crate) async fn ensure_loaded(&self, slot: &Arc<Slot>) -> Result<()> {
        if !slot.with_state(State::is_unloaded) {
            return Ok(());
        }
        self.waiting(slot, async { load::ready(&self.context, slot).await.map(drop) }).await
    }

    /// Queues a job, sends the session's actor a message and waits for the job's outcome.
    pub(crate) async fn run_job<T>(
        &self,
        slot: &Arc<Slot>,
        job: impl FnOnce(oneshot::Sender<Result<T>>, TaskGuard) -> Job,
    ) -> Result<T> {
        // The guard before the queue: a shutdown that begins in between must wait for a close or a
        // forget that is queued.
        let tasks = &self.context.tasks;
        let Some(task_guard) = tasks.enter() else {
            return Err(tasks.explain(slot.unbegun(ErrorKind::ShuttingDown)));
        };
        // Queue within `bounded`: a caller without a waiter permit must not leave a job behind.
        self.bounded(slot, async {
            let (reply, end) = oneshot::channel();
            let most = self.context.policy.max_queued_grants;
            slot.enqueue(job(reply, task_guard), most)
                .map_err(|full| full.of_session(slot.id()))?;
            // The message after the job: an actor that crashes takes the message with it, and the
            // job stays in the slot for the next actor. So a grant is never sent twice.
            self.job_outcome(slot, end).await
        })
        .await
    }

    /// Waits for the outcome of a queued job.
    ///
    /// A shutdown refuses queued jobs that make a session. When no actor is left, all queued jobs
    /// are refused. A refusal comes through the queue, not from here: a job that has begun is not
    /// in the queue any more, and its caller still gets the real outcome.
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
                // The outcome first: a shutdown at the same moment must not hide it.
                biased;
                // A job is dropped without an outcome only with the whole supervisor.
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

    /// Tells the session's actor that there is a job, and repeats that until the job ends. The actor
    /// also learns it when the exchange before ends, but that message may be lost with an actor.
    /// Returns when no message can be sent.
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

    /// Sends a message and waits for its reply. Sends it again if the reply was dropped, because the
    /// actor has crashed with the message, or if there is no reply: a message that arrives while a
    /// mailbox closes is sometimes neither handled nor dropped. The message must be idempotent.
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
            // Yield first: while there is a supervisor, `connected` is ready at once, and the new
            // actor needs this thread in order to start.
            tokio::task::yield_now().await;
            self.connected(slot).await?;
        }
        Err(Error::new(ErrorKind::RetryLater)
            .about("the session's actor keeps crashing; see the log for the panic")
            .of_session(slot.id()))
    }

    /// Waits until there is a supervisor actor.
    async fn connected(&self, slot: &Slot) -> Result<()> {
        let closing = self.context.tasks.closing();
        tokio::select! {
            // Shutdown first: a supervisor that is closing takes no messages, although it is there.
            biased;
            () = closing.cancelled() => {
                Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()))
            }
            () = self.context.mailbox.connected() => Ok(()),
        }
    }

    /// Takes a waiter permit, and waits until the call's timeout or the end of the runtime at most.
    pub(crate) async fn waiting<T>(
        &self,
        slot: &Arc<Slot>,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let gone = self.context.tasks.runtime_gone();
        self.bounded(slot, async {
            tokio::select! {
                // The result first: a caller whose token is there gets it even if the runtime ends.
                biased;
                done = wait => done,
                () = gone.cancelled() => {
                    Err(Error::new(ErrorKind::ShuttingDown).of_session(slot.id()))
                }
            }
        })
        .await
    }

    /// Takes a waiter permit, and waits until the call's timeout at most.
    async fn bounded<T>(
        &self,
        slot: &Arc<Slot>,
        wait: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Context { clock, policy, tasks, .. } = &*self.context;
        if tasks.is_closing() {
            return Err(tasks.explain(slot.unbegun(ErrorKind::ShuttingDown)));
        }
        let named = |error: Error| error.of_session(slot.id());
        let _waiter_permit = slot.waiter_permit(policy.max_waiters).map_err(named)?;
        let _waiting = WaitingCaller::begin(&*self.context.measurements, slot.id());
        timeout(&**clock, policy.call_timeout, wait)
            .await
            .unwrap_or_else(|| Err(named(Error::new(ErrorKind::Deadline))))
            .map_err(|error| tasks.explain(error))
    }
}

/// The outcome of a request.
pub(crate) enum RequestOutcome {
    Ready(PermissionToken),
    Failed(Error),
    /// Wait for the exchange, or the load, that runs.
    Join(Flight),
    /// The caller must load the record first.
    Load(PendingLoad),
    /// The caller must send this to the session's actor. If it is dropped before it begins, the
    /// session is as it was before the request.
    Start(Work, Flight),
}

/// Asks a session, whose client is known, for a token. `offer` makes a grant if one is needed and
/// the caller has it.
pub(crate) fn request(
    context: &Arc<Context>,
    (slot, client): (&Arc<Slot>, &Arc<Client>),
    need: TokenRequest,
    (requested_by, offer): (RequestedBy, Option<&dyn Fn() -> ErasedValue>),
) -> RequestOutcome {
    // Before the request: a shutdown that begins after this waits for the exchange that starts.
    let task_guard = context.tasks.enter();
    let may_start = match &task_guard {
        Some(_) => context.paused.check(slot.id()),
        None => Err(Error::new(ErrorKind::ShuttingDown)),
    };
    let at = context.step_context(slot);
    let (request, notifications) = slot.request(need, may_start, &at);
    context.publish_and_arm(slot, notifications, &at);
    match (request, task_guard) {
        (SlotReply::Ready(token), _) => RequestOutcome::Ready(token),
        (SlotReply::Failed(error), _) => {
            RequestOutcome::Failed(context.tasks.explain(error).of_session(slot.id()))
        }
        (SlotReply::Join(flight), _) => RequestOutcome::Join(flight),
        (SlotReply::Load(pending), _) => RequestOutcome::Load(pending),
        (SlotReply::Start(start, sender, flight), Some(task_guard)) => {
            // A request for a token starts either a renewal or a refresh.
            let (renewable, payload) = if start == Start::Renew {
                (need.renewable, Payload::Renewal(offer.map(|make| make())))
            } else {
                (Renewable::No, Payload::Refresh)
            };
            let (client, caller) = (Arc::clone(client), (renewable, Caller::Nobody));
            let exchange = Exchange::new((context, slot), client, caller, (sender, task_guard));
            let exchange = exchange.requested_by(requested_by);
            RequestOutcome::Start(Box::pin(exchange.run(payload)), flight)
        }
        // No exchange starts without a task guard.
        (SlotReply::Start(_, sender, _), None) => {
            context.give_up(slot, |flight| flight.is_of(&sender));
            let refused = slot.unbegun(ErrorKind::ShuttingDown);
            RequestOutcome::Failed(context.tasks.explain(refused))
        }
    }
}

/// The span of a caller that waits for an exchange which it has not started. It names that exchange.
fn wait_span(session: &SessionId, flight: &Flight) -> Span {
    tracing::info_span!(
        "session_warden.wait",
        provider = session.provider().as_str(),
        tenant = session.key().tenant().as_str(),
        token_id = session.key().token_id(),
        exchange = %flight.id()
    )
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SignInAgain(_))
}

/// A call's reference to a slot. It borrows the dispatcher: a clone would change a counter that the
/// calls of all sessions share.
pub(crate) struct SlotRef<'a> {
    slot: Arc<Slot>,
    // Last, because fields are dropped in this order: the registry removes only a slot that nobody
    // holds, so the reference must be gone.
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
