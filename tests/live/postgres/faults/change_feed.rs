//! The feed of changes beside a transaction that stays open.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use session_warden::store::{Cursor, Owner, Presence, Store};

use crate::peer::in_time;
use crate::postgres::one;
use crate::postgres::statements::{establish, id, open};
use crate::postgres_cluster::PostgresCluster;

const CHANGES: usize = 5_000;

/// Changes that are made at once.
const BATCH: usize = 500;

/// How many changes a supervisor reads at once.
const PAGE: usize = 1_024;

/// What has happened since; and the next cursor.
async fn news(store: &impl Store, mut since: Cursor) -> (Vec<usize>, Cursor) {
    let mut told = Vec::new();
    loop {
        let changes = store.changes(Some(&since), PAGE).await.unwrap().expect("it has a feed");
        since = changes.cursor;
        for news in changes.news.expect("the cursor is known") {
            let number = news.id.key().token_id().strip_prefix("device-").unwrap().parse();
            told.push(number.unwrap());
        }
        if !changes.more {
            return (told, since);
        }
    }
}

/// A `VACUUM` or a feed that waits for the oldest transaction of the cluster would tell nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_another_database_holds_no_change_back_and_none_is_told_twice() {
    let cluster = PostgresCluster::shared().await;
    let url = cluster.new_database().await;
    let old = cluster.client(&cluster.new_database().await).await;
    old.batch_execute("BEGIN").await.unwrap();
    one(&old, "SELECT txid_current()").await.unwrap();
    let (maker, reader) = (open(&url).await, open(&url).await);
    maker.presence(Owner(1), Presence::Renew).await.unwrap();
    reader.presence(Owner(2), Presence::Renew).await.unwrap();
    let mut cursor = reader.changes(None, PAGE).await.unwrap().expect("it has a feed").cursor;
    let mut told = Vec::new();
    for first in (0..CHANGES).step_by(BATCH) {
        let ids: Vec<_> = (first..first + BATCH).map(id).collect();
        let made = join_all(ids.iter().map(|id| establish(&maker, id, Owner(1))));
        // Reads while it writes, and again when it has written.
        let (_, (early, next)) = in_time(async { tokio::join!(made, news(&reader, cursor)) }).await;
        let (late, next) = in_time(news(&reader, next)).await;
        told.extend(early);
        told.extend(late);
        assert_eq!(told.len(), first + BATCH, "each change is told by now, and none twice");
        cursor = next;
    }
    let all: BTreeSet<_> = told.into_iter().collect();
    assert!(all.into_iter().eq(0..CHANGES));
    assert_eq!(
        one(
            &old,
            "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid'
        AND pid = pg_backend_pid()"
        )
        .await
        .unwrap(),
        "1",
        "it is open"
    );
    assert_eq!(in_time(news(&reader, cursor)).await.0, [0; 0]);
}
