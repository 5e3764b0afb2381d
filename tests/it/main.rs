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

mod canary;
mod circle;
mod docs;
mod due;
mod examples;
mod handover;
mod interleavings;
mod invariants;
mod layers;
mod lifecycle;
mod oauth2;
mod one_refresh;
mod saving;
mod scene;
mod source;
mod spatium;
mod store;
mod support;
