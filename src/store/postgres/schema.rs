//! The tables of the store: their names, how they are made, and which version they have.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::postgres_fault::PostgresFault;
use crate::clock::{SystemClock, timeout};
use crate::store::session_row::{ColumnKind, column_kinds};

/// The newest version of the schema that this program knows.
pub(super) const SCHEMA_VERSION: i32 = 1;

/// The oldest major version of PostgreSQL that has what the statements use: `pg_snapshot` and
/// `xid8`.
const OLDEST_SERVER: u32 = 13;

/// The most characters of a schema's name and of a table prefix. PostgreSQL cuts names at 63 bytes,
/// so that longer ones could become equal.
const MAX_NAME: usize = 30;

/// How long ago a write may have been decided. Defaults to 2 s, of the 5 s by which leases are longer
/// than they must be (`SAVE_MARGIN`).
const LATEST_DECISION: Duration = Duration::from_secs(2);

/// How long a store waits for the migration of another process. Defaults to 60 s.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// The lock that migrations of all programs take: they run one after the other.
const MIGRATION_LOCK: i64 = 0x7365_7373_5F77_6172;

/// The names of the tables.
#[derive(Clone, Debug)]
pub(super) struct TableNames {
    pub(super) schema: String,
    prefix: String,
}

impl TableNames {
    /// Names with this schema and prefix, both of lower-case letters, digits and `_`.
    pub(super) fn new(schema: &str, prefix: &str) -> Result<Self, PostgresFault> {
        let letters = |text: &str| {
            let allowed = |of: u8| of.is_ascii_lowercase() || of.is_ascii_digit() || of == b'_';
            let begins = text.bytes().next().is_none_or(|first| first.is_ascii_lowercase());
            text.len() <= MAX_NAME && begins && text.bytes().all(allowed)
        };
        if schema.is_empty() || !letters(schema) || !letters(prefix) {
            return Err(PostgresFault::InvalidName);
        }
        Ok(Self { schema: schema.to_owned(), prefix: prefix.to_owned() })
    }

    /// The name of a table or a function, with its schema.
    pub(super) fn of(&self, name: &str) -> String {
        format!("{}.{}{name}", self.quoted_schema(), self.prefix)
    }

    /// The schema as SQL has it: in quotes, because it may be called `user`, which is a word of SQL.
    fn quoted_schema(&self) -> String {
        format!("\"{}\"", self.schema)
    }

    /// Replaces `{schema}` and the names in braces.
    pub(super) fn fill(&self, sql: &str) -> String {
        let mut filled = sql.replace("{schema}", &self.quoted_schema());
        filled = filled.replace("{prefix}", &self.prefix);
        filled = filled.replace("{latest}", &LATEST_DECISION.as_nanos().to_string());
        for name in [
            "session",
            "change",
            "client",
            "holder",
            "pause",
            "login",
            "store",
            "now",
            "wal_position",
            "wal_continues",
            "write",
        ] {
            filled = filled.replace(&format!("{{{name}}}"), &self.of(name));
        }
        filled
    }

    /// The SQL that makes the tables. It can run again and does nothing then.
    pub(super) fn migrations_sql(&self) -> String {
        let columns: String = column_kinds()
            .map(|(name, kind)| match kind {
                ColumnKind::Count => format!("    {name} {} NOT NULL,\n", kind.sql_type()),
                ColumnKind::Number | ColumnKind::Bytes => {
                    format!("    {name} {},\n", kind.sql_type())
                }
            })
            .collect();
        let write = write_function();
        self.fill(&VERSION_1.replace("{columns}", &columns).replace("{write_function}", &write))
    }

    /// The privileges that a user needs who does not migrate.
    pub(super) fn grants_sql(&self, role: &str) -> String {
        let role = role.replace('"', "\"\"");
        self.fill(GRANTS).replace("{role}", &format!("\"{role}\""))
    }
}

/// Checks the server and the database, and migrates the tables if this is wanted.
pub(super) async fn open(
    client: &Client,
    names: &TableNames,
    migrate: bool,
) -> Result<(), PostgresFault> {
    let (clock, tables) = (SystemClock::new(), open_tables(client, names, migrate));
    timeout(&clock, OPEN_TIMEOUT, tables).await.unwrap_or(Err(PostgresFault::TimedOut))
}

async fn open_tables(
    client: &Client,
    names: &TableNames,
    migrate: bool,
) -> Result<(), PostgresFault> {
    check_server(client).await?;
    match version(client, names).await? {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) if found > SCHEMA_VERSION => {
            Err(PostgresFault::Newer { found, known: SCHEMA_VERSION })
        }
        Some(_) | None if !migrate => Err(PostgresFault::NotMigrated),
        Some(_) | None => migrate_tables(client, names).await,
    }
}

