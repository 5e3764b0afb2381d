//! Records as rows. Statements compare and decide as functions on a record; here is how they read
//! and write it. All of this runs on the owner's thread, in its transaction.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params, params_from_iter};

use super::alive::Holder;
use super::changes::Log;
use super::code;
use super::fault::{SqliteFault, Undone};
use super::room::Room;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::policy::SEALED_BYTES;
use crate::store::seal::Sealed;
use crate::store::statement::Fences;
use crate::store::{Attempt, Due, Filter, Holder as Life, Lease, Owner, Record};

/// What a statement gives, or why it was not done.
pub(super) type Done<T> = Result<T, Undone>;

/// Without the id, which is asked for or stands behind these.
const COLUMNS: &str = "epoch, generation, fence, phase, lease_owner, lease_intent, lease_before,
    lease_from, lease_until, lease_holder, lease_boot, cred_base, cred_fence, sealed, outbox,
    suspect, lost, retry_at, tries, due_at, provider, tenant, token_id";

const PUT: &str = "INSERT INTO session (provider, tenant, token_id, epoch, generation, fence,
        phase, lease_owner, lease_intent, lease_before, lease_from, lease_until, lease_holder,
        lease_boot, cred_base, cred_fence, sealed, outbox, key_id, suspect, lost, retry_at, tries,
        due_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
        ?20, ?21, ?22, ?23, ?24)
    ON CONFLICT DO UPDATE SET epoch = ?4, generation = ?5, fence = ?6, phase = ?7,
        lease_owner = ?8, lease_intent = ?9, lease_before = ?10, lease_from = ?11,
        lease_until = ?12, lease_holder = ?13, lease_boot = ?14, cred_base = ?15, cred_fence = ?16,
        sealed = ?17, outbox = ?18, key_id = ?19, suspect = ?20, lost = ?21, retry_at = ?22,
        tries = ?23, due_at = ?24";

/// What a claim changes of a row that is there. Not all of it, because what stands in an index is
/// written there again even if it is the same.
const CLAIM: &str = "UPDATE session SET fence = ?4, phase = ?5, lease_owner = ?6,
        lease_intent = ?7, lease_before = ?8, lease_from = ?9, lease_until = ?10,
        lease_holder = ?11, lease_boot = ?12, tries = ?13
    WHERE provider = ?1 AND tenant = ?2 AND token_id = ?3";

/// The bytes of a holder's name, and of what names a start of a machine, which is a UUID as text.
const MOST_HOLDER: usize = 16;
const MOST_BOOT: usize = 64;

const OF_ID: &str = "provider = ?1 AND tenant = ?2 AND token_id = ?3";

/// A record, and what its row knows of the lease beside it.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) record: Option<Record<Sealed>>,
    pub(super) hold: Option<Hold>,
}

/// Who holds a lease, and for how long, as the row says it.
pub(super) struct Hold {
    holder: Vec<u8>,
    boot: String,
    from: i64,
    until: i64,
}

/// Records of one key.
pub(super) struct Page {
    pub(super) records: Vec<(SessionId, Record<Sealed>)>,
    /// With those that cannot be read.
    pub(super) rows: usize,
    /// The number of the last row.
    pub(super) last: i64,
}

/// The tables of an open file. Statements are prepared once, because that takes longer than most
/// of them do.
pub(super) struct Tables<'c> {
    pub(super) conn: &'c Connection,
    pub(super) room: Room<'c>,
    pub(super) log: Log<'c>,
    holder: &'c Holder,
    find: Statement<'c>,
    put: Statement<'c>,
    claim: Statement<'c>,
    remove: Statement<'c>,
    fences: Statement<'c>,
    set_fences: Statement<'c>,
}

