//! The state that all dialects share.

use super::accounts::Accounts;
use super::authority::Authority;
use super::expires_in::ExpiresIn;
use super::fake_login::FakeLogin;

/// What a dialect works on, beside its own state.
pub(super) struct ServerState {
    pub(super) authority: Authority,
    pub(super) accounts: Accounts,
    pub(super) login: FakeLogin,
    pub(super) expires_in: ExpiresIn,
    pub(super) url: String,
    pub(super) issuer: String,
}
