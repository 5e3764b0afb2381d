//! The URLs that stored tokens are bound to. The tokens are sent nowhere else.

use session_warden::clock::Clock;
use session_warden::provider::oauth2::{RevokeAccessToken, UserInfo};
use session_warden::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Intent, Outcome, Owner, Statement, Store,
};
use session_warden::token::{Credentials, Tokens};

use super::*;
use crate::fixtures::OAuth2Fixture;

async fn server(clock: &ManualClock) -> FakeAuthServer {
    let server = FakeAuthServer::builder().clock(clock.clone()).client("client", "secret");
    server.start().await.unwrap()
}

/// A session at `server`.
async fn signed_in(server: &FakeAuthServer, clock: &ManualClock) -> OAuth2Fixture {
    let fixture = crate::fixtures::oauth2_fixture(server, clock.clone()).await;
    let _ = fixture.sign_in().await.unwrap();
    fixture
}

fn of(fixture: &OAuth2Fixture) -> Sessions<OAuth2> {
    fixture.supervisor.sessions("oauth2").unwrap()
}

async fn recorded(fixture: &OAuth2Fixture) -> String {
    let record = fixture.store.load(fixture.session.id()).await.unwrap().unwrap().record;
    record.credentials.unwrap().authority().to_owned()
}

/// Two issuers are on one host, as realms are.
#[tokio::test]
async fn a_refresh_token_of_one_issuer_goes_to_no_other_issuer_of_its_host() {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let fixture = signed_in(&server, &clock).await;
    let sent = server.counts().connections;
    for other in ["/b/token", "/token/b", "/token?realm=b", "/"] {
        let other = OAuth2::new(&format!("{}{other}", server.url()), "client").unwrap();
        of(&fixture).replace(other).await.unwrap();
        let refused = fixture.session.refresh().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    }
    let realm_a = OAuth2::discover(&format!("{}/a", server.url()), "client").unwrap();
    of(&fixture).replace(realm_a).await.unwrap();
    assert_eq!(fixture.session.refresh().await.unwrap_err().kind(), ErrorKind::Misconfigured);
    assert_eq!(server.counts().connections, sent);
    of(&fixture).replace(provider_of(&server)).await.unwrap();
    assert_eq!(fixture.session.refresh().await.unwrap().generation(), 2);
}

/// A tenant changes where user info and revocations go, and nothing else.
#[tokio::test]
async fn a_stored_token_goes_to_no_endpoint_elsewhere_that_was_not_known_when_it_was_issued() {
    let clock = ManualClock::new();
    let (server, elsewhere) = (server(&clock).await, server(&clock).await);
    let fixture = signed_in(&server, &clock).await;
    let at = |path: &str| format!("{}/{path}", elsewhere.url());
    let known = provider_of(&server);
    for moved in [
        known.clone().userinfo_endpoint(&at("userinfo")).unwrap(),
        known.clone().revocation_endpoint(&at("revoke")).unwrap(),
        known.clone().introspection_endpoint(&at("introspect")).unwrap(),
    ] {
        of(&fixture).replace(moved).await.unwrap();
        for refused in [
            fixture.session.call(UserInfo).await.map(drop),
            fixture.session.call(RevokeAccessToken).await.map(drop),
            fixture.session.refresh().await.map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured);
        }
    }
    assert_eq!(elsewhere.counts().connections, 0);
    // Beside the token endpoint it is the same server's.
    let more = known.userinfo_endpoint(&format!("{}/userinfo", server.url())).unwrap();
    of(&fixture).replace(more).await.unwrap();
    assert_eq!(fixture.session.call(UserInfo).await.unwrap()["sub"], "ada");
}

#[tokio::test]
async fn a_session_that_began_with_an_endpoint_elsewhere_uses_it_and_may_do_without() {
    let clock = ManualClock::new();
    let (server, elsewhere) = (server(&clock).await, server(&clock).await);
    let fixture = crate::fixtures::oauth2_fixture(&server, clock.clone()).await;
    let both = provider_of(&server);
    let both = both.userinfo_endpoint(&format!("{}/userinfo", elsewhere.url())).unwrap();
    of(&fixture).replace(both).await.unwrap();
    let _ = fixture.sign_in().await.unwrap();
    let bound = format!("{0}/token {1}/userinfo", server.url(), elsewhere.url());
    assert_eq!(recorded(&fixture).await, bound);
    drop(fixture.session.call(UserInfo).await);
    assert!(elsewhere.counts().connections > 0);
    of(&fixture).replace(provider_of(&server)).await.unwrap();
    let refreshes = server.refreshes();
    fixture.session.refresh().await.unwrap();
    assert_eq!(server.refreshes(), refreshes + 1);
}

