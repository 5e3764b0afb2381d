//! The text of an update of several rows, which names only the columns that it changes. A claim
//! changes few of them, and the server parses and plans the text each time, because no statement is
//! prepared.

use super::schema::TableNames;
use super::statements::{NAMES, WRITE};
use crate::store::session_row::{ColumnKind, column_kinds};

/// How many parameters there are before those of the columns.
const BEFORE_COLUMNS: usize = 9;

/// `$1`: the time at which the batch was decided; 0 if no time matters. If it was too long ago, for
/// example because the machine was suspended meanwhile, nothing is written: a lease would be over
/// before its holder begins. `$2`: who writes. `$3`: the position that the log of writes must still
/// have; empty for any. Then arrays. `$4` to `$6`: the names. `$7`: the versions that the rows must
/// have, and `$8` their tags: after a failover that lost writes, another row may have the same
/// version. `$9`: whether there is news. Then the columns, and for each column of bytes whether it
/// stays.
///
/// The rows are locked in the order of their names, so that two batches never wait for each other.
/// A row that another transaction has changed since is locked in its new version, and the write
/// then finds that its version is not the expected one.
pub(super) fn update_sql(names: &TableNames, columns: &[usize], has_news: bool) -> String {
    let named: Vec<_> = columns.iter().filter_map(|at| column_kinds().nth(*at)).collect();
    let (mut inputs, mut arrays, mut set) = (String::new(), String::new(), Vec::new());
    let mut next = BEFORE_COLUMNS;
    let mut input = |name: &str, sql_type: &str| {
        next += 1;
        inputs.push_str(&format!(", {name}"));
        arrays.push_str(&format!(", ${next}::{sql_type}[]"));
    };
    for (name, kind) in &named {
        input(name, kind.sql_type());
        set.push(match kind {
            ColumnKind::Bytes => {
                format!("{name} = CASE WHEN l.keep_{name} THEN s.{name} ELSE l.{name} END")
            }
            ColumnKind::Count | ColumnKind::Number => format!("{name} = l.{name}"),
        });
    }
    for (name, _) in named.iter().filter(|(_, kind)| *kind == ColumnKind::Bytes) {
        input(&format!("keep_{name}"), "boolean");
    }
    let set = set.join(", ");
    let told = if has_news { NEWS } else { "" };
    names.fill(&format!(
        "{WRITE} WITH i AS (SELECT {NAMES}, expected, expected_mac, has_news{inputs}, place
             FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::bytea[],
                 $9::boolean[]{arrays})
                 WITH ORDINALITY AS t(provider, tenant, token_id, expected, expected_mac,
                     has_news{inputs}, place)),
         l AS MATERIALIZED (SELECT i.* FROM i
             JOIN {{session}} AS s USING (provider, tenant, token_id)
             WHERE (SELECT {{wal_continues}}($3::bigint[]))
             ORDER BY s.provider, s.tenant, s.token_id FOR UPDATE OF s),
         u AS (UPDATE {{session}} AS s SET {set} FROM l
             WHERE s.provider = l.provider AND s.tenant = l.tenant AND s.token_id = l.token_id
                 AND s.version = l.expected AND s.mac IS NOT DISTINCT FROM l.expected_mac
                 AND ($1::bigint = 0 OR {{now}}() - $1::bigint BETWEEN 0 AND {{latest}})
             RETURNING l.place, l.has_news, s.provider, s.tenant, s.token_id, s.version, s.epoch,
                 s.generation, s.phase){told}
         SELECT array_agg(place::int4), {{now}}() FROM u WHERE $2::bigint IS NOT NULL"
    ))
}

/// Tells the news of the rows that were written.
const NEWS: &str = ", c AS (INSERT INTO {change}
                 (maker, provider, tenant, token_id, version, epoch, generation, phase)
             SELECT $2::bigint, provider, tenant, token_id, version, epoch, generation, phase
             FROM u WHERE has_news)";
