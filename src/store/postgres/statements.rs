//! The text of the SQL statements.
//!
//! Each is one statement that commits itself. A process that is stopped or partitioned therefore
//! never leaves a transaction open, and PgBouncer may give each to another server connection.

use super::schema::TableNames;
use crate::store::session_row::column_kinds;

/// Begins each statement that writes records, so that operators find them among the server's
/// activities.
pub(super) const WRITE: &str = "/* session-warden writes */";

/// Names that came as parameters, with the collation of the tables.
pub(super) const NAMES: &str = "provider COLLATE \"C\" AS provider, tenant COLLATE \"C\" AS tenant,
    token_id COLLATE \"C\" AS token_id";

/// The statements of one store.
pub(super) struct Statements {
    /// Reads rows by their names, with the floor and the time.
    pub(super) load: String,
    /// Writes one row whose version is the expected one, and its news.
    pub(super) write: String,
    /// Writes new rows if the floor is the expected one, and their news.
    pub(super) insert: String,
    /// Deletes rows whose version is the expected one, with their news, and raises the floor.
    pub(super) delete: String,
    pub(super) due: String,
    pub(super) ended: String,
    pub(super) changes: String,
    pub(super) purge_changes: String,
    pub(super) presence: String,
    pub(super) purge_holders: String,
    pub(super) read_client: String,
    pub(super) write_client: String,
    pub(super) clients: String,
    pub(super) pause: String,
    pub(super) resume: String,
    pub(super) pauses: String,
    /// The epoch at which each of these sessions was last deleted, as far as the changes tell.
    pub(super) deletions: String,
    pub(super) claim_login: String,
    pub(super) sealed_by: String,
    pub(super) keys: String,
    pub(super) open: String,
}

impl Statements {
    pub(super) fn new(names: &TableNames) -> Self {
        Self {
            load: names.fill(&load()),
            write: names.fill(&format!("{WRITE} {WRITE_ROW}")),
            insert: names.fill(&insert()),
            delete: names.fill(&delete()),
            due: names.fill(DUE),
            ended: names.fill(&ended()),
            changes: names.fill(CHANGES),
            purge_changes: names.fill(PURGE_CHANGES),
            presence: names.fill(PRESENCE),
            purge_holders: names.fill(PURGE_HOLDERS),
            read_client: names.fill(READ_CLIENT),
            write_client: names.fill(WRITE_CLIENT),
            clients: names.fill(CLIENTS),
            pause: names.fill(&format!(
                "{WRITE} INSERT INTO {{pause}} (provider, tenant) VALUES ($1, $2)
                 ON CONFLICT DO NOTHING RETURNING 1"
            )),
            resume: names.fill(&format!(
                "{WRITE} DELETE FROM {{pause}} WHERE provider = $1 COLLATE \"C\"
                     AND tenant = $2 COLLATE \"C\" RETURNING 1"
            )),
            pauses: names.fill(
                "SELECT n.wal, p.provider, p.tenant FROM (SELECT {wal_position}() AS wal) AS n
                 LEFT JOIN {pause} AS p ON true",
            ),
            deletions: names.fill(&format!(
                "SELECT place::int4, max(c.epoch)
                 FROM (SELECT {NAMES}, place FROM unnest($1::text[], $2::text[], $3::text[])
                     WITH ORDINALITY AS t(provider, tenant, token_id, place)) AS t
                 JOIN {{change}} AS c USING (provider, tenant, token_id)
                 WHERE c.phase IS NULL GROUP BY place"
            )),
            claim_login: names.fill(&format!("{WRITE} {CLAIM_LOGIN}")),
            sealed_by: names.fill(&format!(
                "SELECT {}, false, provider, tenant, token_id FROM {{session}} AS s
                 WHERE key_id = $1 AND (provider, tenant, token_id) > ($2, $3, $4)
                 ORDER BY provider, tenant, token_id LIMIT $5",
                columns("s.")
            )),
            keys: names.fill(
                "SELECT key_id, count(*) FROM {session} WHERE key_id IS NOT NULL
                 GROUP BY key_id ORDER BY key_id",
            ),
            open: names.fill(OPEN),
        }
    }

    /// A page of the list, with these conditions.
    pub(super) fn list(names: &TableNames, conditions: &str, limit: usize) -> String {
        names.fill(&format!(
            "SELECT {}, coalesce(h.ended, false), provider, tenant, token_id, {{now}}()
             FROM {{session}} AS s LEFT JOIN {{holder}} AS h ON h.owner = s.lease_owner
             WHERE {conditions} ORDER BY provider, tenant, token_id LIMIT ${limit}",
            columns("s.")
        ))
    }
}

