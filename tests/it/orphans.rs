//! Responses that come after another process changed the session: their tokens are superseded.

use std::time::Duration;

use session_warden::event::EventKind;
use session_warden::provider::RevocationReach;
use session_warden::provider::oauth2::Password;
use session_warden::session::{Adopt, Revocation};
use session_warden::store::{MemoryStore, Outcome, Phase, Statement, Store};
use session_warden::testing::{Endpoint, FakeAuthServer, Fault, ManualClock, Reply, StoreCall};
use session_warden::token::Tokens;
use session_warden::{Error, ErrorKind, PermissionToken};
use tokio::task::JoinHandle;

use crate::fixtures::{OAuth2Fixture, ScriptedFixture};
use crate::support::{SECOND, provider_of, until};

/// Two processes on one store, at one server, with a session that the one established.
struct TwoProcesses {
    server: FakeAuthServer,
    clock: ManualClock,
    store: MemoryStore,
    one: OAuth2Fixture,
    other: OAuth2Fixture,
}

impl TwoProcesses {
    async fn start(reach: RevocationReach) -> Self {
        let (clock, store) = (ManualClock::new(), MemoryStore::new());
        let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
        let provider = provider_of(&server).revocation_reach(reach);
        let one = OAuth2Fixture::start_at("oauth2", provider.clone(), &store, &clock).await;
        let other = OAuth2Fixture::start_at("oauth2", provider, &store, &clock).await;
        let _ = one.session.establish(Password::new("ada", "ok")).await.unwrap();
        assert_eq!(other.session.permission_token().await.unwrap().generation(), 1);
        Self { server, clock, store, one, other }
    }

    /// The refresh of the first process, which the server has processed without a response.
    async fn refreshing(&self) -> JoinHandle<Result<PermissionToken, Error>> {
        self.server.fail_next(Endpoint::Token, Fault::HoldUntilReleased);
        let session = self.one.session.clone();
        let refreshing = tokio::spawn(async move { session.refresh().await });
        self.server.held(1).await;
        refreshing
    }

    /// The first process has new tokens that it cannot save, and the other establishes the session
    /// again.
    async fn owed_and_begun_anew(&mut self) -> PermissionToken {
        self.one.faults.fail_always(StoreCall::Commit, true);
        assert_eq!(self.one.session.refresh().await.unwrap().generation(), 2);
        self.anew(&self.other).await;
        assert_eq!((self.server.live_grants(), self.server.count(Endpoint::Revoke)), (2, 0));
        self.one.news();
        self.other.session.permission_token().await.unwrap()
    }

    /// Signs in, when the other side's lease has ended.
    async fn anew(&self, side: &OAuth2Fixture) {
        let session = side.session.clone();
        let signing_in =
            tokio::spawn(async move { session.establish(Password::new("ada", "ok")).await });
        // No longer: the server answers in real time, and is waited for by this clock.
        self.clock.advance(22 * SECOND).await;
        let _ = signing_in.await.unwrap().unwrap();
    }

    /// The tokens of the first process reach the store.
    async fn pays(&self) {
        self.one.faults.fail_always(StoreCall::Commit, false);
        while self.one.supervisor.snapshot().unsaved > 0 {
            self.clock.advance(SECOND).await;
        }
    }

    /// Waits until the server got so many revocations.
    async fn told(&self, count: u64) {
        let told = self.server.wait_for_count(Endpoint::Revoke, count);
        tokio::time::timeout(10 * SECOND, told).await.unwrap();
    }

    /// Waits until no more than so many grants are active at the server, which responds in real
    /// time.
    async fn ended(&self, left: usize) {
        let ended = async {
            while self.server.live_grants() > left {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(10 * SECOND, ended).await.unwrap();
    }

    async fn phase(&self) -> (Phase, u64) {
        let record = self.store.load(self.one.session.id()).await.unwrap().unwrap().record;
        (record.phase, record.epoch)
    }
}

#[tokio::test]
async fn an_answer_for_a_session_that_was_closed_meanwhile_is_revoked_at_the_server() {
    let mut two = TwoProcesses::start(RevocationReach::Unknown).await;
    let refreshing = two.refreshing().await;
    // The server hears nothing of the close itself, or its grant would have ended already.
    let down = Fault::Status { code: 500, retry_after: None, body: None };
    two.server.fail_next(Endpoint::Revoke, down);
    assert_eq!(two.other.session.revoke().await.unwrap(), Revocation::Queued);
    assert_eq!((two.phase().await, two.server.live_grants()), ((Phase::Closed, 1), 1));
    two.one.news();
    two.server.release();
    let late = refreshing.await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotEstablished);
    assert_eq!((two.server.live_grants(), two.server.count(Endpoint::Revoke)), (0, 2));
    assert_eq!((two.phase().await, two.one.news()), ((Phase::Closed, 1), vec![]));
    let closed = two.one.session.permission_token().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::NotEstablished);
}

