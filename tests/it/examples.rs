//! The examples do what they show. `cargo test` builds them before it runs any test.

use std::path::PathBuf;
use std::process::Command;

/// The binary of an example, which lies beside this test's own folder.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

#[test]
fn the_quickstart_keeps_its_promises() {
    let mut quickstart = Command::new(example("quickstart"));
    let run = quickstart.args(["--sessions", "50", "--seconds", "2"]).output().unwrap();
    let (table, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{table}\n{words}");
    assert!(table.contains("tokens served"), "{table}");
}

#[test]
fn a_circle_member_is_served_and_its_session_ended() {
    let run = Command::new(example("circle")).output().unwrap();
    let (said, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{words}");
    assert!(said.contains("member 77") && said.contains("revoked: AtServer"), "{said}");
}

#[test]
fn a_spatium_session_is_established_and_refreshed() {
    let run = Command::new(example("spatium")).output().unwrap();
    let (said, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{words}");
    assert!(said.contains("generation 2"), "{said}");
}
