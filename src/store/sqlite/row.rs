//! Converts records to rows and back, and makes the input of the tag over a row.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::columns::SessionRow;
use super::encoding::{
    decode_counter, decode_intent, decode_lost_reason, decode_phase, decode_wall_time,
    encode_counter, encode_intent, encode_lost_reason, encode_phase, encode_wall_time,
};
use super::sqlite_fault::SqliteFault;
use super::statement_error::{Result, StatementError};
use crate::clock::BootTime;
use crate::key::SessionId;
use crate::store::record_cipher::{SealedColumn, SealedCredentials};
use crate::store::{Attempt, ClaimId, Failures, Holder, Lease, Owner, Phase, Record};

/// The form of the rows of a file of version 1. Their sealed texts are bound to the row and not to
/// a column.
pub(super) const FIRST_FORM: i64 = 1;

/// The newest form that this version reads. It writes rows of this form if every process on the
/// file reads it. The form says what `extra` holds and how sealed texts are bound and written.
pub(super) const NEWEST_FORM: i64 = 2;

/// The bytes of the tag at the end of a sealed text.
const SEAL_TAG: usize = 16;

/// The columns of a lease as they stand in the file. The record's lease shows them as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseColumns {
    pub(super) holder: Vec<u8>,
    pub(super) boot: String,
    pub(super) from: i64,
    pub(super) until: i64,
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
        Self {
            version: encode_counter(record.version),
            epoch: encode_counter(record.epoch),
            generation: encode_counter(record.generation),
            fence: encode_counter(record.fence),
            phase: encode_phase(record.phase),
            lease_claim: lease.map(|lease| lease.claim.0.cast_signed()),
            lease_owner: lease.map(|lease| lease.owner.0.cast_signed()),
            lease_intent: lease.map(|lease| encode_intent(lease.intent)),
            lease_from: lease_columns.map(|lease_columns| lease_columns.from),
            lease_until: lease_columns.map(|lease_columns| lease_columns.until),
            lease_holder: lease_columns.map(|lease_columns| &*lease_columns.holder),
            lease_boot: lease_columns.map(|lease_columns| &*lease_columns.boot),
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
            sealed: record.credentials.as_ref().map(|sealed| &*sealed.bytes),
            outbox: record.outbox.as_ref().map(|sealed| &*sealed.bytes),
            key_id: key_id.map(i64::from),
            form,
            extra,
            mac: None,
        }
    }

    /// The input of the tag: the id and the whole row. A column that is left out could be changed
    /// by anybody who can write the file. A lease that ends early lets two refreshes out at once,
    /// and a due time that is gone lets a session expire. A sealed text is represented by its
    /// length and its own tag, which belong to no other text.
    pub(super) fn tag_input(&self, id: &SessionId) -> Vec<u8> {
        let mut data = TagInput(Vec::with_capacity(512));
        for part in [id.provider().as_str(), id.key().tenant().as_str(), id.key().token_id()] {
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
    ) -> Result<Record<C>> {
        let damaged = StatementError::malformed;
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
            announce_at,
            failures,
        })
    }

    /// The content of `extra`. A row of the first form has none, and is due at the time at which
    /// the expiry of its refresh token is announced.
    fn extra(&self) -> Result<(Option<SystemTime>, Option<Box<Failures>>)> {
        if self.form == FIRST_FORM {
            let announced = self.refresh_expires_at.and(self.due_at);
            return Ok((announced.map(decode_wall_time), None));
        }
        let Some(bytes) = self.extra else { return Ok((None, None)) };
        let extra: ExtraJson =
            serde_json::from_slice(bytes).map_err(|_| StatementError::malformed())?;
        let failures = extra.failures.map(|failed| {
            let FailuresJson { unclassified, since, status, code } = failed;
            Box::new(Failures { unclassified, since: since.map(decode_wall_time), status, code })
        });
        Ok((extra.announce_at.map(decode_wall_time), failures))
    }

    /// The attempt that produced the credentials.
    pub(super) fn made_by(&self) -> Result<Option<Attempt>> {
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
            _ => Err(StatementError::malformed()),
        }
    }

    /// The columns of the lease.
    pub(super) fn lease_columns(&self) -> Result<Option<LeaseColumns>> {
        let parts = (self.lease_holder, self.lease_boot, self.lease_from, self.lease_until);
        match (self.lease_claim, parts) {
            (None, (None, None, None, None)) => Ok(None),
            (Some(_), (Some(holder), Some(boot), Some(from), Some(until))) => {
                let (holder, boot) = (holder.to_owned(), boot.to_owned());
                Ok(Some(LeaseColumns { holder, boot, from, until }))
            }
            _ => Err(StatementError::malformed()),
        }
    }

    /// The lease with these times and this state of its holder.
    pub(super) fn lease(
        &self,
        (from, until): (BootTime, BootTime),
        holder: Holder,
    ) -> Result<Option<Lease>> {
        let Some(claim) = self.lease_claim else { return Ok(None) };
        let (owner, intent) = (self.lease_owner, self.lease_intent.and_then(decode_intent));
        let (Some(owner), Some(intent)) = (owner, intent) else {
            return Err(StatementError::malformed());
        };
        let (claim, owner) = (ClaimId(claim.cast_unsigned()), Owner(owner.cast_unsigned()));
        Ok(Some(Lease { claim, owner, intent, from, until, holder }))
    }

    /// Refuses a form that this version does not read.
    pub(super) fn check_form(&self, newest: i64) -> Result<()> {
        match self.form {
            form if form > newest => {
                Err(SqliteFault::NewerForm { found: form, known: newest }.into())
            }
            form if form < FIRST_FORM => Err(StatementError::malformed()),
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
