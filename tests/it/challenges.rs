//! Second factors: a ticket carries the challenge, and the answer is one more grant.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::response;
use serde::{Deserialize, Serialize};
use session_warden::error::{LostReason, Refusal, Result};
use session_warden::policy::Policy;
use session_warden::provider::{
    ExchangeError, FailureClass, HttpSender, Issued, Provider, Rejection, Revoked, Rotation,
};
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::secret::Secret;
use session_warden::session::State;
use session_warden::store::MemoryStore;
use session_warden::supervisor::Sessions;
use session_warden::testing::{Chaos, ManualClock};
use session_warden::ticket::{Ticket, TicketFault};
use session_warden::token::{Placement, Tokens};
use session_warden::{Error, ErrorKind, Establishment, Session, Supervisor};
use url::Url;

use crate::support::{SECOND, key, until};

const CODE: &str = "canary-271828";
const PASSWORD: &str = "canary-password";
const CANARY: &str = "canary";

const WRONG_CODE: ErrorKind = ErrorKind::Refused(Refusal::WrongCode);
const TOO_LATE: ErrorKind = ErrorKind::Refused(Refusal::ChallengeExpired);

/// A bank that asks for a code after the password. It needs no server.
#[derive(Clone)]
struct Bank {
    authority: Url,
    client: &'static str,
    /// For how long a code may be given; the policy's time if none.
    patience: Option<Duration>,
    passwords: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
    refreshes: Arc<AtomicU64>,
}

enum Step {
    Password(String),
    /// A device that is known needs no second factor.
    Known,
    Answer {
        ticket: Ticket,
        code: String,
    },
}

struct CodeWanted {
    ticket: Ticket,
}

/// The data that the bank wants back with the code.
#[derive(Serialize, Deserialize)]
struct Sealed {
    transaction: String,
}

impl Bank {
    fn new() -> Self {
        Self {
            authority: Url::parse("https://bank.example/").unwrap(),
            client: "client",
            patience: None,
            passwords: Arc::default(),
            answers: Arc::default(),
            refreshes: Arc::default(),
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.passwords.load(Ordering::Relaxed), self.answers.load(Ordering::Relaxed))
    }

    fn tokens(&self, sender: &HttpSender<'_>) -> Tokens<()> {
        let access = format!("{CANARY}-access-{}", self.refreshes.load(Ordering::Relaxed));
        let tokens = Tokens::new(()).with_access_token(access, Some(sender.expires_in(60.0)));
        tokens.with_refresh_token(format!("{CANARY}-refresh"), None)
    }
}

fn refused(refusal: Refusal) -> ExchangeError {
    ExchangeError::new(FailureClass::Refused(refusal))
}

impl Provider for Bank {
    type Grant = Step;
    type Challenge = CodeWanted;
    type Attributes = ();

    fn authority_url(&self) -> &Url {
        &self.authority
    }

    fn client_id(&self) -> &str {
        self.client
    }

    fn refresh_token_rotation(&self) -> Rotation {
        Rotation::Static
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn establish(
        &self,
        sender: &HttpSender<'_>,
        grant: Step,
    ) -> std::result::Result<Issued<Self>, ExchangeError> {
        match grant {
            Step::Known => Ok(Issued::Tokens(self.tokens(sender))),
            Step::Password(password) => {
                let before = self.passwords.fetch_add(1, Ordering::Relaxed);
                if password != PASSWORD {
                    return Err(refused(Refusal::WrongCredentials));
                }
                let sealed = Sealed { transaction: format!("{CANARY}-{before}") };
                let ticket = sender.seal(&sealed, self.patience)?;
                Ok(Issued::Challenge(CodeWanted { ticket }))
            }
            Step::Answer { ticket, code } => {
                let sealed: Sealed = sender.open(&ticket)?;
                assert!(sealed.transaction.starts_with(CANARY));
                self.answers.fetch_add(1, Ordering::Relaxed);
                if code != CODE {
                    return Err(refused(Refusal::WrongCode));
                }
                Ok(Issued::Tokens(self.tokens(sender)))
            }
        }
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        _: &Secret,
        _: &Tokens<()>,
    ) -> std::result::Result<Tokens<()>, ExchangeError> {
        self.refreshes.fetch_add(1, Ordering::Relaxed);
        Ok(self.tokens(sender))
    }

    async fn revoke(
        &self,
        _: &HttpSender<'_>,
        _: &Tokens<()>,
    ) -> std::result::Result<Revoked, ExchangeError> {
        Ok(Revoked::AtServer)
    }

    fn rejection(&self, response: &response::Parts, _: &[u8]) -> Rejection {
        if response.status == 410 { Rejection::SessionDead } else { Rejection::None }
    }
}

/// A process whose users have two factors.
struct BankFixture {
    bank: Bank,
    clock: ManualClock,
    store: MemoryStore,
    supervisor: Supervisor,
    session: Session<Bank>,
}

impl BankFixture {
    async fn new() -> Self {
        Self::of(Bank::new()).await
    }

    async fn of(bank: Bank) -> Self {
        Self::start(bank, &ManualClock::new(), &MemoryStore::new(), 7).await
    }

