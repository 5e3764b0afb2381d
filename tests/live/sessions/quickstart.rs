//! The example `quickstart` at a server of another author.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::oidc_peer::{CLIENT_ID, CLIENT_SECRET, OidcPeer, Options};
use crate::peer::in_time;

/// The binary of the example, which lies beside this test's own folder.
fn quickstart() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples/quickstart");
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

#[tokio::test]
async fn the_quickstart_keeps_its_promises_at_a_real_server() {
    let peer = OidcPeer::start(Options { access_ttl_s: 2, ..Options::default() }).await;
    let arguments = [
        ("--sessions", "100"),
        ("--seconds", "4"),
        ("--exchanges", "8"),
        ("--rotation", "strict"),
        ("--issuer", peer.issuer()),
        ("--client-id", CLIENT_ID),
        ("--client-secret", CLIENT_SECRET),
        ("--username", "alice"),
        ("--password", "ok"),
    ];
    let mut example = Command::new(quickstart());
    for (name, value) in arguments {
        example.args([name, value]);
    }
    let run = in_time(example.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    let (table, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{table}\n{words}");
    assert!(table.contains("tokens served"), "{table}");
    let failed = table.lines().find(|line| line.starts_with("sign-ins that failed"));
    assert!(failed.is_some_and(|line| line.ends_with(" 0 of 100")), "{table}");
    let counts = peer.counts().await;
    assert_eq!((counts.established, counts.reuse_detected, counts.presented_again), (100, 0, 0));
    assert!(counts.refreshes >= 100, "{counts:?}");
}
