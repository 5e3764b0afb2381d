//! Events as data. The names of members and of kinds stay the same from version to version; new
//! ones may come.

use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::log_line::{Chain, Concerned};
use super::{Event, EventKind};
use crate::clock::rfc3339;
use crate::error::Error;

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Concerned { provider, tenant, token_id, .. } = Concerned::by(self);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.kind.name())?;
        map.serialize_entry("at", &rfc3339::text(self.at))?;
        map.serialize_entry("provider", &provider)?;
        map.serialize_entry("tenant", &tenant)?;
        map.serialize_entry("token_id", &token_id)?;
        map.serialize_entry("epoch", &self.epoch)?;
        kind_members(&self.kind, &mut map)?;
        map.serialize_entry("cause", &self.cause.as_ref().map(Cause))?;
        map.end()
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name())?;
        if let Self::ProviderUnknown(provider) | Self::ProviderUnresolved { provider, .. } = self {
            map.serialize_entry("provider", provider)?;
        }
        if let Self::ProviderUnresolved { tenant, .. } = self {
            map.serialize_entry("tenant", tenant)?;
        }
        kind_members(self, &mut map)?;
        map.end()
    }
}

/// The members that only this kind has. The provider and the tenant of a kind are members of every
/// event.
fn kind_members<M: SerializeMap>(kind: &EventKind, map: &mut M) -> Result<(), M::Error> {
    let mut seconds = |name, duration: &Duration| map.serialize_entry(name, &duration.as_secs());
    match kind {
        EventKind::RefreshExpiring { left } => seconds("left_seconds", left),
        EventKind::BackingOff { retry_after } => seconds("retry_after_seconds", retry_after),
        EventKind::Quarantined { pause } => seconds("pause_seconds", pause),
        EventKind::Lost(reason) => map.serialize_entry("reason", reason.name()),
        EventKind::ProviderUnreachable(affected)
        | EventKind::ProviderThrottled(affected)
        | EventKind::ProviderRejecting(affected) => map.serialize_entry("affected", affected),
        EventKind::ProviderRecovered { provider, after } => {
            seconds("after_seconds", after)?;
            map.serialize_entry("affected", provider)
        }
        EventKind::StoreFailedOver { restored, lost } => {
            map.serialize_entry("restored", restored)?;
            map.serialize_entry("lost", lost)
        }
        EventKind::Missed(count) => map.serialize_entry("count", count),
        EventKind::Established
        | EventKind::Refreshed
        | EventKind::InDoubt
        | EventKind::Unsaved
        | EventKind::Saved
        | EventKind::Revoked
        | EventKind::Forgotten
        | EventKind::TokensSuperseded
        | EventKind::ActorRestarted
        | EventKind::SupervisorRestarted
        | EventKind::ProviderUnknown(_)
        | EventKind::ProviderUnresolved { .. }
        | EventKind::IssuerMismatch => Ok(()),
    }
}

/// The failure that led to an event.
struct Cause<'e>(&'e Error);

impl Serialize for Cause<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(error) = self;
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("text", &Chain(error).to_string())?;
        map.serialize_entry("status", &error.status())?;
        map.serialize_entry("code", &error.provider_code())?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
