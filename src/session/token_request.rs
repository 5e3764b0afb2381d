//! Requests for a token, from a caller or the schedule: answered at once, joined to the exchange
//! that runs, or started as a new exchange.

use std::sync::Arc;

use super::context::Context;
use super::exchange::{Exchange, Guard, Payload, RequestedBy, Task};
use super::job::Caller;
use super::machine::Start;
use super::message::Work;
use super::single_flight::Flight;
use super::slot::{ErasedValue, PendingLoad, Slot, SlotReply, TokenRequest};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::token::PermissionToken;

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
    (asked, offer): (RequestedBy, Option<&dyn Fn() -> ErasedValue>),
) -> RequestOutcome {
    // Before the request: a shutdown that begins after this waits for the exchange that starts.
    let task_guard = context.tasks.enter();
    let may_start = if task_guard.is_some() { Ok(()) } else { Err(ErrorKind::ShuttingDown) };
    let at = context.step_context(slot);
    let (request, notifications) = slot.request(need, may_start, &at);
    context.publish_and_arm(slot, notifications, &at);
    match (request, task_guard) {
        (SlotReply::Ready(token), _) => RequestOutcome::Ready(token),
        (SlotReply::Failed(error), _) => RequestOutcome::Failed(error.of_session(slot.id())),
        (SlotReply::Join(flight), _) => RequestOutcome::Join(flight),
        (SlotReply::Load(pending), _) => RequestOutcome::Load(pending),
        (SlotReply::Start(start, sender, flight), Some(task_guard)) => {
            let rotation = client.provider.rotation();
            // A request for a token starts either a renewal or a refresh.
            let (renewable, payload) = if start == Start::Renew {
                (need.renewable, Payload::Renewal(offer.map(|make| make())))
            } else {
                (super::machine::Renewable::No, Payload::Refresh)
            };
            let base = slot.with_state(|state| state.counters().1);
            let task = Task::Exchange { rotation, renewable, base };
            let guard = Guard::new((context, slot), task, Caller::Nobody, (sender, task_guard));
            let exchange = Exchange::new(guard, Arc::clone(client), renewable).asked(asked);
            RequestOutcome::Start(Box::pin(exchange.run(payload)), flight)
        }
        // No exchange starts without a task guard.
        (SlotReply::Start(_, sender, _), None) => {
            context.give_up(slot, |flight| flight.is_of(&sender));
            RequestOutcome::Failed(slot.unbegun(ErrorKind::ShuttingDown))
        }
    }
}
