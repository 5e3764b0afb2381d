//! What a test can set at a server that speaks Extra Horizon.

use super::server_data::ExtraHorizonServer;
use crate::testing::fake_auth_server::handle::FakeAuthServer;

/// At [`FakeDialect::ExtraHorizon`](crate::testing::FakeDialect).
impl FakeAuthServer {
    /// Gives a user a second factor, for which only `code` is right; `None` removes it.
    ///
    /// The id of its method is `5ec0ndfac70r5ec0ndfac70r`.
    pub fn set_second_factor(&self, user: &str, code: Option<&str>) {
        self.running.update_dialect(|exh: &mut ExtraHorizonServer| match code {
            Some(code) => exh.factors.insert(user.to_owned(), code.to_owned()),
            None => exh.factors.remove(user),
        });
    }
}