impl<'c> Tables<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        holder: &'c Holder,
        room: Room<'c>,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            room,
            log: Log::new(conn, holder)?,
            holder,
            find: conn.prepare(&format!("SELECT {COLUMNS} FROM session WHERE {OF_ID}"))?,
            put: conn.prepare(PUT)?,
            claim: conn.prepare(CLAIM)?,
            remove: conn.prepare(&format!("DELETE FROM session WHERE {OF_ID}"))?,
            fences: conn.prepare("SELECT removed, deleted FROM store")?,
            set_fences: conn.prepare("UPDATE store SET removed = ?1, deleted = ?2")?,
        })
    }

    pub(super) fn find(&mut self, id: &SessionId) -> Done<Stored> {
        let holder = self.holder;
        let found = self.find.query_row(key(id), |row| Ok(stored(row, holder))).optional()?;
        found.unwrap_or_else(|| Ok(Stored::default()))
    }

    /// The lease that a claim began now.
    pub(super) fn hold(&self, from: crate::clock::BootTime, record: &Record<Sealed>) -> Hold {
        Hold {
            holder: self.holder.name.to_vec(),
            boot: self.holder.boot.clone(),
            from: code::of_boot(from),
            until: record.lease.map_or(0, |lease| code::of_boot(lease.until)),
        }
    }

    /// Writes a record. `hold` is that of its lease, and is not written where it has none.
    pub(super) fn put(
        &mut self,
        id: &SessionId,
        record: &Record<Sealed>,
        hold: Option<&Hold>,
    ) -> Done<()> {
        let lease = record.lease.as_ref();
        let hold = hold.filter(|_| lease.is_some());
        let (provider, tenant, token_id) = key(id);
        let held = record.credentials.as_ref().or(record.outbox.as_ref());
        if held.is_some_and(|sealed| sealed.bytes.len() > SEALED_BYTES) {
            return Err(Undone::Told(SqliteFault::TooLarge.into()));
        }
        let bytes = |sealed: &Option<Sealed>| sealed.as_ref().map(|sealed| sealed.bytes.to_vec());
        self.put.execute(params![
            provider,
            tenant,
            token_id,
            code::of_count(record.epoch),
            code::of_count(record.generation),
            code::of_count(record.fence),
            code::of_phase(record.phase),
            lease.map(|lease| lease.owner.0.cast_signed()),
            lease.map(|lease| code::of_intent(lease.intent)),
            lease.map(|lease| code::of_phase(lease.before)),
            hold.map(|hold| hold.from),
            hold.map(|hold| hold.until),
            hold.map(|hold| &hold.holder),
            hold.map(|hold| &hold.boot),
            held.map(|sealed| code::of_count(sealed.made.base)),
            held.map(|sealed| code::of_count(sealed.made.fence)),
            bytes(&record.credentials),
            bytes(&record.outbox),
            held.and_then(Sealed::key),
            record.suspect,
            record.lost.map(code::of_lost),
            record.retry_at.map(code::of_wall),
            record.tries,
            record.due_at.map(code::of_wall),
        ])?;
        Ok(())
    }

    /// Writes what a claim changes of a record that is there.
    pub(super) fn put_claim(
        &mut self,
        id: &SessionId,
        record: &Record<Sealed>,
        hold: &Hold,
    ) -> Done<()> {
        let (provider, tenant, token_id) = key(id);
        let lease = record.lease.as_ref();
        self.claim.execute(params![
            provider,
            tenant,
            token_id,
            code::of_count(record.fence),
            code::of_phase(record.phase),
            lease.map(|lease| lease.owner.0.cast_signed()),
            lease.map(|lease| code::of_intent(lease.intent)),
            lease.map(|lease| code::of_phase(lease.before)),
            hold.from,
            hold.until,
            hold.holder,
            hold.boot,
            record.tries,
        ])?;
        Ok(())
    }

    /// The fence of a record, whether the rest of it can be read or not.
    pub(super) fn fence(&self, id: &SessionId) -> Done<Option<u64>> {
        let sql = format!("SELECT fence FROM session WHERE {OF_ID}");
        let fence = self.conn.query_row(&sql, key(id), |row| row.get(0)).optional()?;
        fence.map(count).transpose()
    }

    /// True if there was one.
    pub(super) fn remove(&mut self, id: &SessionId) -> Done<bool> {
        Ok(self.remove.execute(key(id))? > 0)
    }

    pub(super) fn fences(&mut self) -> Done<Fences> {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (removed, deleted) = self.fences.query_row([], read)?;
        Ok(Fences { removed: count(removed)?, deleted: count(deleted)? })
    }

    pub(super) fn set_fences(&mut self, fences: Fences) -> Done<()> {
        let Fences { removed, deleted } = fences;
        self.set_fences.execute([code::of_count(removed), code::of_count(deleted)])?;
        Ok(())
    }

    pub(super) fn due(&self, after: Option<&Due>, limit: usize) -> Done<Vec<Due>> {
        let mut statement = self.conn.prepare(
            "SELECT due_at, provider, tenant, token_id FROM session
             WHERE due_at IS NOT NULL AND (due_at, provider, tenant, token_id) > (?1, ?2, ?3, ?4)
             ORDER BY due_at, provider, tenant, token_id LIMIT ?5",
        )?;
        let at = after.map_or(i64::MIN, |due| code::of_wall(due.at));
        let (provider, tenant, token_id) = after.map_or(("", "", ""), |due| key(&due.id));
        let mut rows = statement.query(params![at, provider, tenant, token_id, most(limit)])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            // One that cannot be named cannot be looked at either.
            if let Ok(id) = id(row, 1) {
                due.push(Due { at: code::wall(row.get(0)?), id });
            }
        }
        Ok(due)
    }

    /// Records that cannot be read are passed over: to load them says why.
    pub(super) fn list(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Done<Vec<(SessionId, Record<Sealed>)>> {
        let (first, second, third) = after.map_or(("", "", ""), key);
        let mut given: Vec<Value> =
            [first, second, third].map(|part| part.to_owned().into()).into();
        let mut sql = format!("SELECT {COLUMNS} FROM session");
        sql.push_str(" WHERE (provider, tenant, token_id) > (?, ?, ?)");
        if let Some(provider) = &filter.provider {
            sql.push_str(" AND provider = ?");
            given.push(provider.as_str().to_owned().into());
        }
        if let Some(tenant) = &filter.tenant {
            sql.push_str(" AND tenant = ?");
            given.push(tenant.as_str().to_owned().into());
        }
        if let Some(phase) = filter.phase {
            sql.push_str(" AND phase = ?");
            given.push(code::of_phase(phase).into());
        }
        sql.push_str(" ORDER BY provider, tenant, token_id LIMIT ?");
        given.push(most(limit).into());
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(given))?;
        let mut listed = Vec::new();
        while let Some(row) = rows.next()? {
            let found = id(row, 20).and_then(|id| Ok((id, stored(row, self.holder)?.record)));
            if let Ok((id, Some(record))) = found {
                listed.push((id, record));
            }
        }
        Ok(listed)
    }

    /// At most `limit` records that this key seals, of the rows after `after`. In the order of rows,
    /// because that is the index's: a page costs what is in it, however large the file is.
    pub(super) fn sealed_by(&self, key: u32, after: i64, limit: usize) -> Done<Page> {
        let sql = format!(
            "SELECT {COLUMNS}, rowid FROM session WHERE key_id = ?1 AND rowid > ?2
             ORDER BY rowid LIMIT ?3"
        );
        let mut statement = self.conn.prepare(&sql)?;
        let mut rows = statement.query(params![key, after, most(limit)])?;
        let mut page = Page { records: Vec::new(), rows: 0, last: after };
        while let Some(row) = rows.next()? {
            (page.rows, page.last) = (page.rows + 1, row.get(23)?);
            if let (Ok(id), Ok(Stored { record: Some(record), .. })) =
                (id(row, 20), stored(row, self.holder))
            {
                page.records.push((id, record));
            }
        }
        Ok(page)
    }

    /// How many records each key seals.
    pub(super) fn keys(&self) -> Done<Vec<(u32, u64)>> {
        let mut statement = self.conn.prepare(
            "SELECT key_id, count(*) FROM session WHERE key_id IS NOT NULL
             GROUP BY key_id ORDER BY key_id",
        )?;
        let mut rows = statement.query([])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            keys.push((row.get(0)?, count(row.get(1)?)?));
        }
        Ok(keys)
    }
}

