//! Sessions that obtain new tokens without a user: by `ensure`, by `renew_with`, or by the
//! provider.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use session_warden::error::{LostReason, Refusal};
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::State;
use session_warden::store::Store;
use session_warden::testing::{Reply, ScriptedProvider};
use session_warden::{Error, ErrorKind, PermissionToken, Session, SessionKey};
use tokio::task::JoinSet;

use crate::fixtures::{ScriptedFixture, established, fixture, fixture_of, registered};
use crate::support::{LIFE, SECOND, callers, key, session, until};

type Got = Result<PermissionToken, Error>;

const WRONG: FailureClass = FailureClass::Refused(Refusal::WrongCredentials);

impl ScriptedFixture {
    /// Callers of `ensure`, all of which have begun.
    async fn ensuring(&self, count: usize) -> JoinSet<Got> {
        let asking = callers(count, || {
            let session = self.session.clone();
            async move { session.ensure(()).await }
        });
        self.clock.advance(Duration::ZERO).await;
        asking
    }

    /// Callers for a token, all of whom have asked.
    async fn asking(&self, count: usize) -> JoinSet<Got> {
        let asking = callers(count, || {
            let session = self.session.clone();
            async move { session.permission_token().await }
        });
        self.clock.advance(Duration::ZERO).await;
        asking
    }

    /// Grants and refreshes so far.
    fn exchanged(&self) -> (u64, u64) {
        (self.script.establishes(), self.script.refreshes())
    }

    async fn state(&self) -> State {
        self.session.status().await.unwrap().state
    }
}

fn secret(got: Got) -> String {
    got.unwrap().expose_secret().to_owned()
}

fn kind(got: Got) -> ErrorKind {
    got.unwrap_err().kind()
}

#[tokio::test]
async fn a_thousand_callers_who_ensure_a_session_share_one_grant_and_its_token() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::Hold);
    let asking = fixture.ensuring(1_000).await;
    assert_eq!(fixture.exchanged(), (1, 0));
    fixture.script.release();
    for got in asking.join_all().await {
        assert_eq!(secret(got), "access-1");
    }
    assert_eq!(secret(fixture.session.permission_token().await), "access-1");
    assert_eq!((fixture.exchanged(), fixture.script.most_at_once()), ((1, 0), 1));
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.epoch, record.generation), (1, 1));
}

#[tokio::test]
async fn a_session_that_lives_is_kept_without_a_request_also_when_it_is_still_in_the_store() {
    let former = ScriptedFixture::established().await;
    let _ = former.session.ensure(()).await.unwrap();
    assert_eq!((former.script.establishes(), former.script.refreshes()), (1, 0));
    let fixture = ScriptedFixture::start(&former.store, &former.clock).await;
    assert!(fixture.session.try_permission_token().is_none(), "it is not read yet");
    assert_eq!(secret(fixture.session.ensure(()).await), "access-1");
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (0, 0));
}

#[tokio::test]
async fn a_session_that_can_be_refreshed_is_refreshed_and_not_begun_again() {
    let fixture = established().await;
    fixture.clock.advance(LIFE).await;
    let token = fixture.session.ensure(()).await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 2));
    assert_eq!(fixture.exchanged(), (1, 1));
}

#[tokio::test]
async fn a_session_without_a_refresh_token_is_kept_while_it_serves_and_then_begun_again() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::IssueAccessOnly);
    assert_eq!(secret(fixture.session.ensure(()).await), "access-1");
    fixture.clock.advance(LIFE - SECOND / 10).await;
    assert_eq!(secret(fixture.session.ensure(()).await), "access-1");
    fixture.clock.advance(SECOND / 10).await;
    assert_eq!(secret(fixture.session.ensure(()).await), "access-2");
    assert_eq!(fixture.exchanged(), (2, 0));
}

