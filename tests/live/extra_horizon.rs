//! The vendor's own SDK against our fake server, and our signatures against another verifier.

use std::path::Path;
use std::process::Stdio;

use session_warden::testing::{Endpoint, FakeAuthServer, FakeDialect};
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
            "done" => done = true,
            other => panic!("the SDK's script said {other}"),
        }
        if !done {
            confirm.write_all(b"\n").await.unwrap();
        }
    }
    assert!(sdk.wait().await.unwrap().success() && done, "{:?}", server.counts());
    assert_eq!(server.counts().of(Endpoint::ConsumeSso).granted, 1);
    assert_eq!(server.counts().of(Endpoint::SecondFactor).granted, 2);
    // The double refresh of a public client, which a session of ours does not make.
    assert_eq!(server.reuses_detected(), 1);
}
