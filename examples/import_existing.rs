//! A backend has refresh tokens in a table of its own. It imports them, imports them again, and
//! exports them.
//!
//!     cargo run --example import_existing

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use session_warden::key::Tenant;
use session_warden::provider::oauth2::{Attributes, OAuth2};
use session_warden::session::{Filter, State};
use session_warden::testing::FakeAuthServer;
use session_warden::token::Tokens;
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Sessions, Supervisor};

/// A line of the table: tenant, user, refresh token.
fn row(line: &str) -> anyhow::Result<(SessionKey, Tokens<Attributes>)> {
    let [tenant, user, refresh] = line.split(',').collect::<Vec<_>>()[..] else {
        anyhow::bail!("a line of the table is not tenant,user,refresh");
    };
    // There is no access token, so the first call refreshes.
    let tokens = Tokens::new(Attributes::default()).with_refresh_token(refresh, None);
    Ok((SessionKey::new(tenant, user)?, tokens))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = FakeAuthServer::start().await?;
    let table = table_of(&server).await?;
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("crm", OAuth2::discover(&server.issuer(), "backend")?)
        .start()
        .await?;
    let crm: Sessions<OAuth2> = supervisor.sessions("crm")?;

    // Row by row, like the cursor of a database. The last row has no token.
    let rows: Vec<_> = table.lines().map(row).collect::<anyhow::Result<_>>()?;
    let report = crm.import(stream::iter(rows.clone())).await?;
    for (key, error) in &report.refused {
        println!("refused: {} of {}: {error}", key.token_id(), key.tenant().as_str());
    }
    ensure!((report.adopted, report.refused.len()) == (4, 1), "{report:?}");

    // You can run it again: it does not replace the sessions, which are newer.
    let again = crm.import(stream::iter(rows)).await?;
    ensure!((again.adopted, again.already_there) == (0, 4), "{again:?}");

    let north = Filter::tenant(Tenant::new("north")?).state(State::Active);
    ensure!(crm.list(north).count().await == 2, "north has two sessions");
    let token = crm.session(SessionKey::new("north", "ada")?).permission_token().await?;
    ensure!(server.is_active(token.expose_secret()), "ada's token is active");

    // The export. Search for `export_secrets` to find all code that exports secrets.
    for status in crm.list(Filter::default()).try_collect::<Vec<_>>().await? {
        let tokens = crm.session(status.id.key().clone()).export_secrets().await?;
        let refresh = tokens.refresh_token().context("each has one")?;
        ensure!(server.is_active(refresh.expose_secret()), "it is the newest");
    }
    ensure!(
        supervisor.shutdown(Duration::from_secs(20)).await.is_clean(),
        "interrupted or not saved"
    );
    println!("4 sessions imported, listed, used and exported");
    Ok(())
}

/// The table, with the tokens that the backend's former code got when its users logged in.
async fn table_of(server: &FakeAuthServer) -> anyhow::Result<String> {
    let mut table = String::new();
    for (tenant, user) in [("north", "ada"), ("north", "ben"), ("south", "ada"), ("south", "cyd")] {
        let form = format!("grant_type=password&client_id=backend&username={user}&password=ok");
        let login = reqwest::Client::new().post(format!("{}/token", server.url()));
        let login = login.header("content-type", "application/x-www-form-urlencoded").body(form);
        let answer: Value = serde_json::from_slice(&login.send().await?.bytes().await?)?;
        let refresh = answer["refresh_token"].as_str().context("no refresh token")?;
        table += &format!("{tenant},{user},{refresh}\n");
    }
    Ok(table + "south,dot,\n")
}
