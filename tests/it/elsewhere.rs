//! What one process does when other processes change its session. Each case runs on a store in
//! memory and on a file; each process has a supervisor and a script of its own.
//!
//! Each case prevents a fault of 0.1.0: when the line that the table names is broken, the case
//! fails.
//!
//! | fault | broken line | case |
//! |---|---|---|
//! | another process's claim ignores a doubt and a back-off | `store/decide.rs` `claim_record`: no `Outcome::Wait` | `a_doubt_and_a_back_off_…` |
//! | an external change is dropped unless the session is idle | `session/machine/external_change.rs` `note`: not while an exchange runs | `a_session_that_another_process_revoked_…` |
//! | an external change unloads the session | the same: `settled` is taken | the same, `of_20_000_sessions_…`, `where_a_refresh_ends_…` |
//! | "anything may have changed" withholds valid tokens | `session/machine/external_change.rs` `ExternalChange::UNKNOWN`: `ends` is true | `of_20_000_sessions_…` |
//! | a session that is established again counts from 1 | `store/decide.rs` `claim_record`: a floor without epoch and generation | `a_session_that_is_forgotten_…` |
//! | every process sends the same revocation | `store/decide.rs` `claim_record`: a revocation is granted beside another | `a_revocation_that_is_owed_…` |
//! | a rejected token is handed out again | `session/machine/settled.rs` `remember` and `session/slot/token_need.rs` `request`: nothing is remembered | `a_rejected_token_is_not_…_failed_to_replace_it` |
//! | a wrong wall clock is never corrected | `session/slot/client_and_clock.rs` `moved_clock`: always `None` | `times_that_were_read_by_a_wrong_clock_…` |
//! | other processes do not learn that a session is lost | `store/decide/without_claim.rs` `lose_session`: no news | `a_death_that_one_process_finds_…` |
//! | a slow response costs the session | `session/exchange/send.rs` `renew`: never renews | `a_slow_answer_at_a_strict_server_…` |

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId};
use session_warden::policy::READ_PAGE;
use session_warden::provider::{FailureClass, Rotation};
use session_warden::session::{self, Revocation, State};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{
    Changes, Cursor, Due, DuePage, Listed, MemoryStore, Outcome, RecordFilter, Statement, Store,
    StoreContext, StoreError, Stored,
};
use session_warden::testing::{FaultyStore, ManualClock, Reply, ScriptedProvider, StoreCall};
use session_warden::{Error, ErrorKind, PermissionToken, Session, Supervisor};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::fixtures::{Fixture, ScriptedFixture};
use crate::sqlite::store_folder::Folder;
use crate::support::{LIFE, SECOND, session as session_of, until};

/// Where the processes of a case keep their sessions.
enum StoreLocation {
    Memory(MemoryStore),
    File(Folder),
}

impl StoreLocation {
    /// One of each kind.
    fn all() -> [Self; 2] {
        [Self::Memory(MemoryStore::new()), Self::File(Folder::new())]
    }

    /// The store as a process of its own opens it.
    fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::File(folder) => {
                let path = folder.path().join("sessions.db");
                Arc::new(SqliteStore::builder(path).tokens_in_clear().open().unwrap())
            }
        }
    }
}

/// One process.
type Process = ScriptedFixture<Arc<dyn Store>>;

impl Process {
    async fn open_in(location: &StoreLocation, clock: &ManualClock) -> Self {
        Self::open_in_with(location, clock, |provider| provider).await
    }

    async fn open_in_with(
        location: &StoreLocation,
        clock: &ManualClock,
        with: impl FnOnce(ScriptedProvider) -> ScriptedProvider,
    ) -> Self {
        let provider = with(ScriptedProvider::new().lifetime(LIFE).rotation(Rotation::Strict));
        let script = provider.script();
        let fixture = Fixture::start_at("p", provider, &location.open(), clock).await;
        Self { fixture, script }
    }

    async fn generation(&self) -> u64 {
        self.token().await.unwrap().generation()
    }

