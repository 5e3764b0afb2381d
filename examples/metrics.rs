//! Serves metrics to Prometheus, with axum. `examples/metrics/grafana.json` is a dashboard for them.
//!
//! `cargo run --example metrics` works with a fake server, which fails for a while.
#![allow(clippy::disallowed_methods, reason = "a program has its own tasks")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use session_warden::metrics::Metrics;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::{Endpoint, FakeAuthServer, Fault};
use session_warden::transport::TransportConfig;
use session_warden::{SessionKey, Supervisor};

/// Without buckets, the exporter sends quantiles of this process, which cannot be added up.
const SECONDS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Call this before the supervisor starts.
fn install_recorder() -> anyhow::Result<PrometheusHandle> {
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &SECONDS)?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    Ok(handle)
}

/// Serves the page, and returns its URL.
async fn serve(handle: PrometheusHandle) -> anyhow::Result<String> {
    let page = move || async move {
        // What a recorder keeps of histograms grows until this or a page takes it.
        handle.run_upkeep();
        handle.render()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    tokio::spawn(async { axum::serve(listener, Router::new().route("/metrics", get(page))).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = serve(install_recorder()?).await?;
    let server = FakeAuthServer::builder().client("app", "secret").start().await?;
    let acme = OAuth2::discover(&server.issuer(), "app")?.client_secret_basic("secret");
    let supervisor = Supervisor::builder()
        .metrics(Metrics::new())
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("acme", acme)
        .start()
        .await?;
    let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::single("ada")?);
    let _ = session.establish(Password::new("ada", "ok")).await?;
    session.refresh().await?;
    server.fail_next_n(Endpoint::Token, 8, Fault::CloseBeforeProcessing);
    let outage = session.refresh().await;
    println!("during the outage: {}", outage.err().map_or_else(String::new, |e| e.to_string()));

    let page = reqwest::get(&url).await?.text().await?;
    for line in [
        "# TYPE session_warden_exchanges_total counter",
        r#"session_warden_exchanges_total{provider="acme",kind="refresh",outcome="success"} 1"#,
        r#"session_warden_exchange_duration_seconds_count{provider="acme",kind="establish"} 1"#,
        r#"session_warden_unsaved_credentials{provider="acme"} 0"#,
        r#"session_warden_store_statements_total{statement="commit",outcome="done"} 2"#,
        r#"session_warden_events_total{provider="acme",event="established"} 1"#,
    ] {
        anyhow::ensure!(page.lines().any(|of_page| of_page == line), "no line {line}:\n{page}");
    }
    print!("{page}");
    anyhow::ensure!(supervisor.shutdown(Duration::from_secs(5)).await.is_clean());
    Ok(())
}
