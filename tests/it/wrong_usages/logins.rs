//! Tickets of logins.

use session_warden::error::Refusal;
use session_warden::policy::Policy;
use session_warden::provider::oauth2::LoginOptions;
use session_warden::testing::ManualClock;
use session_warden::ticket::Ticket;

use super::*;

const BACK: &str = "https://app.example/back";

async fn with_logins(clock: &ManualClock) -> (Supervisor, Sessions<OAuth2>) {
    let provider = https().redirect_uri(BACK).unwrap();
    let provider = provider.authorization_endpoint("https://login.example.com/authorize").unwrap();
    let builder = builder().clock(clock.clone()).provider("acme", provider);
    let supervisor = builder.start().await.unwrap();
    let sessions = supervisor.sessions("acme").unwrap();
    (supervisor, sessions)
}

async fn ticket(sessions: &Sessions<OAuth2>) -> Ticket {
    let key = SessionKey::new("tenant-1", "device-17").unwrap();
    sessions.begin_login(key, LoginOptions::new()).await.unwrap().ticket
}

#[tokio::test]
async fn an_expired_ticket_says_that_the_login_must_begin_again() {
    let clock = ManualClock::new();
    let (_supervisor, sessions) = with_logins(&clock).await;
    let ticket = ticket(&sessions).await;
    clock.advance(Policy::default().login_ttl).await;
    let error = sessions.finish_login(&ticket, BACK).await.map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::Refused(Refusal::ChallengeExpired),
        "the grant was refused: the ticket is too old; begin the login again",
    );
}

#[tokio::test]
async fn a_ticket_of_a_process_with_other_keys_says_so() {
    let clock = ManualClock::new();
    let (_supervisor, sessions) = with_logins(&clock).await;
    let (_other, others) = with_logins(&clock).await;
    let ticket = ticket(&others).await;
    let error = sessions.finish_login(&ticket, BACK).await.map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: the ticket was sealed with a key that is not in this process's key ring; \
         begin the login again, and give every process the same key ring \
         (`SupervisorBuilder::key_ring`)",
    );
}
