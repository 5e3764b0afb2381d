//! N callers, one exchange.

use session_warden::error::ExchangeOutcome;
use session_warden::provider::FailureClass;
use session_warden::testing::Reply;
use session_warden::{Error, ErrorKind};

use crate::support::{LIFE, SECOND, World, callers, established};

const MANY: usize = 10_000;

async fn expired() -> World {
    let world = established().await;
    world.clock.advance(LIFE + SECOND).await;
    world
}

/// Lets `MANY` callers ask for a token and gives what they got.
async fn all_ask(world: &World) -> Vec<Result<u64, Error>> {
    let asking = asking(world);
    world.until(asking.join_all()).await
}

fn asking(world: &World) -> tokio::task::JoinSet<Result<u64, Error>> {
    callers(MANY, || {
        let session = world.session.clone();
        async move { session.permission_token().await.map(|token| token.generation()) }
    })
}

#[tokio::test]
async fn a_fresh_token_is_served_and_an_expired_one_is_refreshed_once() {
    let world = established().await;
    assert_eq!(world.session.permission_token().await.unwrap().expose_secret(), "access-1");
    world.clock.advance(LIFE + SECOND).await;
    assert_eq!(world.session.permission_token().await.unwrap().expose_secret(), "access-2");
    assert_eq!(world.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh() {
    let world = expired().await;
    let got = all_ask(&world).await;
    assert!(got.iter().all(|got| *got.as_ref().unwrap() == 2));
    assert_eq!((got.len(), world.script.refreshes()), (MANY, 1));
}

#[tokio::test]
async fn ten_thousand_callers_share_one_failure() {
    let world = expired().await;
    world.script.refresh(Reply::HoldThenFail(FailureClass::NotProcessed));
    let asking = asking(&world);
    world.script.held(1).await;
    world.script.release();
    for got in asking.join_all().await {
        let error = got.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotProcessed));
    }
    assert_eq!(world.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_dropped_callers_leave_one_refresh_whose_result_is_kept() {
    let world = expired().await;
    world.script.refresh(Reply::Hold);
    let mut asking = asking(&world);
    world.script.held(1).await;
    asking.shutdown().await;
    world.script.release();
    world.clock.advance(SECOND).await;
    assert_eq!(world.session.try_permission_token().unwrap().generation(), 2);
    assert_eq!((world.script.refreshes(), world.script.ended()), (1, 2));
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh_though_its_actor_is_killed() {
    let world = expired().await;
    world.script.refresh(Reply::Hold);
    let asking = asking(&world);
    world.script.held(1).await;
    assert!(world.chaos().kill_session(world.session.id()));
    world.clock.advance(SECOND).await;
    world.script.release();
    let got = world.until(asking.join_all()).await;
    assert!(got.into_iter().all(|got| got.unwrap() == 2));
    assert_eq!(world.script.refreshes(), 1);
}

#[tokio::test]
async fn ten_thousand_callers_share_one_refresh_though_the_supervisor_is_killed() {
    let world = expired().await;
    world.script.refresh(Reply::Hold);
    let asking = asking(&world);
    world.script.held(1).await;
    assert!(world.chaos().kill_supervisor());
    // Half of the callers come while there is no supervisor actor.
    let late = self::asking(&world);
    world.clock.advance(SECOND).await;
    world.script.release();
    let got = world.until(asking.join_all()).await;
    let late = world.until(late.join_all()).await;
    assert!(got.into_iter().chain(late).all(|got| got.unwrap() == 2));
    assert_eq!(world.script.refreshes(), 1);
    assert_eq!(world.supervisor.snapshot().supervisor_restarts, 1);
}