    /// A refresh that a caller waits for.
    fn refreshing(&self) -> JoinHandle<Result<PermissionToken, Error>> {
        let session = self.session.clone();
        tokio::spawn(async move { session.refresh().await })
    }

    /// Lets time pass, a second at a time. A file is served by a thread of its own, in real time,
    /// so each second waits for the earlier statements on the store.
    async fn passes(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(SECOND).await;
            self.is_answered().await;
        }
    }

    /// Waits until the store has completed the earlier statements.
    async fn is_answered(&self) {
        let mut listed = pin!(self.supervisor.list(session::Filter::default()));
        drop(listed.next().await);
        self.clock.advance(Duration::ZERO).await;
    }

    /// Hears of all that others have done so far.
    async fn hears(&self) {
        self.passes(2).await;
    }
}

/// Two processes with one session, which both serve.
async fn two(location: &StoreLocation) -> (Process, Process) {
    let clock = ManualClock::new();
    let (one, other) =
        (Process::open_in(location, &clock).await, Process::open_in(location, &clock).await);
    let _ = until(&clock, one.session.establish(())).await.unwrap();
    assert_eq!((one.generation().await, other.generation().await), (1, 1));
    (one, other)
}

/// The state of a process's session when another process ends it.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    Refreshing,
    RefreshingBeforeItsClaim,
    Establishing,
    Reading,
}

impl Doing {
    const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Refreshing,
        Self::RefreshingBeforeItsClaim,
        Self::Establishing,
        Self::Reading,
    ];

    async fn begin(self, process: &Process) -> Vec<JoinHandle<()>> {
        let session = process.session.clone();
        let task = match self {
            Self::Nothing => return Vec::new(),
            Self::Refreshing => {
                process.script.refresh(Reply::Hold);
                tokio::spawn(async move { drop(session.refresh().await) })
            }
            Self::RefreshingBeforeItsClaim => {
                process.faults.hold(StoreCall::Claim);
                tokio::spawn(async move { drop(session.refresh().await) })
            }
            Self::Establishing => {
                process.script.establish(Reply::Hold);
                tokio::spawn(async move { drop(session.establish(()).await) })
            }
            Self::Reading => {
                process.faults.hold(StoreCall::Load);
                tokio::spawn(async move { drop(session.status().await) })
            }
        };
        process.clock.advance(SECOND / 10).await;
        vec![task]
    }
}

#[tokio::test]
async fn a_session_that_another_process_revoked_is_served_no_longer_whatever_this_one_does_with_it()
{
    for location in StoreLocation::all() {
        for doing in Doing::ALL {
            let location = match &location {
                StoreLocation::Memory(_) => StoreLocation::Memory(MemoryStore::new()),
                StoreLocation::File(..) => StoreLocation::all().into_iter().nth(1).unwrap(),
            };
            let (one, other) = two(&location).await;
            let tasks = doing.begin(&other).await;
            assert!(other.session.try_permission_token().is_some(), "{doing:?}");
            let revoked = until(&one.clock, one.session.revoke()).await.unwrap();
            assert_eq!(revoked, Revocation::AtServer, "{doing:?}");
            let mut waited = Duration::ZERO;
            while other.session.try_permission_token().is_some() {
                assert!(waited < SECOND, "{doing:?}: it is served after a second");
                other.clock.advance(Duration::from_millis(50)).await;
                other.is_answered().await;
                waited += Duration::from_millis(50);
            }
            other.script.release();
            other.faults.release(StoreCall::Claim);
            other.faults.release(StoreCall::Load);
            tasks.into_iter().for_each(|task| task.abort());
        }
    }
}

