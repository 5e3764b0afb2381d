//! The table `holder`: the processes that have the file open, the form of rows that each of them
//! reads, and the supervisors that have ended. Only its lock says whether a process lives; a row
//! whose process is dead counts for nothing.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::liveness::ProcessLock;
use super::sqlite_fault::SqliteFault;
use super::statement_error::Result;
use crate::store::session_row::NEWEST_FORM;
use crate::store::{Owner, Presence};

/// How many ended supervisors of one open store are remembered. Defaults to 256 because the leases
/// of the oldest of them are long over.
const MAX_ENDED_OWNERS: i64 = 256;

/// The table, with what was read of it last.
pub(super) struct HolderTable<'c> {
    conn: &'c Connection,
    process_lock: &'c ProcessLock,
    /// The newest form that this process writes.
    newest_form: i64,
    /// The newest form that all living processes read, this one among them.
    form: i64,
    version: Statement<'c>,
    /// The data version when the present batch of writes began.
    batch_version: i64,
    older_forms: Statement<'c>,
    ended: Statement<'c>,
    /// The supervisors that have ended, and the data version at which that was read.
    ended_owners: Option<(i64, Vec<i64>)>,
    /// The supervisors on this very store that have not ended.
    local_owners: BTreeSet<i64>,
}

impl<'c> HolderTable<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        process_lock: &'c ProcessLock,
        newest_form: i64,
    ) -> rusqlite::Result<Self> {
        let (form, ended_owners, local_owners) = (newest_form, None, BTreeSet::new());
        let version = conn.prepare("PRAGMA data_version")?;
        let older_forms = conn.prepare("SELECT name, boot, form FROM holder WHERE form < ?1")?;
        let ended = conn.prepare("SELECT owner FROM holder WHERE ended AND owner IS NOT NULL")?;
        Ok(Self {
            conn,
            process_lock,
            newest_form,
            form,
            version,
            batch_version: 0,
            older_forms,
            ended,
            ended_owners,
            local_owners,
        })
    }

    /// The data version, which changes when another connection writes to the file.
    pub(super) fn read_version(&mut self) -> rusqlite::Result<i64> {
        self.batch_version = self.version.query_row([], |row| row.get(0))?;
        Ok(self.batch_version)
    }

    /// Whether another process keeps this one from writing its newest form. The table must be read
    /// again for it to end: a process that dies writes nothing, so the data version stays the same.
    pub(super) fn is_form_limited(&self) -> bool {
        self.form < self.newest_form
    }

    /// Finds the newest form that all living processes read. Runs in the transaction that writes
    /// rows of this form: no process can open the file before it ends, and a process that opens it
    /// later either reads the form or is refused.
    pub(super) fn read_forms(&mut self) -> rusqlite::Result<()> {
        let mut rows = self.older_forms.query([self.newest_form])?;
        // Before the loop. If a read fails, the batch is rolled back and nothing of this form is
        // written; the next batch reads again.
        self.form = self.newest_form;
        while let Some(row) = rows.next()? {
            let (name, boot) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_str()?);
            if is_alive(self.process_lock, name, boot) {
                self.form = self.form.min(row.get(2)?);
            }
        }
        Ok(())
    }

    /// The form that may be written.
    pub(super) fn form_to_write(&self) -> Result<i64> {
        let older = SqliteFault::OlderReader { reads: self.form };
        if self.form >= NEWEST_FORM { Ok(self.form) } else { Err(older.into()) }
    }

    /// The supervisors on the file that have not ended.
    pub(super) fn living_owners(&self) -> Result<Vec<Owner>> {
        let mut statement = self.conn.prepare(
            "SELECT name, boot, owner FROM holder WHERE NOT ended AND owner IS NOT NULL
                 AND owner NOT IN (
                 SELECT owner FROM holder WHERE ended AND owner IS NOT NULL)",
        )?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let holders = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let living = |(name, boot, owner): (Vec<u8>, String, i64)| {
            is_alive(self.process_lock, &name, &boot).then(|| Owner(owner.cast_unsigned()))
        };
        let living = holders.into_iter().filter_map(living);
        Ok(living.collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) fn is_registered(&self, owner: Owner) -> Result<bool> {
        let there = "SELECT 1 FROM holder WHERE name = ?1 AND owner = ?2 AND NOT ended";
        let of = params![self.process_lock.name, owner.0.cast_signed()];
        Ok(self.conn.query_row(there, of, |_| Ok(())).optional()?.is_some())
    }

    /// Writes down that a supervisor begins, goes on or ends.
    pub(super) fn presence(&mut self, owner: Owner, presence: Presence) -> Result<()> {
        let (name, owner) = (self.process_lock.name, owner.0.cast_signed());
        let ended = matches!(presence, Presence::Retire | Presence::Replayed);
        match presence {
            Presence::Register | Presence::Renew => drop(self.local_owners.insert(owner)),
            Presence::Retire | Presence::LeaveJournal | Presence::Replayed => {
                self.local_owners.remove(&owner);
            }
        }
        if presence == Presence::LeaveJournal {
            // The row stays: it says nothing about claims, and goes when the process has ended.
            return Ok(());
        }
        // Whether the transaction is committed or not. The data version does not change with this
        // connection's own writes, so the cached list would seem to be current.
        self.ended_owners = None;
        self.conn.execute(
            "INSERT INTO holder (name, boot, owner, form, ended) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET ended = ?5",
            params![name, self.process_lock.boot, owner, self.newest_form, ended],
        )?;
        self.conn.execute(
            "DELETE FROM holder WHERE name = ?1 AND ended AND number <= (
                 SELECT max(number) FROM holder WHERE name = ?1 AND ended) - ?2",
            params![name, MAX_ENDED_OWNERS],
        )?;
        Ok(())
    }

    /// Whether several supervisors use this very store. Each must then see the others' changes, as
    /// those of other processes.
    pub(super) fn has_several_owners(&self) -> bool {
        self.local_owners.len() > 1
    }

    /// Whether this supervisor has ended, as the table says it.
    pub(super) fn has_ended(&mut self, owner: i64) -> rusqlite::Result<bool> {
        // Within a batch this process has the write lock, so the version cannot change.
        let version =
            if self.conn.is_autocommit() { self.read_version()? } else { self.batch_version };
        if let Some((_, owners)) = self.ended_owners.as_ref().filter(|(known, _)| *known == version)
        {
            return Ok(owners.contains(&owner));
        }
        let owners = self.ended.query_map([], |row| row.get(0))?;
        let owners: Vec<i64> = owners.collect::<rusqlite::Result<_>>()?;
        let ended = owners.contains(&owner);
        self.ended_owners = Some((version, owners));
        Ok(ended)
    }
}

