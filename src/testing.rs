//! Test doubles for programmes that embed the crate, and for its own tests (feature `testing`).
//!
//! [`ManualClock`] makes time stand still until the test moves it. [`FakeAuthServer`] is an
//! authorization server on the loopback interface which rotates refresh tokens as real ones do,
//! and which loses, delays and mangles its answers on demand. [`ScriptedProvider`] needs
//! no server at all, and a [`FakeProvider`] stands in for any other provider without changing a type.
//! [`FaultyStore`] fails on demand, and [`store_suite`] is what every store must pass.
//! [`Chaos`] kills actors, and [`CrashPoints`] the whole process.
//!
//! The feature adds names and changes no behaviour.

mod chaos;

mod fake_auth_server;
mod fake_provider;
mod faulty_store;
mod manual_clock;
mod scripted;
pub mod store_suite;

pub use self::chaos::Chaos;
pub use self::fake_auth_server::{
    Counts, Endpoint, ExpiresIn, FakeAuthServer, FakeAuthServerBuilder, FakeDialect, FakeLogin,
    FakeRotation, Fault, Tally,
};
pub use self::fake_provider::FakeProvider;
pub use self::faulty_store::{Faults, FaultyStore, StoreCall};
pub use self::manual_clock::ManualClock;
pub use self::scripted::{Reply, Script, ScriptedProvider};
pub use crate::crash::{CrashPoint, CrashPoints, Fate};
