//! Files with changed bytes: they cause no panic and no hang, and are not accepted.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use session_warden::key::SessionId;
use session_warden::store::sqlite::{SqliteFault, SqliteStore};
use session_warden::store::{
    Cursor, Intent, Owner, RecordFilter, Statement, Store, StoreError, StoreErrorKind,
};

use super::faults::{fault, sql};
use super::store_folder::{Folder, access, claim, exchange, id, ring};

#[tokio::test]
async fn a_counter_that_cannot_be_counted_on_fails_its_record_alone() {
    // In clear, because in a sealed file the tag would reveal the change first.
    let folder = Folder::new();
    let store = SqliteStore::builder(folder.database()).tokens_in_clear().open().unwrap();
    for name in ["a", "b"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    for column in ["version", "epoch", "generation", "fence", "made_base", "made_fence"] {
        for value in [i64::MAX, -1] {
            sql(&folder, &format!("UPDATE session SET {column} = {value} WHERE token_id = 'a'"));
            let failed = store.load(&id("a")).await.unwrap_err();
            let expected = (StoreErrorKind::Corrupt, SqliteFault::Malformed);
            assert_eq!((failed.kind(), fault(&failed)), expected, "{column} = {value}");
            exchange(&store, &id("b"), Intent::Refresh, "b").await.unwrap();
            sql(&folder, &format!("UPDATE session SET {column} = 1 WHERE token_id = 'a'"));
        }
    }
    store.shutdown().await;
    for change in [
        "UPDATE store SET version = 9223372036854775807",
        "UPDATE store SET in_clear = 2",
        "INSERT INTO sqlite_sequence VALUES ('change', 9223372036854775807)",
        "DELETE FROM store",
    ] {
        let folder = Folder::new();
        folder.store().shutdown().await;
        sql(&folder, change);
        assert_eq!(
            fault(&folder.builder().open().unwrap_err()),
            SqliteFault::Malformed,
            "{change}"
        );
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_fails_alone_and_is_not_read_into_memory() {
    let folder = Folder::new();
    let store = folder.store();
    for name in ["a", "b"] {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    let most = session_warden::policy::SEALED_BYTES;
    let large = |bytes: usize| {
        format!("UPDATE session SET sealed = zeroblob({bytes}) WHERE token_id = 'a'")
    };
    sql(&folder, &large(most + 1));
    let failed = store.load(&id("a")).await.unwrap_err();
    assert_eq!(fault(&failed), SqliteFault::Malformed);
    assert!(store.load(&id("b")).await.unwrap().is_some());
    assert_eq!(store.list(&RecordFilter::default(), None, 10).await.unwrap().len(), 2);
    sql(&folder, &large(most));
    let failed = store.load(&id("a")).await.unwrap_err();
    assert!(failed.source().unwrap().downcast_ref::<SqliteFault>().is_none(), "it was read");
    // Sealing so much takes long in a test.
    let clear = Folder::new();
    let store = SqliteStore::builder(clear.database()).tokens_in_clear().open().unwrap();
    let huge = "x".repeat(most / 3);
    let refused = exchange(&store, &id("c"), Intent::Establish, &huge).await.unwrap_err();
    assert_eq!((refused.kind(), fault(&refused)), (StoreErrorKind::Full, SqliteFault::TooLarge));
}

/// A small generator with a seed (SplitMix64), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// The bytes of a file with sessions on several pages.
async fn sample() -> Vec<u8> {
    let folder = Folder::new();
    let store = folder.store();
    for name in NAMES {
        exchange(&store, &id(name), Intent::Establish, name).await.unwrap();
    }
    store.shutdown().await;
    std::fs::read(folder.database()).unwrap()
}

/// Changes some bytes, or a whole page, or the header of a page.
fn change(bytes: &mut [u8], dice: &mut Dice) {
    const PAGE: usize = 4096;
    let pages = bytes.len() / PAGE;
    for _ in 0..=dice.below(4) {
        let page = dice.below(pages) * PAGE;
        match dice.below(5) {
            0 => bytes[page + dice.below(PAGE)] ^= 1 << dice.below(8),
            1 => bytes[page + dice.below(PAGE)] = dice.next().to_le_bytes()[0],
            2 => {
                // The head of a page, where it says how many cells it has and where they lie.
                bytes[page + dice.below(40)] = dice.next().to_le_bytes()[0];
            }
            3 => {
                let (from, length) = (dice.below(pages) * PAGE, 1 + dice.below(PAGE - 1));
                bytes.copy_within(from..from + length, page);
            }
            _ => {
                let (at, length) = (dice.below(PAGE), dice.below(64));
                let end = PAGE.min(at + length);
                bytes[page + at..page + end].fill(dice.next().to_le_bytes()[0]);
            }
        }
    }
}

/// All statements on a store. Accepted data must be the data that was written.
async fn ask(store: &SqliteStore) {
    let answered = |failed: &StoreError| {
        let closed = failed.source().and_then(|cause| cause.downcast_ref::<SqliteFault>());
        assert_ne!(closed, Some(&SqliteFault::Closed), "its thread panicked");
    };
    for name in NAMES {
        match store.load(&id(name)).await {
            Ok(Some(found)) => check(&id(name), access(&found.record), name),
            Ok(None) => {}
            Err(failed) => answered(&failed),
        }
    }
    let others = [
        store.list(&RecordFilter::default(), None, 100).await.err(),
        store.due(id("a").provider(), Duration::ZERO, None, 100).await.err(),
        store.changes(Some(&Cursor([0; 16].into())), 100).await.err(),
        store.stale_keys().await.err(),
        claim_if_any(store, &id("a")).await.err(),
        store.apply(&id("b"), Statement::Delete).await.err(),
        // The thread still runs after every failure.
        store.load(&id("c")).await.err(),
    ];
    others.iter().flatten().for_each(answered);
}

/// A sealed token opens as the text that was sealed, or not at all.
#[track_caller]
fn check(id: &SessionId, token: Option<&str>, name: &str) {
    if let Some(token) = token {
        assert_eq!(token, format!("access-{name}"), "{id}");
    }
}

/// A claim, which a changed row may refuse.
async fn claim_if_any(store: &SqliteStore, id: &SessionId) -> Result<(), StoreError> {
    let Some(found) = store.load(id).await? else { return Ok(()) };
    let known = Some((found.record.epoch, found.record.generation));
    let claim = Statement::Claim(claim(Owner(1), Intent::Refresh, known));
    store.apply(id, claim).await.map(drop)
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).unwrap();
    }
}

/// `SESSION_WARDEN_SEEDS` says how many files are tried; 80 take two seconds.
#[tokio::test]
async fn a_file_with_changed_bytes_neither_panics_nor_hangs_nor_passes_for_what_was_written() {
    let seeds = std::env::var_os("SESSION_WARDEN_SEEDS");
    let seeds = seeds.map_or(80, |seeds| seeds.to_str().unwrap().parse().unwrap());
    let genuine = sample().await;
    let mut opened = 0;
    for seed in 0..seeds {
        let (mut bytes, mut dice) = (genuine.clone(), Dice(seed));
        change(&mut bytes, &mut dice);
        let folder = Folder::new();
        write(&folder.database(), &bytes);
        let store = SqliteStore::builder(folder.database()).key_ring(ring(1)).open();
        match store {
            Ok(store) => {
                opened += 1;
                ask(&store).await;
                store.shutdown().await;
            }
            Err(refused) => assert_ne!(fault(&refused), SqliteFault::Closed, "seed {seed}"),
        }
    }
    assert!(opened * 4 > seeds, "{opened} of {seeds} were opened: the changes are too coarse");
}
