//! What a session that is due has to wait for.

use crate::key::SessionId;
use crate::provider::registered::Registered;
use crate::session::schedule::Lane;

/// Where the session waits if it has to.
pub(super) fn lane(provider: &Registered, id: &SessionId) -> Lane {
    let tenant = id.key().tenant();
    if provider.of_all().is_some() {
        Lane::Client
    } else if provider.known(tenant).is_some_and(|site| site.client().is_some()) {
        Lane::ClientOf(tenant.clone())
    } else {
        Lane::Source
    }
}
