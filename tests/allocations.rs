//! A fresh token is served without asking the allocator for anything.

use allocation_counter::measure;
use futures_util::FutureExt;
use session_warden::testing::ScriptedProvider;
use session_warden::{PermissionToken, SessionKey, Supervisor};

#[tokio::test]
async fn a_fresh_token_is_served_without_an_allocation() {
    let provider: ScriptedProvider = ScriptedProvider::new();
    let supervisor = Supervisor::builder().provider("p", provider).start().await.unwrap();
    let sessions = supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let held = sessions.session(key.clone());
    let _ = held.establish(()).await.unwrap();
    // A thread's first read makes what its later reads go on with.
    assert_eq!(held.try_permission_token().unwrap().expose_secret(), "access-1");

    let by_key = || sessions.session(key.clone());
    let is_there = |token: &PermissionToken| token.generation() == 1;
    let ways: [(&str, &dyn Fn() -> Option<bool>); 6] = [
        ("held, borrowed", &|| held.with_token(is_there)),
        ("held, owned", &|| held.try_permission_token().as_ref().map(is_there)),
        ("held, awaited", &|| held.permission_token().now_or_never()?.ok().as_ref().map(is_there)),
        ("by key, borrowed", &|| by_key().with_token(is_there)),
        ("by key, owned", &|| by_key().try_permission_token().as_ref().map(is_there)),
        ("by key, awaited", &|| {
            by_key().permission_token().now_or_never()?.ok().as_ref().map(is_there)
        }),
    ];
    for (way, serve) in ways {
        let mut served = None;
        let counted = measure(|| served = serve());
        assert_eq!((served, counted.count_total), (Some(true), 0), "{way}");
    }
}
