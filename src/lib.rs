#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]

pub mod clock;
pub mod error;
pub mod event;
pub mod key;
pub mod policy;
pub mod provider;
pub mod secret;
pub mod store;
mod task;
pub mod token;
pub mod transport;

#[doc(inline)]
pub use error::{Error, ErrorKind};
#[doc(inline)]
pub use key::SessionKey;
#[doc(inline)]
pub use token::PermissionToken;