/// `$1`: the login. `$2`: the claim. `$3`: its lease. `$4`: the pause between polls. `$5`: how long
/// rows are kept; a lease that is longer comes from a clock that was set back since. Gives the pause if
/// the claim holds, and else the rest of the lease of the other claim.
const CLAIM_LOGIN: &str = "WITH old AS (
         DELETE FROM {login} WHERE until <= {now}() - $5 AND login <> $1
     ), written AS (
         INSERT INTO {login} AS l (login, claim, until, pace)
         VALUES ($1, $2, {now}() + $3, $4)
         ON CONFLICT (login) DO UPDATE SET claim = excluded.claim, until = excluded.until,
             pace = greatest(l.pace, excluded.pace)
             WHERE l.claim = excluded.claim OR l.until <= {now}() OR l.until >= {now}() + $5
         RETURNING l.pace
     ) SELECT (SELECT pace FROM written),
         (SELECT until - {now}() FROM {login} WHERE login = $1)";

/// The columns of a row, each with `prefix` before it.
fn columns(prefix: &str) -> String {
    let names: Vec<_> = column_kinds().map(|(name, _)| format!("{prefix}{name}")).collect();
    names.join(", ")
}

/// A call of the function `write`: the time of the decision, who writes, the position that the log of
/// writes must still have, the names, the expected version and tag, whether there is news, and the
/// values.
const WRITE_ROW: &str = "SELECT {write}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// `$1` to `$3`: the names. The first row has the time, the position in the log of writes and the
/// floor only.
fn load() -> String {
    format!(
        "SELECT n.at, n.wal, n.version, n.epoch, n.generation, r.* FROM
             (SELECT {{now}}() AS at, {{wal_position}}() AS wal, version, epoch, generation
                 FROM {{store}}) AS n
             LEFT JOIN (
                 SELECT {}, coalesce(h.ended, false), t.place::int4
                 FROM (SELECT {NAMES}, place FROM unnest($1::text[], $2::text[], $3::text[])
                     WITH ORDINALITY AS t(provider, tenant, token_id, place)) AS t
                 JOIN {{session}} AS s USING (provider, tenant, token_id)
                 LEFT JOIN {{holder}} AS h ON h.owner = s.lease_owner
             ) AS r ON true",
        columns("s.")
    )
}

/// `$1`: the counters of the floor. `$2`: who writes. `$3`: the position that the log of writes must
/// still have. `$4` to `$6`: the names. `$7`: whether there is news. Then the columns.
///
/// The lock on the floor comes first. A delete of the same session that commits meanwhile raises
/// the floor above the given one, and this statement then writes nothing; without the lock, the new
/// record could begin below the deleted one.
fn insert() -> String {
    let arrays: Vec<_> = column_kinds()
        .enumerate()
        .map(|(at, (_, kind))| format!("${}::{}[]", at + 8, kind.sql_type()))
        .collect();
    format!(
        "{WRITE} WITH f AS MATERIALIZED (SELECT version, epoch, generation FROM {{store}}
             WHERE (SELECT {{wal_continues}}($3::bigint[])) FOR SHARE),
         i AS (SELECT {NAMES}, has_news, {columns}, place
             FROM unnest($4::text[], $5::text[], $6::text[], $7::boolean[], {})
                 WITH ORDINALITY AS t(provider, tenant, token_id, has_news, {columns}, place)),
         n AS (INSERT INTO {{session}} (provider, tenant, token_id, {columns})
             SELECT i.provider, i.tenant, i.token_id, {} FROM f JOIN i
                 ON f.version <= ($1::bigint[])[1] AND f.epoch <= ($1::bigint[])[2]
                     AND f.generation <= ($1::bigint[])[3]
             ON CONFLICT DO NOTHING RETURNING provider, tenant, token_id),
         c AS (INSERT INTO {{change}}
                 (maker, provider, tenant, token_id, version, epoch, generation, phase)
             SELECT $2::bigint, provider, tenant, token_id, version, epoch, generation, phase
             FROM i JOIN n USING (provider, tenant, token_id) WHERE has_news)
         SELECT array_agg(place::int4), {{now}}() FROM i JOIN n USING (provider, tenant, token_id)",
        arrays.join(", "),
        columns("i."),
        columns = columns(""),
    )
}

