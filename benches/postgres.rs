//! The cost of a durable claim and commit in PostgreSQL.
//!
//! `cargo bench --bench postgres` starts a PostgreSQL of its own and refreshes 1, 64 and 1,024
//! sessions at once, with one and with three replicas. Beside this crate's store it runs:
//!
//! - *by hand*: the same claims and commits as two statements for a whole batch, written for this
//!   purpose, of equally long rows, with no encryption and with nothing that could go wrong;
//! - *naive*: a transaction that holds the row's lock while the request is out (50 ms), with a pool
//!   of 20 connections.
//!
//! For one session it compares the time of a pair with two `UPDATE`s that commit themselves: sent
//! as the store sends its statements, which PgBouncer can pass on, and prepared. The rounds of all
//! are interleaved, and the medians shown. `cargo bench --bench postgres -- ours 1024 1 20` runs one
//! case, and `-- pair` the pairs.

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]
#![expect(clippy::expect_used, clippy::panic, reason = "a bench that fails measures nothing")]

#[path = "shared/exchange.rs"]
mod exchange;
#[path = "../tests/support/postgres_cluster.rs"]
mod postgres_cluster;

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::postgres::PostgresStore;
use session_warden::store::{Intent, Store};
use tokio::task::JoinSet;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use exchange::{SEALED, exchange, id};
use postgres_cluster::PostgresCluster;

/// How long the request of a naive refresh is out.
const EXCHANGE: Duration = Duration::from_millis(50);

/// The connections of the naive pool.
const NAIVE_POOL: usize = 20;

/// How often each case is run.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let cluster = PostgresCluster::start().await;
    if let [only] = &arguments[..]
        && only == "pair"
    {
        return single_pairs(&cluster).await;
    }
    if let [who, sessions, replicas, each] = &arguments[..] {
        let number = |text: &str| text.parse().expect("a number");
        let case = (number(sessions), number(replicas), number(each));
        println!("{:.0} a second", run(&cluster, who, case).await);
        return;
    }
    println!(
        "{:>8} {:>8} {:>12} {:>12} {:>12} {:>9} {:>9}",
        "sessions", "replicas", "ours", "by hand", "naive", "by hand", "naive"
    );
    for (sessions, replicas, each) in [(1, 1, 400), (64, 1, 60), (1024, 1, 12), (1024, 3, 12)] {
        let case = (sessions, replicas, each);
        let (mut ours, mut by_hand, mut naive) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(run(&cluster, "ours", case).await);
            by_hand.push(run(&cluster, "by-hand", case).await);
            naive.push(run(&cluster, "naive", (sessions, replicas, 2)).await);
        }
        let [ours, by_hand, naive] = [ours, by_hand, naive].map(median);
        println!(
            "{sessions:>8} {replicas:>8} {ours:>10.0}/s {by_hand:>10.0}/s {naive:>10.0}/s \
             {:>8.2}x {:>8.1}x",
            ours / by_hand,
            ours / naive
        );
    }
    single_pairs(&cluster).await;
    feed(&cluster).await;
}

