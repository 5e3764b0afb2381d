//! Logins that fail, and the state of the session after each.

use std::error::Error as _;
use std::time::Duration;

use session_warden::error::{ExchangeOutcome, Refusal};
use session_warden::policy::ProviderLimits;
use session_warden::provider::oauth2::Password;
use session_warden::testing::{FakeLogin, Fault, StoreCall};
use session_warden::ticket::{Ticket, TicketFault};
use session_warden::{Error, ErrorKind};

use super::*;
use crate::support::SECOND;

const TOO_LATE: ErrorKind = ErrorKind::Refused(Refusal::ChallengeExpired);

/// The fault of a ticket, by the error that its user got.
fn fault(refused: &Error) -> TicketFault {
    *refused.source().unwrap().downcast_ref().unwrap()
}

fn refused(finished: Result<()>) -> (ErrorKind, TicketFault) {
    let error = finished.unwrap_err();
    (error.kind(), fault(&error))
}

/// A login whose browser has come back.
async fn come_back() -> (LoginFixture, Login, String) {
    let fixture = LoginFixture::new().await;
    let login = fixture.begin("device").await;
    let back = follow(&login).await;
    (fixture, login, back)
}

#[tokio::test]
async fn an_altered_ticket_is_refused_whatever_was_altered() {
    let (fixture, login, back) = come_back().await;
    let text = login.ticket.as_str();
    for at in (4..text.len()).step_by(7) {
        let mut altered = text.to_owned().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let ticket = Ticket::parse(String::from_utf8(altered).unwrap()).unwrap();
        let error = fixture.sessions.finish_login(&ticket, &back).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "at {at}");
        let told = [TicketFault::Altered, TicketFault::Malformed, TicketFault::UnknownKey];
        assert!(told.contains(&fault(&error)), "at {at}: {error:?}");
    }
    assert_eq!(fixture.codes(), 0);
    fixture.finish(&login, &back).await.unwrap();
}

#[tokio::test]
async fn a_ticket_serves_until_it_expires_and_not_at_that_moment() {
    for (left, good) in [(SECOND, true), (Duration::ZERO, false)] {
        let (fixture, login, back) = come_back().await;
        fixture.clock.advance(Policy::default().login_ttl - left).await;
        let finished = fixture.finish(&login, &back).await;
        if good {
            finished.unwrap();
        } else {
            assert_eq!(refused(finished), (TOO_LATE, TicketFault::Expired));
        }
        assert_eq!(fixture.codes(), u64::from(good));
    }
}

#[tokio::test]
async fn a_ticket_is_of_no_use_to_another_provider_or_another_session() {
    let (fixture, login, back) = come_back().await;
    let other: Sessions<OAuth2> = fixture.supervisor.sessions("other").unwrap();
    let invalid = |fault| (ErrorKind::InvalidInput, fault);
    let at_other = finish(&other, &login, &back).await;
    assert_eq!(refused(at_other), invalid(TicketFault::OtherProvider));
    for (session, fault) in [
        (fixture.sessions.session(key("another")), TicketFault::OtherSession),
        (other.session(key("device")), TicketFault::OtherProvider),
    ] {
        let finished = session.finish_login(&login.ticket, &back).await.map(drop);
        assert_eq!(refused(finished), invalid(fault));
    }
    assert_eq!(fixture.codes(), 0);
    let _ =
        fixture.sessions.session(key("device")).finish_login(&login.ticket, &back).await.unwrap();
}

