use super::*;
use crate::error::Refusal;

const SECOND: Duration = Duration::from_secs(1);

/// A history, and what its next request is reported with.
struct Requests {
    history: RequestHistory,
    seconds: u64,
    stopped: bool,
    throttled_until: BootTime,
}

impl Requests {
    fn new() -> Self {
        let (history, throttled_until) = (RequestHistory::default(), BootTime::default());
        Self { history, seconds: 0, stopped: false, throttled_until }
    }

    fn note(&mut self, is_own: bool, result: Result<(), FailureClass>) -> Option<(Condition, u64)> {
        self.seconds += 1;
        let boot = BootTime::new(SECOND * u32::try_from(self.seconds).unwrap());
        let wall = SystemTime::UNIX_EPOCH + SECOND * u32::try_from(self.seconds).unwrap();
        let at = Now::new(wall, boot, Duration::from_secs(self.seconds));
        let (stopped, throttled_until) = (self.stopped, self.throttled_until);
        let reported = Reported { at, is_own, stopped, throttled_until };
        let failed = result.err().map(ExchangeError::new);
        let change = self.history.note(&reported, failed.as_ref().map_or(Ok(()), Err));
        change.map(|change| {
            assert_eq!(change.cause.is_some(), change.to != Condition::Working);
            (change.to, change.failing_for.as_secs())
        })
    }

    fn succeed(&mut self) -> Option<(Condition, u64)> {
        self.note(true, Ok(()))
    }

    fn fail(&mut self, class: FailureClass) -> Option<(Condition, u64)> {
        self.note(true, Err(class))
    }
}

#[test]
fn a_server_is_unreachable_after_three_requests_in_a_row_without_an_answer() {
    for class in [FailureClass::NotSent, FailureClass::NotProcessed, FailureClass::Ambiguous] {
        let mut requests = Requests::new();
        assert_eq!(requests.succeed(), None, "a server that works is no news");
        for _ in 1..UNANSWERED_IN_A_ROW {
            assert_eq!(requests.fail(class), None);
        }
        assert_eq!(requests.succeed(), None);
        for _ in 1..UNANSWERED_IN_A_ROW {
            assert_eq!(requests.fail(class), None);
        }
        assert_eq!(requests.fail(class), Some((Condition::Unreachable, 0)));
        assert_eq!(requests.fail(class), None, "it is said once");
        assert_eq!(requests.succeed(), Some((Condition::Working, 2)));
        assert_eq!(requests.succeed(), None);
    }
}

#[test]
fn a_refused_certificate_is_said_at_once() {
    let mut requests = Requests::new();
    assert_eq!(requests.fail(FailureClass::Untrusted), Some((Condition::Unreachable, 0)));
}

#[test]
fn an_answer_that_judges_a_grant_ends_an_outage() {
    for class in [FailureClass::Rejected, FailureClass::Refused(Refusal::WrongCredentials)] {
        let mut requests = Requests::new();
        requests.fail(FailureClass::Untrusted);
        assert_eq!(requests.fail(class), Some((Condition::Working, 1)), "{class:?}");
    }
}

#[test]
fn a_server_that_rejects_many_refreshes_in_a_row_is_rejecting() {
    for class in [FailureClass::Rejected, FailureClass::Unclassified, FailureClass::Misconfigured] {
        let mut requests = Requests::new();
        for _ in 1..REJECTED_IN_A_ROW {
            assert_eq!(requests.fail(class), None);
        }
        requests.succeed();
        for _ in 1..REJECTED_IN_A_ROW {
            assert_eq!(requests.fail(class), None, "a success begins the row anew");
        }
        assert_eq!(requests.fail(class), Some((Condition::Rejecting, 0)));
        assert_eq!(requests.fail(class), None);
        assert_eq!(requests.fail(FailureClass::Refused(Refusal::Locked)), None);
        assert_eq!(requests.succeed(), Some((Condition::Working, 3)));
    }
}

#[test]
fn the_passwords_of_users_say_nothing_of_the_server() {
    let mut requests = Requests::new();
    for _ in 0..3 * REJECTED_IN_A_ROW {
        let refused = Err(FailureClass::Refused(Refusal::WrongCredentials));
        assert_eq!(requests.note(false, refused), None);
        assert_eq!(requests.note(false, Err(FailureClass::Rejected)), None);
    }
    assert!(requests.history.last_failure.is_some_and(|last| last.class == FailureClass::Rejected));
}

#[test]
fn a_throttled_server_works_again_with_the_first_success_after_its_wait() {
    let mut requests = Requests::new();
    requests.throttled_until = BootTime::new(4 * SECOND);
    assert_eq!(requests.fail(FailureClass::Throttled), Some((Condition::Throttled, 0)));
    assert_eq!(requests.fail(FailureClass::Throttled), None);
    assert_eq!(requests.succeed(), None, "this answer may be to an earlier request");
    assert_eq!(requests.succeed(), Some((Condition::Working, 3)));
}

#[test]
fn a_client_that_is_stopped_is_rejected_until_the_stop_is_over() {
    let mut requests = Requests::new();
    requests.stopped = true;
    assert_eq!(requests.fail(FailureClass::InvalidClient), Some((Condition::Rejecting, 0)));
    for class in [FailureClass::NotSent, FailureClass::Untrusted, FailureClass::InvalidClient] {
        assert_eq!(requests.fail(class), None, "{class:?} of a probe");
    }
    for _ in 0..UNANSWERED_IN_A_ROW {
        assert_eq!(requests.fail(FailureClass::Ambiguous), None);
    }
    assert_eq!(requests.succeed(), None, "the success of another tenant");
    requests.stopped = false;
    assert_eq!(requests.succeed(), Some((Condition::Working, 8)));
    assert_eq!(requests.fail(FailureClass::InvalidClient), Some((Condition::Rejecting, 0)));
    let refused = FailureClass::Refused(Refusal::WrongCredentials);
    let judged = requests.note(false, Err(refused));
    assert_eq!(judged, Some((Condition::Working, 1)), "the server judged a grant");
}

#[test]
fn an_outage_that_changes_its_kind_is_one_outage() {
    let mut requests = Requests::new();
    requests.fail(FailureClass::Untrusted);
    assert_eq!(requests.fail(FailureClass::Throttled), Some((Condition::Throttled, 1)));
    for _ in 1..UNANSWERED_IN_A_ROW {
        assert_eq!(requests.fail(FailureClass::NotSent), None);
    }
    assert_eq!(requests.fail(FailureClass::NotSent), Some((Condition::Unreachable, 4)));
    assert_eq!(requests.succeed(), Some((Condition::Working, 5)));
    assert_eq!(requests.history.failures, 0);
}

#[test]
fn a_request_that_this_process_did_not_send_says_nothing_of_the_server() {
    let mut history = RequestHistory::default();
    let at = Now::new(SystemTime::UNIX_EPOCH, BootTime::default(), Duration::ZERO);
    let throttled_until = BootTime::default();
    let reported = Reported { at, is_own: true, stopped: false, throttled_until };
    for _ in 0..2 * UNANSWERED_IN_A_ROW {
        let late = ExchangeError::from(Error::new(crate::error::ErrorKind::Store));
        assert!(history.note(&reported, Err(&late)).is_none());
    }
    assert_eq!(history.failures, 0);
}
