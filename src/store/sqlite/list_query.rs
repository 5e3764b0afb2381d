//! Builds the query of a list.

use std::cmp::Ordering;

use rusqlite::types::Value;

use crate::key::{ProviderName, SessionId, Tenant};
use crate::store::RecordFilter;
use crate::store::encoding::{encode_limit, encode_phase};
use crate::store::session_row::{ALL_COLUMNS, id_columns};

/// The columns of an id, in the order in which lists are sorted.
const NAMES: [&str; 3] = ["provider", "tenant", "token_id"];

/// The query of at most `limit` records after `after`, and its parameters.
///
/// A name from the filter is compared for equality only, and the other names as one row value. Only
/// then does SQLite seek to the start of the page in an index, so that every page costs the same.
/// If a name from the filter were in the row value too, each page would read the list from its
/// start.
pub(super) fn query(
    filter: &RecordFilter,
    after: Option<&SessionId>,
    limit: usize,
) -> (String, Vec<Value>) {
    let (provider, tenant) = (filter.provider.as_ref(), filter.tenant.as_ref());
    let given = [provider.map(ProviderName::as_str), tenant.map(Tenant::as_str), None];
    // No name is empty, so the empty one is before all others.
    let (provider, tenant, token_id) = after.map_or(("", "", ""), id_columns);
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let (mut open, mut bounds) = (Vec::new(), Vec::new());
    let mut edge = None;
    for ((column, given), after) in NAMES.into_iter().zip(given).zip([provider, tenant, token_id]) {
        if let Some(name) = given {
            conditions.push(format!("{column} = ?"));
            values.push(Value::from(name.to_owned()));
            edge = edge.or_else(|| edge_of(name.cmp(after)));
        } else {
            open.push(column);
            bounds.push(edge.clone().unwrap_or_else(|| after.to_owned().into()));
        }
    }
    conditions.push(format!("({}) > ({})", open.join(", "), vec!["?"; open.len()].join(", ")));
    values.extend(bounds);
    if let Some(phase) = filter.phase {
        conditions.push("phase = ?".to_owned());
        values.push(encode_phase(phase).into());
    }
    values.push(encode_limit(limit).into());
    let sql = format!(
        "SELECT {ALL_COLUMNS} FROM session WHERE {} ORDER BY {} LIMIT ?",
        conditions.join(" AND "),
        NAMES.join(", ")
    );
    (sql, values)
}

/// If a name from the filter differs from the one at which the last page ended, then all names
/// behind it come after that page, or none does. Returns the value to compare them with.
fn edge_of(given: Ordering) -> Option<Value> {
    match given {
        // SQLite sorts every blob after every text.
        Ordering::Less => Some(Value::Blob(Vec::new())),
        Ordering::Equal => None,
        Ordering::Greater => Some(Value::Text(String::new())),
    }
}

#[cfg(test)]
mod tests;
