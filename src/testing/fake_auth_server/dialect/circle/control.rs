//! What a test can set at a server that speaks Circle.

use super::{CircleServer, Member};
use crate::testing::fake_auth_server::handle::FakeAuthServer;

/// Circle.
impl FakeAuthServer {
    /// Sets the app token. The server refuses all other app tokens from now on.
    pub fn set_app_token(&self, token: &str) {
        self.running.update_dialect(|circle: &mut CircleServer| {
            circle.app_token = Some(token.to_owned());
        });
    }

    /// Sets the community of the app token.
    pub fn set_community(&self, id: u64) {
        self.running.update_dialect(|circle: &mut CircleServer| circle.community = Some(id));
    }

    /// Adds a member of the community. With at least one member, the server knows no other members.
    pub fn add_member(&self, id: u64, email: &str, sso_user_id: &str) {
        let (email, sso_user_id) = (email.to_owned(), sso_user_id.to_owned());
        let member = Member { id, email, sso_user_id };
        self.running.update_dialect(|circle: &mut CircleServer| circle.members.push(member));
    }

    /// Sets whether a refresh returns the present access token as long as it is valid, with its
    /// expiry, in place of a new access token.
    pub fn keep_access_tokens(&self, keep: bool) {
        self.running.update_dialect(|circle: &mut CircleServer| {
            circle.keeps_access_tokens = keep;
        });
    }
}
