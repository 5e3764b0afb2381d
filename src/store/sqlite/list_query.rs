//! The query of a list.

use std::cmp::Ordering;

use rusqlite::types::Value;

use super::columns::{self, ALL_COLUMNS};
use super::encoding::{encode_limit, encode_phase};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::store::Filter;

/// An id's columns, in the order of lists.
const NAMES: [&str; 3] = ["provider", "tenant", "token_id"];

/// The query of at most `limit` records after `after`, and what is bound to it.
///
/// A name that the filter gives is only equal, and the others are compared as one row value. Only
/// so does SQLite take all of them as the beginning of one range of an index, and a page costs what
/// is in it, however far it is. If a given name were compared as well, each page would read the
/// list from its start.
pub(super) fn query(
    filter: &Filter,
    after: Option<&SessionId>,
    limit: usize,
) -> (String, Vec<Value>) {
    let (provider, tenant) = (filter.provider.as_ref(), filter.tenant.as_ref());
    let given = [provider.map(ProviderName::as_str), tenant.map(Tenant::as_str), None];
    // No name is empty, so this is before all.
    let (provider, tenant, token_id) = after.map_or(("", "", ""), columns::id_columns);
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

/// What the names behind a given one are compared with, if it is not the name at which the last
/// page ended: all of them come after that page, or none does.
fn edge_of(given: Ordering) -> Option<Value> {
    match given {
        // To SQLite any blob is greater than any text.
        Ordering::Less => Some(Value::Blob(Vec::new())),
        Ordering::Equal => None,
        Ordering::Greater => Some(Value::Text(String::new())),
    }
}

#[cfg(test)]
mod tests;
