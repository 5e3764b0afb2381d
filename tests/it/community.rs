//! A user's program: Circle in ten minutes. It was written before the crate existed, and differs
//! from that only here: the app token and the host are arguments, because tests have a server of
//! their own and no environment; loopback addresses must be allowed; names are imported from
//! modules, not by a glob of the root.

use std::time::Duration;

use session_warden::provider::circle::{Circle, CircleRevokeAccessToken, Member};
use session_warden::session::{Revocation, State};
use session_warden::testing::{Endpoint, FakeAuthServer, FakeDialect, ManualClock};
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session, SessionKey, Sessions, Supervisor};

use crate::support::until;

const HOUR: Duration = Duration::from_secs(3600);

type Whatever<T> = Result<T, Box<dyn std::error::Error>>;

async fn supervise(app_token: &str, host: &str, clock: ManualClock) -> Whatever<Supervisor> {
    let circle = Circle::new(app_token).host(host)?;
    let supervisor = Supervisor::builder()
        .clock(clock)
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("circle", circle)
        .start()
        .await?;
    Ok(supervisor)
}

fn member_77(supervisor: &Supervisor) -> Whatever<Session<Circle>> {
    let members: Sessions<Circle> = supervisor.sessions("circle")?;
    Ok(members.session(SessionKey::new("community", "member-77")?))
}

/// The user's `main`. Returns the status of the API's response and the member.
async fn run(session: &Session<Circle>, host: &str) -> Whatever<(u16, u64)> {
    let token = session.ensure(Member::Email("ada@example.com".into())).await?;
    let spaces = format!("{host}/api/headless/v1/spaces");
    let spaces = reqwest::Client::new().get(spaces).bearer_auth(token.expose_secret());
    let status = spaces.send().await?.status().as_u16();
    Ok((status, session.attributes().await?.community_member_id))
}

/// The last steps of `main`.
async fn leave(session: &Session<Circle>) -> Whatever<Revocation> {
    session.call(CircleRevokeAccessToken).await?;
    Ok(session.revoke().await?)
}

async fn circle(clock: &ManualClock) -> FakeAuthServer {
    let server = FakeAuthServer::builder().dialect(FakeDialect::Circle).clock(clock.clone());
    let server = server.start().await.unwrap();
    server.set_app_token("app-token");
    server.add_member(77, "ada@example.com", "sso-77");
    server
}

#[tokio::test]
async fn the_program_reads_as_a_member_and_leaves_nothing_at_the_server() {
    let clock = ManualClock::new();
    let server = circle(&clock).await;
    let supervisor = supervise("app-token", server.url(), clock).await.unwrap();
    let session = member_77(&supervisor).unwrap();
    assert_eq!(run(&session, server.url()).await.unwrap(), (200, 77));
    let token = session.permission_token().await.unwrap();
    assert_eq!(leave(&session).await.unwrap(), Revocation::AtServer);
    assert!(!server.is_active(token.expose_secret()));
    assert_eq!((server.count(Endpoint::RevokeAccessToken), server.live_grants()), (1, 0));
    assert_eq!(session.status().await.unwrap().state, State::Closed);
    // A member who comes back needs new tokens.
    assert_eq!(run(&session, server.url()).await.unwrap(), (200, 77));
    assert_eq!(server.count(Endpoint::AuthToken), 2);
}

#[tokio::test]
async fn the_same_call_mints_refreshes_and_mints_again() {
    let clock = ManualClock::new();
    let server = circle(&clock).await;
    let supervisor = supervise("app-token", server.url(), clock.clone()).await.unwrap();
    let session = member_77(&supervisor).unwrap();
    let counts = || (server.count(Endpoint::AuthToken), server.count(Endpoint::RefreshToken));
    let mut seen = Vec::new();
    for (suspended, pause) in [(0, Duration::ZERO), (0, HOUR), (31 * 24, HOUR)] {
        clock.suspend(suspended * HOUR);
        clock.advance(pause).await;
        assert_eq!(until(&clock, run(&session, server.url())).await.unwrap(), (200, 77));
        seen.push(counts());
    }
    assert_eq!(seen, [(1, 0), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn a_wrong_app_token_and_one_who_is_no_member_are_told_apart() {
    let clock = ManualClock::new();
    let server = circle(&clock).await;
    let kind = async |app_token: &str, member: Member| {
        let supervisor = supervise(app_token, server.url(), clock.clone()).await.unwrap();
        member_77(&supervisor).unwrap().ensure(member).await.unwrap_err().kind()
    };
    let ada = Member::Email("ada@example.com".into());
    assert_eq!(kind("wrong", ada).await, ErrorKind::Misconfigured);
    let nobody = Member::Email("nobody@example.com".into());
    assert!(matches!(kind("app-token", nobody).await, ErrorKind::Refused(_)));
}