#[tokio::test]
async fn a_doubt_and_a_back_off_of_one_process_are_kept_by_the_others_at_a_strict_server() {
    for location in StoreLocation::all() {
        let (one, other) = two(&location).await;
        one.clock.advance(LIFE + SECOND).await;
        one.script.refresh(Reply::Fail(FailureClass::Ambiguous));
        assert_eq!(one.token().await.unwrap_err().kind(), ErrorKind::RetryLater);
        // 20 s, twice the budget: the first request may be queued somewhere.
        for _ in 0..9 {
            let failed = other.session.permission_token().await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::RetryLater);
            assert!(failed.retry_after().is_some());
            other.clock.advance(2 * SECOND).await;
        }
        assert_eq!(other.script.refreshes(), 0, "the token may be spent");
        other.clock.advance(3 * SECOND).await;
        assert_eq!(other.generation().await, 2);
        assert_eq!((one.script.refreshes(), other.script.refreshes()), (1, 1));
    }
}

#[tokio::test]
async fn a_session_that_is_forgotten_and_begun_again_elsewhere_costs_no_refresh() {
    for location in StoreLocation::all() {
        let (one, other) = two(&location).await;
        for _ in 0..40 {
            until(&one.clock, one.session.refresh()).await.unwrap();
        }
        other.hears().await;
        let former = other.generation().await;
        until(&one.clock, one.session.forget()).await.unwrap();
        let _ = until(&one.clock, one.session.establish(())).await.unwrap();
        other.hears().await;
        let newer = other.token().await.unwrap();
        assert!(newer.generation() > former);
        until(&other.clock, other.session.refresh()).await.unwrap();
        assert_eq!((one.script.refreshes(), other.script.refreshes()), (40, 1));
    }
}

#[tokio::test]
async fn a_revocation_that_is_owed_is_sent_by_one_process_of_three() {
    for location in StoreLocation::all() {
        let (one, other) = two(&location).await;
        let third = Process::open_in(&location, &one.clock).await;
        one.script.revoke(Reply::Fail(FailureClass::NotSent));
        let revoked = until(&one.clock, one.session.revoke()).await.unwrap();
        assert_eq!(revoked, Revocation::Queued);
        third.hears().await;
        for process in [&one, &other, &third] {
            drop(process.session.status().await);
        }
        one.passes(600).await;
        let sent = [&one, &other, &third].map(|process| process.script.revocations());
        assert_eq!(sent.iter().sum::<u64>(), 2, "the failed one and one more: {sent:?}");
    }
}

#[tokio::test]
async fn a_death_that_one_process_finds_is_told_to_the_others() {
    for location in StoreLocation::all() {
        let (one, other) = two(&location).await;
        let token = one.token().await.unwrap();
        let (mut gone, ()) = http::Response::new(()).into_parts();
        gone.status = http::StatusCode::GONE;
        let _ = one.session.rejected(&token, &gone, b"");
        one.hears().await;
        other.hears().await;
        assert!(other.session.try_permission_token().is_none());
        let lost = ErrorKind::SignInAgain(LostReason::Revoked);
        assert_eq!(other.token().await.unwrap_err().kind(), lost);
        assert_eq!(other.script.refreshes(), 0, "nobody asks the server again");
    }
}

#[tokio::test]
async fn a_rejected_token_is_not_handed_out_again_when_another_process_was_faster() {
    for location in StoreLocation::all() {
        let (one, other) = two(&location).await;
        let rejected = other.token().await.unwrap();
        // The other hears of nothing, and finds out by its own claim.
        other.faults.fail_always(StoreCall::Changes, true);
        until(&one.clock, one.session.refresh()).await.unwrap();
        let _ = other.session.invalidate(&rejected);
        for _ in 0..3 {
            let token = other.token().await.unwrap();
            assert!(token.generation() > rejected.generation());
        }
        assert_eq!((one.script.refreshes(), other.script.refreshes()), (1, 0));
    }
}

