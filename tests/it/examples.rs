//! The examples work. `cargo test` builds them before it runs any test.

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

/// The output of the example: standard output and standard error.
#[track_caller]
fn said_by(name: &str, arguments: &[&str]) -> (String, String) {
    let run = Command::new(example(name)).args(arguments).output().unwrap();
    let [said, words] =
        [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(run.status.success(), "{said}\n{words}");
    (said, words)
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
fn tenants_have_their_own_providers_which_change_without_a_restart() {
    assert_runs("per_tenant", &["two tenants, two servers"]);
}

#[test]
fn tokens_of_a_former_table_are_imported_twice_and_exported() {
    assert_runs("import_existing", &["4 sessions imported"]);
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
fn a_circle_member_is_served_and_its_session_ended() {
    assert_runs("circle", &["member 77", "revoked: AtServer"]);
}

#[test]
fn a_spatium_session_is_established_and_refreshed() {
    assert_runs("spatium", &["generation 2"]);
}