/// The provider's own grant does not restart a session that the backend ended: only an explicit
/// grant does.
#[tokio::test]
async fn a_session_that_was_revoked_begins_again_by_ensure_and_not_by_the_providers_renewal() {
    let provider = ScriptedProvider::new().lifetime(LIFE).renewal(|| ());
    let fixture = fixture_of(provider, Policy::default()).await;
    assert_eq!(secret(fixture.session.permission_token().await), "access-1");
    fixture.session.revoke().await.unwrap();
    for _ in 0..3 {
        assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
        assert_eq!(kind(fixture.session.refresh().await), ErrorKind::NotEstablished);
        fixture.clock.advance(LIFE).await;
    }
    assert_eq!((fixture.exchanged(), fixture.state().await), ((1, 0), State::Closed));
    let asking = fixture.ensuring(100).await;
    for got in asking.join_all().await {
        assert_eq!(got.unwrap().epoch(), 2);
    }
    assert_eq!((fixture.exchanged(), fixture.state().await), ((2, 0), State::Active));
    assert_eq!(fixture.script.revocations(), 1);
}

#[tokio::test]
async fn a_refusal_is_told_to_all_who_wait_and_to_those_who_come_before_its_back_off_is_over() {
    for revoked in [false, true] {
        let fixture = if revoked { established().await } else { fixture().await };
        if revoked {
            fixture.session.revoke().await.unwrap();
        }
        let before = fixture.script.establishes();
        fixture.script.establish(Reply::HoldThenFail(WRONG));
        let asking = fixture.ensuring(1_000).await;
        fixture.script.release();
        let refused = ErrorKind::Refused(Refusal::WrongCredentials);
        for got in asking.join_all().await {
            let error = got.unwrap_err();
            assert_eq!((error.kind(), error.session()), (refused, Some(fixture.session.id())));
        }
        let late = fixture.session.ensure(()).await.unwrap_err();
        assert_eq!((late.kind(), fixture.script.establishes()), (refused, before + 1));
        let wait = late.retry_after().unwrap();
        assert!(wait > Duration::ZERO, "{wait:?}");
        fixture.clock.advance(wait - Duration::from_millis(1)).await;
        assert_eq!(kind(fixture.session.ensure(()).await), refused);
        assert_eq!(fixture.script.establishes(), before + 1);
        fixture.clock.advance(Duration::from_millis(1)).await;
        fixture.session.ensure(()).await.unwrap();
        assert_eq!(fixture.script.establishes(), before + 2);
    }
}

/// A failure that stops `ensure` does not stop a sign-in.
#[tokio::test]
async fn the_back_off_of_a_refused_grant_does_not_keep_a_user_out() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::Fail(WRONG));
    assert_eq!(
        kind(fixture.session.ensure(()).await),
        ErrorKind::Refused(Refusal::WrongCredentials)
    );
    let _ = fixture.session.establish(()).await.unwrap();
    assert_eq!(secret(fixture.session.ensure(()).await), "access-1");
    assert_eq!(fixture.exchanged(), (2, 0));
}

/// 1. A grant is out. 2. The actor is killed. 3. The supervisor actor is killed. 4. More callers
/// come. 5. The answer comes.
#[tokio::test]
async fn whoever_dies_while_a_session_is_ensured_its_grant_is_sent_once() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::Hold);
    let mut asking = fixture.ensuring(10).await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    assert!(fixture.chaos().kill_supervisor());
    fixture.clock.advance(2 * SECOND).await;
    let late = fixture.session.clone();
    asking.spawn(async move { late.ensure(()).await });
    fixture.clock.advance(Duration::ZERO).await;
    fixture.script.release();
    for got in fixture.until(asking.join_all()).await {
        assert_eq!(secret(got), "access-1");
    }
    assert_eq!((fixture.exchanged(), fixture.script.ended()), ((1, 0), 1));
    assert_eq!(fixture.supervisor.snapshot().supervisor_restarts, 1);
}

