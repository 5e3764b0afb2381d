//! Tokens that the backend already has become a session, and can be exported again.

use std::time::{Duration, SystemTime};

use session_warden::error::LostReason;
use session_warden::event::EventKind;
use session_warden::policy::Policy;
use session_warden::provider::oauth2::{Attributes, OAuth2};
use session_warden::provider::{FailureClass, Registration};
use session_warden::session::{Adopt, Adopted, State};
use session_warden::store::{MemoryStore, Phase, Store};
use session_warden::testing::{
    Chaos, FakeAuthServer, FakeProvider, ManualClock, Reply, ScriptedProvider, StoreCall,
};
use session_warden::token::Tokens;
use session_warden::{ErrorKind, Supervisor};

use crate::fixtures::{ScriptedFixture, kind};
use crate::fixtures::{established, fixture, fixture_of};
use crate::support::{LIFE, SECOND, key, until};

fn tokens(name: &str, wall: SystemTime) -> Tokens {
    Tokens::new(())
        .with_access_token(format!("access-{name}"), Some(wall + LIFE))
        .with_refresh_token(format!("refresh-{name}"), Some(wall + 100 * LIFE))
}

#[tokio::test]
async fn adopted_tokens_are_a_session_without_a_word_to_the_server() {
    let mut fixture = fixture().await;
    let adopted =
        fixture.session.adopt(tokens("own", fixture.wall()), Adopt::IfVacant).await.unwrap();
    assert_eq!(adopted, Adopted::Yes);
    assert_eq!(fixture.happened().await, [EventKind::Established]);
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.epoch(), token.generation()), ("access-own", 1, 1));
    assert_eq!(token.header().unwrap().1, "Bearer access-own");
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.phase, record.lease), (Phase::Active, None));
    assert_eq!(record.credentials.unwrap().authority(), "https://scripted.invalid/");
    assert!(record.due_at.is_some(), "its refresh token's end is to be told");
    assert_eq!((fixture.script.establishes(), fixture.script.refreshes()), (0, 0));
    fixture.clock.advance(LIFE + SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().generation(), 2);
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn tokens_without_an_access_token_are_refreshed_by_the_first_call() {
    let fixture = fixture().await;
    let tokens = Tokens::new(()).with_refresh_token("refresh-own", None);
    assert_eq!(fixture.session.adopt(tokens, Adopt::IfVacant).await.unwrap(), Adopted::Yes);
    assert_eq!(fixture.session.status().await.unwrap().state, State::Active);
    assert!(fixture.session.try_permission_token().is_none());
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.generation()), ("access-1", 2));
    assert_eq!(fixture.script.refreshes(), 1);
}

#[tokio::test]
async fn tokens_that_are_none_cannot_be_adopted() {
    let fixture = fixture().await;
    let nothing = [
        Tokens::new(()),
        Tokens::new(()).with_token_secret("secret"),
        Tokens::new(()).with_access_token("", None),
        Tokens::new(()).with_access_token("access", None).with_refresh_token("", None),
    ];
    for tokens in nothing {
        let failed = fixture.session.adopt(tokens, Adopt::Replace).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::InvalidInput);
        assert_eq!(failed.session(), Some(fixture.session.id()));
    }
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
    assert!(fixture.store.is_empty());
}

#[tokio::test]
async fn an_adoption_if_vacant_brings_nothing_back_that_was_lost_revoked_or_replaced() {
    let cases: [(&str, FailureClass, State); 2] = [
        ("in doubt", FailureClass::Ambiguous, State::InDoubt),
        ("lost", FailureClass::Rejected, State::Lost),
    ];
    for (name, class, state) in cases {
        let fixture = established().await;
        fixture.script.refresh(Reply::Fail(class));
        fixture.session.refresh().await.unwrap_err();
        assert_eq!(fixture.session.status().await.unwrap().state, state);
        let own = tokens("own", fixture.wall());
        let adopted = fixture.session.adopt(own, Adopt::IfVacant).await.unwrap();
        assert_eq!(adopted, Adopted::AlreadyThere, "{name}");
        assert_eq!(fixture.session.status().await.unwrap().state, state);
    }
    let fixture = established().await;
    let own = || tokens("own", fixture.wall());
    assert_eq!(fixture.session.adopt(own(), Adopt::IfVacant).await.unwrap(), Adopted::AlreadyThere);
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-1");
    fixture.session.revoke().await.unwrap();
    assert_eq!(fixture.session.adopt(own(), Adopt::IfVacant).await.unwrap(), Adopted::AlreadyThere);
    assert_eq!(kind(fixture.session.permission_token().await), ErrorKind::NotEstablished);
    assert_eq!(fixture.session.adopt(own(), Adopt::Replace).await.unwrap(), Adopted::Yes);
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.epoch()), ("access-own", 2));
}

