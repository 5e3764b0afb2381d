//! Servers of every shape that a survey of real providers found, each with a client whose settings
//! are JSON and nothing else.

mod drive;
mod shape;
mod words;

use std::path::Path;

use self::drive::drive;
use self::shape::{Group, Shape, shapes};

/// Drives each shape of the group, and names those that fail.
async fn drive_all(group: Group) {
    let mut failed = Vec::new();
    for shape in shapes().into_iter().filter(|shape| shape.group() == group) {
        let name = shape.name.clone();
        // A panic is shown before it is here.
        if tokio::spawn(drive(shape)).await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{} shapes failed:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn users_log_in_through_a_browser_at_one_server() {
    drive_all(Group::BrowserAtOneServer).await;
}

#[tokio::test]
async fn users_log_in_through_a_browser_at_a_server_for_each_tenant() {
    drive_all(Group::BrowserAtAServerPerTenant).await;
}

#[tokio::test]
async fn a_redirect_names_the_host_of_its_session() {
    drive_all(Group::RedirectNamesTheHost).await;
}

#[tokio::test]
async fn sessions_without_a_browser_live_at_one_server() {
    drive_all(Group::NobodyAtOneServer).await;
}

#[tokio::test]
async fn sessions_without_a_browser_live_at_a_server_for_each_tenant() {
    drive_all(Group::NobodyAtAServerPerTenant).await;
}

#[test]
fn the_table_of_shapes_names_the_test_of_each() {
    let tests = include_str!("servers.rs");
    for shape in &shapes() {
        let test = format!("async fn {}()", shape.group().test());
        assert!(tests.contains(&test), "no {test} drives {}", shape.name);
    }
    let expected = table(&shapes());
    if include_str!("servers/shapes.md") != expected {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shapes.md");
        std::fs::write(&written, expected).unwrap();
        let written = written.display();
        panic!("tests/it/servers/shapes.md is not up to date; copy {written} to it");
    }
}

fn table(shapes: &[Shape]) -> String {
    let providers: u32 = shapes.iter().map(|shape| shape.providers).sum();
    let mut text = format!(
        "# The shapes of real servers, and the test that drives each\n\n\
         {} shapes of {providers} providers.\n\n\
         | shape | providers | test |\n|---|---|---|\n",
        shapes.len(),
    );
    for shape in shapes {
        let row = format!("| {} | {} | {} |\n", shape.name, shape.providers, shape.group().test());
        text.push_str(&row);
    }
    text
}
