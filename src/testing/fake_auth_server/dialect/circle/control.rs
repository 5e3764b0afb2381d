//! What a test can set at a server that speaks Circle.

use super::{CircleServer, Member};
use crate::testing::fake_auth_server::handle::FakeAuthServer;

/// Circle.
impl FakeAuthServer {
    /// The app token; others are refused from now on.
    pub fn set_app_token(&self, token: &str) {
        self.running.update_dialect(|circle: &mut CircleServer| {
            circle.app_token = Some(token.to_owned());
        });
    }

    /// The community that the app token is of, from now on.
    pub fn set_community(&self, id: u64) {
        self.running.update_dialect(|circle: &mut CircleServer| circle.community = Some(id));
    }

    /// A member of the community. As soon as one is named, others are unknown.
    pub fn add_member(&self, id: u64, email: &str, sso_user_id: &str) {
        let (email, sso_user_id) = (email.to_owned(), sso_user_id.to_owned());
        let member = Member { id, email, sso_user_id };
        self.running.update_dialect(|circle: &mut CircleServer| circle.members.push(member));
    }

    /// Whether a refresh answers with the access token that there is, and its end, as long as that
    /// serves.
    pub fn keep_access_tokens(&self, keep: bool) {
        self.running.update_dialect(|circle: &mut CircleServer| {
            circle.keeps_access_tokens = keep;
        });
    }
}