#[tokio::test]
async fn an_answer_that_the_server_cannot_be_told_of_is_tried_once_and_reported() {
    let mut two = TwoProcesses::start(RevocationReach::Unknown).await;
    let refreshing = two.refreshing().await;
    let down = Fault::Status { code: 500, retry_after: None, body: None };
    two.server.fail_next_n(Endpoint::Revoke, 2, down);
    assert_eq!(two.other.session.revoke().await.unwrap(), Revocation::Queued);
    two.one.news();
    two.server.release();
    assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::NotEstablished);
    assert_eq!(two.server.count(Endpoint::Revoke), 2);
    assert_eq!(two.one.news(), [EventKind::TokensSuperseded]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_a_late_answers_callers_for_the_budget_alone() {
    let mut two = TwoProcesses::start(RevocationReach::Unknown).await;
    let refreshing = two.refreshing().await;
    let down = Fault::Status { code: 500, retry_after: None, body: None };
    two.server.fail_next(Endpoint::Revoke, down);
    assert_eq!(two.other.session.revoke().await.unwrap(), Revocation::Queued);
    two.server.fail_next(Endpoint::Revoke, Fault::HoldBeforeProcessing);
    two.one.news();
    two.server.release();
    two.told(2).await;
    assert!(!refreshing.is_finished());
    two.clock.advance(10 * SECOND).await;
    assert_eq!(refreshing.await.unwrap().unwrap_err().kind(), ErrorKind::NotEstablished);
    assert_eq!(two.one.news(), [EventKind::TokensSuperseded]);
}

#[tokio::test]
async fn tokens_that_were_owed_when_their_session_was_closed_are_revoked() {
    let two = TwoProcesses::start(RevocationReach::Unknown).await;
    two.one.faults.fail_always(StoreCall::Commit, true);
    assert_eq!(two.one.session.refresh().await.unwrap().generation(), 2);
    let down = Fault::Status { code: 500, retry_after: None, body: None };
    two.server.fail_next(Endpoint::Revoke, down);
    assert_eq!(until(&two.clock, two.other.session.revoke()).await.unwrap(), Revocation::Queued);
    assert_eq!((two.phase().await, two.server.live_grants()), ((Phase::Closed, 1), 1));
    // The other process ended before it revoked at the server: this process revokes.
    let _ = two.other.supervisor.shutdown(Duration::ZERO).await;
    two.pays().await;
    two.ended(0).await;
    assert_eq!(two.phase().await, (Phase::Closed, 1));
}

#[tokio::test]
async fn tokens_of_a_former_grant_are_reported_where_a_revocation_may_end_the_new_one() {
    let mut two = TwoProcesses::start(RevocationReach::Unknown).await;
    let winner = two.owed_and_begun_anew().await;
    two.pays().await;
    assert_eq!(two.one.news(), [EventKind::TokensSuperseded]);
    assert_eq!((two.server.live_grants(), two.server.count(Endpoint::Revoke)), (2, 0));
    assert!(two.server.is_active(winner.expose_secret()));
    assert_eq!(two.one.session.permission_token().await.unwrap().epoch(), 2);
}

#[tokio::test]
async fn tokens_of_a_former_grant_are_revoked_where_that_ends_them_alone_and_the_new_ones_live() {
    let mut two = TwoProcesses::start(RevocationReach::OneGrant).await;
    let winner = two.owed_and_begun_anew().await;
    two.pays().await;
    two.ended(1).await;
    until(&two.clock, two.one.session.permission_token()).await.unwrap();
    assert_eq!((two.server.live_grants(), two.server.count(Endpoint::Revoke)), (1, 1));
    assert!(two.server.is_active(winner.expose_secret()));
    assert_eq!(two.one.news(), []);
    let newer = two.other.session.refresh().await.unwrap();
    assert_eq!((newer.epoch(), two.phase().await), (2, (Phase::Active, 2)));
}

#[tokio::test]
async fn tokens_that_are_owed_before_a_grant_are_told_of_before_it_is_claimed() {
    let two = TwoProcesses::start(RevocationReach::OneGrant).await;
    two.one.faults.fail_always(StoreCall::Commit, true);
    assert_eq!(two.one.session.refresh().await.unwrap().generation(), 2);
    two.anew(&two.other).await;
    two.one.faults.fail_always(StoreCall::Commit, false);
    two.server.fail_next(Endpoint::Revoke, Fault::HoldBeforeProcessing);
    let session = two.one.session.clone();
    let granted = tokio::spawn(async move { session.establish(Password::new("ada", "ok")).await });
    two.told(1).await;
    assert_eq!(two.phase().await, (Phase::Active, 2), "nothing is claimed");
    two.server.release();
    let _ = until(&two.clock, granted).await.unwrap().unwrap();
    assert_eq!((two.phase().await, two.server.count(Endpoint::Revoke)), ((Phase::Active, 3), 1));
    let token = two.one.session.permission_token().await.unwrap();
    assert!(two.server.is_active(token.expose_secret()));
}

#[tokio::test]
async fn tokens_of_a_session_that_was_forgotten_meanwhile_are_reported_and_not_revoked() {
    let mut fixture = ScriptedFixture::expired().await;
    fixture.script.refresh(Reply::Hold);
    let mut callers = fixture.callers(1).await;
    fixture.script.held(1).await;
    fixture.news();
    let deleted = fixture.store.apply(fixture.session.id(), Statement::Delete).await.unwrap();
    assert!(matches!(deleted, Outcome::Done(_)));
    fixture.script.release();
    until(&fixture.clock, callers.join_next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (fixture.news(), fixture.script.revocations()),
        (vec![EventKind::TokensSuperseded], 0)
    );
}

#[tokio::test]
async fn tokens_that_somebody_adopts_too_late_are_still_that_bodys_own() {
    let mut fixture = ScriptedFixture::established().await;
    fixture.faults.hold(StoreCall::Commit);
    let session = fixture.session.clone();
    let tokens =
        Tokens::new(()).with_access_token("access", None).with_refresh_token("refresh", None);
    let adopting = tokio::spawn(async move { session.adopt(tokens, Adopt::Replace).await });
    fixture.clock.advance(Duration::ZERO).await;
    assert!(fixture.record().await.lease.is_some());
    let deleted = fixture.store.apply(fixture.session.id(), Statement::Delete).await.unwrap();
    assert!(matches!(deleted, Outcome::Done(_)));
    fixture.faults.release(StoreCall::Commit);
    let late = until(&fixture.clock, adopting).await.unwrap().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Superseded);
    assert_eq!((fixture.news(), fixture.script.revocations()), (vec![], 0));
}
