use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, StatementStatus, params, params_from_iter};

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::key::SessionKey;
use crate::policy::LIST_PAGE;
use crate::store::session_row::VALUE_COLUMNS;
use crate::store::sqlite::columns;
use crate::store::sqlite::migration::{VERSION_1, VERSION_2};
use crate::store::sqlite::tests::Folder;
use crate::store::sqlite::{SqliteBuilder, SqliteStore};
use crate::store::{
    Attempt, Claim, ClaimId, Commit, Ends, Intent, Outcome, Owner, Phase, Statement, Store,
};
use crate::token::{Credentials, Tokens};

/// How many sessions each tenant has at each provider, of three tenants and two providers.
const FEW: i64 = 500;
const MANY: i64 = 50_000;

fn id(provider: &str, tenant: &str, token_id: &str) -> SessionId {
    let key = SessionKey::new(tenant, token_id).unwrap();
    SessionId::new(ProviderName::new(provider).unwrap(), key)
}

/// Each with what a page of it seeks by, as SQLite says it.
fn filters() -> Vec<(RecordFilter, &'static str)> {
    let by = [
        "sqlite_autoindex_session_1 ((provider,tenant,token_id)>(?,?,?))",
        "sqlite_autoindex_session_1 (provider=? AND (tenant,token_id)>(?,?))",
        "session_tenant (tenant=? AND (provider,token_id)>(?,?))",
        "session_tenant (tenant=? AND provider=? AND token_id>?)",
    ];
    // In the middle and at the end, so that much lies before the first page.
    let provider = || Some(ProviderName::new("q").unwrap());
    let tenant = || Some(Tenant::new("t").unwrap());
    let names = [(None, None), (provider(), None), (None, tenant()), (provider(), tenant())];
    let of = |((provider, tenant), by)| {
        let filter = RecordFilter { provider, tenant, phase: None };
        [(RecordFilter { phase: Some(Phase::InDoubt), ..filter.clone() }, by), (filter, by)]
    };
    names.into_iter().zip(by).flat_map(of).collect()
}

/// Puts many sessions in the place of the only one, each as this is, but every fifth in doubt.
fn fill(conn: &Connection, each: i64) {
    let written = VALUE_COLUMNS.join(", ");
    let values = written.replace(" phase,", " iif(x % 5 = 0, 3, 1),");
    assert_ne!(values, written);
    // Not in their order, as sessions are not made in it.
    let sql = format!(
        "INSERT INTO session ({written}, provider, tenant, token_id)
         WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x + 1 < ?1)
         SELECT {values}, p.column1, t.column1, printf('%06d', x)
         FROM session, n, (VALUES ('p'), ('q')) p, (VALUES ('s'), ('t'), ('u')) t
         ORDER BY x * 7919 % ?1"
    );
    assert_eq!(conn.execute(&sql, [each]).unwrap(), usize::try_from(each * 6).unwrap());
    conn.execute("DELETE FROM session WHERE provider = 'only'", []).unwrap();
}

fn filled(each: i64) -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(&[VERSION_1, VERSION_2].concat()).unwrap();
    conn.execute(
        "INSERT INTO session (provider, tenant, token_id, version, epoch, generation, fence, phase,
             suspect, tries, form) VALUES ('only', 'only', 'only', 1, 1, 1, 1, 1, 0, 0, 2)",
        [],
    )
    .unwrap();
    fill(&conn, each);
    conn
}

/// What the last full page comes after.
fn before_last(conn: &Connection, filter: &RecordFilter, page: usize) -> SessionId {
    let sql =
        "SELECT provider, tenant, token_id FROM session WHERE provider = coalesce(?1, provider)
             AND tenant = coalesce(?2, tenant) AND phase = coalesce(?3, phase)
         ORDER BY provider DESC, tenant DESC, token_id DESC LIMIT 1 OFFSET ?4";
    let provider = filter.provider.as_ref().map(ProviderName::as_str);
    let tenant = filter.tenant.as_ref().map(Tenant::as_str);
    let given = params![provider, tenant, filter.phase.map(encode_phase), encode_limit(page)];
    conn.query_row(sql, given, |row| Ok(columns::read_id(row, 0).ok().unwrap())).unwrap()
}

/// The steps that SQLite does for a page, and its records.
fn steps(conn: &Connection, filter: &RecordFilter, after: Option<&SessionId>) -> (i32, usize) {
    let (sql, given) = query(filter, after, 50);
    let mut statement = conn.prepare(&sql).unwrap();
    let found = statement.query_map(params_from_iter(given), |_| Ok(())).unwrap().count();
    (statement.get_status(StatementStatus::VmStep), found)
}

