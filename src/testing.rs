//! Test doubles: for programmes that embed this crate, and for its own tests.
//!
//! [`ManualClock`] makes time stand still until the test moves it. [`FakeAuthServer`] is an
//! authorization server on the loopback interface which rotates refresh tokens as real ones do,
//! and which loses, delays and mangles its answers when it is told to.

mod fake_auth_server;
mod manual_clock;

pub use fake_auth_server::{
    Counts, Endpoint, ExpiresIn, FakeAuthServer, FakeAuthServerBuilder, FakeRotation, Fault, Tally,
};
pub use manual_clock::ManualClock;
