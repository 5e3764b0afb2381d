//! Rows of the table `session` of any SQL database: converts records to rows and back, and makes
//! the input of the tag over a row.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::encoding::{
    decode_counter, decode_intent, decode_lost_reason, decode_phase, decode_wall_time,
    encode_counter, encode_intent, encode_lost_reason, encode_phase, encode_wall_time,
};
use super::record_cipher::{ROW_TAG_BYTES, SealedColumn, SealedCredentials};
use super::row_fault::RowFault;
use super::{Attempt, Change, ClaimId, Failures, Floor, Holder, Lease, Owner, Phase, Record};
use crate::clock::BootTime;
use crate::error::LostReason;
use crate::key::SessionId;
use crate::policy::SEALED_BYTES;

/// The form of the rows of a file of version 1. Their sealed texts are bound to the row and not to
/// a column.
pub(super) const FIRST_FORM: i64 = 1;

/// The newest form that this version reads. It writes rows of this form if every process on the
/// database reads it. The form says what `extra` holds and how sealed texts are bound and written.
pub(super) const NEWEST_FORM: i64 = 2;

/// Counters above this are not taken from a row that cannot be read. A store that counts a million
/// writes a second gets there in nine years, and a forged counter could use up all numbers.
const MAX_CREDIBLE_COUNTER: u64 = 1 << 48;

/// The floor above a row that cannot be read, as far as its counters are credible, and the news of
/// its deletion.
pub(super) fn floor_above_unreadable(stored: [i64; 3]) -> (Floor, Change) {
    let counters = stored.map(|counter| u64::try_from(counter).unwrap_or(0));
    let [version, epoch, generation] =
        counters.map(|counter| if counter < MAX_CREDIBLE_COUNTER { counter } else { 0 });
    let floor = Floor { version: version + 1, epoch: epoch + 1, generation: generation + 1 };
    (floor, Change { version: floor.version, epoch, generation, phase: None })
}

/// The bytes of the tag at the end of a sealed text.
const SEAL_TAG: usize = 16;

/// The most bytes of a holder's name, and of a boot id, which is a UUID as text.
const MAX_HOLDER_BYTES: usize = 16;
const MAX_BOOT_BYTES: usize = 64;

/// The kind of a column.
#[cfg(feature = "postgres")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    /// A number that is always there.
    Count,
    Number,
    Bytes,
}

#[cfg(feature = "postgres")]
impl ColumnKind {
    /// The name of the type in SQL.
    pub(super) fn sql_type(self) -> &'static str {
        match self {
            Self::Count | Self::Number => "bigint",
            Self::Bytes => "bytea",
        }
    }
}

/// How many columns only a file has: the last ones.
#[cfg(feature = "postgres")]
const COLUMNS_OF_FILES: usize = 2;

/// The columns that a shared database has, without those of the id, with their kinds.
#[cfg(feature = "postgres")]
pub(super) fn column_kinds() -> impl ExactSizeIterator<Item = (&'static str, ColumnKind)> {
    let shared = VALUE_COLUMNS.len() - COLUMNS_OF_FILES;
    VALUE_COLUMNS.iter().copied().zip(VALUE_KINDS.iter().copied()).take(shared)
}

/// A value in a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ColumnValue<'r> {
    Number(Option<i64>),
    Bytes(Option<&'r [u8]>),
    Text(Option<&'r str>),
}

#[cfg(feature = "postgres")]
impl<'r> ColumnValue<'r> {
    /// The number; `None` if it is none.
    pub(super) fn number(self) -> Option<i64> {
        if let Self::Number(number) = self { number } else { None }
    }

    /// The bytes; `None` if it is none.
    pub(super) fn bytes(self) -> Option<&'r [u8]> {
        if let Self::Bytes(bytes) = self { bytes } else { None }
    }
}

/// The values of all columns of a row without those of the id.
pub(super) type RowValues<'r> = [ColumnValue<'r>; VALUE_COLUMNS.len()];

