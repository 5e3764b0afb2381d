//! Test doubles for programmes that embed the crate, and for its own tests (feature `testing`).
//!
//! [`ManualClock`] makes time stand still until the test moves it. [`FakeAuthServer`] is an
//! authorization server on the loopback interface which rotates refresh tokens as real ones do,
//! and which loses, delays and mangles its answers when it is told to. [`ScriptedProvider`] needs
//! no server at all, and a [`Double`] stands in for any other provider without changing a type.
//! [`Chaos`] kills actors.
//!
//! The feature adds names and changes no behaviour.

mod chaos;
mod double;
mod fake_auth_server;
mod manual_clock;
mod scripted;

pub use self::chaos::Chaos;
pub use self::double::Double;
pub use self::fake_auth_server::{
    Counts, Endpoint, ExpiresIn, FakeAuthServer, FakeAuthServerBuilder, FakeRotation, Fault, Tally,
};
pub use self::manual_clock::ManualClock;
pub use self::scripted::{Reply, Script, ScriptedProvider};