#[test]
fn each_page_seeks_to_its_place_by_an_index_and_sorts_nothing() {
    let conn = filled(1);
    let other = id("pp", "ss", "x");
    for (filter, by) in filters() {
        for after in [None, Some(&other), Some(&id("q", "t", "000000"))] {
            let (sql, given) = query(&filter, after, 50);
            let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(params_from_iter(given), |row| row.get::<_, String>(3));
            let steps: Vec<_> = steps.unwrap().map(Result::unwrap).collect();
            assert_eq!(steps, [format!("SEARCH session USING INDEX {by}")], "{filter:?}");
        }
    }
}

#[test]
fn the_last_page_takes_no_more_steps_than_the_first_with_each_filter() {
    let conn = filled(FEW);
    for (filter, _) in filters() {
        let (first, full) = steps(&conn, &filter, None);
        let (last, still_full) = steps(&conn, &filter, Some(&before_last(&conn, &filter, 50)));
        assert_eq!((full, still_full), (50, 50), "{filter:?}");
        assert!(last <= first + first / 2, "{filter:?}: {last} after {first}");
        // Behind the end of all lists there is nothing to look at.
        let (end, none) = steps(&conn, &filter, Some(&id("q", "u", "x")));
        assert!(none == 0 && end < 50, "{filter:?}: {end} for {none}");
    }
}

#[test]
fn a_page_that_begins_before_or_within_another_list_takes_no_more_steps_than_the_first() {
    let conn = filled(FEW);
    for (filter, _) in filters() {
        let (first, _) = steps(&conn, &filter, None);
        for after in [id("a", "u", "x"), id("p", "u", "000499"), id("q", "s", "000400")] {
            let (steps, full) = steps(&conn, &filter, Some(&after));
            assert_eq!(full, 50, "{filter:?} after {after}");
            assert!(steps <= first + first / 2, "{filter:?} after {after}: {steps}, not {first}");
        }
    }
}

/// A file in clear with one session, which has credentials.
async fn with_one(builder: &SqliteBuilder) {
    let (store, only) = (builder.clone().open().unwrap(), id("only", "only", "only"));
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
    let claimed = store.apply(&only, Statement::Claim(claim)).await.unwrap();
    let Outcome::Done(done) = claimed else { panic!("{claimed:?}") };
    let tokens = Tokens::new(Arc::from("{}")).with_access_token("a".repeat(300), None);
    let tokens = tokens.with_refresh_token("r".repeat(200), None);
    let commit = Commit {
        intent: Intent::Establish,
        epoch: done.epoch,
        attempt: Attempt { base: done.generation, fence: done.fence, claim: ClaimId(1) },
        credentials: Arc::new(Credentials::new(tokens, "https://login.example.com", "client")),
        ends: Ends { due_in: Some(Duration::from_secs(700)), ..Ends::default() },
    };
    let committed = store.apply(&only, Statement::Commit(commit)).await.unwrap();
    assert!(matches!(committed, Outcome::Done(_)), "{committed:?}");
    store.shutdown().await;
}

/// The shortest of some: the others waited for something else.
async fn time(store: &SqliteStore, filter: &RecordFilter, after: Option<&SessionId>) -> Duration {
    let (clock, mut shortest) = (SystemClock::new(), Duration::MAX);
    for _ in 0..15 {
        let begun = clock.now().monotonic;
        let page = store.list(filter, after, LIST_PAGE).await.unwrap();
        shortest = shortest.min(clock.now().monotonic.saturating_sub(begun));
        assert_eq!(page.len(), LIST_PAGE);
    }
    shortest
}

#[tokio::test]
#[ignore = "long: see tests/long/pages"]
async fn the_last_page_of_300_000_sessions_takes_at_most_half_as_long_again_as_the_first() {
    let folder = Folder::new();
    let path = folder.path().join("a.db");
    let builder = SqliteStore::builder(&path).tokens_in_clear();
    with_one(&builder).await;
    let conn = Connection::open(&path).unwrap();
    fill(&conn, MANY);
    let filters = filters().into_iter().map(|(filter, _)| {
        let last = before_last(&conn, &filter, LIST_PAGE);
        (filter, last)
    });
    let (filters, mut slow): (Vec<_>, _) = (filters.collect(), Vec::new());
    drop(conn);
    let store = builder.open().unwrap();
    for (filter, last) in filters {
        let (first, last) =
            (time(&store, &filter, None).await, time(&store, &filter, Some(&last)).await);
        println!("{first:>9.1?} {last:>9.1?}  {filter:?}");
        if last > first + first / 2 {
            slow.push(filter);
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
