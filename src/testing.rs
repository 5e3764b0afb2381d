//! Test doubles: for programmes that embed this crate, and for its own tests.
//!
//! [`ManualClock`] makes time stand still until the test moves it.

mod manual_clock;

pub use manual_clock::ManualClock;