pub(super) fn key(id: &SessionId) -> (&str, &str, &str) {
    (id.provider().as_str(), id.key().tenant().as_str(), id.key().token_id())
}

pub(super) fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn count(number: i64) -> Done<u64> {
    let counted = u64::try_from(number).ok().filter(|_| code::is_count(number));
    counted.ok_or_else(Undone::malformed)
}

/// The id that stands in three columns from `at` on.
pub(super) fn id(row: &Row<'_>, at: usize) -> Done<SessionId> {
    let text = |at| row.get::<_, String>(at);
    let provider = ProviderName::new(text(at)?).map_err(|_| Undone::malformed())?;
    let key = SessionKey::new(text(at + 1)?, text(at + 2)?).map_err(|_| Undone::malformed())?;
    Ok(SessionId::new(provider, key))
}

/// A row of [`COLUMNS`].
fn stored(row: &Row<'_>, holder: &Holder) -> Done<Stored> {
    let damaged = Undone::malformed;
    let made = match (row.get::<_, Option<i64>>(11)?, row.get::<_, Option<i64>>(12)?) {
        (Some(base), Some(fence)) => Some(Attempt { base: count(base)?, fence: count(fence)? }),
        _ => None,
    };
    let sealed = |at| -> Done<Option<Sealed>> {
        let Some(bytes) = row.get_ref(at)?.as_blob_or_null().map_err(|_| damaged())? else {
            return Ok(None);
        };
        // Looked at before it is copied.
        if bytes.len() > SEALED_BYTES {
            return Err(damaged());
        }
        Ok(Some(Sealed { made: made.ok_or_else(damaged)?, bytes: bytes.into() }))
    };
    let (credentials, outbox) = (sealed(13)?, sealed(14)?);
    let lost: Option<i64> = row.get(16)?;
    let (lease, hold) = lease(row, holder)?.unzip();
    let record = Record {
        epoch: count(row.get(0)?)?,
        generation: count(row.get(1)?)?,
        fence: count(row.get(2)?)?,
        phase: code::phase(row.get(3)?).ok_or_else(damaged)?,
        lease,
        made_by: credentials.as_ref().map(|sealed| sealed.made),
        credentials,
        suspect: row.get(15)?,
        lost: lost.map(|lost| code::lost(lost).ok_or_else(damaged)).transpose()?,
        outbox,
        retry_at: row.get::<_, Option<i64>>(17)?.map(code::wall),
        tries: row.get(18)?,
        due_at: row.get::<_, Option<i64>>(19)?.map(code::wall),
    };
    Ok(Stored { record: Some(record), hold })
}

