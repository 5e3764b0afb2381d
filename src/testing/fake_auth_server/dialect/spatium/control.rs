//! What a test can set at a server that speaks Spatium, and read from it.

use super::SpatiumServer;
use crate::testing::fake_auth_server::handle::FakeAuthServer;

/// Spatium.
impl FakeAuthServer {
    /// A security token, as if this user had passed a factor. It establishes one session, once.
    #[must_use]
    pub fn security_token(&self, user: &str) -> String {
        let token = self.running.update(|state| state.server.authority.new_token().to_string());
        self.running.update_dialect(|spatium: &mut SpatiumServer| {
            spatium.security_tokens.insert(token.clone(), user.to_owned())
        });
        token
    }

    /// A merchant's key. As soon as one is named, others are refused.
    pub fn add_merchant_key(&self, key: &str) {
        self.running
            .update_dialect(|spatium: &mut SpatiumServer| spatium.keys.insert(key.to_owned()));
    }

    /// Whether responses repeat another id than the request's, as if a proxy had mixed them up.
    pub fn confuse_requests(&self, confuse: bool) {
        self.running.update_dialect(|spatium: &mut SpatiumServer| {
            spatium.confuses_requests = confuse;
        });
    }

    /// The token ids of all sessions that were ever established, in alphabetical order.
    #[must_use]
    pub fn token_ids(&self) -> Vec<String> {
        let ids = self.running.update_dialect(|spatium: &mut SpatiumServer| {
            spatium.sessions.keys().cloned().collect::<Vec<_>>()
        });
        let mut ids = ids.unwrap_or_default();
        ids.sort_unstable();
        ids
    }
}
