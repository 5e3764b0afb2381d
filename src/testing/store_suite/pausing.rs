//! What a backend has paused. A store whose `Store::pauses` returns `None` keeps no pauses, and passes
//! these cases.

use super::fixture::Fixture;
use crate::key::{PauseScope, ProviderName, Tenant};

/// None from a store that keeps no pauses.
async fn scopes(fixture: &Fixture) -> Option<Vec<PauseScope>> {
    Some(fixture.store.pauses().await.unwrap()?.scopes)
}

async fn set(fixture: &Fixture, scope: &PauseScope, paused: bool) -> Option<bool> {
    fixture.store.set_paused(scope, paused).await.unwrap()
}

fn provider(name: &str) -> PauseScope {
    PauseScope::Provider(ProviderName::new(name).unwrap())
}

fn tenant(name: &str) -> PauseScope {
    PauseScope::Tenant(Tenant::new(name).unwrap())
}

fn tenant_at(provider: &str, tenant: &str) -> PauseScope {
    PauseScope::TenantAt(ProviderName::new(provider).unwrap(), Tenant::new(tenant).unwrap())
}

pub(super) async fn what_is_paused_stays_so_until_it_is_resumed(fixture: Fixture) {
    let Some(none) = scopes(&fixture).await else { return };
    assert!(none.is_empty(), "{none:?}");
    let scope = provider("p");
    assert_eq!(set(&fixture, &scope, false).await, Some(false), "it was not paused");
    assert_eq!(set(&fixture, &scope, true).await, Some(true));
    assert_eq!(set(&fixture, &scope, true).await, Some(false), "it was paused already");
    // Nothing else changes it.
    fixture.established().await;
    assert_eq!(scopes(&fixture).await, Some(vec![scope.clone()]));
    assert_eq!(set(&fixture, &scope, false).await, Some(true));
    assert_eq!(scopes(&fixture).await, Some(Vec::new()));
}

pub(super) async fn scopes_that_differ_by_little_are_paused_apart(fixture: Fixture) {
    if scopes(&fixture).await.is_none() {
        return;
    }
    // In their order.
    let all = [
        provider("a"),
        provider("b"),
        provider("\u{e9}"),
        tenant("a"),
        tenant("b"),
        tenant_at("a", "a"),
        tenant_at("a", "b"),
        tenant_at("b", "a"),
    ];
    for scope in all.iter().rev() {
        assert_eq!(set(&fixture, scope, true).await, Some(true), "{scope}");
    }
    assert_eq!(scopes(&fixture).await, Some(all.to_vec()));
    for (number, scope) in all.iter().enumerate() {
        assert_eq!(set(&fixture, scope, false).await, Some(true), "{scope}");
        assert_eq!(scopes(&fixture).await, Some(all[number + 1..].to_vec()), "{scope}");
    }
}
