//! Test doubles for programs that embed the crate.
//!
//! They need the feature `testing`. The crate's own tests use them too.
//!
//! | double | purpose |
//! |---|---|
//! | [`ManualClock`] | a clock that only the test moves |
//! | [`FakeAuthServer`] | an authorization server on the loopback interface. It rotates refresh tokens as real servers do, and loses, delays or spoils its responses on demand |
//! | [`ScriptedProvider`] | a provider without a server: the test writes its results |
//! | [`FakeProvider`] | replaces any other provider, so that the types of your code stay the same |
//! | [`FaultyStore`] | a store that fails on demand |
//! | [`store_suite`] | the tests that every store must pass |
//! | [`Chaos`] | kills actors |
//! | [`CrashPoints`] | kills or stops the whole process |
//!
//! The feature adds these names. It does not change the behavior of anything else.

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
    FakeRotation, FakeServerShape, Fault, Tally,
};
pub use self::fake_provider::FakeProvider;
pub use self::faulty_store::{Faults, FaultyStore, StoreCall};
pub use self::manual_clock::ManualClock;
pub use self::scripted::{Reply, Script, ScriptedProvider};
pub use crate::crash::{CrashPoint, CrashPoints, Fate};
