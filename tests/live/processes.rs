//! Several processes on one file: the state of a session after one of them is killed or stopped at
//! a step of an exchange, and many processes at once.

mod child;
mod crashes;
mod crowd;
mod front;
mod history;
mod orders;
mod pauses;
pub mod process_fixture;
mod pulse;
mod replica;
mod rules;
mod server;
mod storms;
mod together;
mod witness;
