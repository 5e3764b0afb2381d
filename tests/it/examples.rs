//! The examples work. `cargo test` builds them before it runs any test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use session_warden::testing::{Endpoint, FakeAuthServer, Fault};

/// The binary of an example, which lies beside this test's own folder.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

/// The output of the example: standard output and standard error.
#[track_caller]
fn said_by(name: &str, arguments: &[&str]) -> (String, String) {
    let run = Command::new(example(name)).args(arguments).output().unwrap();
    assert_succeeded(&run);
    texts(run)
}

/// Standard output and standard error.
fn texts(run: Output) -> (String, String) {
    let [said, words] =
        [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (said, words)
}

#[track_caller]
fn assert_succeeded(run: &Output) {
    let [said, words] = [&run.stdout, &run.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(run.status.success(), "{said}\n{words}");
}

#[track_caller]
fn assert_runs(name: &str, says: &[&str]) {
    let (said, _) = said_by(name, &[]);
    for says in says {
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn the_quickstart_keeps_its_promises() {
    let (table, _) = said_by("quickstart", &["--sessions", "50", "--seconds", "2"]);
    assert!(table.contains("tokens served"), "{table}");
}

#[test]
fn the_quickstart_keeps_its_promises_with_every_rotation() {
    for rotation in ["static", "idempotent:30", "fork:30", "newest_only:30"] {
        let arguments = ["--sessions", "16", "--seconds", "1", "--rotation", rotation];
        let (table, _) = said_by("quickstart", &arguments);
        assert!(table.contains("tokens served"), "{rotation}: {table}");
    }
}

#[test]
fn the_quickstart_refuses_an_argument_that_it_cannot_use_in_one_line() {
    for (name, value, says) in [
        ("--rotation", "fork", "fork:SECONDS"),
        ("--rotation", "strict:3", "strict"),
        ("--rotation", "fork:soon", "SECONDS"),
        ("--rotation", "backwards", "not backwards"),
        ("--exchanges", "0", "at least one"),
        ("--exchanges", "many", "--exchanges"),
        ("--exchange", "3", "--help"),
    ] {
        let run = Command::new(example("quickstart")).args([name, value]).output().unwrap();
        assert!(!run.status.success(), "{name} {value}");
        let (_, words) = texts(run);
        assert!(words.contains(says) && words.lines().count() == 1, "{words}");
    }
}

/// Runs the quickstart for a second at the server with this issuer, with 16 sessions.
async fn quickstart_at(issuer: &str, more: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(example("quickstart"));
    command.args(["--sessions", "16", "--seconds", "1", "--issuer", issuer]);
    command.args(["--client-id", "client", "--username", "ada", "--password", "canary"]);
    command.args(more).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

#[tokio::test]
async fn the_quickstart_goes_on_after_a_failed_sign_in_and_counts_it() {
    let server = FakeAuthServer::builder().public_client("client").user("ada", "canary");
    let server = server.start().await.unwrap();
    let failing = Fault::OAuthError { status: 400, code: "invalid_grant".to_owned() };
    server.fail_next_n(Endpoint::Password, 2, failing);
    let run = quickstart_at(server.url(), &[]).await;
    assert_succeeded(&run);
    let (table, _) = texts(run);
    let lines: Vec<_> = table.lines().collect();
    let failed = lines.iter().position(|line| line.starts_with("sign-ins that failed")).unwrap();
    assert!(lines[failed].ends_with(" 2 of 16"), "{table}");
    assert!(lines[failed + 1].starts_with("  2 times: the grant was refused"), "{table}");
    assert!(lines[failed + 2].starts_with("tokens served"), "{table}");
    assert!(
        lines.iter().any(|line| line.starts_with("sessions lost") && line.ends_with("0 of 14"))
    );
}

#[tokio::test]
async fn the_quickstart_says_in_short_lines_why_no_sign_in_succeeds() {
    let server = FakeAuthServer::builder().public_client("client").user("ada", "other");
    let server = server.start().await.unwrap();
    let run = quickstart_at(server.url(), &[]).await;
    assert!(!run.status.success());
    let (table, words) = texts(run);
    let lines: Vec<_> = words.lines().collect();
    assert_eq!((table.as_str(), lines.len(), lines[0]), ("", 2, "no session is established:"));
    assert!(lines[1].starts_with("  16 times: the grant was refused"), "{words}");
    assert!(!words.contains('{') && !words.contains("canary"), "{words}");
}

/// The open token requests of a server, now and at most.
#[derive(Default)]
struct OpenRequests {
    now: AtomicU64,
    most: AtomicU64,
}

async fn issue(State(open): State<Arc<OpenRequests>>) -> Json<Value> {
    let now = open.now.fetch_add(1, SeqCst) + 1;
    open.most.fetch_max(now, SeqCst);
    // Time for other requests to come.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    open.now.fetch_sub(1, SeqCst);
    Json(json!({"access_token": "at", "refresh_token": "rt", "expires_in": 3600}))
}

#[tokio::test]
async fn the_quickstart_has_as_many_requests_for_tokens_open_as_it_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let metadata = json!({"issuer": issuer, "token_endpoint": format!("{issuer}/token")});
    let open = Arc::new(OpenRequests::default());
    let app = Router::new()
        .route("/.well-known/openid-configuration", get(move || async move { Json(metadata) }))
        .route("/token", post(issue))
        .with_state(Arc::clone(&open));
    let server = tokio::spawn(async { axum::serve(listener, app).await });
    let run = quickstart_at(&issuer, &["--exchanges", "2"]).await;
    server.abort();
    assert_succeeded(&run);
    assert_eq!(open.most.load(SeqCst), 2);
}

#[test]
fn a_session_survives_the_kill_of_its_process() {
    let killed = if cfg!(unix) { "first process: signal: 9" } else { "first process: " };
    let shown = [killed, "second process: generation 2 was there", "of them sign-ins: 0"];
    assert_runs("durable", &shown);
}

#[test]
fn a_backend_with_axum_logs_a_browser_in_and_out() {
    assert_runs("axum_login", &["with nothing left undone"]);
}

#[test]
fn requests_arrive_although_the_api_rejects_a_token() {
    assert_runs("middleware", &["Hello, reqwest!", "Hello, tower!"]);
}

#[test]
fn tenants_have_their_own_providers_which_change_without_a_restart() {
    assert_runs("per_tenant", &["two tenants, two servers"]);
}

#[test]
fn a_health_route_shows_an_outage_of_a_server_and_its_end() {
    let shows = ["before the outage: 200", "during the outage: 503", "after the outage: 200"];
    assert_runs("health", &shows);
}

#[test]
fn tokens_of_a_former_table_are_imported_twice_and_exported() {
    assert_runs("import_existing", &["4 sessions imported"]);
}

#[test]
fn a_provider_for_another_vendor_is_established_refreshed_and_revoked() {
    assert_runs("custom_provider", &["established, used, refreshed and revoked"]);
}

#[test]
fn a_test_of_a_backend_needs_no_waiting() {
    assert_runs("testing_your_backend", &["without waiting"]);
}

#[test]
fn the_ioffice_example_does_what_it_shows() {
    let (told, words) = said_by("ioffice", &[]);
    assert!(told.contains("acme: x-access-token: Sensitive, scope email"), "{told}");
    assert!(told.contains("bolt: AtServer") && told.ends_with("done\n"), "{told}");
    assert!(!format!("{told}{words}").contains("battery"));
}

#[test]
fn the_extra_horizon_example_does_what_it_shows() {
    assert_runs("extra_horizon", &["phone: AtServer"]);
}

#[test]
fn the_metrics_of_an_outage_are_on_the_page_for_prometheus() {
    let says =
        r#"session_warden_exchanges_total{provider="acme",kind="refresh",outcome="ambiguous"} 1"#;
    assert_runs("metrics", &["during the outage: ", says]);
}

#[test]
fn a_circle_member_is_served_and_its_session_ended() {
    assert_runs("circle", &["member 77", "revoked: AtServer"]);
}

#[test]
fn a_spatium_session_is_established_and_refreshed() {
    assert_runs("spatium", &["generation 2"]);
}
