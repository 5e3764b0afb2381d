//! The vendor's own SDK against this crate's fake server, and this crate's signatures against
//! another verifier.

use std::path::Path;
use std::process::Stdio;

use http::{Method, Request};
use serde_json::json;
use session_warden::provider::extra_horizon::{ExtraHorizonOAuth1, ExtraHorizonPassword};
use session_warden::testing::{Endpoint, FakeAuthServer, FakeDialect, Fault};
use session_warden::transport::TransportConfig;
use session_warden::{Session, SessionKey, Supervisor};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const ADA: &str = "ada@example.com";

fn peers() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/peers")
}

/// The SDK is right: where it and the fake disagree, the fake is wrong.
#[tokio::test]
async fn the_vendors_sdk_finds_the_fake_server_to_be_the_vendors() {
    let builder = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon);
    let builder = builder.client("ck", "cs&1").client("backend", "s:e").public_client("app");
    let life = std::time::Duration::from_secs(300);
    let server = builder.access_lifetime(life).start().await.unwrap();
    let mut sdk = Command::new("node")
        .arg(peers().join("exh/client.mjs"))
        .arg(server.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node runs: use tests/run");
    let mut confirm = sdk.stdin.take().unwrap();
    let mut told = BufReader::new(sdk.stdout.take().unwrap()).lines();
    let mut done = false;
    while let Some(command) = told.next_line().await.unwrap() {
        match command.as_str() {
            "revoke" => server.revoke_user(ADA),
            "kill access tokens" => server.kill_access_tokens(),
            "factor on" => server.set_second_factor(ADA, Some("123456")),
            "factor off" => server.set_second_factor(ADA, None),
            "hold two refreshes" => {
                server.fail_next_n(Endpoint::RefreshToken, 2, Fault::HoldBeforeProcessing);
            }
            "done" => done = true,
            other => panic!("the SDK's script said {other}"),
        }
        if !done {
            confirm.write_all(b"\n").await.unwrap();
        }
        if command == "hold two refreshes" {
            server.held(2).await;
            server.release();
        }
    }
    assert!(sdk.wait().await.unwrap().success() && done, "{:?}", server.counts());
    assert_eq!(server.counts().of(Endpoint::ConsumeSso).granted, 1);
    assert_eq!(server.counts().of(Endpoint::SecondFactor).granted, 2);
    // The double refresh of a public client, which a session of ours does not make.
    assert_eq!(server.reuses_detected(), 1);
}

/// How many requests are signed and verified.
const REQUESTS: usize = 2000;

#[tokio::test]
async fn another_implementation_verifies_the_signatures_of_any_request() {
    let (client, token) = ("c s&é+/%", "t+s %&=é");
    let server = FakeAuthServer::builder().dialect(FakeDialect::ExtraHorizon).start().await;
    let server = server.unwrap();
    let supervisor = Supervisor::builder()
        .transport(TransportConfig::default().allow_loopback_http())
        .provider("exh", ExtraHorizonOAuth1::new(server.url(), "c k&é", client).unwrap())
        .start()
        .await
        .unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let session: Session<ExtraHorizonOAuth1> = supervisor.sessions("exh").unwrap().session(key);
    let body = json!({"id": "1", "token": "t k/é", "tokenSecret": token}).to_string();
    server.fail_next(Endpoint::Password, Fault::BodyAfterCommit(body.into()));
    let _ = session.establish(ExtraHorizonPassword::new(ADA, "ok")).await.unwrap();

    let mut random = fastrand::Rng::with_seed(5849);
    let mut signed = String::new();
    for _ in 0..REQUESTS {
        let (method, url) = request(&mut random);
        let request = Request::builder().method(&method).uri(&url).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        session.authorize(&mut parts).await.unwrap();
        let header = parts.headers[http::header::AUTHORIZATION].to_str().unwrap();
        let url = parts.uri.to_string();
        let line = json!({"method": method.as_str(), "url": url, "authorization": header});
        signed.push_str(&format!("{line}\n"));
    }
    let mut verifier = Command::new(peers().join("oauthlib/.venv/bin/python"))
        .arg(peers().join("oauthlib/verify.py"))
        .arg(json!({"client": client, "token": token}).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("oauthlib is installed: use tests/run");
    let mut stdin = verifier.stdin.take().unwrap();
    stdin.write_all(signed.as_bytes()).await.unwrap();
    drop(stdin);
    let told = verifier.wait_with_output().await.unwrap();
    assert!(told.status.success());
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), REQUESTS.to_string());
}

/// Any method, host, port, path and query, with Unicode and all that a URL can have.
fn request(random: &mut fastrand::Rng) -> (Method, String) {
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PURGE"];
    let method = random.choice(methods).unwrap().parse().unwrap();
    let hosts = ["api.dev.acme.extrahorizon.io", "API.X.IO", "127.0.0.1", "x.io:443", "x.io:8443"];
    let host = random.choice(hosts).unwrap();
    let mut url = url::Url::parse(&format!("https://{host}")).unwrap();
    // Python's `urlparse`, on which oauthlib stands, loses a semicolon at the end of a path.
    let segments = (0..random.usize(..5)).map(|_| text(random).replace(';', ","));
    url.path_segments_mut().unwrap().extend(segments);
    let mut pieces = Vec::new();
    for _ in 0..random.usize(..6) {
        let (name, value) = (text(random), text(random));
        let mut pair = url::form_urlencoded::Serializer::new(String::new());
        pieces.push(match random.u8(..4) {
            0 => format!("eq({},{})", random.alphabetic(), random.u8(..)),
            1 => format!("limit({})", random.u8(..)),
            // With `%20` in the place of a plus sign.
            2 => pair.append_pair(&name, &value).finish().replace('+', "%20"),
            _ => pair.append_pair(&name, &value).append_pair(&name, "").finish(),
        });
    }
    url.set_query(Some(pieces.join("&").as_str()).filter(|query| !query.is_empty()));
    (method, url.into())
}

fn text(random: &mut fastrand::Rng) -> String {
    let length = random.usize(1..8);
    let any = |random: &mut fastrand::Rng| match random.u8(..3) {
        0 => random.char('\u{20}'..'\u{7f}'),
        1 => random.alphanumeric(),
        _ => random.char('\u{80}'..),
    };
    (0..length).map(|_| any(random)).collect()
}