/// `$1`: who writes. `$2` to `$4`: the names. `$5`: the expected versions. `$6` to `$8`: the news;
/// `NULL` if there is none. `$9` to `$11`: the floors. `$12`: the tags that the rows must have.
fn delete() -> String {
    format!(
        "{WRITE} WITH f AS MATERIALIZED (SELECT true AS locked FROM {{store}} FOR UPDATE),
         i AS (SELECT {NAMES}, expected, expected_mac, version, epoch, generation, floor_version,
                 floor_epoch, floor_generation, place
             FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[])
                 WITH ORDINALITY AS t(provider, tenant, token_id, expected, version, epoch,
                     generation, floor_version, floor_epoch, floor_generation, expected_mac,
                     place)),
         l AS MATERIALIZED (SELECT s.provider, s.tenant, s.token_id
             FROM (SELECT i.* FROM f JOIN i ON f.locked) AS i
             JOIN {{session}} AS s USING (provider, tenant, token_id)
             ORDER BY s.provider, s.tenant, s.token_id FOR UPDATE OF s),
         d AS (DELETE FROM {{session}} AS s USING l JOIN i USING (provider, tenant, token_id)
             WHERE s.provider = i.provider AND s.tenant = i.tenant AND s.token_id = i.token_id
                 AND s.version = i.expected AND s.mac IS NOT DISTINCT FROM i.expected_mac
             RETURNING i.place, i.floor_version, i.floor_epoch, i.floor_generation),
         r AS (UPDATE {{store}} SET
                 version = greatest(version, (SELECT max(floor_version) FROM d)),
                 epoch = greatest(epoch, (SELECT max(floor_epoch) FROM d)),
                 generation = greatest(generation, (SELECT max(floor_generation) FROM d))),
         c AS (INSERT INTO {{change}}
                 (maker, provider, tenant, token_id, version, epoch, generation)
             SELECT $1::bigint, provider, tenant, token_id, version, epoch, generation
             FROM i JOIN d USING (place) WHERE version IS NOT NULL)
         SELECT array_agg(place::int4), {{now}}() FROM d"
    )
}