/// The credentials that version 0.1.0 saved for the session of `fixture`: bound to an origin only.
async fn save_as_0_1_0_did(fixture: &OAuth2Fixture, origin: &str, refresh: &str) {
    let (store, id, now) = (&fixture.store, fixture.session.id(), fixture.clock.now());
    let epoch = store.load(id).await.unwrap().map(|found| found.record.epoch);
    let (claim, intent) = (ClaimId(9), Intent::Establish);
    let claimed = Statement::Claim(Claim {
        id: claim,
        replaces: None,
        owner: Owner(9),
        intent,
        epoch,
        generation: 0,
        lease: SECOND,
        journal: false,
    });
    let Outcome::Done(claimed) = store.apply(id, claimed).await.unwrap() else {
        panic!("the claim was not granted");
    };
    let attributes: Arc<str> = Arc::from("{}");
    let tokens = Tokens::new(attributes).with_access_token("of-0.1.0", Some(now.wall + LIFE));
    let tokens = tokens.with_refresh_token(refresh, None);
    let credentials = Arc::new(Credentials::new(tokens, origin, "client"));
    let attempt = Attempt { base: claimed.generation, fence: claimed.fence, claim };
    let ends = Ends { access_in: Some(LIFE), ..Ends::default() };
    let commit = Commit { intent, epoch: claimed.epoch, attempt, credentials, ends };
    let _ = store.apply(id, Statement::Commit(commit)).await.unwrap();
}

#[tokio::test]
async fn a_session_of_0_1_0_goes_on_and_is_bound_to_the_whole_url_when_it_is_next_saved() {
    let clock = ManualClock::new();
    let server = server(&clock).await;
    let former = signed_in(&server, &clock).await;
    let exported = former.session.export_secrets().await.unwrap();
    let refresh = exported.refresh_token().unwrap().expose_secret().to_owned();

    let fixture = crate::fixtures::oauth2_fixture(&server, clock.clone()).await;
    save_as_0_1_0_did(&fixture, server.url(), &refresh).await;
    assert_eq!(fixture.session.permission_token().await.unwrap().expose_secret(), "of-0.1.0");
    assert_eq!(recorded(&fixture).await, server.url());
    fixture.session.refresh().await.unwrap();
    let token_endpoint = format!("{}/token", server.url());
    assert_eq!(recorded(&fixture).await, token_endpoint);
    // Bound, it is as every other.
    let other = OAuth2::new(&format!("{}/b/token", server.url()), "client").unwrap();
    of(&fixture).replace(other).await.unwrap();
    assert_eq!(fixture.session.refresh().await.unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_session_of_0_1_0_at_another_origin_stays_where_it_is() {
    let clock = ManualClock::new();
    let (server, elsewhere) = (server(&clock).await, server(&clock).await);
    let fixture = crate::fixtures::oauth2_fixture(&server, clock.clone()).await;
    save_as_0_1_0_did(&fixture, elsewhere.url(), "rt").await;
    assert_eq!(
        fixture.session.permission_token().await.unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    assert_eq!((server.counts().connections, elsewhere.counts().connections), (0, 0));
    assert!(
        fixture
            .store
            .load(fixture.session.id())
            .await
            .unwrap()
            .unwrap()
            .record
            .credentials
            .is_some()
    );
}

/// Sites of the vendors' dialects, each with a path.
#[test]
fn the_other_dialects_are_bound_to_their_site_with_its_path() {
    use session_warden::provider::Provider;
    use session_warden::provider::{circle, extra_horizon, ioffice, spatium};
    for (end, path) in [("", "/a"), ("/", "/a")] {
        let site = format!("https://localhost{path}{end}");
        let bound = format!("https://localhost{path}");
        let office = ioffice::IOffice::new(&site, "c", "https://app.example/cb").unwrap();
        assert_eq!(office.authority_url().as_str(), bound);
        assert_eq!(spatium::Spatium::new(&site).unwrap().authority_url().as_str(), bound);
        let one = extra_horizon::ExtraHorizonOAuth1::new(&site, "c", "s").unwrap();
        assert_eq!(one.authority_url().as_str(), bound);
        let two = extra_horizon::ExtraHorizonOAuth2::public(&site, "c").unwrap();
        assert_eq!(two.authority_url().as_str(), bound);
    }
    let circle = circle::Circle::new("t").host("community.example").unwrap();
    assert_eq!(circle.authority_url().as_str(), "https://community.example/");
    circle.host("https://community.example/a").unwrap_err();
}