#[tokio::test]
async fn a_ticket_that_was_used_is_used_up_whatever_became_of_the_code() {
    let (fixture, login, back) = come_back().await;
    fixture.finish(&login, &back).await.unwrap();
    let again = fixture.finish(&login, &back).await;
    assert_eq!((refused(again), fixture.codes()), ((TOO_LATE, TicketFault::Used), 1));
    assert_eq!(fixture.server.grants_revoked(), 0, "a code that comes twice would end the grant");

    let lost = [Fault::DropAfterCommit, Fault::Html, Fault::StatusAfterCommit(502)];
    for lost in lost {
        let (fixture, login, back) = come_back().await;
        fixture.server.fail_next(Endpoint::AuthorizationCode, lost);
        let error = fixture.finish(&login, &back).await.unwrap_err();
        assert_eq!(error.outcome(), Some(ExchangeOutcome::Ambiguous));
        let again = fixture.finish(&login, &back).await;
        assert_eq!((refused(again), fixture.codes()), ((TOO_LATE, TicketFault::Used), 1));
    }

    let (fixture, login, back) = come_back().await;
    let expired = Fault::OAuthError { status: 400, code: "invalid_grant".to_owned() };
    fixture.server.fail_next(Endpoint::AuthorizationCode, expired);
    let error = fixture.finish(&login, &back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::GrantExpired));
    let again = fixture.finish(&login, &back).await;
    assert_eq!((refused(again), fixture.codes()), ((TOO_LATE, TicketFault::Used), 1));
}

/// A user presses the button again and again.
#[tokio::test]
async fn of_many_who_finish_a_login_at_once_one_sends_the_code() {
    let (fixture, login, back) = come_back().await;
    let finishing = crate::support::callers(50, || {
        let (sessions, ticket, back) =
            (fixture.sessions.clone(), login.ticket.clone(), back.clone());
        async move { sessions.finish_login(&ticket, &back).await.map(drop) }
    });
    let finished = finishing.join_all().await;
    let (done, refused): (Vec<_>, Vec<_>) = finished.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), fixture.codes()), (1, 1));
    for refused in refused {
        assert_eq!(fault(&refused.unwrap_err()), TicketFault::Used);
    }
}

/// Somebody sends a user the link of another login: that one's answer is refused, and the user's
/// own login can still be finished.
#[tokio::test]
async fn the_answer_to_another_login_does_not_use_up_the_ticket() {
    let (fixture, login, back) = come_back().await;
    let strangers = follow(&fixture.begin("stranger").await).await;
    let without = BACK.to_owned() + "&code=x";
    for forged in [strangers, without] {
        let error = fixture.finish(&login, &forged).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused(Refusal::LoginStateMismatch), "{forged}");
    }
    for nothing in ["", BACK, "https://app.example/back?from=login#nothing"] {
        let error = fixture.finish(&login, nothing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{nothing}");
    }
    assert_eq!(fixture.codes(), 0);
    fixture.finish(&login, &back).await.unwrap();
}

#[tokio::test]
async fn what_the_user_or_the_server_said_instead_of_a_code_is_told_and_nothing_is_sent() {
    let cases = [
        ("access_denied", ErrorKind::Refused(Refusal::NotPermitted)),
        ("login_required", ErrorKind::Refused(Refusal::Other)),
        ("temporarily_unavailable", ErrorKind::RetryLater),
        ("unauthorized_client", ErrorKind::Misconfigured),
    ];
    for (code, kind) in cases {
        let fixture = LoginFixture::new().await;
        fixture.server.set_login(FakeLogin::deny(code));
        let login = fixture.begin("device").await;
        let error = fixture.finish(&login, &follow(&login).await).await.unwrap_err();
        assert_eq!((error.kind(), error.provider_code()), (kind, Some(code)));
        assert_eq!((fixture.codes(), fixture.server.count(Endpoint::Token)), (0, 0));
        // The user thinks better of it.
        fixture.server.set_login(FakeLogin::approve("ada"));
        fixture.finish(&login, &follow(&login).await).await.unwrap();
    }
}

#[tokio::test]
async fn a_ring_without_the_key_and_one_with_another_key_of_its_number_open_nothing() {
    let (fixture, login, back) = come_back().await;
    for (other, fault) in
        [(ring(2, 7), TicketFault::UnknownKey), (ring(1, 8), TicketFault::Altered)]
    {
        let beside = fixture.beside(&other).await;
        let finished = finish(&beside, &login, &back).await;
        assert_eq!(refused(finished), (ErrorKind::InvalidInput, fault));
    }
    assert_eq!(fixture.codes(), 0);
}

