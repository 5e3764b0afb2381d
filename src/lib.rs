#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]

pub mod clock;
pub mod key;
pub mod secret;
#[cfg(feature = "testing")]
pub mod testing;

pub use key::SessionKey;
