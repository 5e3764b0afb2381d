//! What a caller, or the schedule, wants of a session: answered at once, joined, or started.

use std::sync::Arc;

use super::core::Core;
use super::exchange::{Cargo, Exchange, Guard, Task, Work};
use super::flight::Flight;
use super::machine::Start;
use super::message::Caller;
use super::slot::{ErasedValue, Reading, Request, Slot, Wants};
use crate::error::{Error, ErrorKind};
use crate::provider::client::Client;
use crate::provider::gate::Drawn;
use crate::token::PermissionToken;

/// Who wants a token.
pub(crate) enum Asked {
    ByCaller,
    /// With a permit, if the schedule has drawn one for this session.
    BySchedule(Option<Drawn>),
}

/// What became of a request.
pub(crate) enum Requested {
    Ready(PermissionToken),
    Failed(Error),
    /// What runs already decides.
    Join(Flight),
    /// The record is to be read first, by whoever asked.
    Read(Reading),
    /// For the session's actor to be begun. It is begun by nobody else, and gives the session back
    /// as it was if it is dropped before.
    Start(Box<Work>, Flight),
}

/// Asks a session, whose client is known, for a token. `offer` makes a grant if one is needed and
/// the caller has it.
pub(crate) fn request(
    core: &Arc<Core>,
    (slot, client): (&Arc<Slot>, &Arc<Client>),
    wants: Wants,
    (asked, offer): (Asked, Option<&dyn Fn() -> ErasedValue>),
) -> Requested {
    // Before the question: a shutdown that begins after it waits for what is started.
    let place = core.tasks.enter();
    let may_start = if place.is_some() { Ok(()) } else { Err(ErrorKind::ShuttingDown) };
    let at = core.moment(slot);
    let (request, notices) = slot.request(wants, may_start, &at);
    core.told(slot, notices, &at);
    match (request, place) {
        (Request::Ready(token), _) => Requested::Ready(token),
        (Request::Failed(error), _) => Requested::Failed(error.of_session(slot.id())),
        (Request::Join(flight), _) => Requested::Join(flight),
        (Request::Read(reading), _) => Requested::Read(reading),
        (Request::Start(start, pilot, flight), Some(place)) => {
            let rotation = client.provider.rotation();
            // A need of a token starts one of two exchanges.
            let (renewable, cargo) = if start == Start::Renew {
                (wants.renewable, Cargo::Renewal(offer.map(|make| make())))
            } else {
                (super::machine::Renewable::No, Cargo::Refresh)
            };
            let base = slot.look(|state| state.counters().1);
            let task = Task::Exchange { rotation, renewable, base };
            let guard = Guard::new((core, slot), task, Caller::Nobody, (pilot, place));
            let exchange = Exchange::new(guard, Arc::clone(client), renewable).asked(asked);
            Requested::Start(Box::new(Work::new(exchange, cargo)), flight)
        }
        // Nothing is started without a place.
        (Request::Start(_, pilot, _), None) => {
            core.give_up(slot, |flight| flight.is_of(&pilot));
            Requested::Failed(slot.unbegun(ErrorKind::ShuttingDown))
        }
    }
}
