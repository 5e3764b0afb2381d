//! A position in the write-ahead log (WAL) of the database.

/// A position in the database's log of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WalPosition {
    pub(super) timeline: i64,
    /// How many bytes were on the disk.
    pub(super) flushed: i64,
}

impl WalPosition {
    /// From the array that the function `wal_position` returns.
    pub(super) fn read(array: Option<Vec<i64>>) -> Self {
        match array.as_deref() {
            Some([timeline, flushed]) => Self { timeline: *timeline, flushed: *flushed },
            _ => Self::default(),
        }
    }

    /// Whether a log that has this position still has the earlier one.
    pub(super) fn continues(self, earlier: Self) -> bool {
        self.timeline == earlier.timeline && self.flushed >= earlier.flushed
    }
}
