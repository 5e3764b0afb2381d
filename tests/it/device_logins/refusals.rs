//! Logins on another device that do not end with a session.

use std::error::Error as _;

use session_warden::error::Refusal;
use session_warden::provider::oauth2::{LoginOptions, OAuth2};
use session_warden::testing::StoreCall;
use session_warden::ticket::TicketFault;
use session_warden::{Error, ErrorKind};

use super::*;

fn fault(refused: &Error) -> Option<TicketFault> {
    refused.source().and_then(|source| source.downcast_ref()).copied()
}

#[tokio::test]
async fn a_user_who_refuses_and_one_who_takes_too_long_are_told_apart() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    fixture.server.answer_device_login(&login.user_code, FakeLogin::deny("access_denied"));
    let refused = ended(&fixture.clock, poll(&fixture.sessions, &login.ticket)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::NotPermitted));
    assert_eq!(refused.provider_code(), Some("access_denied"));

    let login = fixture.begin().await;
    fixture.server.answer_device_login(&login.user_code, FakeLogin::deny("expired_token"));
    let refused = ended(&fixture.clock, poll(&fixture.sessions, &login.ticket)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    assert_eq!(refused.provider_code(), Some("expired_token"));
    assert_eq!(fixture.polls(), 2);
    let none = fixture.session().permission_token().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn a_login_that_nobody_answers_ends_with_its_ticket() {
    let shape = FakeServerShape { device_lifetime: 23 * SECOND, ..FakeServerShape::default() };
    let fixture = DeviceFixture::new(shape).await;
    let login = fixture.begin().await;
    let polling = poll(&fixture.sessions, &login.ticket);
    let refused = ended(&fixture.clock, polling).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::ChallengeExpired));
    assert_eq!(fault(&refused), Some(TicketFault::Expired));
    assert!((3..=4).contains(&fixture.polls()), "{}", fixture.polls());
    let late = fixture.sessions.finish_device_login(&login.ticket).await.unwrap_err();
    assert_eq!(fault(&late), Some(TicketFault::Expired));
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_ticket_is_of_no_use_to_another_session_another_provider_or_another_step() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let eve = fixture.sessions.session(key("eve"));
    let refused = eve.finish_device_login(&login.ticket).await.unwrap_err();
    assert_eq!(fault(&refused), Some(TicketFault::OtherSession));
    let other: Sessions<OAuth2> = fixture.supervisor.sessions("other").unwrap();
    let refused = other.finish_device_login(&login.ticket).await.unwrap_err();
    assert_eq!(fault(&refused), Some(TicketFault::OtherProvider));
    let refused = fixture.session().finish_login(&login.ticket, "/?code=c").await.unwrap_err();
    assert_eq!(fault(&refused), Some(TicketFault::OtherPurpose));
    let client = OAuth2::discover(fixture.server.url(), "client").unwrap();
    let client = client.client_secret_basic("secret").redirect_uri("https://app.example/").unwrap();
    fixture.sessions.replace(client).await.unwrap();
    let browser = fixture.session().begin_login(LoginOptions::new()).await.unwrap();
    let refused = fixture.session().finish_device_login(&browser.ticket).await.unwrap_err();
    assert_eq!(fault(&refused), Some(TicketFault::OtherPurpose));
    assert_eq!(fixture.polls(), 0);
}

#[tokio::test]
async fn a_login_is_over_when_its_provider_is_replaced_by_that_of_another_client() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let other = OAuth2::discover(fixture.server.url(), "another").unwrap();
    fixture.sessions.replace(other).await.unwrap();
    let refused = ended(&fixture.clock, poll(&fixture.sessions, &login.ticket)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fixture.polls(), 0);
}

#[tokio::test]
async fn a_server_without_such_logins_and_one_that_refuses_the_client_say_what_to_correct() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let client = OAuth2::new(&format!("{}/token", fixture.server.url()), "client").unwrap();
    fixture.sessions.replace(client.clone()).await.unwrap();
    let none = fixture.session().begin_device_login(DeviceOptions::new()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Misconfigured);
    assert!(none.to_string().contains("`device_authorization_endpoint`"), "{none}");

    let url = format!("{}/device_authorization", fixture.server.url());
    let wrong = client.client_secret_basic("wrong").device_authorization_endpoint(&url).unwrap();
    fixture.sessions.replace(wrong).await.unwrap();
    let refused = fixture.session().begin_device_login(DeviceOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    assert_eq!(refused.provider_code(), Some("invalid_client"));
}

#[tokio::test]
async fn nobody_polls_while_the_store_takes_no_claim() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    fixture.approve(&login);
    fixture.faults.fail_always(StoreCall::ClaimLogin, true);
    let polling = poll(&fixture.sessions, &login.ticket);
    fixture.clock.advance(60 * SECOND).await;
    assert_eq!(fixture.polls(), 0);
    fixture.faults.fail_always(StoreCall::ClaimLogin, false);
    ended(&fixture.clock, polling).await.unwrap();
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_store_that_panics_at_the_claim_of_a_login_is_asked_again() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    fixture.approve(&login);
    fixture.faults.panic_next(StoreCall::ClaimLogin, 2);
    ended(&fixture.clock, poll(&fixture.sessions, &login.ticket)).await.unwrap();
    assert!(fixture.faults.count(StoreCall::ClaimLogin) > 2);
    fixture.was_polled_in_turn();
}

#[tokio::test]
async fn a_login_does_not_begin_without_its_store() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    fixture.faults.fail_next(StoreCall::Load, 1);
    let refused = fixture.session().begin_device_login(DeviceOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Store);
    assert_eq!(fixture.server.count(Endpoint::DeviceAuthorization), 0);
}

#[tokio::test]
async fn nothing_of_a_login_that_is_secret_is_in_its_debug_output() {
    let fixture = DeviceFixture::new(FakeServerShape::default()).await;
    let login = fixture.begin().await;
    let shown = format!("{login:?} {login:#?} {:?}", login.ticket);
    for secret in [login.user_code.as_str(), login.ticket.as_str()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