/// The record shows the rejected token still, the claim on it is refused, and no handle keeps the
/// session in memory.
#[tokio::test]
async fn a_rejected_token_is_not_handed_out_again_when_another_process_failed_to_replace_it() {
    for location in StoreLocation::all() {
        let clock = ManualClock::new();
        let one = Process::open_in(&location, &clock).await;
        let other = Process::open_in(&location, &clock).await;
        let _ = until(&clock, one.session.establish(())).await.unwrap();
        let here = || -> Session<ScriptedProvider> { session_of(&other.supervisor, "device") };
        let rejected = until(&clock, here().permission_token()).await.unwrap();
        other.faults.fail_always(StoreCall::Changes, true);
        one.script.refresh(Reply::Fail(FailureClass::Ambiguous));
        drop(until(&clock, one.session.refresh()).await);
        let _ = here().invalidate(&rejected);
        for _ in 0..3 {
            let failed = until(&clock, here().permission_token()).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::RetryLater);
            assert!(here().try_permission_token().is_none());
        }
        assert_eq!((one.script.refreshes(), other.script.refreshes()), (1, 0));
    }
}

#[tokio::test]
async fn where_a_refresh_ends_former_tokens_they_are_served_no_longer_and_elsewhere_until_the_read()
{
    for location in StoreLocation::all() {
        for ends in [true, false] {
            let location = match &location {
                StoreLocation::Memory(_) => StoreLocation::Memory(MemoryStore::new()),
                StoreLocation::File(..) => StoreLocation::all().into_iter().nth(1).unwrap(),
            };
            let clock = ManualClock::new();
            let kills = |provider: ScriptedProvider| provider.refresh_ends_access_tokens(ends);
            let one = Process::open_in_with(&location, &clock, kills).await;
            let other = Process::open_in_with(&location, &clock, kills).await;
            let _ = until(&clock, one.session.establish(())).await.unwrap();
            assert_eq!(other.generation().await, 1);
            other.faults.hold(StoreCall::Load);
            until(&clock, one.session.refresh()).await.unwrap();
            let mut looks = 0;
            while looks < 20 && other.session.try_permission_token().is_some() {
                clock.advance(Duration::from_millis(50)).await;
                other.is_answered().await;
                looks += 1;
            }
            let served = other.session.try_permission_token().map(|token| token.generation());
            assert_eq!(served, (!ends).then_some(1), "ends: {ends}");
            other.faults.release(StoreCall::Load);
            other.hears().await;
            assert_eq!(other.session.try_permission_token().unwrap().generation(), 2);
            assert_eq!(other.script.refreshes(), 0);
        }
    }
}

/// An answer that comes after so many seconds, to a process that reaches the store or does not.
#[tokio::test]
async fn a_slow_answer_at_a_strict_server_is_waited_for_by_all_and_no_token_is_sent_twice() {
    for seconds in [4, 6, 12, 45] {
        for partitioned in [false, true] {
            for location in StoreLocation::all() {
                let (one, other) = two(&location).await;
                one.clock.advance(LIFE + SECOND).await;
                one.script.refresh(Reply::Hold);
                let refreshing = one.refreshing();
                one.script.held(1).await;
                let cut_off = [StoreCall::Renew, StoreCall::Commit, StoreCall::Load];
                cut_off.iter().for_each(|call| one.faults.fail_always(*call, partitioned));
                for _ in 0..seconds {
                    one.passes(1).await;
                    other.is_answered().await;
                    if let Some(failed) = other.session.permission_token().now_or_never() {
                        assert_eq!(failed.unwrap_err().kind(), ErrorKind::RetryLater);
                    }
                }
                let renewals = one.faults.count(StoreCall::Renew);
                assert!(renewals >= (seconds - 1) / 5, "{renewals} in {seconds} s");
                one.script.release();
                one.passes(1).await;
                cut_off.iter().for_each(|call| one.faults.fail_always(*call, false));
                let what = format!("{seconds} s, partitioned: {partitioned}");
                drop(refreshing.await);
                one.passes(15).await;
                assert_eq!(one.generation().await, 2, "{what}");
                assert_eq!(other.generation().await, 2, "{what}");
                assert_eq!((one.script.refreshes(), other.script.refreshes()), (1, 0), "{what}");
            }
        }
    }
}

