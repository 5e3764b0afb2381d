//! The names and texts of the kinds of events.

use std::fmt;

use super::EventKind;

impl EventKind {
    /// The name in logs, metrics and JSON: the variant in snake case.
    ///
    /// ```
    /// use session_warden::event::EventKind;
    ///
    /// assert_eq!(EventKind::BackingOff { retry_after: Default::default() }.name(), "backing_off");
    /// assert_eq!(EventKind::Revoked.to_string(), "a supervisor revoked the session");
    /// ```
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.texts().0
    }

    /// What happened, in one sentence.
    pub(super) fn message(&self) -> &'static str {
        self.texts().1
    }

    /// What the sentence leaves out.
    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::RefreshExpiring { left } => Some(format!("in {} s", left.as_secs())),
            Self::Lost(reason) => Some(reason.to_string()),
            Self::BackingOff { retry_after } => Some(format!("for {} s", retry_after.as_secs())),
            Self::Quarantined { pause } => Some(format!("for {} s", pause.as_secs())),
            Self::ProviderRecovered { after, .. } => Some(format!("after {} s", after.as_secs())),
            Self::StoreFailedOver { restored, lost } => {
                Some(format!("{restored} written again, {lost} lost"))
            }
            Self::Missed(count) => Some(count.to_string()),
            Self::Established
            | Self::Refreshed
            | Self::InDoubt
            | Self::Unsaved
            | Self::Saved
            | Self::Revoked
            | Self::Forgotten
            | Self::TokensSuperseded
            | Self::ActorRestarted
            | Self::SupervisorRestarted
            | Self::ProviderUnreachable(_)
            | Self::ProviderThrottled(_)
            | Self::ProviderRejecting(_)
            | Self::ProviderUnknown(_)
            | Self::ProviderUnresolved { .. }
            | Self::IssuerMismatch => None,
        }
    }

    fn texts(&self) -> (&'static str, &'static str) {
        match self {
            Self::Established => ("established", "the session is established"),
            Self::Refreshed => ("refreshed", "the session has new tokens"),
            Self::RefreshExpiring { .. } => {
                ("refresh_expiring", "the session's refresh token expires soon")
            }
            Self::Lost(_) => ("lost", "the session is lost, and the user must sign in again"),
            Self::InDoubt => (
                "in_doubt",
                "the response to a refresh was lost, so the refresh token may be used up",
            ),
            Self::BackingOff { .. } => {
                ("backing_off", "a refresh failed, and the crate tries again later")
            }
            Self::Unsaved => ("unsaved", "new tokens could not be saved yet"),
            Self::Saved => ("saved", "the unsaved tokens are saved"),
            Self::Revoked => ("revoked", "a supervisor revoked the session"),
            Self::Forgotten => ("forgotten", "the session's record is deleted"),
            Self::TokensSuperseded => (
                "tokens_superseded",
                "new tokens came too late, because another process had changed the session",
            ),
            Self::ActorRestarted => {
                ("actor_restarted", "the session's actor crashed, and was started again")
            }
            Self::SupervisorRestarted => {
                ("supervisor_restarted", "the supervisor actor crashed, and was started again")
            }
            Self::Quarantined { .. } => {
                ("quarantined", "the session's actor crashed too often, so the session pauses")
            }
            Self::ProviderUnreachable(_) => {
                ("provider_unreachable", "the provider's server cannot be reached")
            }
            Self::ProviderThrottled(_) => {
                ("provider_throttled", "the provider's server gets too many requests")
            }
            Self::ProviderRejecting(_) => {
                ("provider_rejecting", "the provider's server rejects the client or many refreshes")
            }
            Self::ProviderRecovered { .. } => {
                ("provider_recovered", "the provider's server works again")
            }
            Self::ProviderUnknown(_) => {
                ("provider_unknown", "the store has sessions of a provider that is not registered")
            }
            Self::ProviderUnresolved { .. } => {
                ("provider_unresolved", "the provider's source gave no provider for the tenant")
            }
            Self::IssuerMismatch => (
                "issuer_mismatch",
                "another server or client than the provider now has issued the session's tokens",
            ),
            Self::StoreFailedOver { .. } => (
                "store_failed_over",
                "the store went back to an earlier state, and records were written again",
            ),
            Self::Missed(_) => ("missed", "the subscriber was too slow and missed events"),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        match self.detail() {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}
