use std::time::SystemTime;

use serde_json::json;

use super::*;
use crate::error::{ErrorKind, LostReason, ProviderCode};
use crate::event::AffectedProvider;
use crate::key::{ProviderName, SessionId, SessionKey, Tenant};

fn provider() -> ProviderName {
    ProviderName::new("acme").unwrap()
}

fn tenant() -> Tenant {
    Tenant::new("t").unwrap()
}

fn affected(tenant: Option<Tenant>) -> AffectedProvider {
    AffectedProvider { provider: provider(), tenant, sessions: 200 }
}

fn of_session(kind: EventKind) -> Event {
    let id = SessionId::new(provider(), SessionKey::new("t", "d").unwrap());
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_735_689_600_250);
    Event::of_session(&id, at, 3, kind)
}

fn failure() -> Error {
    let source = Error::new(ErrorKind::InvalidInput).about("the inner cause");
    Error::new(ErrorKind::RetryLater)
        .about("the server said no")
        .with_status(Some(400))
        .with_code(ProviderCode::new("invalid_grant"))
        .with_source(source)
}

/// Each kind with the members that only it has.
fn kinds() -> Vec<(EventKind, &'static str, serde_json::Value)> {
    let of_all = json!({"affected": {"provider": "acme", "tenant": null, "sessions": 200}});
    let of_tenant = json!({
        "affected": {"provider": "acme", "tenant": "t", "sessions": 200}, "after_seconds": 90
    });
    let seconds = Duration::from_millis(90_900);
    let recovered =
        EventKind::ProviderRecovered { provider: affected(Some(tenant())), after: seconds };
    vec![
        (EventKind::Established, "established", json!({})),
        (EventKind::Refreshed, "refreshed", json!({})),
        (
            EventKind::RefreshExpiring { left: seconds },
            "refresh_expiring",
            json!({"left_seconds": 90}),
        ),
        (EventKind::Lost(LostReason::LostInDoubt), "lost", json!({"reason": "lost_in_doubt"})),
        (EventKind::InDoubt, "in_doubt", json!({})),
        (
            EventKind::BackingOff { retry_after: seconds },
            "backing_off",
            json!({"retry_after_seconds": 90}),
        ),
        (EventKind::Unsaved, "unsaved", json!({})),
        (EventKind::Saved, "saved", json!({})),
        (EventKind::Revoked, "revoked", json!({})),
        (EventKind::Forgotten, "forgotten", json!({})),
        (EventKind::TokensSuperseded, "tokens_superseded", json!({})),
        (EventKind::ActorRestarted, "actor_restarted", json!({})),
        (EventKind::SupervisorRestarted, "supervisor_restarted", json!({})),
        (EventKind::Quarantined { pause: seconds }, "quarantined", json!({"pause_seconds": 90})),
        (EventKind::ProviderUnreachable(affected(None)), "provider_unreachable", of_all.clone()),
        (EventKind::ProviderThrottled(affected(None)), "provider_throttled", of_all.clone()),
        (EventKind::ProviderRejecting(affected(None)), "provider_rejecting", of_all),
        (recovered, "provider_recovered", of_tenant),
        (EventKind::ProviderUnknown(provider()), "provider_unknown", json!({})),
        (
            EventKind::ProviderUnresolved { provider: provider(), tenant: tenant() },
            "provider_unresolved",
            json!({}),
        ),
        (EventKind::IssuerMismatch, "issuer_mismatch", json!({})),
        (
            EventKind::StoreFailedOver { restored: 5, lost: 2 },
            "store_failed_over",
            json!({"restored": 5, "lost": 2}),
        ),
        (EventKind::Missed(7), "missed", json!({"count": 7})),
    ]
}

#[test]
fn every_kind_of_event_has_its_pinned_json_in_an_event_and_alone() {
    for (kind, name, members) in kinds() {
        let mut expected = json!({
            "name": name,
            "at": "2025-01-01T00:00:00.250Z",
            "provider": "acme",
            "tenant": "t",
            "token_id": "d",
            "epoch": 3,
            "cause": {
                "text": "try again later: the server said no: invalid input: the inner cause",
                "status": 400,
                "code": "invalid_grant",
            },
        });
        let mut alone = json!({"name": name});
        for (member, value) in members.as_object().unwrap() {
            (expected[member], alone[member]) = (value.clone(), value.clone());
        }
        let names_provider =
            matches!(kind, EventKind::ProviderUnknown(_) | EventKind::ProviderUnresolved { .. });
        if names_provider {
            alone["provider"] = json!("acme");
        }
        if matches!(kind, EventKind::ProviderUnresolved { .. }) {
            alone["tenant"] = json!("t");
        }
        let event = of_session(kind.clone()).caused_by(Some(failure()));
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        assert_eq!(serde_json::to_value(&kind).unwrap(), alone);
    }
}

#[test]
fn an_event_of_no_session_names_the_provider_of_its_kind_and_no_member_twice() {
    for (kind, ..) in kinds() {
        let names_provider = kind.name().starts_with("provider_");
        let event = Event::of_none(SystemTime::UNIX_EPOCH, kind);
        let text = serde_json::to_string(&event).unwrap();
        let expected = if names_provider { json!("acme") } else { json!(null) };
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["provider"], &value["cause"]), (&expected, &json!(null)));
        let top = text.split("\"affected\"").next().unwrap();
        assert_eq!(top.matches("\"provider\"").count(), 1, "{text}");
        assert_eq!(top.matches("\"tenant\"").count(), 1, "{text}");
    }
}

#[test]
fn the_text_of_an_event_says_whom_it_concerns_and_what_happened_and_why() {
    let lost = of_session(EventKind::Lost(LostReason::Rejected)).caused_by(Some(failure()));
    assert_eq!(
        lost.to_string(),
        "acme/t/d: the session is lost, and the user must sign in again (the server rejected the \
         refresh token): try again later: the server said no: invalid input: the inner cause"
    );
    let unreachable = of_session(EventKind::ProviderUnreachable(affected(None)));
    assert_eq!(unreachable.to_string(), "acme: the provider's server cannot be reached");
    let missed = Event::of_none(SystemTime::UNIX_EPOCH, EventKind::Missed(7));
    assert_eq!(missed.to_string(), "the subscriber was too slow and missed events (7)");
    let unresolved = EventKind::ProviderUnresolved { provider: provider(), tenant: tenant() };
    let unresolved = Event::of_none(SystemTime::UNIX_EPOCH, unresolved);
    assert!(unresolved.to_string().starts_with("acme/t: the provider's source"));
}
