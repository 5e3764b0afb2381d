//! Several processes on one file: what is left of a session when one of them dies or stops at a step
//! of an exchange, and what many do at once.

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
