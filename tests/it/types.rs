//! Properties of public types that the compiler checks.

use session_warden::event::Events;
use session_warden::key::SessionKey;
use session_warden::provider::ioffice::IOffice;
use session_warden::provider::oauth2::OAuth2;
use session_warden::provider::spatium::Spatium;
use session_warden::provider::{
    Provider, ProviderSource, Registration, RevocationReach, Rotation, SourceError,
};
use session_warden::seal::KeyRing;
use session_warden::session::{AnyProvider, Login};
use session_warden::store::MemoryStore;
use session_warden::supervisor::{Sessions, SupervisorBuilder};
use session_warden::testing::{FakeAuthServer, ManualClock, ScriptedProvider};
use session_warden::ticket::Ticket;
use session_warden::{Error, Establishment, PermissionToken, Session, Supervisor};

const fn is_shared<T: Send + Sync + 'static>() {}
const fn is_a_handle<T: Clone + Send + Sync + 'static>() {}
const fn is_moved<T: Send + 'static>() {}

/// Any backend's own provider, grants and attributes included.
const fn are_handles<P: Provider>() {
    is_a_handle::<Sessions<P>>();
    is_a_handle::<Session<P>>();
    is_shared::<Registration<P>>();
}

const _: () = {
    is_a_handle::<Supervisor>();
    is_a_handle::<Session>();
    is_a_handle::<Session<AnyProvider>>();
    are_handles::<OAuth2>();
    are_handles::<ScriptedProvider>();
    is_a_handle::<Error>();
    is_a_handle::<PermissionToken>();
    is_a_handle::<KeyRing>();
    is_a_handle::<Ticket>();
    is_a_handle::<SessionKey>();
    is_a_handle::<MemoryStore>();
    is_a_handle::<ManualClock>();
    is_shared::<Login>();
    is_shared::<SourceError>();
    is_shared::<FakeAuthServer>();
    is_moved::<SupervisorBuilder>();
    is_moved::<Events>();
    is_shared::<Establishment<OAuth2>>();
};

const fn is_a_source<P: Provider, S: ProviderSource<P>>(_: &S) {
    is_shared::<S>();
}

#[test]
fn a_closure_that_asks_a_database_is_a_source() {
    let source = |tenant: session_warden::key::Tenant| async move {
        let client = OAuth2::new(&format!("https://{}.example/token", tenant.as_str()), "client")?;
        Ok::<Registration<OAuth2>, SourceError>(client.into())
    };
    is_a_source::<OAuth2, _>(&source);
}

/// A setter that had the name of a method of [`Provider`] would hide it: this would not compile.
#[test]
fn a_setting_and_what_the_crate_reads_of_it_are_called_by_different_names() {
    let url = "https://as.example/token";
    let client = OAuth2::new(url, "client").unwrap().rotation(Rotation::Static);
    let client = client.revocation_reach(RevocationReach::OneGrant).refresh_ends_access_tokens();
    assert_eq!(client.refresh_token_rotation(), Rotation::Static);
    assert_eq!(client.reach_of_revocation(), RevocationReach::OneGrant);
    assert!(client.access_tokens_end_at_refresh());
    assert!(client.renewal_grant(None).is_none());
    assert!(client.client_credentials().renewal_grant(None).is_some());

    let spatium = Spatium::new("https://as.example").unwrap().rotation(Rotation::Static);
    assert_eq!(spatium.refresh_token_rotation(), Rotation::Static);
    let office = IOffice::new("https://as.example", "client", "https://app.example").unwrap();
    let office = office.rotation(Rotation::Static);
    assert_eq!(office.refresh_token_rotation(), Rotation::Static);

    let scripted = ScriptedProvider::new().authority(url.parse().unwrap()).client("client");
    let scripted = scripted.rotation(Rotation::Static).renewal(|| ());
    let scripted = scripted.revocation_reach(RevocationReach::OneGrant);
    let scripted = scripted.refresh_ends_access_tokens(true);
    assert_eq!((scripted.authority_url().as_str(), scripted.client_id()), (url, "client"));
    assert_eq!(scripted.refresh_token_rotation(), Rotation::Static);
    assert_eq!(scripted.reach_of_revocation(), RevocationReach::OneGrant);
    assert!(scripted.access_tokens_end_at_refresh());
    assert_eq!(scripted.renewal_grant(None), Some(()));
}
