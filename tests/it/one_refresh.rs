//! Many callers share one exchange.

use session_warden::error::ExchangeOutcome;
use session_warden::provider::FailureClass;
use session_warden::testing::Reply;
use session_warden::{Error, ErrorKind};

use crate::fixtures::{ScriptedFixture, established};
use crate::support::{LIFE, SECOND, callers};

const MANY: usize = 10_000;

async fn expired() -> ScriptedFixture {
    let fixture = established().await;
    fixture.clock.advance(LIFE + SECOND).await;
    fixture
}

/// Lets `MANY` callers ask for a token, and returns their results.
async fn all_ask(fixture: &ScriptedFixture) -> Vec<Result<u64, Error>> {
    let asking = asking(fixture);
    fixture.until(asking.join_all()).await
}

fn asking(fixture: &ScriptedFixture) -> tokio::task::JoinSet<Result<u64, Error>> {
    callers(MANY, || {
        let session = fixture.session.clone();
        async move { session.permission_token().await.map(|token| token.generation()) }
    })
}

#[tokio::test]
async fn a_fresh_token_is_served_and_an_expired_one_is_refreshed_once() {
    let fixture = established().await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-1");
    fixture.clock.advance(LIFE + SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh() {
    let fixture = expired().await;
    let got = all_ask(&fixture).await;
    assert!(got.iter().all(|got| *got.as_ref().unwrap() == 2));
    assert_eq!((got.len(), fixture.script.refreshes()), (MANY, 1));
}

#[tokio::test]
async fn ten_thousand_callers_share_one_failure() {
    let fixture = expired().await;
    fixture.script.refresh(Reply::HoldThenFail(FailureClass::NotProcessed));
    let asking = asking(&fixture);
    fixture.script.held(1).await;
    fixture.script.release();
    for got in asking.join_all().await {
        let error = got.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotProcessed));
    }
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_dropped_callers_leave_one_refresh_whose_result_is_kept() {
    let fixture = expired().await;
    fixture.script.refresh(Reply::Hold);
    let mut asking = asking(&fixture);
    fixture.script.held(1).await;
    asking.shutdown().await;
    fixture.script.release();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.try_permission_token().unwrap().generation(), 2);
    assert_eq!((fixture.script.refreshes(), fixture.script.ended()), (1, 2));
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh_though_its_actor_is_killed() {
    let fixture = expired().await;
    fixture.script.refresh(Reply::Hold);
    let asking = asking(&fixture);
    fixture.script.held(1).await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    let got = fixture.until(asking.join_all()).await;
    assert!(got.into_iter().all(|got| got.unwrap() == 2));
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh_though_the_supervisor_is_killed() {
    let fixture = expired().await;
    fixture.script.refresh(Reply::Hold);
    let asking = asking(&fixture);
    fixture.script.held(1).await;
    assert!(fixture.chaos().kill_supervisor());
    // Half of the callers come while there is no supervisor actor.
    let late = self::asking(&fixture);
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    let got = fixture.until(asking.join_all()).await;
    let late = fixture.until(late.join_all()).await;
    assert!(got.into_iter().chain(late).all(|got| got.unwrap() == 2));
    assert_eq!(fixture.script.refreshes(), 1);
    assert_eq!(fixture.supervisor.snapshot().supervisor_restarts, 1);
}
