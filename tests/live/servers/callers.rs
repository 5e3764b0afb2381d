//! Many callers of one session, and one refresh for all of them.

use session_warden::store::MemoryStore;
use session_warden::testing::ManualClock;

use crate::sessions::{SECOND, all, callers, handles, session, sign_in, supervised};
use crate::wsgi_peer::{Counts, Kind, WsgiPeer};

pub async fn of_200_callers_at_every_expiry_and_at_once_one_refreshes(kind: Kind) {
    const EXPIRIES: u64 = 5;
    let peer = WsgiPeer::start(kind, 60).await;
    let clock = ManualClock::new();
    let builder = supervised(&MemoryStore::new(), peer.client()).clock(clock.clone());
    let supervisor = builder.start().await.unwrap();
    let session = session(&supervisor, "device");
    sign_in(&session).await.unwrap();
    for expiry in 1..=EXPIRIES {
        clock.advance(60 * SECOND).await;
        assert!(session.try_permission_token().is_none(), "it has expired");
        let calls = callers(handles(&session, 200), async |s| s.permission_token().await);
        for token in all(calls).await {
            assert_eq!(token.unwrap().generation(), expiry + 1);
        }
        assert_eq!(peer.counts().await, after(expiry));
    }

    // Held back, so that all callers are there before the answer could be.
    peer.delay_answers(1000).await;
    for token in all(callers(handles(&session, 200), async |s| s.refresh().await)).await {
        assert_eq!(token.unwrap().generation(), EXPIRIES + 2);
    }
    assert_eq!(peer.counts().await, after(EXPIRIES + 1));
    let token = session.permission_token().await.unwrap();
    assert!(peer.is_active(token.expose_secret()).await);
}

/// What a server counts that had one session and so many refreshes, and no token twice.
fn after(refreshes: u64) -> Counts {
    Counts { token_requests: refreshes + 1, established: 1, refreshes, ..Counts::default() }
}
