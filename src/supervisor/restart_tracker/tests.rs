use super::*;

fn at(seconds: u64) -> BootTime {
    BootTime::new(Duration::from_secs(seconds))
}

#[test]
fn restarts_back_off_and_past_the_intensity_each_quarantine_is_longer() {
    let mut restarts = RestartTracker::new(Restarts::default());
    let mut waits = Vec::new();
    for _ in 0..5 {
        match restarts.note("a", at(100), 1.0) {
            Verdict::Restart { after } => waits.push(after.as_millis()),
            Verdict::Quarantine { .. } => panic!("too early"),
        }
    }
    assert_eq!(waits, [10, 20, 40, 80, 160]);
    let minute = Duration::from_secs(60);
    assert_eq!(restarts.note("a", at(100), 1.0), Verdict::Quarantine { pause: minute });
    for _ in 0..5 {
        restarts.note("a", at(170), 1.0);
    }
    assert_eq!(restarts.note("a", at(170), 1.0), Verdict::Quarantine { pause: 2 * minute });
    assert!(matches!(restarts.note("b", at(170), 1.0), Verdict::Restart { .. }));
}

#[test]
fn ends_that_are_far_apart_only_restart_the_actor() {
    let mut restarts = RestartTracker::new(Restarts::default());
    for minute in 0..100 {
        let verdict = restarts.note("a", at(minute * 61), 1.0);
        assert_eq!(verdict, Verdict::Restart { after: Duration::from_millis(10) });
    }
}

#[test]
fn the_remembered_ends_are_bounded() {
    let mut restarts = RestartTracker::new(Restarts::default());
    for subject in 0..3 * REMEMBERED_DEATHS {
        restarts.note(subject, at(1), 1.0);
    }
    assert!(restarts.ends.len() <= REMEMBERED_DEATHS);
}
