//! Rows as records: only those that are as a store wrote them.

use rusqlite::{Connection, Row as SqlRow};

use super::Shared;
use super::alive::Holder;
use super::code;
use super::columns::{BESIDE, Row};
use super::fault::{Result, Undone};
use super::holders::Holders;
use super::row::Hold;
use crate::clock::BootTime;
use crate::error::LostReason;
use crate::key::SessionId;
use crate::store::seal::{MAC_BYTES, SealFault, Sealed, Tags};
use crate::store::{Floor, Holder as Life, Lease, Phase, Record};

/// What a row says beside its record.
pub(super) struct Kept {
    /// The row's number.
    pub(super) row: i64,
    /// As the record showed it.
    pub(super) lease: Option<Lease>,
    pub(super) hold: Option<Hold>,
    pub(super) form: i64,
    pub(super) key_id: Option<u32>,
    /// As it stands there, for a write that leaves it alone.
    pub(super) extra: Option<Vec<u8>>,
}

/// What rows are read with.
pub(super) struct Reader<'c> {
    pub(super) shared: &'c Shared,
    pub(super) holder: &'c Holder,
    pub(super) holders: Holders<'c>,
    tags: Tags,
}

impl<'c> Reader<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        holder: &'c Holder,
        shared: &'c Shared,
    ) -> rusqlite::Result<Self> {
        let holders = Holders::new(conn, holder, shared.form)?;
        Ok(Self { shared, holder, holders, tags: Tags::default() })
    }

    /// The tag over a row, by this key if there is such a key.
    pub(super) fn tag(
        &mut self,
        id: &SessionId,
        key_id: Option<u32>,
        row: &Row<'_>,
    ) -> Result<Option<[u8; MAC_BYTES]>> {
        Ok(self.tags.tag(&self.shared.vault, id, key_id, &row.data(id))?)
    }

    /// The record of a row with its number, if its tag says that it is as it was written.
    pub(super) fn genuine(
        &mut self,
        sql_row: &SqlRow<'_>,
        id: &SessionId,
    ) -> Result<(Record<Sealed>, Kept)> {
        let row = Row::read(sql_row)?;
        self.tags.check(&self.shared.vault, id, &row.data(id), row.mac)?;
        let (hold, lease) = self.lease(&row)?;
        let record = row.record(lease, |spot, bytes| Some(Sealed { spot, bytes: bytes.into() }))?;
        let key_id = row.key_id.map(u32::try_from).transpose().map_err(|_| Undone::malformed())?;
        let number = sql_row.get(BESIDE)?;
        let extra = row.extra.map(<[u8]>::to_vec);
        Ok((record, Kept { row: number, lease, hold, form: row.form, key_id, extra }))
    }

    /// The same without what it seals. A row whose key is missing is taken as it stands.
    pub(super) fn listed(&mut self, sql_row: &SqlRow<'_>, id: &SessionId) -> Result<Record<()>> {
        let row = Row::read(sql_row)?;
        match self.tags.check(&self.shared.vault, id, &row.data(id), row.mac) {
            Ok(()) | Err(SealFault::KeyMissing(_) | SealFault::NoKeys) => {}
            Err(fault) => return Err(fault.into()),
        }
        let (_, lease) = self.lease(&row)?;
        row.record(lease, |_, _| None)
    }

    /// What a row of a form that is read here says of its lease, and the lease as it is now. A
    /// holder that has ended is dead. The times of another start of the machine mean nothing now.
    fn lease(&mut self, row: &Row<'_>) -> Result<(Option<Hold>, Option<Lease>)> {
        row.readable(self.shared.form)?;
        let hold = row.hold()?;
        let mut times = (BootTime::default(), BootTime::default());
        let mut life = Life::Alive;
        if let (Some(hold), Some(owner)) = (&hold, row.lease_owner) {
            let now = hold.boot == self.holder.boot;
            if now {
                times = (code::boot(hold.from), code::boot(hold.until));
            }
            let gone = !now || self.holder.is_dead(&hold.holder, &hold.boot);
            if gone || self.holders.has_ended(owner)? {
                life = Life::Dead;
            }
        }
        let lease = row.lease(times, life)?;
        Ok((hold, lease))
    }
}

/// How a row is listed that is not as it was written.
pub(super) fn unreadable(row: &SqlRow<'_>) -> Result<Record<()>> {
    let floor = Floor {
        version: code::count(row.get(0)?)?,
        epoch: code::count(row.get(1)?)?,
        generation: code::count(row.get(2)?)?,
    };
    let (phase, lost) = (Phase::Lost, Some(LostReason::KeyMissing));
    Ok(Record { phase, lost, ..Record::vacant(floor) })
}