    async fn start(bank: Bank, clock: &ManualClock, store: &MemoryStore, ring: u8) -> Self {
        let supervisor = Supervisor::builder()
            .clock(clock.clone())
            .store(store.clone())
            .key_ring(KeyRing::new(1, MasterKey::from([ring; 32])))
            .provider("bank", bank.clone())
            .start()
            .await
            .unwrap();
        let session = supervisor.sessions("bank").unwrap().session(key("device"));
        let (clock, store) = (clock.clone(), store.clone());
        Self { bank, clock, store, supervisor, session }
    }

    /// Another process on the same store and with the same key.
    async fn beside(&self) -> Self {
        Self::start(self.bank.clone(), &self.clock, &self.store, 7).await
    }

    fn all(&self) -> Sessions<Bank> {
        self.supervisor.sessions("bank").unwrap()
    }

    async fn challenge(&self) -> Ticket {
        challenge(&self.session).await
    }

    async fn answer(&self, ticket: &Ticket, code: &str) -> Result<()> {
        answer(&self.session, ticket, code).await
    }

    async fn state(&self) -> State {
        self.session.status().await.unwrap().state
    }
}

async fn challenge(session: &Session<Bank>) -> Ticket {
    match session.establish(Step::Password(PASSWORD.to_owned())).await.unwrap() {
        Establishment::Challenge(CodeWanted { ticket }) => ticket,
        Establishment::Active(()) => panic!("the bank asks for a code"),
    }
}

async fn answer(session: &Session<Bank>, ticket: &Ticket, code: &str) -> Result<()> {
    // The ticket comes back as text, from a cookie or a form.
    let (ticket, code) = (ticket.as_str().parse().unwrap(), code.to_owned());
    match session.establish(Step::Answer { ticket, code }).await? {
        Establishment::Active(()) => Ok(()),
        Establishment::Challenge(_) => panic!("there is no third factor"),
    }
}

fn fault(error: &Error) -> Option<TicketFault> {
    error.source()?.downcast_ref().copied()
}

#[tokio::test]
async fn a_challenge_is_answered_in_another_request() {
    let fixture = BankFixture::new().await;
    let ticket = fixture.challenge().await;
    assert_eq!(fixture.state().await, State::Challenged);
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEstablished);
    fixture.clock.advance(60 * SECOND).await;
    let request = fixture.all().session(key("device"));
    answer(&request, &ticket, CODE).await.unwrap();
    assert_eq!(fixture.state().await, State::Active);
    assert_eq!(request.permission_token().await.unwrap().epoch(), 1);
    assert_eq!(fixture.bank.counts(), (1, 1));
}

#[tokio::test]
async fn a_challenge_outlives_its_actor_and_its_supervisor_actor() {
    let fixture = BankFixture::new().await;
    let ticket = fixture.challenge().await;
    let chaos = Chaos::of(&fixture.supervisor);
    // A session that is not at work may have no actor.
    let _ = chaos.kill_session(fixture.session.id());
    fixture.clock.advance(2 * SECOND).await;
    assert!(chaos.kill_supervisor());
    fixture.clock.advance(2 * SECOND).await;
    assert_eq!(fixture.state().await, State::Challenged);
    until(&fixture.clock, fixture.answer(&ticket, CODE)).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
    assert_eq!(fixture.bank.counts(), (1, 1));
}

#[tokio::test]
async fn a_challenge_is_answered_at_another_process_and_after_the_end_of_the_first() {
    for ends_first in [false, true] {
        let fixture = BankFixture::new().await;
        let ticket = fixture.challenge().await;
        if ends_first {
            assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
        }
        let beside = fixture.beside().await;
        beside.answer(&ticket, CODE).await.unwrap();
        assert_eq!(beside.session.permission_token().await.unwrap().epoch(), 1);
        assert_eq!(fixture.bank.counts(), (1, 1));
    }
}

#[tokio::test]
async fn a_wrong_answer_leaves_the_ticket_good_however_often_it_is_given() {
    let fixture = BankFixture::new().await;
    let ticket = fixture.challenge().await;
    for _ in 0..10 {
        let error = fixture.answer(&ticket, "wrong").await.unwrap_err();
        assert_eq!((error.kind(), error.session()), (WRONG_CODE, Some(fixture.session.id())));
        let error = fixture.session.permission_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotEstablished);
    }
    fixture.answer(&ticket, CODE).await.unwrap();
    assert_eq!(fixture.bank.counts(), (1, 11));
}

#[tokio::test]
async fn a_challenge_expires_by_the_policy_or_earlier_where_the_provider_says_so() {
    let policy = Policy::default().challenge_ttl;
    for (patience, life) in
        [(None, policy), (Some(90 * SECOND), 90 * SECOND), (Some(2 * policy), policy)]
    {
        let fixture = BankFixture::of(Bank { patience, ..Bank::new() }).await;
        let ticket = fixture.challenge().await;
        fixture.clock.advance(life - SECOND).await;
        assert_eq!(fixture.answer(&ticket, "wrong").await.unwrap_err().kind(), WRONG_CODE);
        fixture.clock.advance(SECOND).await;
        let error = fixture.answer(&ticket, CODE).await.unwrap_err();
        assert_eq!((error.kind(), fault(&error)), (TOO_LATE, Some(TicketFault::Expired)));
        assert_eq!((fixture.bank.counts(), fixture.state().await), ((1, 1), State::Vacant));
        // A new password brings a new ticket.
        let ticket = fixture.challenge().await;
        fixture.answer(&ticket, CODE).await.unwrap();
    }
}

