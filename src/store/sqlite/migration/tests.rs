use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};

use super::VERSION_1;
use crate::clock::SystemClock;
use crate::error::LostReason;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::seal::{KeyRing, MasterKey};
use crate::store::encoding::encode_wall_time;
use crate::store::record_cipher::{RecordCipher, SealedColumn};
use crate::store::sqlite::tests::Folder;
use crate::store::sqlite::{SqliteBuilder, SqliteFault, SqliteStore};
use crate::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Floor, Holder, Intent, Outcome, Owner, Phase, Record,
    RecordFilter, SealFault, Statement, Store, StoreContext, StoreError, StoreErrorKind,
};
use crate::token::{Credentials, Tokens};

const MADE: Attempt = Attempt { base: 1, fence: 3, claim: ClaimId(3) };

fn ring(number: u8) -> KeyRing {
    KeyRing::new(number.into(), MasterKey::from([number; 32]))
}

fn id(name: &str) -> SessionId {
    let key = SessionKey::new("tenant", name).unwrap();
    SessionId::new(ProviderName::new("p").unwrap(), key)
}

fn wall(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn credentials(name: &str) -> Credentials {
    let tokens =
        Tokens::new(Arc::from("{}")).with_access_token(format!("access-{name}"), Some(wall(900)));
    Credentials::new(tokens.with_refresh_token("refresh", Some(wall(9000))), "https://a", "c")
}

/// A file as version 0.1 made it.
struct Old {
    folder: Folder,
    conn: Connection,
    cipher: RecordCipher,
}

impl Old {
    fn new(keys: Option<KeyRing>) -> Self {
        let folder = Folder::new();
        let cipher =
            keys.map_or(RecordCipher::Plaintext, |keys| RecordCipher::with_keys(Some(keys)));
        let database = folder.path().join("a.db");
        drop(crate::store::sqlite::file_permissions::create(&database));
        let conn = Connection::open(database).unwrap();
        conn.execute_batch(VERSION_1).unwrap();
        conn.execute_batch("PRAGMA user_version = 1; PRAGMA application_id = 0x53575244").unwrap();
        let in_clear = matches!(cipher, RecordCipher::Plaintext);
        conn.execute("INSERT INTO store VALUES (1, ?1, 6, 4)", [in_clear]).unwrap();
        Self { folder, conn, cipher }
    }

    /// All phases of version 1, claimed ones among them.
    fn filled(keys: Option<KeyRing>) -> Self {
        let old = Self::new(keys);
        let claimed = |intent: i64, before: i64| Some((intent, before));
        for (name, phase, lease, lost) in [
            ("active", 1, None, None),
            ("doubtful", 3, None, None),
            ("lost", 4, None, Some(1)),
            ("closed", 5, None, None),
            ("told", 5, None, None),
            ("vacant", 2, claimed(0, 0), None),
            ("refreshing", 2, claimed(1, 1), None),
            ("granting", 2, claimed(0, 4), Some(1)),
            ("closing", 2, claimed(0, 5), None),
        ] {
            old.insert(name, phase, lease, lost);
        }
        old
    }

    fn insert(&self, name: &str, phase: i64, lease: Option<(i64, i64)>, lost: Option<i64>) {
        let of = id(name);
        let seal =
            || self.cipher.seal(&of, (1, MADE), SealedColumn::Unnamed, &credentials(name)).unwrap();
        let bytes = || seal().bytes.to_vec();
        let (sealed, outbox) = match (name, phase, lease) {
            ("told" | "vacant", ..) => (None, None),
            (_, 5, _) | (_, _, Some((_, 5))) => (None, Some(bytes())),
            _ => (Some(bytes()), None),
        };
        let held = sealed.as_ref().or(outbox.as_ref());
        let key_id = held.and_then(|bytes| crate::seal::key_number_of(bytes));
        let made = held.map(|_| (1, 3)).unzip();
        let due = held.map(|_| encode_wall_time(wall(700)));
        let (generation, fence) = if name == "vacant" { (0, 7) } else { (2, 3) };
        self.conn
            .execute(
                "INSERT INTO session VALUES ('p', 'tenant', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9,
                     ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 0, ?17, NULL, 1, ?18)",
                params![
                    name,
                    i64::from(generation > 0),
                    generation,
                    fence,
                    phase,
                    lease.map(|_| 11),
                    lease.map(|lease| lease.0),
                    lease.map(|lease| lease.1),
                    lease.map(|_| 5),
                    lease.map(|_| [9_u8; 16]),
                    lease.map(|_| "a boot"),
                    made.0,
                    made.1,
                    sealed,
                    outbox,
                    key_id,
                    lost,
                    due,
                ],
            )
            .unwrap();
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    fn builder(&self) -> SqliteBuilder {
        SqliteStore::builder(self.database()).at_once()
    }
}

async fn found(store: &SqliteStore, name: &str) -> Record {
    store.load(&id(name)).await.unwrap().unwrap().record
}

fn access(credentials: Option<&Arc<Credentials>>) -> Option<&str> {
    credentials?.tokens().access_token().map(|token| token.expose_secret())
}

fn fault<F: std::error::Error + Clone + 'static>(failed: &StoreError) -> F {
    failed.source().unwrap().downcast_ref::<F>().unwrap().clone()
}

