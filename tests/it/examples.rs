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

#[track_caller]
fn assert_runs(name: &str, says: &str) {
    let run = Command::new(example(name)).output().unwrap();
    let (said, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{words}");
    assert!(said.contains(says), "{said}");
}

#[test]
fn a_backend_with_axum_logs_a_browser_in_and_out() {
    assert_runs("axum_login", "with nothing left undone");
}

#[test]
fn tenants_have_their_own_providers_which_change_without_a_restart() {
    assert_runs("per_tenant", "two tenants, two servers");
}

#[test]
fn tokens_of_a_former_table_are_imported_twice_and_exported() {
    assert_runs("import_existing", "4 sessions imported");
}

#[test]
fn the_ioffice_example_does_what_it_shows() {
    let run = Command::new(example("ioffice")).output().unwrap();
    let (told, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}\n{words}");
    assert!(told.contains("acme: x-access-token: Sensitive, scope email"), "{told}");
    assert!(told.contains("bolt: AtServer") && told.ends_with("done\n"), "{told}");
    assert!(!format!("{told}{words}").contains("battery"));
}

#[test]
fn the_extra_horizon_example_does_what_it_shows() {
    let run = Command::new(example("extra_horizon")).output().unwrap();
    let (told, words) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}\n{words}");
    assert!(told.contains("phone: AtServer"), "{told}");
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