async fn check_server(client: &Client) -> Result<(), PostgresFault> {
    let sql = "SELECT current_setting('server_version_num')::int4,
        (SELECT pg_encoding_to_char(encoding) = 'UTF8' FROM pg_database
            WHERE datname = current_database()),
        current_setting('synchronous_commit') <> 'off'";
    let row = client.query_typed_one(sql, &[]).await?;
    let found = u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0) / 10_000;
    if found < OLDEST_SERVER {
        return Err(PostgresFault::TooOld { found });
    }
    if !row.try_get::<_, bool>(1)? {
        return Err(PostgresFault::NotUtf8);
    }
    if row.try_get::<_, bool>(2)? { Ok(()) } else { Err(PostgresFault::NotDurable) }
}

/// The version of the tables; `None` if there are none.
async fn version(client: &Client, names: &TableNames) -> Result<Option<i32>, PostgresFault> {
    let there = format!("SELECT to_regclass('{}') IS NOT NULL", names.of("store"));
    if !client.query_typed_one(&there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let sql = names.fill("SELECT schema_version FROM {store}");
    let row = client.query_typed_opt(&sql, &[]).await?;
    row.map(|row| row.try_get(0)).transpose().map_err(PostgresFault::from)
}

/// In one transaction that first takes a lock: several replicas may start at once, and the second
/// one then finds the tables of the first.
async fn migrate_tables(client: &Client, names: &TableNames) -> Result<(), PostgresFault> {
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); {} COMMIT",
        names.migrations_sql()
    );
    // One message: through PgBouncer, the whole transaction goes to one server connection, and a
    // process that stops leaves no transaction open.
    let done: Result<(), Error> = client.batch_execute(&sql).await;
    if let Err(error) = done {
        drop(client.batch_execute("ROLLBACK").await);
        return Err(error.into());
    }
    Ok(())
}

/// The function that writes one row. The server keeps the plans of a function's statements, so a
/// statement that comes alone is not planned each time, although none is prepared.
///
/// The values come as one array for each type: the server parses and binds three parameters in a
/// fraction of the time that it needs for one for each column.
fn write_function() -> String {
    let (mut numbers, mut bytes) = (0, 0);
    let (mut set, mut filled) = (Vec::new(), WRITE_FUNCTION.to_owned());
    for (name, kind) in column_kinds() {
        if kind == ColumnKind::Bytes {
            bytes += 1;
            set.push(format!(
                "{name} = CASE WHEN kept[{bytes}] THEN s.{name} ELSE bytes[{bytes}] END"
            ));
        } else {
            numbers += 1;
            set.push(format!("{name} = numbers[{numbers}]"));
            filled = filled.replace(&format!("{{new_{name}}}"), &format!("numbers[{numbers}]"));
        }
    }
    filled.replace("{set}", &set.join(", "))
}

const WRITE_FUNCTION: &str = "
CREATE OR REPLACE FUNCTION {write}(decided_at bigint, maker bigint, wal bigint[],
        of_provider text, of_tenant text, of_token_id text, expected bigint, expected_mac bytea,
        has_news boolean, numbers bigint[], bytes bytea[], kept boolean[])
    RETURNS bigint LANGUAGE plpgsql VOLATILE AS $function$
BEGIN
    IF NOT {wal_continues}(wal) THEN
        RETURN NULL;
    END IF;
    UPDATE {session} AS s SET {set}
        WHERE s.provider = of_provider COLLATE \"C\" AND s.tenant = of_tenant COLLATE \"C\"
            AND s.token_id = of_token_id COLLATE \"C\" AND s.version = expected
            AND s.mac IS NOT DISTINCT FROM expected_mac
            AND (decided_at = 0 OR {now}() - decided_at BETWEEN 0 AND {latest});
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF has_news THEN
        INSERT INTO {change}
                (maker, provider, tenant, token_id, version, epoch, generation, phase)
            VALUES (maker, of_provider, of_tenant, of_token_id, {new_version}, {new_epoch},
                {new_generation}, {new_phase});
    END IF;
    RETURN {now}();
END $function$;
";

const VERSION_1: &str = "
CREATE SCHEMA IF NOT EXISTS {schema};

-- The time of the store, in nanoseconds since 1970: the only source of time of all statements.
DO $$ BEGIN IF to_regprocedure('{now}()') IS NULL THEN
    CREATE FUNCTION {now}() RETURNS bigint LANGUAGE sql VOLATILE
        AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000';
END IF; END $$;