/// `$1`: the provider. `$2`: within so many nanoseconds. `$3` to `$5`: after. `$6`: the limit.
/// `$7`: the silence after which a supervisor does not count as running.
const DUE: &str = "
    SELECT n.at, n.owners, r.due_at, r.tenant, r.token_id FROM
        (SELECT t.at, (SELECT array_agg(owner ORDER BY owner) FROM {holder}
                WHERE NOT ended AND beat_at > t.at - $7::bigint) AS owners
            FROM (SELECT {now}() AS at) AS t) AS n
        LEFT JOIN LATERAL (
            SELECT s.due_at, s.tenant, s.token_id
            FROM {session} AS s LEFT JOIN {holder} AS h ON h.owner = s.lease_owner
            WHERE s.provider = $1::text COLLATE \"C\" AND s.due_at <= n.at + $2::bigint
                AND (s.due_at, s.tenant, s.token_id)
                    > ($3::bigint, $4::text COLLATE \"C\", $5::text COLLATE \"C\")
                AND (s.lease_claim IS NULL OR s.lease_until <= n.at OR h.ended)
            ORDER BY s.due_at, s.tenant, s.token_id LIMIT $6::bigint
        ) AS r ON true";

/// `$1`: ended at least so many nanoseconds ago. `$2` to `$5`: after. `$6`: the limit. The first row
/// has the time only.
fn ended() -> String {
    format!(
        "SELECT n.at, r.* FROM (SELECT {{now}}() AS at) AS n LEFT JOIN LATERAL (
             SELECT {}, coalesce(h.ended, false), provider, tenant, token_id, s.ended_at AS ended_key
             FROM {{session}} AS s LEFT JOIN {{holder}} AS h ON h.owner = s.lease_owner
             WHERE s.ended_at <= n.at - $1::bigint
                 AND (s.ended_at, provider, tenant, token_id) > ($2::bigint, $3::text COLLATE \"C\",
                     $4::text COLLATE \"C\", $5::text COLLATE \"C\")
             ORDER BY s.ended_at, provider, tenant, token_id LIMIT $6::bigint
         ) AS r ON true",
        columns("s.")
    )
}

/// `$1`: the largest transaction of the last snapshot. `$2`: the transactions that were under way in
/// it. `$3`: the snapshot up to which is read; `NULL` for a new one. `$4`: after this number. `$5`:
/// the limit. `$6`: who asks and does not want its own changes; `NULL` for all.
///
/// A change is new if its transaction was under way at the last snapshot or came later. Numbers
/// alone would skip changes: a transaction with a lower number may commit later.
const CHANGES: &str = "
    SELECT n.at, n.shot, n.feed, n.many, n.wal, r.* FROM
        (SELECT {now}() AS at, coalesce($3::text, pg_current_snapshot()::text) AS shot,
            (SELECT feed FROM {store}) AS feed, {wal_position}() AS wal,
            (SELECT count(*) FROM (SELECT FROM {change}
                WHERE $3::text IS NULL AND (xid >= $1::text::xid8 OR xid = ANY ($2::text[]::xid8[]))
                LIMIT 100001) AS counted) AS many) AS n
        LEFT JOIN LATERAL (
            SELECT number, provider, tenant, token_id, version, epoch, generation, phase
            FROM {change}
            WHERE (xid >= $1::text::xid8 OR xid = ANY ($2::text[]::xid8[]))
                AND pg_visible_in_snapshot(xid, n.shot::pg_snapshot)
                AND number > $4::bigint AND maker IS DISTINCT FROM $6::bigint
            ORDER BY number LIMIT $5::bigint
        ) AS r ON true";

/// `$1`: the age in nanoseconds. `$2`: how many at most.
const PURGE_CHANGES: &str = "
    WITH gone AS (DELETE FROM {change} WHERE (xid, number) IN (SELECT xid, number FROM (
            SELECT xid, number, made_at FROM {change} ORDER BY xid, number LIMIT $2::bigint) AS o
        WHERE made_at < {now}() - $1::bigint) RETURNING 1)
    SELECT count(*) FROM gone";

/// `$1`: the owner. `$2`: whether it has ended. `$3`: the form of rows that it reads. An owner that
/// has ended never comes back: a renewal that arrives late does not revive it.
const PRESENCE: &str = "
    INSERT INTO {holder} AS h (owner, beat_at, ended, form) VALUES ($1::bigint, {now}(), $2, $3::int4)
    ON CONFLICT (owner) DO UPDATE SET beat_at = excluded.beat_at,
        ended = h.ended OR excluded.ended";

/// `$1`: the age in nanoseconds.
const PURGE_HOLDERS: &str = "DELETE FROM {holder} WHERE beat_at < {now}() - $1::bigint";

/// `$1` to `$3`: the client.
const READ_CLIENT: &str = "
    SELECT n.at, c.writes, c.version, c.throttled_until, c.stopped, c.stop_tenant, c.stop_code,
        c.probe_at, c.probe_claim, c.probe_owner
    FROM (SELECT {now}() AS at) AS n LEFT JOIN {client} AS c
        ON (c.provider, c.tenant, c.client) = ($1 COLLATE \"C\", $2 COLLATE \"C\", $3 COLLATE \"C\")";

/// `$1` to `$3`: the client. `$4`: how often its row was written; `NULL` if there was none. Returns
/// a row if it wrote.
const WRITE_CLIENT: &str = "
    INSERT INTO {client} AS c (provider, tenant, client, writes, version, throttled_until, stopped,
        stop_tenant, stop_code, probe_at, probe_claim, probe_owner)
    SELECT $1, $2, $3, 1, $5, $6, $7, $8, $9, $10, $11, $12
    ON CONFLICT (provider, tenant, client) DO UPDATE SET writes = c.writes + 1,
        version = excluded.version, throttled_until = excluded.throttled_until,
        stopped = excluded.stopped, stop_tenant = excluded.stop_tenant,
        stop_code = excluded.stop_code, probe_at = excluded.probe_at,
        probe_claim = excluded.probe_claim, probe_owner = excluded.probe_owner
    WHERE c.writes = $4::bigint
    RETURNING 1";

/// `$1` to `$3`: after this client. `$4`: the limit. `$5`: the silence after which a supervisor does
/// not count as running.
const CLIENTS: &str = "
    SELECT n.at, n.holders, r.* FROM
        (SELECT t.at, (SELECT count(*) FROM {holder}
                WHERE NOT ended AND beat_at > t.at - $5::bigint) AS holders
            FROM (SELECT {now}() AS at) AS t) AS n
        LEFT JOIN LATERAL (
            SELECT provider, tenant, client, version, throttled_until, stopped, stop_tenant,
                stop_code, probe_at, probe_claim, probe_owner
            FROM {client}
            WHERE (provider, tenant, client) > ($1 COLLATE \"C\", $2 COLLATE \"C\", $3 COLLATE \"C\")
                AND (stopped OR throttled_until > n.at)
            ORDER BY provider, tenant, client LIMIT $4::bigint
        ) AS r ON true";

/// `$1`: whether the records are encrypted; only the first process sets it. Returns how long ago a
/// process first saw the timeline of the server; `NULL` if it was always the same.
pub(super) const OPEN: &str = "
    UPDATE {store} SET sealed = coalesce(sealed, $1), timeline = ({wal_position}())[1],
        timeline_at = CASE WHEN timeline <> ({wal_position}())[1] THEN {now}() ELSE timeline_at END
    RETURNING sealed, {wal_position}(), {now}() - timeline_at";
