//! One iOFFICE site for each customer, and a service account's password for each.
//!
//! `cargo run --example ioffice` runs it against two fake sites.

use std::time::Duration;

use session_warden::key::Tenant;
use session_warden::provider::ioffice::{IOffice, IOfficePassword, TokenInfo};
use session_warden::provider::{Registration, SourceError};
use session_warden::testing::{FakeAuthServer, FakeDialect};
use session_warden::transport::TransportConfig;
use session_warden::{Establishment, SessionKey, Supervisor};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let acme = site("ada", "battery staple").await?;
    let bolt = site("bob", "correct horse").await?;
    // A table of customers, like one in a database.
    let sites = [("acme", acme.url().to_owned()), ("bolt", bolt.url().to_owned())];

    let supervisor = Supervisor::builder()
        // The customers' servers of this example are on this machine.
        .transport(
            TransportConfig::default().allow_loopback_http().tenants_reach_internal_addresses(),
        )
        .provider_per_tenant("ioffice", move |tenant: Tenant| {
            let sites = sites.clone();
            async move {
                let row = sites.into_iter().find(|(name, _)| *name == tenant.as_str());
                let (_, site) = row.ok_or(SourceError::UnknownTenant)?;
                let office = IOffice::new(&site, "my-client", "https://app.example/callback")?;
                Ok::<_, SourceError>(Registration::new(office))
            }
        })
        .start()
        .await?;
    let offices = supervisor.sessions::<IOffice>("ioffice")?;

    for (tenant, user, password) in
        [("acme", "ada", "battery staple"), ("bolt", "bob", "correct horse")]
    {
        let session = offices.session(SessionKey::new(tenant, "service")?);
        let Establishment::Active(attributes) =
            session.establish(IOfficePassword::new(user, password)).await?;
        let scope = attributes.scope.unwrap_or_default();
        let token = session.permission_token().await?;
        if let Some((name, value)) = token.header() {
            println!("{tenant}: {name}: {value:?}, scope {scope}");
        }
        session.refresh().await?;
        anyhow::ensure!(session.call(TokenInfo).await?, "{tenant} does not know its token");
        println!("{tenant}: {:?}", session.revoke().await?);
    }

    let refused = offices.session(SessionKey::new("acme", "service")?);
    match refused.establish(IOfficePassword::new("ada", "wrong")).await {
        Ok(_) => anyhow::bail!("the site accepted a wrong password"),
        Err(error) => println!("acme: {error}"),
    }
    anyhow::ensure!(acme.refreshes() == 1 && bolt.refreshes() == 1, "one refresh each");
    anyhow::ensure!(
        supervisor.shutdown(Duration::from_secs(5)).await.is_clean(),
        "exchanges or unsaved credentials are left"
    );
    println!("done");
    Ok(())
}

async fn site(user: &str, password: &str) -> std::io::Result<FakeAuthServer> {
    FakeAuthServer::builder().dialect(FakeDialect::IOffice).user(user, password).start().await
}
