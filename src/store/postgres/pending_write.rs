//! A statement that is decided, and not written yet.

use std::sync::Arc;

use super::Shared;
use super::batch::{RowToDelete, RowToWrite};
use super::database_clock::DatabaseTime;
use super::known_rows::KnownRows;
use super::read_rows::UnreadableRow;
use super::row_reader::KnownRow;
use crate::key::SessionId;
use crate::store::decide::{Decision, Write};
use crate::store::encoding::encode_counter;
use crate::store::record_cipher::SealedCredentials;
use crate::store::row_fault::RowFault;
use crate::store::session_row::floor_above_unreadable;
use crate::store::{Change, Done, Floor, Outcome, Phase, StoreError};

/// What a statement was decided on.
pub(super) struct Basis {
    /// The row; `None` if there was none.
    pub(super) known: Option<Arc<KnownRow>>,
    pub(super) floor: Floor,
    pub(super) at: DatabaseTime,
}

impl Basis {
    /// For a write that depends on no time.
    pub(super) fn of_reading(known: Arc<KnownRow>) -> Self {
        Self { known: Some(known), floor: Floor::default(), at: DatabaseTime(0) }
    }
}

/// A decision that must be written before its outcome is told.
pub(super) struct PendingWrite {
    outcome: Outcome<SealedCredentials>,
    pub(super) kind: WriteKind,
}

/// The kinds of writes, each with its own SQL statement.
pub(super) enum WriteKind {
    /// Over an existing row.
    Update {
        row: Arc<KnownRow>,
        former: Arc<KnownRow>,
        at: DatabaseTime,
        has_news: bool,
    },
    /// A new row, above the floor that was read.
    Insert {
        row: Arc<KnownRow>,
        floor: Floor,
        has_news: bool,
    },
    Delete {
        expected: i64,
        mac: Option<Vec<u8>>,
        floor: Floor,
        news: Option<Change>,
    },
}

impl PendingWrite {
    /// The write of a decision.
    pub(super) fn new(
        shared: &Shared,
        id: &SessionId,
        basis: Basis,
        decision: Decision<SealedCredentials>,
    ) -> Result<Self, StoreError> {
        let Decision { outcome, write, news } = decision;
        let has_news = news.is_some();
        let kind = match (write, basis.known) {
            (Write::Put(record) | Write::PutLease(record), Some(former)) => {
                let row = shared.prepare_row(id, &record)?;
                WriteKind::Update { row, former, at: basis.at, has_news }
            }
            (Write::Put(record) | Write::PutLease(record), None) => {
                let row = shared.prepare_row(id, &record)?;
                WriteKind::Insert { row, floor: basis.floor, has_news }
            }
            (Write::Remove(floor), Some(former)) => {
                let expected = encode_counter(former.record.version);
                let mac = former.row().mac.map(<[u8]>::to_vec);
                WriteKind::Delete { expected, mac, floor, news }
            }
            // `decide` removes only what it found, and its caller asks for no other write.
            (Write::Remove(_), None) | (Write::Nothing, _) => {
                return Err(RowFault::Malformed.into());
            }
        };
        Ok(Self { outcome, kind })
    }

    /// The delete of a row that cannot be read. The floor rises above its counters as far as they
    /// are credible.
    pub(super) fn delete_unreadable(row: UnreadableRow) -> Result<Self, StoreError> {
        let Some(stored) = row.counters else { return Err(row.error) };
        let (floor, change) = floor_above_unreadable(stored);
        let Change { epoch, generation, .. } = change;
        let (version, phase) = (floor.version, Phase::Lost);
        let done = Done { version, epoch, generation, fence: 0, phase, suspect: false };
        let [expected, ..] = stored;
        let kind = WriteKind::Delete { expected, mac: row.mac, floor, news: Some(change) };
        Ok(Self { outcome: Outcome::Done(done), kind })
    }

    /// The outcome, once it is written.
    pub(super) fn done(self, known: &KnownRows, id: &SessionId) -> Outcome<SealedCredentials> {
        match self.kind {
            WriteKind::Update { row, .. } | WriteKind::Insert { row, .. } => {
                known.note(id, row);
            }
            WriteKind::Delete { .. } => known.forget(id),
        }
        self.outcome
    }
}

impl WriteKind {
    /// The row that an update or an insert writes.
    pub(super) fn row_to_write<'r>(&'r self, id: &'r SessionId) -> Option<RowToWrite<'r>> {
        match self {
            Self::Update { row, former, has_news, .. } => {
                Some(RowToWrite::new(id, Some(former.row()), row.row(), *has_news))
            }
            Self::Insert { row, has_news, .. } => {
                Some(RowToWrite::new(id, None, row.row(), *has_news))
            }
            Self::Delete { .. } => None,
        }
    }

    /// The row that a delete removes.
    pub(super) fn row_to_delete<'r>(&'r self, id: &'r SessionId) -> Option<RowToDelete<'r>> {
        match self {
            Self::Delete { expected, mac, floor, news } => Some(RowToDelete {
                id,
                expected: *expected,
                expected_mac: mac.as_deref(),
                floor: *floor,
                news: *news,
            }),
            Self::Update { .. } | Self::Insert { .. } => None,
        }
    }
}
