//! Behaviour by topic, in one binary.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::excessive_nesting,
    reason = "these lints keep the library's surface small and its callers alive; a test has neither"
)]

mod adopt;
mod answers;
mod calls;
mod challenges;
mod circle;
mod client_keys;
mod community;
mod conformance;
mod copying;
mod device_logins;
mod docs;
mod due;
mod elsewhere;
mod eviction;
mod examples;
mod extra_horizon;
mod fixtures;
mod forget;
mod handover;
mod health;
mod import;
mod import_circles;
mod integrator;
mod interleavings;
mod invariants;
mod ioffice;
mod iot;
mod isolation;
mod journal;
mod layers;
mod lifecycle;
mod listing;
mod logins;
mod metrics;
mod middleware;
mod oauth2;
mod one_refresh;
mod orphans;
mod outages;
mod panics;
mod pauses;
mod public_api;
mod quotas;
mod reach;
mod renewal;
mod retention;
mod saving;
mod schedule;
mod secret_leaks;
#[path = "../support/secret_scan.rs"]
mod secret_scan;
mod servers;
mod service_accounts;
mod settings;
mod shared_clients;
mod shutdown;
mod slow;
mod source_text;
mod spans;
mod spatium;
mod sqlite;
mod store;
#[path = "../support/store_model.rs"]
mod store_model;
#[path = "../support/store_statements.rs"]
mod store_statements;
mod support;
mod token_exchanges;
mod types;
mod wrappers;
mod wrong_usages;