/// A store whose feed forgets the changes on demand.
struct Forgetful {
    inner: FaultyStore<MemoryStore>,
    forgets: Arc<Notify>,
}

#[async_trait]
impl Store for Forgetful {
    fn prepare(&self, context: &StoreContext) -> Result<(), StoreError> {
        self.inner.prepare(context)
    }

    async fn load(&self, id: &SessionId) -> Result<Option<Stored>, StoreError> {
        self.inner.load(id).await
    }

    async fn apply(&self, id: &SessionId, statement: Statement) -> Result<Outcome, StoreError> {
        self.inner.apply(id, statement).await
    }

    async fn due(
        &self,
        provider: &ProviderName,
        within: Duration,
        after: Option<&Due>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        self.inner.due(provider, within, after, limit).await
    }

    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(filter, after, limit).await
    }

    async fn changes(
        &self,
        since: Option<&Cursor>,
        limit: usize,
    ) -> Result<Option<Changes>, StoreError> {
        if since.is_none() {
            return self.inner.changes(since, limit).await;
        }
        self.forgets.notified().await;
        Ok(since.map(|cursor| Changes {
            cursor: cursor.clone(),
            news: None,
            more: false,
            failover: None,
        }))
    }
}

#[tokio::test]
async fn of_20_000_sessions_every_good_token_is_served_while_anything_may_have_changed() {
    const SESSIONS: usize = 20_000;
    let (clock, forgets) = (ManualClock::new(), Arc::new(Notify::new()));
    let inner = FaultyStore::new(MemoryStore::new());
    let faults = inner.faults();
    let store = Forgetful { inner, forgets: Arc::clone(&forgets) };
    let provider: ScriptedProvider = ScriptedProvider::new().lifetime(LIFE);
    let builder = Supervisor::builder().clock(clock.clone()).store(store);
    let supervisor = builder.provider("p", provider).start().await.unwrap();
    let names = (0..SESSIONS).map(|number| format!("device-{number}"));
    let sessions: Vec<_> = names.map(|name| session_of(&supervisor, &name)).collect();
    for session in &sessions {
        let _ = session.establish(()).await.unwrap();
    }
    let before = faults.count(StoreCall::Load);
    let all = || sessions.iter().all(|session| session.try_permission_token().is_some());
    faults.hold(StoreCall::Load);
    forgets.notify_one();
    clock.advance(SECOND).await;
    assert!(all(), "while nothing can be read");
    faults.release(StoreCall::Load);
    while faults.count(StoreCall::Load) < before + SESSIONS as u64 {
        assert!(all(), "while they are read");
        clock.advance(Duration::from_millis(1)).await;
    }
    clock.advance(10 * SECOND).await;
    assert!(all(), "when they are read");
    // A record that could not be read while the store was held is read again.
    let read = faults.count(StoreCall::Load) - before;
    assert!(read <= SESSIONS as u64 + 2 * READ_PAGE as u64, "{read} readings");
}

#[tokio::test]
async fn times_that_were_read_by_a_wrong_clock_are_right_when_the_clock_is() {
    for location in StoreLocation::all() {
        let (one, _) = two(&location).await;
        // A process whose machine believes that it is an hour later.
        one.clock.step_wall(-3600);
        let other = Process::open_in(&location, &one.clock).await;
        let served = other.token().await.unwrap();
        assert_eq!(served.generation(), 1, "an hour more than it has");
        one.clock.step_wall(3600);
        other.clock.advance(LIFE).await;
        let token = other.token().await.unwrap();
        assert_eq!(token.generation(), 2, "the other one has ended");
        // And one that believed everything to be over.
        one.clock.step_wall(30 * 24 * 3600);
        let third = Process::open_in(&location, &one.clock).await;
        drop(third.session.status().await);
        one.clock.step_wall(-30 * 24 * 3600);
        assert_eq!(third.token().await.unwrap().generation(), 2);
        assert_eq!(third.session.status().await.unwrap().state, State::Active);
        assert_eq!(third.supervisor.snapshot().refreshes, 0);
    }
}
