use super::*;
use crate::key::{ProviderName, SessionKey};

fn id(name: &str) -> SessionId {
    of_tenant("t", name)
}

fn of_tenant(tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

#[test]
fn an_entry_with_another_reference_is_not_removed() {
    let registry = BoundedMap::new(8, 8);
    let held = registry.obtain(&id("a"), || 1).unwrap();
    let other = registry.get(&id("a")).unwrap();
    assert!(!registry.release(&id("a"), Arc::clone(&held), |_| true));
    assert!(!registry.release(&id("a"), other, |_| true));
    let other = registry.get(&id("a")).unwrap();
    assert!(!registry.release(&id("a"), held, |_| true));
    let held = registry.get(&id("a")).unwrap();
    drop(other);
    assert!(!registry.release(&id("a"), held, |_| false));
    let held = registry.get(&id("a")).unwrap();
    let late = Arc::new(1);
    assert!(registry.release(&id("a"), held, |_| true));
    assert_eq!(registry.len(), 0);
    assert!(registry.get(&id("a")).is_none());
    let successor = registry.obtain(&id("a"), || 2).unwrap();
    assert!(!registry.release(&id("a"), late, |_| true), "not the one that was held");
    assert_eq!(*successor, 2);
}

#[test]
fn the_bound_is_reached_and_a_removed_entry_makes_room() {
    let registry = BoundedMap::new(2, 2);
    let held = registry.obtain(&id("a"), || ()).unwrap();
    registry.obtain(&id("b"), || ()).unwrap();
    assert_eq!(registry.obtain(&id("c"), || ()).unwrap_err(), Full::ForAll);
    registry.obtain(&id("a"), || ()).unwrap();
    assert!(registry.release(&id("a"), held, |()| true));
    registry.obtain(&id("c"), || ()).unwrap();
    let mut seen = 0;
    registry.each(|_| seen += 1);
    assert_eq!((seen, registry.len()), (2, 2));
}

#[test]
fn a_tenants_bound_applies_to_that_tenant_only_and_a_tenant_without_entries_is_not_counted() {
    let registry = BoundedMap::new(8, 2);
    let held = registry.obtain(&id("a"), || ()).unwrap();
    registry.obtain(&id("b"), || ()).unwrap();
    assert_eq!(registry.obtain(&id("c"), || ()).unwrap_err(), Full::ForTenant);
    let other = registry.obtain(&of_tenant("other", "c"), || ()).unwrap();
    assert_eq!(registry.len(), 3, "a refusal takes no room");
    assert!(registry.release(&id("a"), held, |()| true));
    registry.obtain(&id("c"), || ()).unwrap();
    assert!(registry.release(&of_tenant("other", "c"), other, |()| true));
    assert_eq!(registry.of_tenants.len(), 1);
}