#[tokio::test]
async fn a_login_of_one_application_is_not_finished_by_another_that_shares_its_keys() {
    let (fixture, login, back) = come_back().await;
    let named = Supervisor::builder()
        .application("another")
        .clock(fixture.clock.clone())
        .key_ring(fixture.ring.clone())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("oauth2", logging_in(&fixture.server))
        .start()
        .await
        .unwrap();
    let finished = finish(&named.sessions("oauth2").unwrap(), &login, &back).await;
    assert_eq!(refused(finished), (ErrorKind::InvalidInput, TicketFault::Altered));
    assert_eq!(fixture.codes(), 0);
    assert!(login.ticket.fits_cookie());
    fixture.finish(&login, &back).await.unwrap();
}

#[tokio::test]
async fn a_ring_that_is_reloaded_opens_what_its_older_keys_sealed_until_they_are_removed() {
    let (fixture, old, old_back) = come_back().await;
    let older = fixture.begin("other").await;
    let both = ring(1, 7).with(2, MasterKey::from([8; 32])).unwrap();
    fixture.ring.reload(both);
    fixture.finish(&old, &old_back).await.unwrap();
    let new = fixture.begin("new").await;
    fixture.supervisor.keys().reload(ring(2, 8));
    fixture.finish(&new, &follow(&new).await).await.unwrap();
    let finished = fixture.finish(&older, &follow(&older).await).await;
    assert_eq!(refused(finished), (ErrorKind::InvalidInput, TicketFault::UnknownKey));
    assert_eq!(fixture.codes(), 2);
}

/// The code of one server goes to no other, nor to another client.
#[tokio::test]
async fn a_login_is_over_when_its_provider_is_replaced_by_that_of_another_server_or_client() {
    let (fixture, login, back) = come_back().await;
    let elsewhere = FakeAuthServer::builder().clock(fixture.clock.clone()).start().await.unwrap();
    let token = format!("{}/token", fixture.server.url());
    let another = OAuth2::new(&token, "another").unwrap().client_secret_basic("secret");
    let another = another.redirect_uri(BACK).unwrap();
    let original = logging_in(&fixture.server);
    for provider in [logging_in(&elsewhere), another] {
        fixture.sessions.replace(provider).await.unwrap();
        let error = fixture.finish(&login, &back).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!((fixture.codes(), elsewhere.counts().connections), (0, 0));
    // The ticket is not used up, and a new secret of the same client changes nothing for users.
    fixture.server.set_client_secret("client", "new");
    fixture.sessions.replace(original.client_secret_basic("new")).await.unwrap();
    fixture.finish(&login, &back).await.unwrap();
}

#[tokio::test]
async fn a_ticket_whose_code_was_not_sent_is_given_back() {
    let (fixture, login, back) = come_back().await;
    fixture.faults.fail_next(StoreCall::Load, 1);
    let error = fixture.finish(&login, &back).await.unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::Store, Some(ExchangeOutcome::NotSent)));
    fixture.clock.advance(2 * SECOND).await;

    fixture.faults.fail_next(StoreCall::Claim, 1);
    let error = fixture.finish(&login, &back).await.unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::Store, Some(ExchangeOutcome::NotSent)));

    assert_eq!(fixture.codes(), 0);
    fixture.finish(&login, &back).await.unwrap();
    assert_eq!(fixture.codes(), 1);
}

/// 1. A session lives here. 2. Its user signs in to it at another process. 3. A login ends here,
/// whose claim finds that one's record.
#[tokio::test]
async fn a_login_that_ends_after_another_processes_takes_its_place() {
    let (fixture, login, back) = come_back().await;
    let beside = fixture.beside(&fixture.ring).await;
    let (here, there) = (fixture.sessions.session(key("device")), beside.session(key("device")));
    for session in [&here, &there] {
        let _ = session.establish(Password::new("ada", "ok")).await.unwrap();
    }
    fixture.finish(&login, &back).await.unwrap();
    assert_eq!((fixture.codes(), here.permission_token().await.unwrap().epoch()), (1, 3));
    // So does a grant of the other's, in its turn.
    let _ = there.establish(Password::new("ada", "ok")).await.unwrap();
    assert_eq!(there.permission_token().await.unwrap().epoch(), 4);
    assert_eq!(fixture.server.count(Endpoint::Password), 3);
}

