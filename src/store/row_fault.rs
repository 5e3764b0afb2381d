//! What can be wrong with a row of a database.

/// Why a row is not one that a store wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFault {
    /// The row is damaged.
    Malformed,
    /// A newer version wrote the row in this form.
    NewerForm(i64),
}
