//! What a test can set at a server that speaks Spatium, and read from it.

use super::SpatiumServer;
use crate::testing::fake_auth_server::handle::FakeAuthServer;

/// Spatium.
impl FakeAuthServer {
    /// Makes a security token, as if this user had passed a factor. It can be used once.
    #[must_use]
    pub fn security_token(&self, user: &str) -> String {
        let token = self.running.update(|state| state.server.authority.new_token().to_string());
        self.running.update_dialect(|spatium: &mut SpatiumServer| {
            spatium.security_tokens.insert(token.clone(), user.to_owned())
        });
        token
    }

    /// Adds a merchant's key. With at least one key, the server refuses all other keys.
    pub fn add_merchant_key(&self, key: &str) {
        self.running
            .update_dialect(|spatium: &mut SpatiumServer| spatium.keys.insert(key.to_owned()));
    }

    /// Sets whether responses have another id than their requests, as if a proxy had confused the
    /// responses.
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
