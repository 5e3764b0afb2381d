#![cfg(feature = "testing")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::*;
use crate::clock::{BootTime, SystemClock};
use crate::crash::Steps;
use crate::event::Publisher;
use crate::key::{ProviderName, SessionKey, Tenant};
use crate::policy::Policy;
use crate::provider::Registration;
use crate::provider::means::Means;
use crate::provider::site::Site;
use crate::seal::KeyRing;
use crate::session::core::{Counts, Host};
use crate::store::{MemoryStore, Owner};
use crate::task::Tasks;
use crate::testing::ScriptedProvider;
use crate::ticket::Tickets;
use crate::transport::{Transport, TransportConfig};

const WAIT: Duration = Duration::from_millis(200);

/// Its sessions always have their callers ask again.
#[derive(Default)]
struct Insistent(AtomicU64);

impl Host for Insistent {
    fn send(&self, _: &Arc<Slot>, message: Message) -> bool {
        if let Message::Need { reply, .. } = message {
            self.0.fetch_add(1, Ordering::SeqCst);
            reply.send(Answered::Again).unwrap();
        }
        true
    }

    fn connected(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn find(&self, _: &SessionId) -> Option<Arc<Slot>> {
        None
    }

    fn slot(&self, _: &SessionId) -> Result<Arc<Slot>> {
        Err(Error::new(ErrorKind::Capacity))
    }

    fn unstored(&self, _: &ProviderName, _: &Tenant) -> Vec<SessionId> {
        Vec::new()
    }

    fn arm(&self, _: &SessionId, _: BootTime) {}

    fn resident(&self, _: &Arc<Site>) -> Vec<Arc<Slot>> {
        Vec::new()
    }

    fn release(&self, _: Arc<Slot>) {}
}

fn bench() -> (Door, Arc<Slot>, Arc<Insistent>) {
    let keys = KeyRing::generate().unwrap();
    let transport = Transport::new(&TransportConfig::default()).unwrap().into();
    let means = Arc::new(Means { transport, tickets: Tickets::new(keys.clone(), 8).into() });
    let name = ProviderName::new("p").unwrap();
    let provider: ScriptedProvider = ScriptedProvider::new();
    let settings = Registration::new(provider).settings;
    let site = Arc::new(Site::of_all(name.clone(), settings, Arc::clone(&means)));
    let id = SessionId::new(name, SessionKey::new("t", "d").unwrap());
    let host = Arc::new(Insistent::default());
    let asked: Arc<dyn Host> = Arc::<Insistent>::clone(&host);
    let core = Core {
        clock: Arc::new(SystemClock::new()),
        store: Arc::new(MemoryStore::new()),
        tasks: Tasks::here().unwrap(),
        events: Publisher::new(8),
        policy: Policy { wait: WAIT, ..Policy::default() },
        owner: Owner(1),
        counts: Counts::default(),
        means,
        keys,
        host: asked,
        steps: Steps::default(),
    };
    (Door::new(Arc::new(core), Box::new(())), Arc::new(Slot::new(id, site)), host)
}

/// On a runtime of one thread, on which a caller that spins would keep the clock from ending it.
#[tokio::test]
async fn a_caller_who_is_told_to_ask_again_and_again_lets_others_run_and_ends_by_its_deadline() {
    let (door, slot, host) = bench();
    let asking = door.token_above(&slot, 0, None);
    let mut turns = 0_u64;
    let others = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    let error = tokio::select! {
        biased;
        told = asking => told.unwrap_err(),
        () = others => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let asked = host.0.load(Ordering::SeqCst);
    assert!((2..=30).contains(&asked), "{asked} times in {WAIT:?}");
    assert!(turns > asked, "others had {turns} turns");
}
