// The first definition of a label counts: rustdoc goes to the pages, GitHub to the files.
//! [guide]: crate::guide
//! [policy]: crate::policy
//! [transport]: crate::transport
//!
#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]

mod client;
pub mod clock;
mod crash;
pub mod error;
pub mod event;
pub mod guide;
pub mod key;
mod log;
pub mod policy;
pub mod provider;
pub mod seal;
pub mod secret;
pub mod session;
pub mod store;
pub mod supervisor;
mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod ticket;
pub mod token;
pub mod transport;

#[doc(inline)]
pub use error::{Error, ErrorKind};
#[doc(inline)]
pub use key::SessionKey;
#[doc(inline)]
pub use session::{Establishment, Session};
#[doc(inline)]
pub use supervisor::{Sessions, Supervisor};
#[doc(inline)]
pub use token::PermissionToken;
