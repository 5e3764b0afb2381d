//! What the server does with refresh tokens.

use std::time::Duration;

/// What the server does with refresh tokens.
///
/// Whenever a token comes that has been used before, and no grace time excuses it, the server
/// cannot tell a thief from its client: it ends the grant, with all refresh and access tokens,
/// and answers `invalid_grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeRotation {
    /// One refresh token serves for ever, and no refresh answers with another.
    None,
    /// A refresh token serves once.
    Strict,
    /// A retry within the grace time gets the same pair as the first attempt, as long as that
    /// pair's refresh token has not been used.
    Idempotent(Duration),
    /// A retry within the grace time gets a new pair; all the pairs live side by side.
    Fork(Duration),
    /// A retry within the grace time gets a new pair, and the previous pair dies. It has to come
    /// before the previous pair's refresh token has been used.
    NewestOnly(Duration),
}
