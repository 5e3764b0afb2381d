use std::time::Duration;

use super::*;
use crate::key::{ProviderName, SessionKey};

#[test]
fn sessions_are_woken_in_the_order_of_their_times_and_not_before() {
    let at = |seconds| BootTime::new(Duration::from_secs(seconds));
    let id = |name: &str| {
        let key = SessionKey::new("t", name).unwrap();
        SessionId::new(ProviderName::new("p").unwrap(), key)
    };
    let mut schedule = Schedule::default();
    for (seconds, name) in [(30, "c"), (10, "a"), (20, "b")] {
        schedule.add(at(seconds), id(name));
    }
    assert_eq!(schedule.next(), Some(at(10)));
    assert_eq!(schedule.take_due(at(9)), None);
    assert_eq!(schedule.take_due(at(20)), Some(id("a")));
    assert_eq!(schedule.take_due(at(20)), Some(id("b")));
    assert_eq!(schedule.take_due(at(20)), None);
    assert_eq!(schedule.next(), Some(at(30)));
}
