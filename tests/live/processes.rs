//! Several processes on one file: what is left of a session when one of them dies or stops at a step
//! of an exchange.

mod bed;
mod child;
mod crashes;
mod history;
mod orders;
mod pauses;
mod replica;
mod server;
