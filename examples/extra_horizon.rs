//! A backend that reads a device's data at Extra Horizon as its user.
//!
//! `cargo run --features testing --example extra_horizon` runs it against a fake server: a
//! password, the second factor, a signed request, another application, and the revocation.

use session_warden::provider::extra_horizon::{
    ExtraHorizonOAuth1, ExtraHorizonPassword, GenerateSsoToken, ListTokens, MfaAnswer,
};
use session_warden::testing::{FakeAuthServer, FakeDialect};
use session_warden::ticket::Ticket;
use session_warden::transport::TransportConfig;
use session_warden::{Establishment, Session, SessionKey, Sessions, Supervisor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon);
    let server = server.client("consumer key", "consumer secret").start().await?;
    server.set_second_factor("ada@example.com", Some("123456"));

    // In production, use the host of the cluster, "dev.acme.extrahorizon.io", and no `transport`.
    let exh = ExtraHorizonOAuth1::new(server.url(), "consumer key", "consumer secret")?;
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("exh", exh)
        .start()
        .await?;
    let sessions: Sessions<ExtraHorizonOAuth1> = supervisor.sessions("exh")?;
    let phone = sessions.session(SessionKey::new("acme", "phone-17")?);

    log_in(&phone).await?;
    read(&phone, server.url()).await?;
    let tokens = phone.call(ListTokens::new()).await?;
    println!("the user has {} token(s)", tokens.records.len());

    // A single-use token establishes another session, here of the same application.
    let sso = phone.call(GenerateSsoToken).await?;
    let web = sessions.session(SessionKey::new("acme", "web-17")?);
    let _ = web.establish(sso).await?;
    read(&web, server.url()).await?;

    println!("phone: {:?}", phone.revoke().await?);
    anyhow::ensure!(phone.permission_token().await.is_err());
    read(&web, server.url()).await
}

/// In a real backend the two steps are two requests of a browser.
async fn log_in(session: &Session<ExtraHorizonOAuth1>) -> anyhow::Result<()> {
    let Establishment::Challenge(challenge) =
        session.establish(ExtraHorizonPassword::new("ada@example.com", "ok")).await?
    else {
        anyhow::bail!("the server asked for no second factor");
    };
    let method = &challenge.methods()[0];
    println!("second factor: {} ({})", method.name, method.kind);
    let cookie = challenge.ticket().as_str().to_owned();

    let answer = MfaAnswer::new(Ticket::parse(cookie)?, &*method.id, "123456");
    match session.establish(answer).await? {
        Establishment::Active(user) => println!("signed in: {:?}", user.user_id),
        Establishment::Challenge(_) => anyhow::bail!("the server asked for another factor"),
    }
    Ok(())
}

/// Sends a request with any HTTP client. `authorize` signs it.
async fn read(session: &Session<ExtraHorizonOAuth1>, host: &str) -> anyhow::Result<()> {
    let request = http::Request::get(format!("{host}/users/v1/me")).body("")?;
    let (mut parts, body) = request.into_parts();
    session.authorize(&mut parts).await?;
    let request = http::Request::from_parts(parts, body).try_into()?;
    let answer = reqwest::Client::new().execute(request).await?.error_for_status()?;
    println!("{}: {}", session.id().key().token_id(), answer.text().await?);
    Ok(())
}
