//! Keeps OAuth 2.0 sessions alive for a backend, with at most one refresh at a time per session.
//! Begin with [`Supervisor::builder`] and [`provider`]. The [`guide`] explains states, failures and
//! guarantees.
//!
//! ```no_run
//! # use session_warden::provider::oauth2::{OAuth2, Password};
//! # use session_warden::{Error, SessionKey, Supervisor};
//! # async fn run() -> Result<(), Error> {
//! let acme = OAuth2::discover("https://login.example.com", "my-backend")?;
//! let supervisor = Supervisor::builder().provider("acme", acme).start().await?;
//! let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::single("device-17")?);
//! session.establish(Password::new("ada", "battery staple")).await?;
//! let token = session.permission_token().await?;
//! # Ok(())
//! # }
//! ```

#![deny(clippy::disallowed_methods)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// What several vendors share is unused where their features are off.
#![cfg_attr(not(feature = "vendors"), allow(dead_code, unused_imports))]
// The guide links to what all features have.
#![cfg_attr(
    not(all(
        feature = "postgres",
        feature = "reqwest",
        feature = "reqwest-middleware",
        feature = "sqlite",
        feature = "testing",
        feature = "tower",
        feature = "vendors"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

mod client;
pub mod clock;
mod crash;
pub mod error;
pub mod event;
pub mod guide;
pub mod health;
pub mod journal;
pub mod key;
mod log;
// What is measured is unused if nothing records it.
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
mod measurements;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(any(feature = "reqwest", feature = "reqwest-middleware", feature = "tower"))]
pub mod middleware;
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

#[doc(no_inline)]
pub use error::{Error, ErrorKind};
#[doc(no_inline)]
pub use key::SessionKey;
#[doc(no_inline)]
pub use session::{Establishment, Session};
#[doc(no_inline)]
pub use supervisor::{Sessions, Supervisor};
#[doc(no_inline)]
pub use token::PermissionToken;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