/// A lease whose holder is dead ends when it began, so that it need not be waited for. What the row
/// says of it stays as it is.
fn lease(row: &Row<'_>, holder: &Holder) -> Done<Option<(Lease, Hold)>> {
    let Some(owner) = row.get::<_, Option<i64>>(4)? else { return Ok(None) };
    let holder_name = row.get_ref(9)?.as_blob().map_err(|_| Undone::malformed())?;
    let boot = row.get_ref(10)?.as_str().map_err(|_| Undone::malformed())?;
    if holder_name.len() > MOST_HOLDER || boot.len() > MOST_BOOT {
        return Err(Undone::malformed());
    }
    let (boot, from, until) = (boot.to_owned(), row.get(7)?, row.get(8)?);
    let hold = Hold { holder: holder_name.to_vec(), boot, from, until };
    let (until, life) = if hold.boot != holder.boot {
        // Counted by a clock that began again since.
        (crate::clock::BootTime::default(), Life::Dead)
    } else if holder.is_dead(&hold.holder, &hold.boot) {
        (code::boot(hold.from), Life::Dead)
    } else {
        (code::boot(hold.until), Life::Alive)
    };
    let (intent, before) = (code::intent(row.get(5)?), code::phase(row.get(6)?));
    let (Some(intent), Some(before)) = (intent, before) else {
        return Err(Undone::malformed());
    };
    let owner = Owner(owner.cast_unsigned());
    Ok(Some((Lease { owner, intent, until, holder: life, before }, hold)))
}