#[tokio::test]
async fn what_is_minted_for_a_caller_who_has_gone_is_kept() {
    let fixture = fixture().await;
    fixture.script.establish(Reply::Hold);
    fixture.ensuring(1).await.shutdown().await;
    assert_eq!(fixture.exchanged(), (1, 0));
    fixture.script.release();
    fixture.clock.advance(Duration::ZERO).await;
    assert_eq!(fixture.session.try_permission_token().unwrap().expose_secret(), "access-1");
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.epoch, record.generation), (1, 1));
}

/// 1. A refresh is out. 2. Some ensure the session, others only want a token. 3. The refresh
/// token is rejected. Those who have a grant begin the session again, once.
#[tokio::test]
async fn who_ensures_a_session_that_is_just_being_lost_begins_it_again() {
    let fixture = established().await;
    fixture.clock.advance(LIFE).await;
    fixture.script.refresh(Reply::HoldThenFail(FailureClass::Rejected));
    fixture.script.establish(Reply::Hold);
    let ensuring = fixture.ensuring(100).await;
    let asking = fixture.asking(10).await;
    assert_eq!(fixture.exchanged(), (1, 1));
    fixture.script.release();
    for got in asking.join_all().await {
        assert_eq!(kind(got), ErrorKind::SignInAgain(LostReason::Rejected));
    }
    until(&fixture.clock, fixture.script.held(2)).await;
    fixture.script.release();
    for got in ensuring.join_all().await {
        let token = got.unwrap();
        assert_eq!((token.epoch(), token.expose_secret()), (2, "access-2"));
    }
    assert_eq!(fixture.exchanged(), (2, 1));
}

#[tokio::test]
async fn a_session_in_doubt_is_not_given_up_because_somebody_has_a_grant() {
    let fixture = established().await;
    fixture.clock.advance(LIFE).await;
    fixture.script.refresh(Reply::Fail(FailureClass::Ambiguous));
    assert_eq!(kind(fixture.session.ensure(()).await), ErrorKind::RetryLater);
    let wait = fixture.session.ensure(()).await.unwrap_err().retry_after().unwrap();
    assert_eq!((fixture.exchanged(), fixture.state().await), ((1, 1), State::InDoubt));
    fixture.clock.advance(wait).await;
    assert_eq!(fixture.session.ensure(()).await.unwrap().epoch(), 1);
    assert_eq!(fixture.exchanged(), (1, 2));
}

/// The function of `renew_with`: its calls, and the grant that it returns.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<(SessionKey, LostReason)>>>);

impl Keeper {
    fn note(&self, key: SessionKey, reason: LostReason) {
        self.0.lock().push((key, reason));
    }

    fn asked(&self) -> Vec<(SessionKey, LostReason)> {
        self.0.lock().clone()
    }

    /// An established session, for which this keeper answers so.
    async fn fixture<Asked>(&self, answer: fn() -> Asked) -> ScriptedFixture
    where
        Asked: Future<Output = Option<()>> + Send + 'static,
    {
        let fixture = self.fixture_of(ScriptedProvider::new().lifetime(LIFE), answer).await;
        let _ = fixture.session.establish(()).await.unwrap();
        fixture
    }

    async fn fixture_of<Asked>(
        &self,
        provider: ScriptedProvider,
        answer: fn() -> Asked,
    ) -> ScriptedFixture
    where
        Asked: Future<Output = Option<()>> + Send + 'static,
    {
        let (keeper, script) = (self.clone(), provider.script());
        let registration = Registration::new(provider).renew_with(move |key, reason| {
            keeper.note(key, reason);
            answer()
        });
        registered(registration, script, Policy::default()).await
    }
}

impl ScriptedFixture {
    /// Its refresh token will be rejected, and its access token has ended.
    async fn doom(&self) {
        self.clock.advance(LIFE).await;
        self.script.refresh(Reply::Fail(FailureClass::Rejected));
    }
}

async fn grants() -> Option<()> {
    Some(())
}

async fn has_none() -> Option<()> {
    None
}

fn hangs() -> BoxFuture<'static, Option<()>> {
    pending().boxed()
}

