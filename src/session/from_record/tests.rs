#![cfg(feature = "testing")]

use super::*;
use crate::clock::Clock;
use crate::policy::Policy;
use crate::session::slot::Slot;
use crate::session::tests::{Nobody, OWNER, core_and_slot};
use crate::store::{ClaimId, Owner};
use crate::testing::ManualClock;
use crate::token::{Access, Tokens};

const BUDGET: u64 = 10;
const HOLD: u64 = 30;

struct Bench {
    clock: ManualClock,
    context: Arc<Context>,
    slot: Arc<Slot>,
}

impl Bench {
    fn new(rotation: Rotation) -> Self {
        let clock = ManualClock::new();
        let policy = Policy {
            attempt_budget: seconds(BUDGET),
            takeover_grace: seconds(HOLD),
            ..Policy::default()
        };
        let host = Arc::new(Nobody);
        let (context, slot) = core_and_slot(Arc::new(clock.clone()), host, (policy, rotation));
        Self { clock, context, slot }
    }

    /// A record whose access token lives for so many seconds, its refresh token for a day.
    fn record(&self, phase: Phase, access: Option<u64>) -> Record {
        let wall = self.clock.now().wall;
        let end = |life: u64| wall + seconds(life);
        let token = |text: &str, expires_at| Access { secret: text.to_owned().into(), expires_at };
        let tokens = Tokens {
            access: Some(token("access", access.map(end))),
            refresh: Some(token("refresh", Some(end(86_400)))),
            token_secret: None,
            attributes: "null".into(),
        };
        let authority = "https://scripted.invalid".into();
        let credentials = Credentials { tokens, authority, client: "scripted".into() };
        Record {
            version: 5,
            epoch: 2,
            generation: 7,
            fence: 4,
            phase,
            lease: None,
            access_expires_at: credentials.tokens.access_expires_at(),
            refresh_expires_at: credentials.tokens.refresh_expires_at(),
            credentials: Some(Arc::new(credentials)),
            made_by: None,
            suspect: false,
            lost: None,
            outbox: None,
            retry_at: None,
            tries: 0,
            due_at: None,
            ended_at: None,
            announce_at: None,
            failures: None,
        }
    }

    fn settled(&self, record: Record) -> Settled {
        let client = self.slot.tenant_client.client().unwrap();
        settled(&self.context, &client, Stored { record, now: self.clock.now() })
    }

    #[track_caller]
    fn in_doubt(&self, record: Record) -> InDoubt {
        match self.settled(record) {
            Settled::InDoubt(_, in_doubt) => in_doubt,
            other @ (Settled::Vacant { .. }
            | Settled::Active(_)
            | Settled::Lost(_)
            | Settled::Closed(_)) => {
                panic!("not in doubt: {other:?}")
            }
        }
    }

    /// A claim of another process that holds for so many seconds more, or ended so long ago.
    fn lease(&self, intent: Intent, left: i64) -> Lease {
        let now = self.clock.now().boot;
        let ago = left.min(0).unsigned_abs();
        let until =
            BootTime::new(now.since_boot() - seconds(ago)).after(seconds(left.max(0) as u64));
        let from = BootTime::new(until.since_boot() - seconds(60));
        let owner = Owner(OWNER.0 + 1);
        let (claim, holder, journal) = (ClaimId::random(), Holder::Alive, false);
        Lease { claim, owner, intent, from, until, holder, journal }
    }

