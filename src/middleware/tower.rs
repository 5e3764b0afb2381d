//! A layer for services of tower, hyper, tonic and reqwest.

mod layer;
mod service;

pub use self::layer::SessionLayer;
pub use self::service::{ResponseFuture, SessionService};

/// The error of a [`SessionService`]: an [`Error`](crate::Error) of this crate if there is no token
/// for the request, or the error of the inner service. See the example of [`SessionLayer`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
