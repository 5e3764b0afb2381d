//! Test doubles for programmes that embed the crate (feature `testing`).
//!
//! The feature adds names and changes no behaviour.

mod chaos;
mod manual_clock;
mod scripted;

pub use self::chaos::Chaos;
pub use self::manual_clock::ManualClock;
pub use self::scripted::{Reply, Script, ScriptedProvider};
