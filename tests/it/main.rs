//! Behaviour by topic, in one binary.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "these lints keep the library's surface small and its callers alive; a test has neither"
)]

mod docs;
mod handover;
mod layers;
mod one_refresh;
mod saving;
mod scene;
mod source;
mod store;