/// Enters this process, and removes the rows of dead ones. Runs in the transaction that opens the
/// file: every later batch of any process sees the row, and so writes nothing that this process
/// does not read.
pub(super) fn register(
    conn: &Connection,
    process_lock: &ProcessLock,
    form: i64,
) -> rusqlite::Result<()> {
    for (number, name, boot) in read_all(conn)? {
        if !is_alive(process_lock, &name, &boot) {
            conn.execute("DELETE FROM holder WHERE number = ?1", [number])?;
        }
    }
    conn.execute(
        "INSERT INTO holder (name, boot, form, ended) VALUES (?1, ?2, ?3, 0)",
        params![process_lock.name, process_lock.boot, form],
    )?;
    Ok(())
}

/// Whether another living process has the file open.
pub(super) fn has_other_process(conn: &Connection, lock: &ProcessLock) -> rusqlite::Result<bool> {
    let another = |name: &[u8], boot: &str| name != lock.name && is_alive(lock, name, boot);
    Ok(read_all(conn)?.iter().any(|(_, name, boot)| another(name, boot)))
}

/// Whether the process of this name lives. This process does, and needs no look at its lock.
fn is_alive(process_lock: &ProcessLock, name: &[u8], boot: &str) -> bool {
    name == process_lock.name || !process_lock.is_dead(name, boot)
}

fn read_all(conn: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>, String)>> {
    let mut statement = conn.prepare("SELECT number, name, boot FROM holder")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([], read)?.collect()
}
