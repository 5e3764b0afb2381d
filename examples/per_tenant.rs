//! Each customer has its own authorization server and client. They are in a table of the backend,
//! which changes while the backend runs.
//!
//!     cargo run --example per_tenant

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use session_warden::key::Tenant;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::provider::{Registration, SourceError};
use session_warden::testing::FakeAuthServer;
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, SessionKey, Sessions, Supervisor};
use tokio::sync::RwLock;

/// A row of the table.
#[derive(Clone)]
struct Customer {
    site: String,
    client_id: String,
    secret: String,
}

type Table = Arc<RwLock<HashMap<String, Customer>>>;

/// In a real backend, a query of a database. `?` turns its errors into `SourceError::Unavailable`.
async fn provider_of(table: Table, tenant: Tenant) -> Result<Registration<OAuth2>, SourceError> {
    let row = table.read().await.get(tenant.as_str()).cloned();
    let Customer { site, client_id, secret } = row.ok_or(SourceError::UnknownTenant)?;
    let provider = OAuth2::discover(&site, &client_id)?.client_secret_basic(secret);
    Ok(Registration::new(provider))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let north = FakeAuthServer::builder().client("backend", "secret of north").start().await?;
    let south = FakeAuthServer::builder().client("other-id", "secret of south").start().await?;
    let row = |site: &FakeAuthServer, client_id: &str, secret: &str| {
        let (client_id, secret) = (client_id.to_owned(), secret.to_owned());
        Customer { site: site.issuer(), client_id, secret }
    };
    let table = Table::default();
    table.write().await.insert("north".to_owned(), row(&north, "backend", "secret of north"));
    table.write().await.insert("south".to_owned(), row(&south, "other-id", "secret of south"));

    let asked = Arc::clone(&table);
    let supervisor = Supervisor::builder()
        // The customers' servers of this example are on this machine.
        .transport(
            TransportConfig::default().allow_loopback_http().tenants_reach_internal_addresses(),
        )
        .provider_per_tenant("crm", move |tenant| provider_of(Arc::clone(&asked), tenant))
        .start()
        .await?;
    let crm: Sessions<OAuth2> = supervisor.sessions("crm")?;

    for tenant in ["north", "south"] {
        let session = crm.session(SessionKey::new(tenant, "ada")?);
        let _ = session.establish(Password::new("ada", "ok")).await.context(tenant)?;
    }
    ensure!(
        (north.live_grants(), south.live_grants()) == (1, 1),
        "each tenant has a grant at its own server"
    );

    let stranger = crm.session(SessionKey::new("west", "ada")?);
    let refused = stranger.permission_token().await.err().context("west is no customer")?;
    ensure!(refused.kind() == ErrorKind::Misconfigured, "{refused}");

    // Change north's secret at the server and in the table, and reload. No session is lost.
    north.set_client_secret("backend", "another secret");
    table.write().await.insert("north".to_owned(), row(&north, "backend", "another secret"));
    crm.reload(Some(&Tenant::new("north")?)).await?;
    let token = crm.session(SessionKey::new("north", "ada")?).refresh().await?;
    ensure!((token.epoch(), token.generation()) == (1, 2), "the same session, a new token");

    ensure!(
        supervisor.shutdown(Duration::from_secs(20)).await.is_clean(),
        "interrupted or not saved"
    );
    println!(
        "two tenants, two servers; a stranger was refused; a secret changed without a restart"
    );
    Ok(())
}
