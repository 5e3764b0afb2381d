use std::time::Duration;

use super::*;
use crate::provider::test_bench::StillClock;

#[test]
fn a_burst_of_lines_is_logged_then_one_each_minute_with_the_number_left_out() {
    let clock = Arc::new(StillClock::new());
    let limit = LogLimit::new(Arc::<StillClock>::clone(&clock));
    let acme = ProviderName::new("acme").unwrap();
    for _ in 0..LOG_BURST {
        assert_eq!(limit.admit(Some(&acme), "lost"), Some(None));
    }
    for _ in 0..7 {
        assert_eq!(limit.admit(Some(&acme), "lost"), None);
    }
    assert_eq!(limit.admit(Some(&acme), "saved"), Some(None), "each message has its own limit");
    assert_eq!(limit.admit(None, "lost"), Some(None), "and each provider");
    clock.advance(LOG_PAUSE);
    assert_eq!(limit.admit(Some(&acme), "lost"), Some(Some(7)));
    assert_eq!(limit.admit(Some(&acme), "lost"), None);
    clock.advance(LOG_PAUSE + Duration::from_secs(1));
    assert_eq!(limit.admit(Some(&acme), "lost"), Some(Some(1)));
}

#[test]
fn the_kinds_of_lines_that_are_counted_are_bounded() {
    let clock = Arc::new(StillClock::new());
    let limit = LogLimit::new(Arc::<StillClock>::clone(&clock));
    for number in 0..3 * LOG_KINDS {
        let provider = ProviderName::new(format!("p{number}")).unwrap();
        assert_eq!(limit.admit(Some(&provider), "lost"), Some(None));
        assert!(limit.kinds.lock().len() <= LOG_KINDS);
    }
}
