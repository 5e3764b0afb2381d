//! What the cases stand on: a store, a session in it, and short words for statements.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use crate::clock::{BootTime, Now};
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::store::{
    Attempt, Claim, Claimed, Close, Closed, Commit, Committed, Intent, Owner, Phase, Record,
    Settle, SettleTo, Settled, Store, TakeOver,
};
use crate::token::{Credentials, Tokens};

pub(super) const ALICE: Owner = Owner(0xA11CE);
pub(super) const BOB: Owner = Owner(0xB0B);

/// How long claims hold.
pub(super) const LEASE: Duration = Duration::from_secs(20);

/// A store and the session that the case is about.
#[derive(Clone)]
pub(super) struct Bed {
    pub(super) store: Arc<dyn Store>,
    pub(super) id: SessionId,
}

/// What a claim was granted: all that its end must name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grip {
    pub(super) intent: Intent,
    pub(super) epoch: u64,
    pub(super) attempt: Attempt,
}

impl Bed {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, id: id("provider", "tenant", "device") }
    }

    /// The same store, another session.
    pub(super) fn of(&self, id: SessionId) -> Self {
        Self { store: Arc::clone(&self.store), id }
    }

    pub(super) fn named(&self, name: &str) -> Self {
        self.of(id("provider", "tenant", name))
    }

    pub(super) async fn load(&self) -> Option<Record> {
        self.store.load(&self.id).await.unwrap()
    }

    pub(super) async fn record(&self) -> Record {
        self.load().await.unwrap()
    }

    pub(super) async fn claim(&self, claim: Claim) -> Claimed {
        self.store.claim(&self.id, claim).await.unwrap()
    }

    /// A claim that must be granted, on the record as it is.
    pub(super) async fn grip(&self, owner: Owner, intent: Intent) -> Grip {
        let found = self.load().await;
        let (epoch, generation) = found.map_or((0, 0), |record| (record.epoch, record.generation));
        match self.claim(claim(owner, intent, (epoch, generation))).await {
            Claimed::Granted { fence } => {
                Grip { intent, epoch, attempt: Attempt { base: generation, fence } }
            }
            refused @ (Claimed::Moved(_) | Claimed::Leased(_)) => {
                panic!("the claim was not granted: {refused:?}")
            }
        }
    }

    pub(super) async fn commit(&self, grip: Grip, name: &str) -> Committed {
        self.commit_due(grip, name, Some(wall(900))).await
    }

    pub(super) async fn commit_due(
        &self,
        grip: Grip,
        name: &str,
        due_at: Option<SystemTime>,
    ) -> Committed {
        let Grip { intent, epoch, attempt } = grip;
        let commit = Commit { intent, epoch, attempt, credentials: credentials(name), due_at };
        self.store.commit(&self.id, commit).await.unwrap()
    }

    pub(super) async fn settle(&self, grip: Grip, to: SettleTo) -> Settled {
        let Grip { epoch, attempt, .. } = grip;
        let settle = Settle { epoch, attempt, to, retry_at: Some(wall(33)) };
        self.store.settle(&self.id, settle).await.unwrap()
    }

    /// Takes over as somebody who saw this fence, `after` the start.
    pub(super) async fn take_over(&self, fence: u64, after: Duration) -> bool {
        let take = TakeOver { fence, at: now(after), retry_at: Some(wall(44)) };
        self.store.take_over(&self.id, take).await.unwrap()
    }

    pub(super) async fn close(&self, generation: u64) -> Closed {
        let close = Close { generation, at: now(Duration::ZERO) };
        self.store.close(&self.id, close).await.unwrap()
    }

    /// A close that must be done; the tombstone's generation.
    pub(super) async fn closed(&self) -> u64 {
        let generation = self.record().await.generation;
        match self.close(generation).await {
            Closed::Done { generation } => generation,
            Closed::Moved(record) => panic!("the close was not done: {record:?}"),
        }
    }

    /// The session after its first grant: epoch 1, generation 1, `access-first`.
    pub(super) async fn established(&self) -> Grip {
        let grip = self.grip(ALICE, Intent::Establish).await;
        let stored = self.commit(grip, "first").await;
        assert_eq!(stored, Committed::Stored { epoch: 1, generation: 1, suspect: false });
        grip
    }

    /// The session after its first grant, with a refresh claimed by Alice.
    pub(super) async fn refreshing(&self) -> Grip {
        self.established().await;
        self.grip(ALICE, Intent::Refresh).await
    }

    /// The session after a refresh that was rejected.
    pub(super) async fn lost(&self) -> Grip {
        let grip = self.refreshing().await;
        let settled = self.settle(grip, SettleTo::Lost(LostReason::LostInDoubt)).await;
        assert_eq!(settled, Settled::Done);
        grip
    }

    /// Counters, phase and access token, which say most of a record.
    pub(super) async fn gist(&self) -> (u64, u64, Phase, String) {
        let record = self.record().await;
        (record.epoch, record.generation, record.phase, access(record.credentials.as_deref()))
    }

    pub(super) async fn is_suspect(&self) -> bool {
        self.record().await.suspect
    }

    pub(super) async fn is_due(&self) -> bool {
        let due = self.store.due(None, 1000).await.unwrap();
        due.iter().any(|due| due.id == self.id)
    }
}

/// Runs all of them at once, each on a thread of its own: the runtime of a test may have but one.
pub(super) async fn at_once<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let here = Handle::current();
    let threads = futures.map(|future| {
        let here = here.clone();
        spawn_blocking(move || here.block_on(future))
    });
    // All are started before the first is awaited.
    let threads: Vec<_> = threads.collect();
    join_all(threads).await.into_iter().map(|ended| ended.unwrap()).collect()
}

pub(super) fn claim(owner: Owner, intent: Intent, (epoch, generation): (u64, u64)) -> Claim {
    Claim { owner, intent, epoch, generation, at: now(Duration::ZERO), lease: LEASE }
}

pub(super) fn stored(epoch: u64, generation: u64) -> Committed {
    Committed::Stored { epoch, generation, suspect: false }
}

pub(super) fn gist(
    epoch: u64,
    generation: u64,
    phase: Phase,
    name: &str,
) -> (u64, u64, Phase, String) {
    (epoch, generation, phase, format!("access-{name}"))
}

pub(super) fn id(provider: &str, tenant: &str, name: &str) -> SessionId {
    let key = SessionKey::new(tenant, name).unwrap();
    SessionId::new(ProviderName::new(provider).unwrap(), key)
}

/// Credentials by which they can be told apart: `access-name` and `refresh-name`.
pub(super) fn credentials(name: &str) -> Arc<Credentials> {
    let attributes: Arc<str> = Arc::from(format!("{{\"name\":\"{name}\"}}"));
    let tokens = Tokens::new(attributes)
        .access(format!("access-{name}"), Some(wall(900)))
        .refresh(format!("refresh-{name}"), None);
    Arc::new(Credentials::new(tokens, "https://login.example.com", "client"))
}

pub(super) fn access(credentials: Option<&Credentials>) -> String {
    let token = credentials.and_then(|credentials| credentials.tokens().access_token());
    token.map_or_else(String::new, |token| token.expose_secret().to_owned())
}

/// A time of day in whole seconds, which every store can keep.
pub(super) fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600 + seconds)
}

/// The time `after` the start.
pub(super) fn now(after: Duration) -> Now {
    let boot = BootTime::new(Duration::from_secs(86_400));
    Now::new(wall(0) + after, boot.after(after), Duration::from_secs(82_800) + after)
}
