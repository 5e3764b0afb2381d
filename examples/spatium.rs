//! A device's session at Spatium: `cargo run --example spatium --features testing`.
//!
//! It runs against a fake server. For the real server, use the URL
//! `https://cloud.spatium.net/authorization/v1`, and remove `transport`.

use session_warden::key::Tenant;
use session_warden::provider::spatium::{CredentialsFactor, SecurityTokens, Spatium, TokenIds};
use session_warden::testing::{FakeAuthServer, FakeDialect};
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let builder = FakeAuthServer::builder().dialect(FakeDialect::Spatium);
    let server = builder.user("username", "password").start().await?;

    let url = format!("{}/authorization/v1", server.url());
    let spatium = Spatium::new(&url)?.permissions(["read", "secret"]).token_ids(TokenIds::UuidV5);
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("spatium", spatium)
        .start()
        .await?;
    let devices: Sessions<Spatium> = supervisor.sessions("spatium")?;
    let tenant = Tenant::new("acme")?;
    let session = devices.session(SessionKey::new("acme", "device-17")?);

    // First collect the factors; each gives a security token.
    let token = devices.call(&tenant, CredentialsFactor::new("username", "password")).await?;
    let _ = session.establish(SecurityTokens::new(token)).await?;
    let attributes = session.attributes().await?;
    println!("established for {:?}", attributes.permissions);
    anyhow::ensure!(attributes.permissions == ["read", "secret"], "other permissions");

    // The token is always valid: the session refreshes it when it is due.
    let first = session.permission_token().await?;
    println!("generation {}, until {:?}", first.generation(), first.expires_at());

    // Refresh an idle session now and then, so that its refresh token does not expire.
    let second = session.refresh().await?;
    println!("generation {}", second.generation());
    anyhow::ensure!(first.expose_secret() != second.expose_secret(), "the same token");
    anyhow::ensure!(server.presented_twice() == 0, "a refresh token was used twice");
    Ok(())
}