#[tokio::test]
async fn a_replacement_tells_the_server_first_what_was_revoked_and_not_told() {
    let fixture = established().await;
    fixture.script.revoke(Reply::Fail(FailureClass::NotSent));
    fixture.until(fixture.session.revoke()).await.unwrap();
    assert_eq!(fixture.script.revocations(), 1);
    let own = tokens("own", fixture.wall());
    fixture.until(fixture.session.adopt(own, Adopt::Replace)).await.unwrap();
    assert_eq!(fixture.script.revocations(), 2);
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-own");
}

/// 1. A refresh is out. 2. Tokens are to be adopted in its session's place. 3. The answer comes.
/// The adoption comes after it, so the response does not replace the adopted tokens.
#[tokio::test]
async fn an_adoption_during_a_refresh_comes_after_it_and_stands() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let (session, own) = (fixture.session.clone(), tokens("own", fixture.wall()));
    let adopting = tokio::spawn(async move { session.adopt(own, Adopt::Replace).await });
    fixture.clock.advance(SECOND).await;
    assert!(!adopting.is_finished());
    fixture.script.release();
    refreshing.await.unwrap().unwrap();
    assert_eq!(adopting.await.unwrap().unwrap(), Adopted::Yes);
    let token = fixture.session.permission_token().await.unwrap();
    assert_eq!((token.expose_secret(), token.epoch(), token.generation()), ("access-own", 2, 3));
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    assert_eq!((record.epoch, record.generation), (2, 3));
}

#[tokio::test]
async fn an_adoption_whose_caller_left_before_its_turn_is_not_made() {
    let fixture = established().await;
    let refreshing = fixture.held_refresh().await;
    let (session, own) = (fixture.session.clone(), tokens("own", fixture.wall()));
    let adopting = tokio::spawn(async move { session.adopt(own, Adopt::Replace).await });
    fixture.clock.advance(SECOND).await;
    adopting.abort();
    fixture.clock.advance(SECOND).await;
    fixture.script.release();
    refreshing.await.unwrap().unwrap();
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "access-2");
}

/// 1. The claim is being written. 2. The caller goes and the actor is killed. 3. The claim is
/// there.
#[tokio::test]
async fn an_adoption_that_was_begun_ends_without_its_caller_and_its_actor() {
    let mut fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.hold(StoreCall::Claim);
    let (session, own) = (fixture.session.clone(), tokens("own", wall(&fixture)));
    let adopting = tokio::spawn(async move { session.adopt(own, Adopt::IfVacant).await });
    fixture.faults.held(StoreCall::Claim, 1).await;
    adopting.abort();
    assert!(Chaos::of(&fixture.supervisor).kill_session(fixture.session.id()));
    fixture.clock.advance(SECOND).await;
    fixture.faults.release(StoreCall::Claim);
    fixture.clock.advance(SECOND).await;
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-own");
    assert!(fixture.news().contains(&EventKind::Established));
}

#[tokio::test]
async fn an_adoption_whose_save_fails_is_served_and_saved_later() {
    let mut fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    fixture.faults.fail_next(StoreCall::Commit, 2);
    let own = tokens("own", wall(&fixture));
    assert_eq!(fixture.session.adopt(own, Adopt::IfVacant).await.unwrap(), Adopted::Yes);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-own");
    assert!(!fixture.is_saved().await);
    assert_eq!(fixture.news(), [EventKind::Established, EventKind::Unsaved]);
    fixture.clock.advance(30 * SECOND).await;
    assert_eq!(fixture.stored().await, (1, "refresh-own".to_owned()));
    assert_eq!(fixture.news(), [EventKind::Saved]);
}

#[tokio::test]
async fn an_adoption_that_cannot_be_claimed_leaves_all_as_it_was() {
    let fixture = ScriptedFixture::established().await;
    fixture.faults.fail_next(StoreCall::Claim, 1);
    let own = tokens("own", wall(&fixture));
    let failed = fixture.session.adopt(own, Adopt::Replace).await.unwrap_err();
    assert_eq!((failed.kind(), failed.is_transient()), (ErrorKind::Store, true));
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
    let own = tokens("own", wall(&fixture));
    assert_eq!(fixture.session.adopt(own, Adopt::Replace).await.unwrap(), Adopted::Yes);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-own");
}

