//! Test doubles for programmes that embed the crate (feature `testing`).
//!
//! The feature adds names and changes no behaviour.

mod chaos;
mod faulty_store;
mod manual_clock;
mod scripted;
pub mod store_suite;

pub use self::chaos::Chaos;
pub use self::faulty_store::{Faults, FaultyStore, Statement};
pub use self::manual_clock::ManualClock;
pub use self::scripted::{Reply, Script, ScriptedProvider};
