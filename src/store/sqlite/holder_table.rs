//! Who has the file open, as the file says it: which forms of rows each reads, and which
//! supervisors have ended. That a process lives its lock says; a row without a living lock means
//! nothing.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::liveness::ProcessLock;
use super::row::NEWEST_FORM;
use super::sqlite_fault::SqliteFault;
use super::statement_error::Result;
use crate::store::{Owner, Presence};

/// How many ended supervisors of one open store are remembered. Defaults to 256 because what the
/// oldest of them had claimed is long over.
const MAX_ENDED_OWNERS: i64 = 256;

/// What is read of the rows, and when it was.
pub(super) struct HolderTable<'c> {
    conn: &'c Connection,
    process_lock: &'c ProcessLock,
    /// The newest form that this process writes.
    newest_form: i64,
    /// The newest form that all living ones read, or this process's if none reads less.
    form: i64,
    version: Statement<'c>,
    /// What that was when the present batch of writes began.
    batch_version: i64,
    older_forms: Statement<'c>,
    ended: Statement<'c>,
    /// The supervisors that have ended, and the file's version when that was read.
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

    /// The version of the file, which another process's writes change.
    pub(super) fn read_version(&mut self) -> rusqlite::Result<i64> {
        self.batch_version = self.version.query_row([], |row| row.get(0))?;
        Ok(self.batch_version)
    }

    /// Whether what others read was found to hold this process's writes back, which nobody tells
    /// the end of.
    pub(super) fn is_form_limited(&self) -> bool {
        self.form < self.newest_form
    }

    /// Reads again which forms all living ones read, in the transaction that writes by it: whoever
    /// opens the file later reads what it writes, or is refused.
    pub(super) fn read_forms(&mut self) -> rusqlite::Result<()> {
        let mut rows = self.older_forms.query([self.newest_form])?;
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
        if self.form >= NEWEST_FORM {
            return Ok(self.form);
        }
        Err(SqliteFault::OlderReader { reads: self.form }.into())
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

    /// Notes what a supervisor says of itself.
    pub(super) fn presence(&mut self, owner: Owner, presence: Presence) -> Result<()> {
        let (name, owner) = (self.process_lock.name, owner.0.cast_signed());
        match presence {
            Presence::Register | Presence::Renew => drop(self.local_owners.insert(owner)),
            Presence::Retire => drop(self.local_owners.remove(&owner)),
        }
        // Read again next time, whether this transaction is committed or not.
        self.ended_owners = None;
        self.conn.execute(
            "INSERT INTO holder (name, boot, owner, form, ended) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET ended = ?5",
            params![
                name,
                self.process_lock.boot,
                owner,
                self.newest_form,
                presence == Presence::Retire
            ],
        )?;
        self.conn.execute(
            "DELETE FROM holder WHERE name = ?1 AND ended AND number <= (
                 SELECT max(number) FROM holder WHERE name = ?1 AND ended) - ?2",
            params![name, MAX_ENDED_OWNERS],
        )?;
        Ok(())
    }

    /// Whether several supervisors are on this very store, which then hear of each other as those
    /// of several processes do.
    pub(super) fn has_several_owners(&self) -> bool {
        self.local_owners.len() > 1
    }

    /// Whether this supervisor said that it has ended.
    pub(super) fn has_ended(&mut self, owner: i64) -> rusqlite::Result<bool> {
        // Nobody else writes while a batch of writes is done.
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

/// Says in the file that this process has it open, in the transaction of its opening, and removes
/// what dead ones said.
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

/// Whether another process lives that has the file open.
pub(super) fn has_other_process(
    conn: &Connection,
    process_lock: &ProcessLock,
) -> rusqlite::Result<bool> {
    let another =
        |name: &[u8], boot: &str| name != process_lock.name && is_alive(process_lock, name, boot);
    Ok(read_all(conn)?.iter().any(|(_, name, boot)| another(name, boot)))
}

/// Whether the process that entered under this name lives: this one does.
fn is_alive(process_lock: &ProcessLock, name: &[u8], boot: &str) -> bool {
    name == process_lock.name || !process_lock.is_dead(name, boot)
}

fn read_all(conn: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>, String)>> {
    let mut statement = conn.prepare("SELECT number, name, boot FROM holder")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([], read)?.collect()
}
