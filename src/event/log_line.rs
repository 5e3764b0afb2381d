//! The log line of an event.

use std::fmt;

use super::{AffectedProvider, Event, EventKind};
use crate::error::Error;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::log::{LogLimit, current_span, log_limited};

/// The level of an event's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Info,
    Warn,
}

/// Logs an event. Lines at `debug` are not limited, because there is one for each refresh.
pub(super) fn log(limit: &LogLimit, event: &Event) {
    let concerned = Concerned::by(event);
    let Concerned { provider, tenant, token_id, sessions } = concerned;
    let tenant = tenant.map(Tenant::as_str);
    let Event { kind, cause, .. } = event;
    let status = cause.as_ref().and_then(Error::status);
    let code = cause.as_ref().and_then(Error::provider_code);
    let cause = cause.as_ref().map(Chain);
    let cause = cause.as_ref().map(tracing::field::display);
    let detail = kind.detail();
    let (name, message) = (kind.name(), kind.message());
    match level(kind) {
        Level::Debug => {
            let provider = provider.map(ProviderName::as_str);
            let parent = current_span().id();
            tracing::debug!(
                parent: parent,
                provider,
                tenant,
                token_id,
                event = name,
                detail,
                "{message}"
            );
        }
        Level::Info => log_limited!(
            limit,
            info,
            provider,
            message,
            tenant,
            token_id,
            event = name,
            detail,
            cause,
            status,
            code
        ),
        Level::Warn => log_limited!(
            limit,
            warn,
            provider,
            message,
            tenant,
            token_id,
            event = name,
            detail,
            sessions,
            cause,
            status,
            code
        ),
    }
}

fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::Established
        | EventKind::Refreshed
        | EventKind::Saved
        | EventKind::Revoked
        | EventKind::Forgotten
        | EventKind::Missed(_) => Level::Debug,
        EventKind::RefreshExpiring { .. }
        | EventKind::BackingOff { .. }
        | EventKind::ProviderRecovered { .. }
        | EventKind::ActorRestarted => Level::Info,
        EventKind::Lost(_)
        | EventKind::InDoubt
        | EventKind::Unsaved
        | EventKind::StoreFailedOver { .. }
        | EventKind::TokensSuperseded
        | EventKind::SupervisorRestarted
        | EventKind::Quarantined { .. }
        | EventKind::ProviderUnreachable(_)
        | EventKind::ProviderThrottled(_)
        | EventKind::ProviderRejecting(_)
        | EventKind::ProviderUnknown(_)
        | EventKind::ProviderUnresolved { .. }
        | EventKind::IssuerMismatch => Level::Warn,
    }
}

/// Whom an event concerns.
pub(super) struct Concerned<'e> {
    pub(super) provider: Option<&'e ProviderName>,
    pub(super) tenant: Option<&'e Tenant>,
    pub(super) token_id: Option<&'e str>,
    sessions: Option<usize>,
}

impl<'e> Concerned<'e> {
    pub(super) fn by(event: &'e Event) -> Self {
        let session = event.session.as_ref();
        let affected = affected(&event.kind);
        let provider = session.map(SessionId::provider).or_else(|| provider(&event.kind));
        let token_id = session.map(|id| id.key().token_id());
        let sessions = affected.map(|affected| affected.sessions);
        Self { provider, tenant: event.tenant(), token_id, sessions }
    }
}

/// The provider that an event concerns; `None` if it is not registered.
pub(super) fn registered_provider(event: &Event) -> Option<&ProviderName> {
    if matches!(event.kind, EventKind::ProviderUnknown(_)) {
        return None;
    }
    event.session.as_ref().map(SessionId::provider).or_else(|| provider(&event.kind))
}

/// The provider that an event names itself.
fn provider(kind: &EventKind) -> Option<&ProviderName> {
    if let EventKind::ProviderUnknown(provider) | EventKind::ProviderUnresolved { provider, .. } =
        kind
    {
        return Some(provider);
    }
    affected(kind).map(|affected| &affected.provider)
}

/// The provider and its sessions, if the event concerns a provider's server.
pub(super) fn affected(kind: &EventKind) -> Option<&AffectedProvider> {
    if let EventKind::ProviderUnreachable(affected)
    | EventKind::ProviderThrottled(affected)
    | EventKind::ProviderRejecting(affected)
    | EventKind::ProviderRecovered { provider: affected, .. } = kind
    {
        return Some(affected);
    }
    None
}

/// An error with its causes, in one line.
pub(super) struct Chain<'e>(pub(super) &'e Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        write!(f, "{error}")?;
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            write!(f, ": {source}")?;
            cause = source.source();
        }
        Ok(())
    }
}
