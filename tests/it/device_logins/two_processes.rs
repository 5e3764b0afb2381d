//! Two processes that have the ticket of one login.

use session_warden::ErrorKind;
use session_warden::provider::oauth2::Password;
use session_warden::testing::StoreCall;

use super::*;

#[tokio::test]
async fn of_two_processes_one_polls_and_both_get_the_session() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let (_other, beside) = fixture.beside().await;
    let login = fixture.begin().await;
    // The ticket is text on its way.
    let ticket = login.ticket.as_str().parse().unwrap();
    let both = [poll(&fixture.sessions, &login.ticket), poll(&beside, &ticket)];
    let took = fixture.until_polls(6).await;
    assert!(took >= 30 * SECOND, "{took:?}");
    fixture.approve(&login);
    for polling in both {
        let (session, _) = ended(&fixture.clock, polling).await.unwrap();
        let token = session.permission_token().await.unwrap();
        assert_eq!((token.epoch(), token.generation()), (1, 1));
        assert!(fixture.server.is_active(token.expose_secret()));
    }
    assert_eq!(fixture.polls(), 7);
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_process_that_shuts_down_hands_its_login_to_another() {
    let fixture = DeviceFixture::new(every(5 * SECOND)).await;
    let (_other, beside) = fixture.beside().await;
    let login = fixture.begin().await;
    let first = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    let slow_down = Fault::OAuthError { status: 400, code: "slow_down".to_owned() };
    fixture.server.fail_next(Endpoint::DeviceCode, slow_down);
    // The third poll comes at the slower pace, and the store knows of that.
    fixture.until_polls(3).await;
    let report = until(&fixture.clock, fixture.supervisor.shutdown(SECOND)).await;
    assert!(report.is_clean());
    let refused = ended(&fixture.clock, first).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ShuttingDown);

    let second = poll(&beside, &login.ticket);
    let took = fixture.until_polls(4).await;
    assert!(took >= 10 * SECOND, "slow_down holds in the next process too: {took:?}");
    fixture.approve(&login);
    ended(&fixture.clock, second).await.unwrap();
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn the_login_of_a_process_that_is_gone_is_taken_over_after_its_lease() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let first = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    // As if it were killed: nothing tells the store that it has ended.
    fixture.faults.fail_always(StoreCall::ClaimLogin, true);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let (_other, beside) = fixture.beside().await;
    let second = poll(&beside, &login.ticket);
    let took = fixture.until_polls(2).await;
    let lease = Policy::default().lease;
    assert!(took >= lease - 5 * SECOND && took < lease + 10 * SECOND, "{took:?}");
    fixture.approve(&login);
    ended(&fixture.clock, second).await.unwrap();
    fixture.was_polled_in_turn();
}

/// The process that polls is cut off from the store, and goes on when another one has the tokens.
#[tokio::test]
async fn a_process_whose_claim_was_taken_over_does_not_send_the_code_again() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let (_other, beside) = fixture.beside().await;
    let login = fixture.begin().await;
    let first = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    fixture.faults.fail_always(StoreCall::ClaimLogin, true);
    let second = poll(&beside, &login.ticket);
    fixture.until_polls(2).await;
    fixture.approve(&login);
    ended(&fixture.clock, second).await.unwrap();
    assert_eq!(fixture.polls(), 3);
    fixture.faults.fail_always(StoreCall::ClaimLogin, false);
    let (session, _) = ended(&fixture.clock, first).await.unwrap();
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!((fixture.polls(), token.epoch()), (3, 1));
    fixture.was_polled_in_turn();
}

/// The process does not hear of the other one's session, and its poll finds that in the store.
#[tokio::test]
async fn a_code_that_another_process_may_have_spent_is_not_sent() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    fixture.faults.fail_always(StoreCall::Changes, true);
    let (_other, beside) = fixture.beside().await;
    let login = fixture.begin().await;
    let polling = poll(&fixture.sessions, &login.ticket);
    fixture.until_polls(1).await;
    let claims = fixture.faults.count(StoreCall::Claim);
    let _ = beside.session(key("device")).establish(Password::new("ada", "ok")).await.unwrap();
    let (session, _) = ended(&fixture.clock, polling).await.unwrap();
    assert_eq!(fixture.polls(), 1);
    assert_eq!(fixture.faults.count(StoreCall::Claim), claims + 1, "the store has told it");
    let token = session.permission_token().await.unwrap();
    assert!(fixture.server.is_active(token.expose_secret()));
    assert_eq!(token.epoch(), 1);
}
