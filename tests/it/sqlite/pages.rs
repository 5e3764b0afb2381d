//! Pages of lists, which must be equal for a file and for memory.

use session_warden::SessionKey;
use session_warden::error::LostReason;
use session_warden::key::{ProviderName, SessionId, Tenant};
use session_warden::store::{
    Intent, Listed, Lose, MemoryStore, Owner, Phase, RecordFilter, Settle, SettleTo, Statement,
    Store,
};

use super::store_folder::{Folder, claim, close, done, exchange, found, granted};

// One of each has no session, and stands between others. Some begin as others do.
const PROVIDERS: [&str; 4] = ["a", "a-2", "b", "\u{e9}"];
const TENANTS: [&str; 4] = ["s", "s-1", "t", "u"];
const TOKEN_IDS: [&str; 3] = ["1", "10", "~"];
const EMPTY: (&str, &str) = ("a-2", "t");

const PHASES: [Phase; 5] =
    [Phase::Vacant, Phase::Active, Phase::InDoubt, Phase::Lost, Phase::Closed];

/// All ids, in their order.
fn ids() -> Vec<SessionId> {
    let names = PROVIDERS.into_iter().flat_map(|provider| {
        let of = move |tenant| TOKEN_IDS.map(|token_id| (provider, tenant, token_id));
        TENANTS.into_iter().flat_map(of)
    });
    let id = |(provider, tenant, token_id)| {
        let key = SessionKey::new(tenant, token_id).unwrap();
        SessionId::new(ProviderName::new(provider).unwrap(), key)
    };
    names.map(id).collect()
}

/// Brings a new session into a phase.
async fn make(store: &impl Store, id: &SessionId, phase: Phase) {
    if phase == Phase::Vacant {
        granted(store, id, claim(Owner(1), Intent::Establish, None)).await.unwrap();
        return;
    }
    let made = exchange(store, id, Intent::Establish, "first").await.unwrap();
    let (epoch, generation) = (made.epoch, made.generation);
    let reason = LostReason::Rejected;
    let then = match phase {
        Phase::InDoubt => {
            let known = Some((epoch, generation));
            let (epoch, attempt) =
                granted(store, id, claim(Owner(1), Intent::Refresh, known)).await.unwrap();
            let to = SettleTo::InDoubt;
            Statement::Settle(Settle {
                epoch,
                attempt,
                to,
                retry_in: None,
                due_in: None,
                failures: None,
            })
        }
        Phase::Lost => Statement::Lose(Lose { epoch, generation, reason }),
        Phase::Closed => close(generation),
        Phase::Vacant | Phase::Active => return,
    };
    done(store.apply(id, then).await);
    assert_eq!(found(store, id).await.phase, phase);
}

/// All of them, with names that no session has.
fn filters() -> Vec<RecordFilter> {
    let providers = PROVIDERS.map(|name| Some(ProviderName::new(name).unwrap()));
    let tenants = TENANTS.map(|name| Some(Tenant::new(name).unwrap()));
    let mut filters = Vec::new();
    for provider in providers.into_iter().chain([None]) {
        for tenant in tenants.iter().cloned().chain([None]) {
            for phase in PHASES.map(Some).into_iter().chain([None]) {
                let (provider, tenant) = (provider.clone(), tenant.clone());
                filters.push(RecordFilter { provider, tenant, phase });
            }
        }
    }
    filters
}

fn shown(listed: Vec<Listed>) -> Vec<(SessionId, Phase)> {
    listed.into_iter().map(|listed| (listed.id, listed.stored.record.phase)).collect()
}

#[tokio::test]
async fn a_page_of_a_file_is_that_of_memory_with_every_filter_and_after_every_id() {
    let (folder, memory, ids) = (Folder::new(), MemoryStore::new(), ids());
    let file = folder.store();
    let kept = |id: &&SessionId| {
        let key = id.key();
        id.provider().as_str() != EMPTY.0 && key.tenant().as_str() != EMPTY.1
    };
    // Some are not there, though sessions before and behind them are.
    for (number, id) in ids.iter().filter(kept).enumerate().filter(|(number, _)| number % 7 != 3) {
        let phase = PHASES[number % PHASES.len()];
        make(&file, id, phase).await;
        make(&memory, id, phase).await;
    }
    let (mut full, mut empty) = (0, 0);
    for filter in filters() {
        for (number, after) in ids.iter().map(Some).chain([None]).enumerate() {
            let limit = [2, 100][number % 2];
            let expected = shown(memory.list(&filter, after, limit).await.unwrap());
            let listed = shown(file.list(&filter, after, limit).await.unwrap());
            assert_eq!(listed, expected, "{limit} of {filter:?} after {after:?}");
            full += usize::from(listed.len() == limit);
            empty += usize::from(listed.is_empty());
        }
    }
    assert!(full > 500 && empty > 500, "{full} {empty}");
}
