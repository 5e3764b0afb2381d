//! Logins that a process polls the server for: at most one process at a time.

use std::time::{Duration, SystemTime};

use super::ClaimId;
use crate::policy::DEVICE_LOGIN_TTL;

/// The claim of a process on a login for which it polls the server. See
/// [`Store::claim_login`](super::Store::claim_login).
///
/// ```
/// use std::time::Duration;
/// use session_warden::store::{ClaimId, LoginClaim, LoginId, LoginOutcome, MemoryStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::store::StoreError> {
/// let store = MemoryStore::new();
/// let first = LoginClaim {
///     login: LoginId([7; 16]),
///     claim: ClaimId(1),
///     lease: Duration::from_secs(20),
///     interval: Duration::from_secs(10),
/// };
/// let claimed = Some(LoginOutcome::Claimed { interval: Duration::from_secs(10) });
/// assert_eq!(store.claim_login(&first).await?, claimed);
///
/// // Another process waits. After the end of the first claim, it polls no faster than the first.
/// let interval = Duration::from_secs(5);
/// let second = LoginClaim { claim: ClaimId(2), interval, ..first.clone() };
/// assert!(matches!(store.claim_login(&second).await?, Some(LoginOutcome::Held { .. })));
/// let end = LoginClaim { lease: Duration::ZERO, ..first };
/// assert_eq!(store.claim_login(&end).await?, claimed);
/// assert_eq!(store.claim_login(&second).await?, claimed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores read it")]
pub struct LoginClaim {
    /// The login.
    pub login: LoginId,
    /// The random id of this claim. The same id claims again, and so renews the claim.
    pub claim: ClaimId,
    /// How long the claim holds from now; zero ends it.
    pub lease: Duration,
    /// The pause between two polls, as far as this process knows.
    pub interval: Duration,
}

/// The random id of a login that is polled. See the example of [`LoginClaim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "stores read it")]
pub struct LoginId(pub [u8; 16]);

/// What became of a [`LoginClaim`]. See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a claim is granted or not")]
pub enum LoginOutcome {
    /// The claim holds, or has ended if its lease is zero.
    Claimed {
        /// The longest pause between two polls that any claim of this login had.
        interval: Duration,
    },
    /// Another claim holds.
    Held {
        /// The rest of its lease.
        left: Duration,
    },
}

/// What a store keeps of a login, until [`DEVICE_LOGIN_TTL`] after the end of its last claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoginRow {
    pub(super) claim: ClaimId,
    /// By the store's wall clock.
    pub(super) until: SystemTime,
    pub(super) interval: Duration,
}

impl LoginRow {
    /// Whether nobody needs the row any more.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        now.duration_since(self.until).is_ok_and(|since| since >= DEVICE_LOGIN_TTL)
    }
}

/// The outcome of a claim, and the row to write; no row if another claim holds.
pub(super) fn decide_login(
    found: Option<LoginRow>,
    claim: &LoginClaim,
    now: SystemTime,
) -> (LoginOutcome, Option<LoginRow>) {
    let left = |row: &LoginRow| row.until.duration_since(now).unwrap_or_default();
    if let Some(row) = found.filter(|row| row.claim != claim.claim && !left(row).is_zero()) {
        // No lease is that long, so the wall clock was set back since.
        let left = left(&row);
        if left < DEVICE_LOGIN_TTL {
            return (LoginOutcome::Held { left }, None);
        }
    }
    let interval = found.map_or(claim.interval, |row| row.interval.max(claim.interval));
    let until = now.checked_add(claim.lease).unwrap_or(now);
    (LoginOutcome::Claimed { interval }, Some(LoginRow { claim: claim.claim, until, interval }))
}
