#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]

pub mod clock;
pub mod key;
pub mod secret;

pub use key::SessionKey;