/// Pairs of a claim and a commit a second.
async fn run(cluster: &PostgresCluster, who: &str, case: (usize, usize, usize)) -> f64 {
    let (sessions, _, each) = case;
    let url = cluster.new_database().await;
    let took = match who {
        "ours" => ours(&url, case).await,
        "by-hand" => by_hand(&url, case).await,
        "naive" => naive(&url, case).await,
        other => panic!("there is no {other}"),
    };
    f64::from(u32::try_from(sessions * each).expect("not so many")) / took.as_secs_f64()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

async fn open(url: &str) -> PostgresStore {
    let ring = KeyRing::new(1, MasterKey::from([7; 32]));
    PostgresStore::builder(url).key_ring(ring).open().await.expect("a store")
}

async fn ours(url: &str, (sessions, replicas, each): (usize, usize, usize)) -> Duration {
    let mut stores = Vec::new();
    for _ in 0..replicas {
        stores.push(open(url).await);
    }
    establish(&stores[0], sessions).await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for session in 0..sessions {
        let store = stores[session % replicas].clone();
        tasks.spawn(async move {
            let mut generation = 1;
            for _ in 0..each {
                let known = Some((1, generation));
                generation = exchange(&store, &id(session), Intent::Refresh, known).await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a session's end");
    }
    begun.elapsed()
}

async fn establish(store: &PostgresStore, sessions: usize) {
    let mut tasks = JoinSet::new();
    for session in 0..sessions {
        let store = store.clone();
        tasks.spawn(async move { exchange(&store, &id(session), Intent::Establish, None).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("an established session");
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The store's own tables with rows in clear of the same length.
async fn tables(url: &str, sessions: usize) -> Client {
    let store = open(url).await;
    establish(&store, sessions).await;
    let client = connect(url).await;
    let sealed = vec![7_u8; SEALED];
    let written = client.execute("UPDATE session_warden.session SET sealed = $1", &[&sealed]).await;
    assert_eq!(written.expect("rows"), u64::try_from(sessions).expect("not so many"));
    client
}

const CLAIM_BY_HAND: &str = "
    WITH i AS (SELECT provider COLLATE \"C\" AS provider, tenant COLLATE \"C\" AS tenant,
                token_id COLLATE \"C\" AS token_id, expected, mac
            FROM unnest($4::text[], $5::text[], $1::text[], $2::bigint[], $3::bytea[])
                AS t(provider, tenant, token_id, expected, mac)),
        l AS MATERIALIZED (SELECT i.* FROM i JOIN session_warden.session AS s
            USING (provider, tenant, token_id)
            ORDER BY s.provider, s.tenant, s.token_id FOR UPDATE OF s)
    UPDATE session_warden.session AS s SET version = version + 1, fence = version + 1,
            tries = tries + 1, lease_claim = 1, lease_owner = 1, lease_intent = 1, lease_from = 1,
            lease_until = 2, mac = l.mac
        FROM l
        WHERE s.provider = l.provider AND s.tenant = l.tenant AND s.token_id = l.token_id
            AND s.version = l.expected";

const COMMIT_BY_HAND: &str = "
    WITH i AS (SELECT provider COLLATE \"C\" AS provider, tenant COLLATE \"C\" AS tenant,
                token_id COLLATE \"C\" AS token_id, expected, sealed, mac
            FROM unnest($5::text[], $6::text[], $1::text[], $2::bigint[], $3::bytea[], $4::bytea[])
                AS t(provider, tenant, token_id, expected, sealed, mac)),
        l AS MATERIALIZED (SELECT i.* FROM i JOIN session_warden.session AS s
            USING (provider, tenant, token_id)
            ORDER BY s.provider, s.tenant, s.token_id FOR UPDATE OF s),
        u AS (UPDATE session_warden.session AS s SET version = version + 1,
            generation = generation + 1, tries = 0, lease_claim = NULL, lease_owner = NULL,
            lease_intent = NULL, lease_from = NULL, lease_until = NULL, made_base = 1,
            made_fence = 1, made_claim = 1, access_expires_at = access_expires_at + 1,
            due_at = due_at + 1, sealed = l.sealed, mac = l.mac
        FROM l
        WHERE s.provider = l.provider AND s.tenant = l.tenant AND s.token_id = l.token_id
            AND s.version = l.expected
        RETURNING s.token_id, s.version, s.generation)
    INSERT INTO session_warden.change
        (maker, provider, tenant, token_id, version, epoch, generation, phase)
        SELECT 1, 'provider', 'tenant', token_id, version, 1, generation, 1 FROM u";

/// Each replica has two halves of its sessions, so that claims and commits overlap.
async fn by_hand(url: &str, (sessions, replicas, each): (usize, usize, usize)) -> Duration {
    drop(tables(url, sessions).await);
    let parts = if sessions == 1 { 1 } else { 2 * replicas };
    let mut clients = Vec::new();
    for _ in 0..parts {
        clients.push(connect(url).await);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (part, client) in clients.into_iter().enumerate() {
        let names: Vec<String> = (0..sessions)
            .filter(|session| session % parts == part)
            .map(|session| format!("device-{session}"))
            .collect();
        tasks.spawn(async move { refresh_by_hand(&client, &names, each).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the end of a part");
    }
    begun.elapsed()
}

async fn refresh_by_hand(client: &Client, names: &[String], each: usize) {
    let sealed: Vec<_> = names.iter().map(|_| vec![7_u8; SEALED]).collect();
    let macs: Vec<_> = names.iter().map(|_| vec![7_u8; 36]).collect();
    let (providers, tenants) = (vec!["provider"; names.len()], vec!["tenant"; names.len()]);
    let rows = u64::try_from(names.len()).expect("not so many");
    for round in 0..each {
        let version = 2 + 2 * i64::try_from(round).expect("not so many");
        let versions: Vec<i64> = names.iter().map(|_| version).collect();
        let claim: [(&(dyn ToSql + Sync), Type); 5] = [
            (&names, Type::TEXT_ARRAY),
            (&versions, Type::INT8_ARRAY),
            (&macs, Type::BYTEA_ARRAY),
            (&providers, Type::TEXT_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
        ];
        assert_eq!(client.execute_typed(CLAIM_BY_HAND, &claim).await.expect("claims"), rows);
        let versions: Vec<i64> = names.iter().map(|_| version + 1).collect();
        let commit: [(&(dyn ToSql + Sync), Type); 6] = [
            (&names, Type::TEXT_ARRAY),
            (&versions, Type::INT8_ARRAY),
            (&sealed, Type::BYTEA_ARRAY),
            (&macs, Type::BYTEA_ARRAY),
            (&providers, Type::TEXT_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
        ];
        assert_eq!(client.execute_typed(COMMIT_BY_HAND, &commit).await.expect("commits"), rows);
    }
}

/// A transaction that holds the row's lock while the request is out.
async fn naive(url: &str, (sessions, _, each): (usize, usize, usize)) -> Duration {
    drop(tables(url, sessions).await);
    let (give, take) = async_channel(NAIVE_POOL, url).await;
    let take = Arc::new(tokio::sync::Mutex::new(take));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for session in 0..sessions {
        let (give, take, name) = (give.clone(), Arc::clone(&take), format!("device-{session}"));
        tasks.spawn(async move {
            for _ in 0..each {
                let mut client = take.lock().await.recv().await.expect("a connection");
                refresh_naively(&mut client, &name).await;
                give.send(client).await.expect("a pool");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a session's end");
    }
    begun.elapsed()
}

/// A pool of connections.
async fn async_channel(
    size: usize,
    url: &str,
) -> (tokio::sync::mpsc::Sender<Client>, tokio::sync::mpsc::Receiver<Client>) {
    let (give, take) = tokio::sync::mpsc::channel(size);
    for _ in 0..size {
        give.send(connect(url).await).await.expect("a pool");
    }
    (give, take)
}

async fn refresh_naively(client: &mut Client, name: &str) {
    let transaction = client.transaction().await.expect("a transaction");
    let lock = "SELECT sealed FROM session_warden.session WHERE provider = 'provider'
        AND tenant = 'tenant' AND token_id = $1 FOR UPDATE";
    transaction.query_one(lock, &[&name]).await.expect("a row");
    tokio::time::sleep(EXCHANGE).await;
    let sealed = vec![8_u8; SEALED];
    let write = "UPDATE session_warden.session SET generation = generation + 1, sealed = $2
        WHERE provider = 'provider' AND tenant = 'tenant' AND token_id = $1";
    transaction.execute(write, &[&name, &sealed]).await.expect("a write");
    transaction.commit().await.expect("a commit");
}

/// The time of one pair on an idle database.
async fn single_pairs(cluster: &PostgresCluster) {
    const PAIRS: usize = 1_000;
    let url = cluster.new_database().await;
    let store = open(&url).await;
    establish(&store, 2).await;
    let client = connect(&url).await;
    let of = "WHERE provider = 'provider' AND tenant = 'tenant' AND token_id = 'device-1'";
    let claim = format!(
        "UPDATE session_warden.session SET version = version + 1, fence = version + 1,
            tries = tries + 1, lease_claim = 1, lease_owner = 1, lease_intent = 1, lease_from = 1,
            lease_until = 2, mac = $1 {of}"
    );
    let commit = format!(
        "UPDATE session_warden.session SET version = version + 1, generation = generation + 1,
            tries = 0, lease_claim = NULL, lease_owner = NULL, lease_intent = NULL,
            lease_from = NULL, lease_until = NULL, made_base = 1, made_fence = 1, made_claim = 1,
            access_expires_at = access_expires_at + 1, due_at = due_at + 1, sealed = $1, mac = $2
            {of}"
    );
    let prepared_claim = client.prepare(&claim).await.expect("a statement");
    let prepared_commit = client.prepare(&commit).await.expect("a statement");
    let (sealed, mac) = (vec![7_u8; SEALED], vec![7_u8; 36]);
    let (mut ours, mut typed, mut prepared) = (Vec::new(), Vec::new(), Vec::new());
    let mut generation = 1;
    for _ in 0..PAIRS {
        let begun = Instant::now();
        let known = Some((1, generation));
        generation = exchange(&store, &id(0), Intent::Refresh, known).await;
        ours.push(begun.elapsed());
        let begun = Instant::now();
        client.query_typed(&claim, &[(&mac as _, Type::BYTEA)]).await.expect("a claim");
        let parameters = [(&sealed as _, Type::BYTEA), (&mac as _, Type::BYTEA)];
        client.query_typed(&commit, &parameters).await.expect("a commit");
        typed.push(begun.elapsed());
        let begun = Instant::now();
        client.execute(&prepared_claim, &[&mac]).await.expect("a claim");
        client.execute(&prepared_commit, &[&sealed, &mac]).await.expect("a commit");
        prepared.push(begun.elapsed());
    }
    for times in [&mut ours, &mut typed, &mut prepared] {
        times.sort();
    }
    println!(
        "\n{:>6} {:>9} {:>14} {:>7} {:>10} {:>7}",
        "", "ours", "two UPDATEs", "", "prepared", ""
    );
    for (name, at) in [("p50", PAIRS / 2), ("p99", PAIRS * 99 / 100)] {
        let [ours, typed, prepared] = [&ours, &typed, &prepared].map(|times| times[at]);
        let ratio = |of: Duration| ours.as_secs_f64() / of.as_secs_f64();
        println!(
            "{name:>6} {:>6} us {:>11} us {:>6.2}x {:>7} us {:>6.2}x",
            ours.as_micros(),
            typed.as_micros(),
            ratio(typed),
            prepared.as_micros(),
            ratio(prepared)
        );
    }
}

/// What 20 replicas need to read the changes of a second in which all together made 30,000.
async fn feed(cluster: &PostgresCluster) {
    const REPLICAS: usize = 20;
    const CHANGES: usize = 30_000;
    const PAGE: usize = 1024;
    let url = cluster.new_database().await;
    let mut readers = Vec::new();
    for _ in 0..REPLICAS {
        let store = open(&url).await;
        let start = store.changes(None, PAGE).await.expect("a feed").expect("a cursor").cursor;
        readers.push((store, start));
    }
    let client = connect(&url).await;
    let made = format!(
        "INSERT INTO session_warden.change
            (maker, provider, tenant, token_id, version, epoch, generation, phase)
         SELECT 1, 'provider', 'tenant', 'device-' || n, 7, 1, 3, 1
         FROM generate_series(1, {}) AS n",
        CHANGES / 30
    );
    for _ in 0..30 {
        client.batch_execute(&made).await.expect("changes");
    }
    let begun = Instant::now();
    for (store, cursor) in readers {
        let (mut cursor, mut read) = (cursor, 0);
        loop {
            let page = store.changes(Some(&cursor), PAGE).await.expect("a page").expect("a feed");
            read += page.news.expect("the store has all of them").len();
            cursor = page.cursor;
            if !page.more {
                break;
            }
        }
        assert_eq!(read, CHANGES);
    }
    let each = begun.elapsed() / u32::try_from(REPLICAS).expect("not so many");
    println!("\n{CHANGES} changes, pages of {PAGE}: {each:.1?} for each of {REPLICAS} readers");
}