async fn assert_brought_forward(store: &SqliteStore) {
    for (name, phase, lost) in [
        ("active", Phase::Active, None),
        ("doubtful", Phase::InDoubt, None),
        ("lost", Phase::Lost, Some(LostReason::Rejected)),
        ("closed", Phase::Closed, None),
        ("told", Phase::Closed, None),
        ("vacant", Phase::Vacant, None),
        ("refreshing", Phase::Active, None),
        ("granting", Phase::Lost, Some(LostReason::Rejected)),
        ("closing", Phase::Closed, None),
    ] {
        let record = found(store, name).await;
        assert_eq!((record.phase, record.lost), (phase, lost), "{name}");
        assert!(record.version >= record.fence && record.version >= record.generation);
        let live = matches!(phase, Phase::Active | Phase::InDoubt | Phase::Lost);
        let token = format!("access-{name}");
        assert_eq!(access(record.credentials.as_ref()), live.then_some(&*token), "{name}");
        let outbox = phase == Phase::Closed && name != "told";
        assert_eq!(access(record.outbox.as_ref()), outbox.then_some(&*token), "{name}");
        let ends = (record.access_expires_at, record.refresh_expires_at);
        let expected = if live { (Some(wall(900)), Some(wall(9000))) } else { (None, None) };
        assert_eq!(ends, expected, "{name}");
        let made = (live || outbox).then_some(MADE);
        assert_eq!((record.made_by, record.due_at), (made, made.map(|_| wall(700))), "{name}");
        let leased = ["vacant", "refreshing", "granting", "closing"].contains(&name);
        let holder = record.lease.map(|lease| (lease.owner, lease.holder));
        assert_eq!(holder, leased.then_some((Owner(11), Holder::Dead)), "{name}");
    }
}

#[tokio::test]
async fn a_file_of_version_1_is_brought_forward_in_whatever_phase_its_sessions_are() {
    let old = Old::filled(Some(ring(1)));
    let store = old.builder().key_ring(ring(1)).open().unwrap();
    assert_brought_forward(&store).await;
    let clear = Old::filled(None);
    let store = clear.builder().tokens_in_clear().open().unwrap();
    assert_brought_forward(&store).await;
}

#[tokio::test]
async fn a_file_of_version_1_waits_for_the_keys_of_its_supervisor() {
    let old = Old::filled(Some(ring(1)));
    let store = old.builder().open().unwrap();
    let refused = store.load(&id("active")).await.unwrap_err();
    assert_eq!(fault::<SealFault>(&refused), SealFault::NoKeys);
    let version =
        || -> i64 { old.conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap() };
    assert_eq!(version(), 1, "it is as it was");
    let clock = Arc::new(SystemClock::new());
    store.prepare(&StoreContext::new(ring(1), clock)).unwrap();
    assert_eq!(version(), 2);
    assert_brought_forward(&store).await;
}

/// 1. A session is written by version 1. 2. It goes on under this version.
#[tokio::test]
async fn what_version_1_sealed_is_sealed_anew_with_the_next_write_and_goes_on() {
    let old = Old::filled(Some(ring(1)));
    let store = old.builder().key_ring(ring(1)).open().unwrap();
    let form = |name: &str| -> i64 {
        let sql = "SELECT form FROM session WHERE token_id = ?1";
        old.conn.query_row(sql, [name], |row| row.get(0)).unwrap()
    };
    let claim = Claim {
        id: ClaimId(77),
        replaces: None,
        owner: Owner(1),
        intent: Intent::Refresh,
        epoch: Some(1),
        generation: 2,
        lease: Duration::from_secs(20),
        journal: false,
    };
    let granted = store.apply(&id("active"), Statement::Claim(claim)).await.unwrap();
    let Outcome::Done(done) = granted else { panic!("{granted:?}") };
    assert_eq!(form("active"), 1, "a claim leaves what is sealed");
    found(&store, "active").await;
    let attempt = Attempt { base: 2, fence: done.fence, claim: claim.id };
    let (credentials, ends) = (Arc::new(credentials("new")), Ends::default());
    let commit = Commit { intent: Intent::Refresh, epoch: 1, attempt, credentials, ends };
    store.apply(&id("active"), Statement::Commit(commit)).await.unwrap();
    let lose = crate::store::Lose { epoch: 1, generation: 2, reason: LostReason::Revoked };
    store.apply(&id("doubtful"), Statement::Lose(lose)).await.unwrap();
    for (name, token) in [("active", "access-new"), ("doubtful", "access-doubtful")] {
        assert_eq!(access(found(&store, name).await.credentials.as_ref()), Some(token));
        assert_eq!(form(name), 2);
    }
    // Neither is one of the first form any more, nor is one that never was.
    for name in ["active", "doubtful"] {
        let back = "UPDATE session SET form = 1, mac = NULL WHERE token_id = ?1";
        old.conn.execute(back, [name]).unwrap();
        let failed = store.load(&id(name)).await.unwrap_err();
        assert_eq!(fault::<SealFault>(&failed), SealFault::Altered);
    }
}

