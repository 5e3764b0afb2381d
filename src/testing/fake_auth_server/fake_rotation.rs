//! What the server does to a refresh token that was used.

use std::time::Duration;

/// What the server does to a refresh token that was used. See the example of
/// [`FakeAuthServerBuilder`](super::FakeAuthServerBuilder).
///
/// If a client sends a refresh token that was used before, and the grace time is over or there is
/// none, the server responds with `invalid_grant` and ends the grant, with all of its refresh and
/// access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FakeRotation {
    /// A refresh token can be used any number of times, and a refresh issues no other refresh
    /// token.
    None,
    /// A refresh token can be used once.
    Strict,
    /// A retry within this grace time gets the same pair of tokens as the first attempt, until that
    /// pair's refresh token has been used.
    Idempotent(Duration),
    /// A retry within this grace time gets a new pair of tokens. All pairs are valid.
    Fork(Duration),
    /// A retry within this grace time gets a new pair of tokens, and ends the previous pair. The
    /// retry must come before the previous pair's refresh token has been used.
    NewestOnly(Duration),
}