-- The position in the server's log of writes: its timeline, and how many bytes of it are on the disk.
-- Zeros on a server that tells no position, and so never shows that it has gone back.
CREATE OR REPLACE FUNCTION {wal_position}() RETURNS bigint[] LANGUAGE plpgsql STABLE AS $function$
BEGIN
    RETURN ARRAY[('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint,
        (pg_current_wal_flush_lsn() - '0/0')::bigint];
EXCEPTION WHEN OTHERS THEN
    RETURN ARRAY[0, 0]::bigint[];
END $function$;

-- Whether the log still has this position. An empty array stands for no position.
CREATE OR REPLACE FUNCTION {wal_continues}(since bigint[]) RETURNS boolean
    LANGUAGE plpgsql STABLE AS $function$
DECLARE
    position bigint[];
BEGIN
    IF cardinality(since) = 0 THEN
        RETURN true;
    END IF;
    position := {wal_position}();
    RETURN position[1] = since[1] AND position[2] >= since[2];
END $function$;

CREATE TABLE IF NOT EXISTS {store} (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    schema_version integer NOT NULL,
    -- Names these tables in cursors of the feed of changes.
    feed bigint NOT NULL,
    -- Whether the records are encrypted. The first process that opens the store sets it.
    sealed boolean,
    -- The counters of the next new record, above all that were deleted.
    version bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    -- The timeline of the server, and when a process first saw it.
    timeline bigint,
    timeline_at bigint
);

CREATE TABLE IF NOT EXISTS {session} (
    provider text COLLATE \"C\" NOT NULL,
    tenant text COLLATE \"C\" NOT NULL,
    token_id text COLLATE \"C\" NOT NULL,
{columns}    PRIMARY KEY (provider, tenant, token_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- Encrypted bytes cannot be compressed. Before version 16, CREATE TABLE cannot say it.
ALTER TABLE {session} ALTER COLUMN sealed SET STORAGE EXTERNAL,
    ALTER COLUMN outbox SET STORAGE EXTERNAL;
-- Without a column of the claim, so that a claim and its renewals change no index (HOT updates).
CREATE INDEX IF NOT EXISTS {prefix}session_due
    ON {session} (provider, due_at, tenant, token_id) WHERE due_at IS NOT NULL;

-- The sessions that have ended.
CREATE INDEX IF NOT EXISTS {prefix}session_ended
    ON {session} (ended_at, provider, tenant, token_id) WHERE ended_at IS NOT NULL;

-- The records that a key encrypts.
CREATE INDEX IF NOT EXISTS {prefix}session_key
    ON {session} (key_id, provider, tenant, token_id) WHERE key_id IS NOT NULL;

-- What other processes read to notice changes. Kept for some minutes.
CREATE TABLE IF NOT EXISTS {change} (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    number bigint GENERATED ALWAYS AS IDENTITY,
    made_at bigint NOT NULL DEFAULT {now}(),
    maker bigint NOT NULL,
    provider text COLLATE \"C\" NOT NULL,
    tenant text COLLATE \"C\" NOT NULL,
    token_id text COLLATE \"C\" NOT NULL,
    version bigint NOT NULL,
    epoch bigint NOT NULL,
    generation bigint NOT NULL,
    phase bigint,
    PRIMARY KEY (xid, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The supervisors that run, and those that have ended lately.
CREATE TABLE IF NOT EXISTS {holder} (
    owner bigint PRIMARY KEY,
    beat_at bigint NOT NULL,
    ended boolean NOT NULL,
    form integer NOT NULL
) WITH (fillfactor = 50);

-- What all supervisors know of a client that its server holds back.
CREATE TABLE IF NOT EXISTS {client} (
    provider text COLLATE \"C\" NOT NULL,
    tenant text COLLATE \"C\" NOT NULL,
    client text COLLATE \"C\" NOT NULL,
    -- Counts the writes of the row.
    writes bigint NOT NULL,
    version bigint NOT NULL,
    throttled_until bigint,
    stopped boolean NOT NULL,
    stop_tenant text,
    stop_code text,
    probe_at bigint,
    probe_claim bigint,
    probe_owner bigint,
    PRIMARY KEY (provider, tenant, client)
);

-- What the backend has paused. An empty name stands for all.
CREATE TABLE IF NOT EXISTS {pause} (
    provider text COLLATE \"C\" NOT NULL,
    tenant text COLLATE \"C\" NOT NULL,
    PRIMARY KEY (provider, tenant)
);

-- Which supervisor polls the server for a login on another device.
CREATE TABLE IF NOT EXISTS {login} (
    login bytea PRIMARY KEY,
    claim bigint NOT NULL,
    until bigint NOT NULL,
    pace bigint NOT NULL
);

-- Writes one row if it is as expected, and returns the time if it did.
{write_function}
INSERT INTO {store} (schema_version, feed)
    VALUES (1, (random() * 9e18)::bigint) ON CONFLICT DO NOTHING;
";

const GRANTS: &str = "
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, UPDATE ON {store} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {session}, {change}, {client}, {holder}, {pause}, {login}
    TO {role};
GRANT EXECUTE ON FUNCTION {now}(), {wal_position}(), {wal_continues}, {write} TO {role};
";

#[cfg(test)]
mod tests;