#[tokio::test]
async fn a_row_whose_key_is_missing_is_brought_forward_and_opens_when_the_key_is_back() {
    let old = Old::filled(Some(ring(1)));
    let store = old.builder().key_ring(ring(2)).open().unwrap();
    let failed = store.load(&id("active")).await.unwrap_err();
    assert_eq!(fault::<SealFault>(&failed), SealFault::KeyMissing(1));
    let stale = store.stale_keys().await.unwrap();
    assert_eq!(stale.iter().map(|key| (key.number, key.records)).collect::<Vec<_>>(), [(1, 7)]);
    found(&store, "told").await;
    assert_eq!(store.list(&RecordFilter::default(), None, 20).await.unwrap().len(), 9);
    store.shutdown().await;
    let both = ring(2).with(1, MasterKey::from([1; 32])).unwrap();
    let store = old.builder().key_ring(both).open().unwrap();
    assert_eq!(access(found(&store, "active").await.credentials.as_ref()), Some("access-active"));
}

#[tokio::test]
async fn sessions_begin_above_all_that_version_1_deleted() {
    let old = Old::new(Some(ring(1)));
    let store = old.builder().key_ring(ring(1)).open().unwrap();
    let floor: Floor = old
        .conn
        .query_row("SELECT version, epoch, generation FROM store", [], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            Ok(Floor { version: number(0)?, epoch: number(1)?, generation: number(2)? })
        })
        .unwrap();
    // 4 was the highest fence of those that were deleted: there were no more grants than that, and
    // no more closes between them. 6 was that of a first grant that was refused.
    assert!(floor.version > 2 * 6 && floor.epoch > 4 && floor.generation > 2 * 4 + 1, "{floor:?}");
    drop(store);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn a_file_that_a_process_of_version_1_has_open_is_refused_and_left_as_it_is() {
    use rustix::fs::{FlockOperation, flock};
    let old = Old::filled(Some(ring(1)));
    let lock = old.folder.path().join(format!("a.db.owner-{}", "7".repeat(32)));
    let lock = std::fs::File::create(lock).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let open = || old.builder().key_ring(ring(1)).open();
    let refused = open().unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert_eq!(fault::<SqliteFault>(&refused), SqliteFault::OtherVersion);
    let version: i64 = old.conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    // The same for one that waits for keys.
    let store = old.builder().open().unwrap();
    let context = StoreContext::new(ring(1), Arc::new(SystemClock::new()));
    let refused = store.prepare(&context).unwrap_err();
    assert_eq!(fault::<SqliteFault>(&refused), SqliteFault::OtherVersion);
    drop(lock);
    store.prepare(&context).unwrap();
    assert_brought_forward(&store).await;
}

/// A store of a later version, which knows a newer form, and one of this version.
#[tokio::test]
async fn nobody_writes_a_newer_form_than_the_oldest_living_holder_reads() {
    let folder = Folder::new();
    let builder = || SqliteStore::builder(folder.path().join("a.db")).key_ring(ring(1));
    let (this, later) = (builder().open().unwrap(), builder().form(3).open().unwrap());
    let conn = Connection::open(folder.path().join("a.db")).unwrap();
    let establish = async |store: &SqliteStore, name: &str| {
        let claim = Claim {
            id: ClaimId(1),
            replaces: None,
            owner: Owner(1),
            intent: Intent::Establish,
            epoch: None,
            generation: 0,
            lease: Duration::from_secs(20),
            journal: false,
        };
        store.apply(&id(name), Statement::Claim(claim)).await?;
        let sql = "SELECT form FROM session WHERE token_id = ?1";
        Ok::<i64, StoreError>(conn.query_row(sql, [name], |row| row.get(0)).unwrap())
    };
    assert_eq!(establish(&later, "a").await.unwrap(), 2, "this one reads no more");
    assert_eq!(establish(&this, "b").await.unwrap(), 2);
    this.shutdown().await;
    assert_eq!(establish(&later, "c").await.unwrap(), 3);
    let this = builder().open().unwrap();
    let newer = this.load(&id("c")).await.unwrap_err();
    assert_eq!(fault::<SqliteFault>(&newer), SqliteFault::NewerForm { found: 3, known: 2 });
    assert_eq!(newer.kind(), StoreErrorKind::Unavailable, "it is not damaged");
    found(&this, "a").await;
    assert_eq!(establish(&later, "d").await.unwrap(), 2);
    // One that reads less than this version writes.
    conn.execute("UPDATE holder SET form = 1 WHERE form = 3", []).unwrap();
    let refused = establish(&this, "e").await.unwrap_err();
    assert_eq!(fault::<SqliteFault>(&refused), SqliteFault::OlderReader { reads: 1 });
    later.shutdown().await;
    assert_eq!(establish(&this, "e").await.unwrap(), 2);
}
