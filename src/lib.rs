// The first definition of a label counts: rustdoc goes to the pages, GitHub to the files.
//! [guide]: crate::guide
//! [policy]: crate::policy
//! [transport]: crate::transport
//!
#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What several vendors share is unused where their features are off.
#![cfg_attr(not(feature = "vendors"), allow(dead_code, unused_imports))]
// The guide links to what all features have.
#![cfg_attr(
    not(all(feature = "vendors", feature = "sqlite", feature = "testing")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
compile_error!(
    "session-warden needs a TLS feature: enable `tls-ring`, which is a default feature, or `tls-aws-lc`"
);

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