/// Another process establishes after this one has read that there is nothing.
#[tokio::test]
async fn an_adoption_if_vacant_yields_to_what_another_process_established_meanwhile() {
    let fixture = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let other = ScriptedFixture::start(&fixture.store, &fixture.clock).await;
    fixture.faults.hold(StoreCall::Claim);
    let (session, own) = (fixture.session.clone(), tokens("own", wall(&fixture)));
    let adopting = tokio::spawn(async move { session.adopt(own, Adopt::IfVacant).await });
    fixture.faults.held(StoreCall::Claim, 1).await;
    let _ = other.session.establish(()).await.unwrap();
    fixture.faults.release(StoreCall::Claim);
    assert_eq!(adopting.await.unwrap().unwrap(), Adopted::AlreadyThere);
    assert_eq!(fixture.token().await.unwrap().expose_secret(), "access-1");
}

#[tokio::test]
async fn an_adopted_refresh_token_that_has_ended_is_reported_as_lost() {
    let mut fixture = fixture().await;
    let tokens = Tokens::new(())
        .with_refresh_token("refresh-own", Some(fixture.wall() - Duration::from_secs(1)));
    fixture.session.adopt(tokens, Adopt::IfVacant).await.unwrap();
    fixture.clock.advance(SECOND).await;
    let lost = EventKind::Lost(LostReason::RefreshExpired);
    assert_eq!(fixture.happened().await, [EventKind::Established, lost]);
    assert_eq!(fixture.script.refreshes(), 0);
}

#[tokio::test]
async fn adopted_tokens_are_bound_to_the_server_and_refreshed_there_alone() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let fixture = crate::fixtures::oauth2_fixture(&server, clock.clone()).await;
    let _ = fixture.sign_in().await.unwrap();
    let exported = fixture.session.export_secrets().await.unwrap();
    let moved = fixture.supervisor.sessions::<OAuth2>("oauth2").unwrap().session(key("moved"));
    assert_eq!(moved.adopt(exported, Adopt::IfVacant).await.unwrap(), Adopted::Yes);
    let former = fixture.session.permission_token().await.unwrap();
    let token = moved.permission_token().await.unwrap();
    assert_eq!(token.expose_secret(), former.expose_secret());
    assert_ne!(moved.refresh().await.unwrap().expose_secret(), former.expose_secret());
    let record = fixture.store.load(moved.id()).await.unwrap().unwrap().record;
    let authority = record.credentials.unwrap().authority().to_owned();
    assert_eq!(authority, format!("{}/token", server.url()));
}

#[tokio::test]
async fn a_fake_provider_adopts_what_its_provider_would() {
    let fake: Registration<OAuth2> = FakeProvider::<OAuth2>::new(Attributes::default()).into();
    let supervisor = Supervisor::builder().provider("acme", fake).start().await.unwrap();
    let session = supervisor.sessions::<OAuth2>("acme").unwrap().session(key("device"));
    let tokens = Tokens::new(Attributes::default()).with_access_token("mine", None);
    assert_eq!(session.adopt(tokens, Adopt::IfVacant).await.unwrap(), Adopted::Yes);
    assert_eq!(session.permission_token().await.unwrap().expose_secret(), "mine");
}

#[tokio::test]
async fn what_was_adopted_is_exported_again_from_memory_and_from_the_store() {
    let former = ScriptedFixture::start(&MemoryStore::new(), &ManualClock::new()).await;
    let own = tokens("own", wall(&former)).with_token_secret("secret-own");
    former.session.adopt(own, Adopt::IfVacant).await.unwrap();
    let later = ScriptedFixture::start(&former.store, &former.clock).await;
    for fixture in [&former, &later] {
        let tokens = fixture.session.export_secrets().await.unwrap();
        assert_eq!(tokens.access_token().unwrap().expose_secret(), "access-own");
        assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "refresh-own");
        assert_eq!(tokens.token_secret().unwrap().expose_secret(), "secret-own");
        assert_eq!(tokens.access_expires_at(), Some(wall(fixture) + LIFE));
        assert!(!format!("{tokens:?}").contains("own"));
    }
}

#[tokio::test]
async fn only_what_is_there_is_exported_also_of_a_lost_session() {
    let fixture = fixture_of(ScriptedProvider::new(), Policy::default()).await;
    let none = fixture.session.export_secrets().await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotEstablished);
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.script.refresh(Reply::Fail(FailureClass::Rejected));
    fixture.session.refresh().await.unwrap_err();
    let lost = fixture.session.export_secrets().await.unwrap();
    assert_eq!(lost.refresh_token().unwrap().expose_secret(), "refresh-1");
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.session.revoke().await.unwrap();
    let closed = fixture.session.export_secrets().await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::NotEstablished);
    let other = ScriptedFixture::established().await;
    let later = ScriptedFixture::start(&other.store, &other.clock).await;
    later.faults.fail_always(StoreCall::Load, true);
    let failed = until(&later.clock, later.session.export_secrets()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Store);
}

fn wall(fixture: &ScriptedFixture) -> SystemTime {
    use session_warden::clock::Clock;
    fixture.clock.now().wall
}
