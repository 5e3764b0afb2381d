//! The grant with which a session is established.

use serde::{Deserialize, Serialize};

use super::Circle;
use crate::provider::UnattendedGrant;

/// A member of the community, by an id that the application knows. The crate never creates members.
/// See the [example of the module](super).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "the API has these three")]
pub enum Member {
    /// By Circle's own id.
    #[doc(alias = "community_member_id")]
    #[doc(alias = "getMemberAPITokenFromCommunityMemberId")]
    Id(u64),
    /// By e-mail address.
    #[doc(alias = "getMemberAPITokenFromEmail")]
    Email(String),
    /// By the id of the single sign-on.
    #[doc(alias = "sso_user_id")]
    #[doc(alias = "getMemberAPITokenFromSSOId")]
    SsoId(String),
}

impl UnattendedGrant<Circle> for Member {}
