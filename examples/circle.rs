//! Circle's members in ten minutes: `cargo run --example circle --features testing`.
//!
//! It runs against a fake server. For the real server, remove `host` and `transport`.

use session_warden::provider::circle::{Circle, CircleRevokeAccessToken, Member};
use session_warden::testing::{FakeAuthServer, FakeDialect};
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = FakeAuthServer::builder().dialect(FakeDialect::Circle).start().await?;
    server.set_app_token("app-token");
    server.add_member(77, "ada@example.com", "sso-77");

    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("circle", Circle::new("app-token").host(server.url())?)
        .start()
        .await?;
    let members: Sessions<Circle> = supervisor.sessions("circle")?;
    let session = members.session(SessionKey::new("community", "member-77")?);

    // The session obtains tokens, refreshes them, and obtains new ones when the month is over.
    let token = session.ensure(Member::Email("ada@example.com".into())).await?;
    let spaces = reqwest::Client::new()
        .get(format!("{}/api/headless/v1/spaces", server.url()))
        .bearer_auth(token.expose_secret())
        .send()
        .await?;
    println!("the API says {}", spaces.status());
    anyhow::ensure!(spaces.status().is_success(), "the API does not accept the token");
    println!("member {}", session.attributes().await?.community_member_id);

    session.call(CircleRevokeAccessToken).await?;
    anyhow::ensure!(!server.is_active(token.expose_secret()), "the token is still active");
    let next = session.permission_token().await?;
    println!("another token: generation {}", next.generation());

    println!("revoked: {:?}", session.revoke().await?);
    anyhow::ensure!(server.refreshes() == 1, "one refresh was enough");
    Ok(())
}