/// Reads the columns of a row by their place in [`VALUE_COLUMNS`]. A value that is longer than
/// `most` bytes is an error, before anything is copied.
pub(super) trait ReadColumns<'r> {
    type Error: From<RowFault>;

    fn number(&self, at: usize) -> Result<Option<i64>, Self::Error>;
    fn bytes(&self, at: usize, most: usize) -> Result<Option<&'r [u8]>, Self::Error>;
    fn text(&self, at: usize, most: usize) -> Result<Option<&'r str>, Self::Error>;
}

/// Makes the struct of a row. Columns are read and written in the order of its fields.
macro_rules! columns {
    ($(#[$of:meta])* pub(super) struct $row:ident<$r:lifetime> {
        $($(#[$about:meta])* $column:ident: $kind:ty = $as:ident$(::<$most:ident>)?,)*
    }) => {
        $(#[$of])*
        pub(super) struct $row<$r> {
            $($(#[$about])* pub(super) $column: $kind,)*
        }

        /// The columns without those of the id.
        pub(super) const VALUE_COLUMNS: &[&str] = &[$(stringify!($column)),*];

        /// All columns, those of the id last.
        #[cfg(feature = "sqlite")]
        pub(super) const ALL_COLUMNS: &str =
            concat!($(stringify!($column), ", ",)* "provider, tenant, token_id");

        #[cfg(feature = "postgres")]
        const VALUE_KINDS: &[ColumnKind] = &[$(columns!(@kind $as)),*];

        impl<$r> $row<$r> {
            /// Reads the row.
            pub(super) fn read<C: ReadColumns<$r>>(columns: &C) -> Result<Self, C::Error> {
                let mut next = 0;
                Ok(Self {
                    $($column: {
                        next += 1;
                        columns!(@read $as columns, next - 1 $(, $most)?)
                    },)*
                })
            }

            /// The values of [`VALUE_COLUMNS`], in their order.
            pub(super) fn values(&self) -> RowValues<$r> {
                [$(columns!(@value $as self.$column)),*]
            }
        }
    };
    (@read count $columns:ident, $at:expr) => {
        $columns.number($at)?.ok_or(RowFault::Malformed)?
    };
    (@read number $columns:ident, $at:expr) => { $columns.number($at)? };
    (@read bytes $columns:ident, $at:expr, $most:ident) => { $columns.bytes($at, $most)? };
    (@read text $columns:ident, $at:expr, $most:ident) => { $columns.text($at, $most)? };
    (@kind count) => { ColumnKind::Count };
    (@kind number) => { ColumnKind::Number };
    (@kind bytes) => { ColumnKind::Bytes };
    (@kind text) => { ColumnKind::Bytes };
    (@value count $value:expr) => { ColumnValue::Number(Some($value)) };
    (@value number $value:expr) => { ColumnValue::Number($value) };
    (@value bytes $value:expr) => { ColumnValue::Bytes($value) };
    (@value text $value:expr) => { ColumnValue::Text($value) };
}

columns! {
    /// A row as it stands in the database.
    #[derive(Clone, Copy)]
    pub(super) struct SessionRow<'r> {
        version: i64 = count,
        epoch: i64 = count,
        generation: i64 = count,
        fence: i64 = count,
        phase: i64 = count,
        lease_claim: Option<i64> = number,
        lease_owner: Option<i64> = number,
        lease_intent: Option<i64> = number,
        lease_from: Option<i64> = number,
        lease_until: Option<i64> = number,
        made_base: Option<i64> = number,
        made_fence: Option<i64> = number,
        made_claim: Option<i64> = number,
        access_expires_at: Option<i64> = number,
        refresh_expires_at: Option<i64> = number,
        suspect: i64 = count,
        lost: Option<i64> = number,
        retry_at: Option<i64> = number,
        tries: i64 = count,
        due_at: Option<i64> = number,
        ended_at: Option<i64> = number,
        sealed: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        outbox: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        /// The key that seals the credentials, or made the tag if there are none.
        key_id: Option<i64> = number,
        form: i64 = count,
        extra: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        mac: Option<&'r [u8]> = bytes::<ROW_TAG_BYTES>,
        /// The process that holds the lease, where the operating system tells whether it lives. Only
        /// a file has this column and the next; in a shared database both are `None`.
        lease_holder: Option<&'r [u8]> = bytes::<MAX_HOLDER_BYTES>,
        lease_boot: Option<&'r str> = text::<MAX_BOOT_BYTES>,
    }
}

/// The values of the three columns of an id: provider, tenant and token id.
pub(super) fn id_columns(id: &SessionId) -> (&str, &str, &str) {
    (id.provider().as_str(), id.key().tenant().as_str(), id.key().token_id())
}

/// The record as which an altered row with these counters is listed.
pub(super) fn unreadable_record(counters: Floor) -> Record<()> {
    let (phase, lost) = (Phase::Lost, Some(LostReason::Unreadable));
    Record { phase, lost, ..Record::vacant(counters) }
}

/// The columns of a lease as they stand in the database. The record's lease shows them as they are
/// now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseColumns {
    pub(super) from: i64,
    pub(super) until: i64,
    /// The name and the boot id of the process, in a file.
    pub(super) process: Option<(Vec<u8>, String)>,
}

impl<'r> SessionRow<'r> {
    /// The row of a record, without its tag. `lease_columns` are those of its lease.
    pub(super) fn from_record(
        record: &'r Record<SealedCredentials>,
        lease_columns: Option<&'r LeaseColumns>,
        (form, key_id): (i64, Option<u32>),
        extra: Option<&'r [u8]>,
    ) -> Self {
        let lease = record.lease.as_ref();
        let lease_columns = lease_columns.filter(|_| lease.is_some());
        let made = record.made_by.as_ref();
        let process = lease_columns.and_then(|lease_columns| lease_columns.process.as_ref());
        Self {
            version: encode_counter(record.version),
            epoch: encode_counter(record.epoch),
            generation: encode_counter(record.generation),
            fence: encode_counter(record.fence),
            phase: encode_phase(record.phase),
            lease_claim: lease.map(|lease| lease.claim.0.cast_signed()),
            lease_owner: lease.map(|lease| lease.owner.0.cast_signed()),
            lease_intent: lease.map(|lease| encode_intent(lease.intent, lease.journal)),
            lease_from: lease_columns.map(|lease_columns| lease_columns.from),
            lease_until: lease_columns.map(|lease_columns| lease_columns.until),
            made_base: made.map(|made| encode_counter(made.base)),
            made_fence: made.map(|made| encode_counter(made.fence)),
            made_claim: made.map(|made| made.claim.0.cast_signed()),
            access_expires_at: record.access_expires_at.map(encode_wall_time),
            refresh_expires_at: record.refresh_expires_at.map(encode_wall_time),
            suspect: record.suspect.into(),
            lost: record.lost.map(encode_lost_reason),
            retry_at: record.retry_at.map(encode_wall_time),
            tries: record.tries.into(),
            due_at: record.due_at.map(encode_wall_time),
            ended_at: record.ended_at.map(encode_wall_time),
            sealed: record.credentials.as_ref().map(|sealed| &*sealed.bytes),
            outbox: record.outbox.as_ref().map(|sealed| &*sealed.bytes),
            key_id: key_id.map(i64::from),
            form,
            extra,
            mac: None,
            lease_holder: process.map(|(holder, _)| &**holder),
            lease_boot: process.map(|(_, boot)| &**boot),
        }
    }

    /// The input of the tag: the id and the whole row. A column that is left out could be changed
    /// by anybody who can write the file. A lease that ends early lets two refreshes out at once,
    /// and a due time that is gone lets a session expire. A sealed text is represented by its
    /// length and its own tag, which belong to no other text.
    pub(super) fn tag_input(&self, id: &SessionId) -> Vec<u8> {
        let mut data = TagInput(Vec::with_capacity(512));
        let (provider, tenant, token_id) = id_columns(id);
        for part in [provider, tenant, token_id] {
            data.bytes(Some(part.as_bytes()));
        }
        for number in [
            Some(self.version),
            Some(self.epoch),
            Some(self.generation),
            Some(self.fence),
            Some(self.phase),
            self.lease_claim,
            self.lease_owner,
            self.lease_intent,
            self.lease_from,
            self.lease_until,
            self.made_base,
            self.made_fence,
            self.made_claim,
            self.access_expires_at,
            self.refresh_expires_at,
            Some(self.suspect),
            self.lost,
            self.retry_at,
            Some(self.tries),
            self.due_at,
            self.ended_at,
            self.key_id,
            Some(self.form),
        ] {
            data.number(number);
        }
        data.bytes(self.lease_holder);
        data.bytes(self.lease_boot.map(str::as_bytes));
        data.bytes(self.extra);
        for sealed in [self.sealed, self.outbox] {
            data.number(sealed.map(|sealed| i64::try_from(sealed.len()).unwrap_or(i64::MAX)));
            data.bytes(sealed.map(|sealed| sealed.last_chunk::<SEAL_TAG>().map_or(sealed, |t| t)));
        }
        data.0
    }

    /// The record with this lease. `sealed` converts its sealed texts.
    pub(super) fn decode_record<C>(
        &self,
        lease: Option<Lease>,
        sealed: impl Fn(SealedColumn, &[u8]) -> Option<C>,
    ) -> Result<Record<C>, RowFault> {
        let damaged = || RowFault::Malformed;
        let phase = decode_phase(self.phase).ok_or_else(damaged)?;
        let made_by = self.made_by()?;
        let column = |column| if self.form == FIRST_FORM { SealedColumn::Unnamed } else { column };
        let held = self.sealed.is_some() || self.outbox.is_some();
        let misplaced = match phase {
            Phase::Active | Phase::InDoubt | Phase::Lost => self.outbox.is_some(),
            Phase::Closed => self.sealed.is_some(),
            Phase::Vacant => held,
        };
        if misplaced || (held && made_by.is_none()) || (phase == Phase::Lost) != self.lost.is_some()
        {
            return Err(damaged());
        }
        let lost =
            self.lost.map(|lost| decode_lost_reason(lost).ok_or_else(damaged)).transpose()?;
        let (announce_at, failures) = self.extra()?;
        Ok(Record {
            version: decode_counter(self.version)?,
            epoch: decode_counter(self.epoch)?,
            generation: decode_counter(self.generation)?,
            fence: decode_counter(self.fence)?,
            phase,
            lease,
            credentials: self.sealed.and_then(|it| sealed(column(SealedColumn::Credentials), it)),
            made_by,
            access_expires_at: self.access_expires_at.map(decode_wall_time),
            refresh_expires_at: self.refresh_expires_at.map(decode_wall_time),
            suspect: match self.suspect {
                0 => false,
                1 => true,
                _ => return Err(damaged()),
            },
            lost,
            outbox: self.outbox.and_then(|bytes| sealed(column(SealedColumn::Outbox), bytes)),
            retry_at: self.retry_at.map(decode_wall_time),
            tries: u32::try_from(self.tries).map_err(|_| damaged())?,
            due_at: self.due_at.map(decode_wall_time),
            ended_at: self.ended_at.map(decode_wall_time),
            announce_at,
            failures,
        })
    }

    /// The content of `extra`. A row of the first form has none, and is due at the time at which
    /// the expiry of its refresh token is announced.
    fn extra(&self) -> Result<(Option<SystemTime>, Option<Box<Failures>>), RowFault> {
        if self.form == FIRST_FORM {
            let announced = self.refresh_expires_at.and(self.due_at);
            return Ok((announced.map(decode_wall_time), None));
        }
        let Some(bytes) = self.extra else { return Ok((None, None)) };
        let extra: ExtraJson = serde_json::from_slice(bytes).map_err(|_| RowFault::Malformed)?;
        let failures = extra.failures.map(|failed| {
            let FailuresJson { unclassified, since, status, code } = failed;
            Box::new(Failures { unclassified, since: since.map(decode_wall_time), status, code })
        });
        Ok((extra.announce_at.map(decode_wall_time), failures))
    }

    /// The attempt that produced the credentials.
    pub(super) fn made_by(&self) -> Result<Option<Attempt>, RowFault> {
        match (self.made_base, self.made_fence, self.made_claim) {
            (Some(base), Some(fence), Some(claim)) => {
                let claim = ClaimId(claim.cast_unsigned());
                Ok(Some(Attempt {
                    base: decode_counter(base)?,
                    fence: decode_counter(fence)?,
                    claim,
                }))
            }
            (None, None, None) => Ok(None),
            _ => Err(RowFault::Malformed),
        }
    }

    /// The columns of the lease.
    pub(super) fn lease_columns(&self) -> Result<Option<LeaseColumns>, RowFault> {
        let process = match (self.lease_holder, self.lease_boot) {
            (None, None) => None,
            (Some(holder), Some(boot)) => Some((holder.to_owned(), boot.to_owned())),
            _ => return Err(RowFault::Malformed),
        };
        match (self.lease_claim, self.lease_from, self.lease_until) {
            (None, None, None) if process.is_none() => Ok(None),
            (Some(_), Some(from), Some(until)) => Ok(Some(LeaseColumns { from, until, process })),
            _ => Err(RowFault::Malformed),
        }
    }

    /// The lease with these times and this state of its holder. `replayed` says that nothing of
    /// the owner is in a journal any more.
    pub(super) fn lease(
        &self,
        (from, until): (BootTime, BootTime),
        (holder, replayed): (Holder, bool),
    ) -> Result<Option<Lease>, RowFault> {
        let Some(claim) = self.lease_claim else { return Ok(None) };
        let (owner, intent) = (self.lease_owner, self.lease_intent.and_then(decode_intent));
        let (Some(owner), Some((intent, journal))) = (owner, intent) else {
            return Err(RowFault::Malformed);
        };
        let (claim, owner) = (ClaimId(claim.cast_unsigned()), Owner(owner.cast_unsigned()));
        let journal = journal && !replayed;
        Ok(Some(Lease { claim, owner, intent, from, until, holder, journal }))
    }

    /// Refuses a form that this version does not read.
    pub(super) fn check_form(&self, newest: i64) -> Result<(), RowFault> {
        match self.form {
            form if form > newest => Err(RowFault::NewerForm(form)),
            form if form < FIRST_FORM => Err(RowFault::Malformed),
            _ => Ok(()),
        }
    }
}

/// The parts of a record that no query uses, as JSON. Times are written as in the columns.
#[derive(Deserialize, Serialize)]
struct ExtraJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announce_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failures: Option<FailuresJson>,
}

/// [`Failures`] as they are written.
#[derive(Deserialize, Serialize)]
struct FailuresJson {
    unclassified: u32,
    since: Option<i64>,
    status: Option<u16>,
    code: Option<String>,
}

/// The content of `extra` for a record; `None` if there is none.
pub(super) fn extra<C>(record: &Record<C>) -> Option<Vec<u8>> {
    let failures = record.failures.as_deref().map(|failures| {
        let Failures { unclassified, since, status, code } = failures.clone();
        FailuresJson { unclassified, since: since.map(encode_wall_time), status, code }
    });
    let extra = ExtraJson { announce_at: record.announce_at.map(encode_wall_time), failures };
    let says = extra.announce_at.is_some() || extra.failures.is_some();
    // No map and no number that JSON lacks, so this cannot fail.
    says.then(|| serde_json::to_vec(&extra).unwrap_or_default())
}

/// The bytes of a tag's input. Each part says whether it is present and how long it is, so that no
/// two rows have the same input.
struct TagInput(Vec<u8>);

impl TagInput {
    fn number(&mut self, number: Option<i64>) {
        self.0.push(number.is_some().into());
        self.0.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.number(bytes.map(|bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX)));
        self.0.extend_from_slice(bytes.unwrap_or_default());
    }
}