/// Sixteen others sign in to the same session, and there is no room for one more.
#[tokio::test]
async fn a_ticket_whose_code_found_no_room_in_the_queue_is_given_back() {
    let (fixture, login, back) = come_back().await;
    fixture.server.fail_next(Endpoint::Password, Fault::HoldBeforeProcessing);
    let session = fixture.sessions.session(key("device"));
    let signing_in = |count| {
        crate::support::callers(count, || {
            let session = session.clone();
            async move { session.establish(Password::new("ada", "ok")).await.map(drop) }
        })
    };
    let first = signing_in(1);
    fixture.server.held(1).await;
    let others = signing_in(Policy::default().max_queued_grants);
    fixture.clock.advance(Duration::ZERO).await;
    let error = fixture.finish(&login, &back).await.unwrap_err();
    let seen = (error.kind(), error.outcome());
    assert_eq!(seen, (ErrorKind::Capacity, Some(ExchangeOutcome::NotSent)));
    fixture.server.release();
    for signed_in in [first, others] {
        assert!(signed_in.join_all().await.iter().all(Result::is_ok));
    }
    fixture.finish(&login, &back).await.unwrap();
}

/// 1. The server rejects the client, and later takes it again. 2. Users go on to log in, and
/// nobody else does anything. The first whose time has come is the probe.
#[tokio::test]
async fn a_client_that_the_server_takes_again_is_found_out_by_those_who_log_in() {
    let (fixture, login, back) = come_back().await;
    fixture.server.set_client_secret("client", "another");
    let error = fixture.finish(&login, &back).await.unwrap_err();
    assert_eq!(error.provider_code(), Some("invalid_client"));
    fixture.server.set_client_secret("client", "secret");
    let probe = ProviderLimits::default().probe;
    let early = fixture.sessions.begin_login(key("device"), LoginOptions::new()).await;
    assert_eq!(early.unwrap_err().kind(), ErrorKind::Misconfigured);
    fixture.clock.advance(probe).await;
    let login = fixture.begin("device").await;
    fixture.clock.advance(20 * SECOND).await;
    fixture.finish(&login, &follow(&login).await).await.unwrap();
}

#[tokio::test]
async fn a_supervisor_that_shuts_down_begins_and_finishes_no_logins() {
    let (fixture, login, back) = come_back().await;
    assert!(fixture.supervisor.shutdown(SECOND).await.is_clean());
    assert_eq!(fixture.finish(&login, &back).await.unwrap_err().kind(), ErrorKind::ShuttingDown);
    let begun = fixture.sessions.begin_login(key("device"), LoginOptions::new()).await;
    assert_eq!(begun.unwrap_err().kind(), ErrorKind::ShuttingDown);
    assert_eq!(fixture.codes(), 0);
    let beside = fixture.beside(&fixture.ring).await;
    finish(&beside, &login, &back).await.unwrap();
}

/// Four logins of two sessions are under way, and everybody sends everything everywhere.
#[tokio::test]
async fn of_all_tickets_redirects_and_sessions_only_those_of_one_login_fit_together() {
    let fixture = LoginFixture::new().await;
    let mut logins = Vec::new();
    for name in ["one", "two", "one", "two"] {
        let login = fixture.begin(name).await;
        let back = follow(&login).await;
        logins.push((name, login, back));
    }
    for (at, (_, _, back)) in logins.iter().enumerate() {
        for (of, (name, login, _)) in logins.iter().enumerate() {
            for session in ["one", "two", "three"].map(|name| fixture.sessions.session(key(name))) {
                let is_its_own = session.id().key() == &key(name);
                if is_its_own && at == of {
                    continue;
                }
                let refused = session.finish_login(&login.ticket, back).await.map(drop);
                let kind = match is_its_own {
                    true => ErrorKind::Refused(Refusal::LoginStateMismatch),
                    false => ErrorKind::InvalidInput,
                };
                assert_eq!(refused.unwrap_err().kind(), kind, "{at} {of}");
            }
        }
    }
    assert_eq!(fixture.codes(), 0);
    for (name, login, back) in &logins {
        let session = fixture.sessions.session(key(name));
        let _ = session.finish_login(&login.ticket, back).await.unwrap();
    }
    assert_eq!(fixture.codes(), 4);
}