    fn after(&self, wait: u64) -> BootTime {
        self.clock.now().boot.after(seconds(wait))
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_session_in_doubt_is_retried_at_the_time_of_its_record_and_late_with_strict_rotation() {
    let strict = Bench::new(Rotation::Strict);
    for (access, recorded, retry) in [
        (Some(3600), 0, 3590),
        (Some(3600), 20, 3590),
        (Some(15), 0, 5),
        (Some(15), 20, 20),
        (Some(0), 0, 0),
        (Some(0), 300, 300),
        (None, 0, 0),
        (None, 300, 300),
    ] {
        let retry_at = Some(strict.clock.now().wall + seconds(recorded));
        let record = Record { retry_at, ..strict.record(Phase::InDoubt, access) };
        let in_doubt = strict.in_doubt(record);
        assert_eq!(
            (in_doubt.retry_at, in_doubt.retry_early),
            (strict.after(retry), false),
            "{access:?}"
        );
        assert_eq!(in_doubt.floor, strict.after(recorded));
    }
    let lenient = Bench::new(Rotation::Static);
    for recorded in [0, 300] {
        let retry_at = Some(lenient.clock.now().wall + seconds(recorded));
        let record = Record { retry_at, ..lenient.record(Phase::InDoubt, Some(3600)) };
        let in_doubt = lenient.in_doubt(record);
        let at = lenient.after(recorded);
        assert_eq!((in_doubt.retry_at, in_doubt.floor, in_doubt.retry_early), (at, at, true));
    }
}

#[tokio::test]
async fn a_refresh_whose_lease_is_over_leaves_the_session_in_doubt_and_delays_the_next_one() {
    for (rotation, held_back) in [(Rotation::Strict, HOLD), (Rotation::Static, 0)] {
        let bench = Bench::new(rotation);
        let silent = |ago: i64, holder| {
            let lease = Some(Lease { holder, ..bench.lease(Intent::Refresh, -ago) });
            bench.in_doubt(Record { lease, ..bench.record(Phase::Active, Some(0)) }).floor
        };
        assert_eq!(silent(0, Holder::Alive), bench.after(held_back));
        assert_eq!(silent(20, Holder::Alive), bench.after(held_back.saturating_sub(20)));
        assert_eq!(silent(90, Holder::Alive), bench.after(0));
        assert_eq!(silent(0, Holder::Dead), bench.after(0), "it was sent a minute ago");
    }
}

#[tokio::test]
async fn what_may_be_in_a_journal_delays_the_next_refresh_for_longer() {
    for (rotation, held_back) in [(Rotation::Strict, 120), (Rotation::Static, 0)] {
        let bench = Bench::new(rotation);
        let silent = |ago: i64, holder| {
            let lease = bench.lease(Intent::Refresh, -ago);
            let lease = Some(Lease { holder, journal: true, ..lease });
            bench.in_doubt(Record { lease, ..bench.record(Phase::Active, Some(0)) }).floor
        };
        for holder in [Holder::Alive, Holder::Dead] {
            assert_eq!(silent(0, holder), bench.after(held_back));
            assert_eq!(silent(20, holder), bench.after(held_back.saturating_sub(20)));
            assert_eq!(silent(120, holder), bench.after(0));
        }
    }
}

#[tokio::test]
async fn a_session_that_another_process_has_claimed_is_served_and_is_suspect_after_an_unfinished_grant()
 {
    let bench = Bench::new(Rotation::Strict);
    for intent in [Intent::Establish, Intent::Refresh] {
        let lease = Some(bench.lease(intent, 10));
        let record = Record { lease, ..bench.record(Phase::Active, Some(900)) };
        let Settled::Active(held) = bench.settled(record) else { panic!("it is worked on") };
        assert!(!held.suspect);
    }
    let lease = Some(bench.lease(Intent::Establish, -1));
    let record = Record { lease, ..bench.record(Phase::Active, Some(900)) };
    let Settled::Active(held) = bench.settled(record) else { panic!("it was a grant") };
    assert!(held.suspect);
    let own = Some(Lease { owner: OWNER, ..bench.lease(Intent::Refresh, -1) });
    let record = Record { lease: own, ..bench.record(Phase::Active, Some(900)) };
    assert!(matches!(bench.settled(record), Settled::Active(_)), "its own exchange has ended");
}

#[tokio::test]
async fn the_times_of_a_record_count_by_the_stores_clock_and_keep_the_offset() {
    let bench = Bench::new(Rotation::Strict);
    let record = bench.record(Phase::Active, Some(900));
    let client = bench.slot.tenant_client.client().unwrap();
    for (ahead, left) in [(0, 900), (1, 900), (300, 600), (1200, 0)] {
        let now = bench.clock.now();
        // The store's clock is ahead of this process's.
        let stores = Now::new(now.wall + seconds(ahead), now.boot, now.monotonic);
        let stored = Stored { record: record.clone(), now: stores };
        let Settled::Active(held) = settled(&bench.context, &client, stored) else {
            panic!("active")
        };
        assert_eq!(held.expires, Some(bench.after(left)), "{ahead} s ahead");
        assert_eq!(held.derived_at, Some(offset(now)));
    }
}

#[tokio::test]
async fn a_failure_in_a_record_delays_the_next_try_in_this_process_too() {
    let bench = Bench::new(Rotation::Strict);
    let retry_at = Some(bench.clock.now().wall + seconds(40));
    let record = Record { retry_at, ..bench.record(Phase::Active, Some(0)) };
    assert_eq!(bench.settled(record).retry_at(), Some(bench.after(40)));
    let outbox = bench.record(Phase::Active, None).credentials;
    let closed = bench.record(Phase::Closed, None);
    let record = Record { retry_at, outbox, credentials: None, ..closed };
    assert_eq!(bench.settled(record).retry_at(), Some(bench.after(40)));
}