fn panics() -> BoxFuture<'static, Option<()>> {
    panic!("the keeper of grants panics")
}

fn panics_later() -> BoxFuture<'static, Option<()>> {
    async { panic!("the keeper of grants panics later") }.boxed()
}

#[tokio::test]
async fn a_lost_session_is_renewed_by_who_is_registered_for_it_who_is_asked_once_for_all() {
    let keeper = Keeper::default();
    let mut fixture = keeper.fixture(grants).await;
    fixture.doom().await;
    let asking = fixture.asking(1_000).await;
    for got in asking.join_all().await {
        let token = got.unwrap();
        assert_eq!((token.epoch(), token.expose_secret()), (2, "access-2"));
    }
    assert_eq!(keeper.asked(), [(key("device"), LostReason::Rejected)]);
    assert_eq!(fixture.exchanged(), (2, 1));
    let lost = EventKind::Lost(LostReason::Rejected);
    assert_eq!(fixture.happened().await, [EventKind::Established, lost, EventKind::Established]);
}

#[tokio::test]
async fn a_session_that_nobody_has_a_grant_for_stays_lost_and_is_not_asked_for_all_the_time() {
    let keeper = Keeper::default();
    let fixture = keeper.fixture(has_none).await;
    fixture.doom().await;
    let lost = ErrorKind::SignInAgain(LostReason::Rejected);
    let asking = fixture.asking(100).await;
    assert!(asking.join_all().await.into_iter().all(|got| kind(got) == lost));
    let late = fixture.session.permission_token().await.unwrap_err();
    assert_eq!((late.kind(), keeper.asked().len()), (lost, 1));
    let wait = late.retry_after().unwrap();
    fixture.clock.advance(wait - Duration::from_millis(1)).await;
    assert_eq!((kind(fixture.session.permission_token().await), keeper.asked().len()), (lost, 1));
    fixture.clock.advance(Duration::from_millis(1)).await;
    assert_eq!((kind(fixture.session.permission_token().await), keeper.asked().len()), (lost, 2));
    assert_eq!(fixture.exchanged(), (1, 1));
    // A caller with a grant of its own does not wait for the back-off of another grant.
    let _ = fixture.session.establish(()).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn a_keeper_of_grants_that_hangs_or_panics_loses_nothing_and_is_asked_again_later() {
    for (answer, takes) in [
        (hangs as fn() -> BoxFuture<'static, Option<()>>, 5 * SECOND),
        (panics, Duration::ZERO),
        (panics_later, Duration::ZERO),
    ] {
        let keeper = Keeper::default();
        let fixture = keeper.fixture(answer).await;
        fixture.doom().await;
        let mut asking = fixture.asking(100).await;
        if takes > Duration::ZERO {
            fixture.clock.advance(takes - Duration::from_millis(1)).await;
            assert!(asking.try_join_next().is_none());
            fixture.clock.advance(Duration::from_millis(1)).await;
        }
        for got in asking.join_all().await {
            assert_eq!(kind(got), ErrorKind::RetryLater);
        }
        let late = fixture.session.permission_token().await.unwrap_err();
        assert_eq!((late.kind(), keeper.asked().len()), (ErrorKind::RetryLater, 1));
        assert_eq!((fixture.state().await, fixture.exchanged()), (State::Lost, (1, 1)));
        fixture.clock.advance(late.retry_after().unwrap()).await;
        drop(fixture.asking(1).await);
        assert_eq!(keeper.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_grant_that_was_given_and_refused_is_asked_for_again_after_the_back_off() {
    let keeper = Keeper::default();
    let fixture = keeper.fixture(grants).await;
    fixture.doom().await;
    fixture.script.establish(Reply::Fail(WRONG));
    let refused = ErrorKind::Refused(Refusal::WrongCredentials);
    let asking = fixture.asking(100).await;
    assert!(asking.join_all().await.into_iter().all(|got| kind(got) == refused));
    let late = fixture.session.permission_token().await.unwrap_err();
    assert_eq!((late.kind(), keeper.asked().len(), fixture.exchanged()), (refused, 1, (2, 1)));
    fixture.clock.advance(late.retry_after().unwrap()).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 2);
    assert_eq!((keeper.asked().len(), fixture.exchanged()), (2, (3, 1)));
}

#[tokio::test]
async fn nobody_is_asked_for_a_session_that_never_was_or_that_was_revoked_here() {
    let keeper = Keeper::default();
    let fixture = keeper.fixture(grants).await;
    let never = session(&fixture.supervisor, "never");
    assert_eq!(kind(never.permission_token().await), ErrorKind::NotEstablished);
    assert_eq!(kind(never.refresh().await), ErrorKind::NotEstablished);
    fixture.script.establish(Reply::Fail(WRONG));
    never.establish(()).await.unwrap_err();
    assert_eq!(kind(never.permission_token().await), ErrorKind::NotEstablished);
    fixture.session.revoke().await.unwrap();
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
    fixture.clock.advance(2 * LIFE).await;
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
    assert_eq!((keeper.asked(), fixture.exchanged()), (vec![], (2, 0)));
}

#[tokio::test]
async fn who_is_asked_is_told_why_the_session_is_lost() {
    let keeper = Keeper::default();
    let provider = ScriptedProvider::new().lifetime(LIFE).refresh_lifetime(2 * LIFE);
    let fixture = keeper.fixture_of(provider, grants).await;
    let name = |name: &str| session(&fixture.supervisor, name);
    let begin = async |session: &Session<ScriptedProvider>| {
        let _ = session.establish(()).await.unwrap();
        session.permission_token().await.unwrap()
    };

    let dead = name("dead");
    let used = begin(&dead).await;
    let (gone, ()) = http::Response::builder().status(410).body(()).unwrap().into_parts();
    let _ = dead.rejected(&used, &gone, b"");
    assert_eq!(dead.permission_token().await.unwrap().epoch(), 2);

    let doubted = name("doubted");
    begin(&doubted).await;
    fixture.clock.advance(LIFE).await;
    fixture.script.refresh(Reply::Fail(FailureClass::Ambiguous));
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    let wait = doubted.permission_token().await.unwrap_err().retry_after().unwrap();
    fixture.clock.advance(wait).await;
    assert_eq!(doubted.permission_token().await.unwrap().epoch(), 2);

    let old = name("old");
    begin(&old).await;
    fixture.clock.advance(2 * LIFE).await;
    assert_eq!(old.permission_token().await.unwrap().epoch(), 2);

    // Without a refresh token it is lost when its access token ends.
    let short = name("short");
    fixture.script.establish(Reply::IssueAccessOnly);
    begin(&short).await;
    fixture.clock.advance(LIFE).await;
    assert_eq!(short.permission_token().await.unwrap().epoch(), 2);

    let expected = [
        (key("dead"), LostReason::Revoked),
        (key("doubted"), LostReason::LostInDoubt),
        (key("old"), LostReason::RefreshExpired),
        (key("short"), LostReason::RefreshExpired),
    ];
    assert_eq!(keeper.asked(), expected);
}

/// 1. The keeper of grants is asked. 2. The actor is killed, then the supervisor actor. 3. It
/// answers.
#[tokio::test]
async fn whoever_dies_while_a_grant_is_asked_for_it_is_asked_for_once() {
    let keeper = Keeper::default();
    let fixture = keeper.fixture(grants).await;
    fixture.doom().await;
    fixture.script.establish(Reply::Hold);
    let asking = fixture.asking(10).await;
    fixture.script.held(1).await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    assert!(fixture.chaos().kill_supervisor());
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    for got in fixture.until(asking.join_all()).await {
        assert_eq!(secret(got), "access-2");
    }
    assert_eq!((keeper.asked().len(), fixture.exchanged()), (1, (2, 1)));
}
