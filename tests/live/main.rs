//! Real servers of other authors, each a child process of its test. `tests/run` installs them.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these lints keep the library's surface small and its callers alive; a test has neither"
)]

mod extra_horizon;
mod fleet;
mod oidc_peer;
mod peer;
mod postgres;
#[path = "../support/postgres_cluster.rs"]
mod postgres_cluster;
mod processes;
#[path = "../support/secret_scan.rs"]
mod secret_scan;
mod servers;
mod sessions;
#[path = "../support/store_model.rs"]
mod store_model;
#[path = "../support/store_statements.rs"]
mod store_statements;
mod wsgi_peer;
