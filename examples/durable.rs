//! A process is killed, and the next one continues with its session. The user does not sign in
//! again.
//!
//! `cargo run --example durable`

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::seal::KeyRing;
use session_warden::store::sqlite::SqliteStore;
use session_warden::testing::{Endpoint, FakeAuthServer};
use session_warden::transport::TransportConfig;
use session_warden::{Establishment, SessionKey, Supervisor};

/// Made with `openssl rand -base64 32`. Read yours from a file or from the environment.
const KEYS: &str = "1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().collect::<Vec<_>>().as_slice() {
        [_, database, server] => sign_in(database, server).await,
        _ => continue_after_kill().await,
    }
}

async fn supervisor(database: &str, server: &str) -> Result<Supervisor, Box<dyn Error>> {
    let provider = OAuth2::new(&format!("{server}/token"), "app")?.client_secret_basic("secret");
    Ok(Supervisor::builder()
        .key_ring(KeyRing::parse(KEYS)?)
        .store(SqliteStore::open(database)?)
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("acme", provider)
        .start()
        .await?)
}

/// The first process: a user signs in, the token is refreshed, and the other process kills this
/// one.
async fn sign_in(database: &str, server: &str) -> Result<(), Box<dyn Error>> {
    let supervisor = supervisor(database, server).await?;
    let session = supervisor.sessions::<OAuth2>("acme")?.session(key()?);
    let Establishment::Active(_) = session.establish(Password::new("ada", "ok")).await?;
    println!("first process: generation {}", session.refresh().await?.generation());
    std::io::stdin().read_line(&mut String::new())?; // ends at the latest with the other process
    Err("the first process was not killed".into())
}

/// Kills the first process (SIGKILL) when it prints that the token was refreshed: without a
/// shutdown, a destructor or a flush.
fn kill_when_refreshed(first: [String; 2]) -> std::io::Result<ExitStatus> {
    let pipe = Stdio::piped;
    let mut child =
        Command::new(std::env::current_exe()?).args(first).stdin(pipe()).stdout(pipe()).spawn()?;
    let said = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    said.map_while(Result::ok).take(1).for_each(|line| println!("{line}"));
    child.kill()?;
    child.wait()
}

/// The server, which keeps running, and the second process.
async fn continue_after_kill() -> Result<(), Box<dyn Error>> {
    let server =
        FakeAuthServer::builder().client("app", "secret").user("ada", "ok").start().await?;
    let folder = std::env::temp_dir().join(format!("durable-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let database = folder.join("sessions.db").to_str().ok_or("a folder of text")?.to_owned();
    let first = [database.clone(), server.url().to_owned()];
    let ended = tokio::task::spawn_blocking(move || kill_when_refreshed(first)).await??;
    println!("first process: {ended}");
    let sign_ins = server.count(Endpoint::Token);
    let supervisor = supervisor(&database, server.url()).await?;
    let session = supervisor.sessions::<OAuth2>("acme")?.session(key()?);
    let token = session.permission_token().await?;
    println!("second process: generation {} was there", token.generation());
    println!("second process: generation {} by a refresh", session.refresh().await?.generation());
    let asked = server.count(Endpoint::Token) - sign_ins;
    println!("requests of the second process: {asked}, of them sign-ins: {}", asked - 1);
    let report = supervisor.shutdown(std::time::Duration::from_secs(5)).await;
    std::fs::remove_dir_all(folder)?;
    if asked == 1 && report.is_clean() { Ok(()) } else { Err("the user had to sign in".into()) }
}

fn key() -> Result<SessionKey, Box<dyn Error>> {
    Ok(SessionKey::new("tenant-1", "device-17")?)
}
