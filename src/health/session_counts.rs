//! How many sessions the store has in which state.

use std::time::SystemTime;

use serde::Serialize;

use crate::clock::rfc3339;
use crate::error::LostReason;
use crate::key::{ProviderName, Tenant};

/// The sessions of the store. For a session in memory, its state in memory counts. The crate counts them in the
/// background, once in each [`HEALTH_COUNT_EVERY`](crate::policy::HEALTH_COUNT_EVERY). See the
/// example of [`Health`](super::Health).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CountedSessions {
    /// When the count was complete, by the wall clock.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: SystemTime,
    /// How long ago that was, in seconds.
    pub age_seconds: u64,
    /// All sessions, also those of providers that are not registered.
    pub sessions: SessionCounts,
    /// The sessions of each registered provider. If each tenant has its own client, also those of
    /// each tenant, of at most [`HEALTH_TENANTS`](crate::policy::HEALTH_TENANTS) tenants whose
    /// client was in memory when the count began.
    pub providers: Vec<CountedProvider>,
}

/// The sessions of one provider, or of one of its tenants. See the example of
/// [`Health`](super::Health).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CountedProvider {
    /// The provider's name.
    pub provider: ProviderName,
    /// The tenant; `None` for the sessions of all tenants.
    pub tenant: Option<Tenant>,
    /// Its sessions.
    pub sessions: SessionCounts,
}

/// Sessions by what operators look for. See the example of [`Health`](super::Health).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionCounts {
    /// All of them.
    pub total: u64,
    /// By their state.
    pub states: StateCounts,
    /// Lost ones, by the reason.
    pub lost: LostCounts,
    /// Those that are neither lost nor closed, and whose next try waits because the last one
    /// failed.
    pub backing_off: u64,
    /// Those whose newest credentials are only in the memory of this process.
    pub unsaved: u64,
    /// Those that are neither lost nor closed, and whose refresh token ends soon.
    pub refresh_tokens_end: ExpiryCounts,
}

/// Sessions by their [`State`](crate::session::State). See the example of
/// [`Health`](super::Health).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of the states")]
pub struct StateCounts {
    pub establishing: u64,
    pub challenged: u64,
    pub active: u64,
    pub refreshing: u64,
    pub in_doubt: u64,
    pub lost: u64,
    pub closed: u64,
}

/// Lost sessions by their [`LostReason`]. See the example of [`Health`](super::Health).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are those of the reasons")]
pub struct LostCounts {
    pub refresh_expired: u64,
    pub rejected: u64,
    pub unclassified: u64,
    pub revoked: u64,
    pub lost_in_doubt: u64,
    pub tokens_deleted: u64,
    pub session_deleted: u64,
    pub unreadable: u64,
}

/// Sessions whose refresh token ends within a time. Those of a shorter time are in those of a longer
/// one too. See the example of [`Health`](super::Health).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExpiryCounts {
    /// Within 24 hours.
    pub within_1_day: u64,
    /// Within 7 days.
    pub within_7_days: u64,
    /// Within 30 days.
    pub within_30_days: u64,
}

impl StateCounts {
    /// Each state by its name, with its count.
    pub(crate) fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("establishing", self.establishing),
            ("challenged", self.challenged),
            ("active", self.active),
            ("refreshing", self.refreshing),
            ("in_doubt", self.in_doubt),
            ("lost", self.lost),
            ("closed", self.closed),
        ]
    }
}

impl LostCounts {
    /// The count of this reason.
    pub(crate) fn of(&mut self, reason: LostReason) -> &mut u64 {
        match reason {
            LostReason::RefreshExpired => &mut self.refresh_expired,
            LostReason::Rejected => &mut self.rejected,
            LostReason::Unclassified => &mut self.unclassified,
            LostReason::Revoked => &mut self.revoked,
            LostReason::LostInDoubt => &mut self.lost_in_doubt,
            LostReason::TokensDeleted => &mut self.tokens_deleted,
            LostReason::SessionDeleted => &mut self.session_deleted,
            LostReason::Unreadable => &mut self.unreadable,
        }
    }
}