#[tokio::test]
async fn a_ticket_of_another_session_or_from_another_ring_is_refused_and_nothing_is_asked() {
    let fixture = BankFixture::new().await;
    let ticket = fixture.challenge().await;
    let others = fixture.all().session(key("another"));
    let error = answer(&others, &ticket, CODE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(fault(&error), Some(TicketFault::OtherSession));
    let (clock, store) = (&fixture.clock, &fixture.store);
    let stranger = BankFixture::start(fixture.bank.clone(), clock, store, 8).await;
    let error = stranger.answer(&ticket, CODE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(fault(&error), Some(TicketFault::Altered));
    assert_eq!(fixture.bank.counts(), (1, 0));
    fixture.answer(&ticket, CODE).await.unwrap();
}

/// The answer to one server's challenge goes to no other, nor to another client of it.
#[tokio::test]
async fn a_challenge_is_over_while_its_provider_is_replaced_by_another_server_or_client() {
    let fixture = BankFixture::new().await;
    let ticket = fixture.challenge().await;
    let bank = || fixture.bank.clone();
    let authority = Url::parse("https://elsewhere.example/").unwrap();
    for other in [Bank { authority, ..bank() }, Bank { client: "another", ..bank() }] {
        fixture.all().replace(other).await.unwrap();
        let error = fixture.answer(&ticket, CODE).await.unwrap_err();
        assert_eq!((error.kind(), fault(&error)), (ErrorKind::InvalidInput, None));
        assert_eq!(fixture.bank.counts(), (1, 0));
    }
    // The ticket is not used up, and other settings of the same client change nothing for users.
    fixture.all().replace(Bank { patience: Some(SECOND), ..bank() }).await.unwrap();
    fixture.answer(&ticket, CODE).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
}

#[tokio::test]
async fn a_live_session_serves_and_is_refreshed_while_a_second_factor_is_awaited() {
    let fixture = BankFixture::new().await;
    let _ = fixture.session.establish(Step::Known).await.unwrap();
    let ticket = fixture.challenge().await;
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
    fixture.clock.advance(60 * SECOND).await;
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (1, 2));
    fixture.answer(&ticket, "wrong").await.unwrap_err();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
    fixture.answer(&ticket, CODE).await.unwrap();
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.epoch(), token.generation()), (2, 3));
}

#[tokio::test]
async fn a_live_session_outlives_a_challenge_that_nobody_answers() {
    let fixture = BankFixture::new().await;
    let _ = fixture.session.establish(Step::Known).await.unwrap();
    fixture.challenge().await;
    fixture.clock.advance(Policy::default().challenge_ttl).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 1);
    assert_eq!(fixture.state().await, State::Active);
}

#[tokio::test]
async fn a_lost_session_stays_lost_until_its_challenge_is_answered() {
    let fixture = BankFixture::new().await;
    let _ = fixture.session.establish(Step::Known).await.unwrap();
    let used = fixture.session.permission_token().await.unwrap();
    let (gone, ()) = http::Response::builder().status(410).body(()).unwrap().into_parts();
    let _ = fixture.session.rejected(&used, &gone, b"");
    let ticket = fixture.challenge().await;
    let error = fixture.session.permission_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInAgain(LostReason::Revoked));
    fixture.answer(&ticket, CODE).await.unwrap();
    assert_eq!(fixture.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn nothing_secret_of_a_challenge_is_in_any_debug_output() {
    let fixture = BankFixture::new().await;
    let established = fixture.session.establish(Step::Password(PASSWORD.to_owned())).await.unwrap();
    let mut shown = format!("{established:?} {established:#?}");
    let Establishment::Challenge(CodeWanted { ticket }) = established else {
        panic!("the bank asks for a code")
    };
    let wrong = fixture.answer(&ticket, "canary-wrong").await.unwrap_err();
    let beside = BankFixture::start(fixture.bank.clone(), &fixture.clock, &fixture.store, 8).await;
    let altered = beside.answer(&ticket, CODE).await.unwrap_err();
    fixture.clock.advance(Policy::default().challenge_ttl).await;
    let late = fixture.answer(&ticket, CODE).await.unwrap_err();
    for error in [&wrong, &altered, &late] {
        shown += &format!("{error:?} {error} {:?}", error.source());
    }
    shown += &format!("{ticket:?} {:?} {:?}", fixture.supervisor, fixture.supervisor.keys());
    shown += &format!("{:?} {:?}", fixture.session, fixture.session.status().await.unwrap());
    assert!(shown.contains("WrongCode") && shown.contains("Altered"), "{shown}");
    for secret in [CANARY, CODE, &ticket.as_str()[4..]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
