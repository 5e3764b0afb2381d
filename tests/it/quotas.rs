//! How much of the shared bounds one tenant may use.

use session_warden::error::ErrorKind;
use session_warden::policy::Policy;
use session_warden::testing::ScriptedProvider;
use session_warden::{Session, SessionKey, Supervisor};

async fn supervisor(policy: Policy) -> Supervisor {
    let provider: ScriptedProvider = ScriptedProvider::new();
    Supervisor::builder().policy(policy).provider("p", provider).start().await.unwrap()
}

fn session(supervisor: &Supervisor, tenant: &str, name: usize) -> Session<ScriptedProvider> {
    let key = SessionKey::new(tenant, name.to_string()).unwrap();
    supervisor.sessions("p").unwrap().session(key)
}

#[tokio::test]
async fn a_tenant_at_its_bound_of_sessions_gets_capacity_for_itself_alone() {
    let supervisor = supervisor(Policy { max_sessions_per_tenant: 3, ..Policy::default() }).await;
    for name in 0..3 {
        let _ = session(&supervisor, "greedy", name).establish(()).await.unwrap();
    }
    let full = session(&supervisor, "greedy", 3).establish(()).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Capacity);
    assert!(full.to_string().contains("the tenant has too many sessions"), "{full}");
    let _ = session(&supervisor, "modest", 0).establish(()).await.unwrap();
    // Existing sessions still work.
    session(&supervisor, "greedy", 0).permission_token().await.unwrap();
}
