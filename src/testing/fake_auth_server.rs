//! An authorization server for tests.

mod accounts;
mod authority;
mod client_assertion;
mod counts;
mod dialect;
mod error_code;
mod expires_in;
mod fake_dialect;
mod fake_login;
mod fake_response;
mod fake_rotation;
mod fake_server_shape;
mod handle;
mod incoming_request;
mod injected_fault;
mod running;
mod serve;
mod server_builder;
mod server_state;
#[cfg(test)]
mod tests;

pub use counts::{Counts, Endpoint, Tally};
pub use expires_in::ExpiresIn;
pub use fake_dialect::FakeDialect;
pub use fake_login::FakeLogin;
pub use fake_rotation::FakeRotation;
pub use fake_server_shape::FakeServerShape;
pub use handle::FakeAuthServer;
pub use injected_fault::Fault;
pub use server_builder::FakeAuthServerBuilder;
