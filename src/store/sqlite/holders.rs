//! Who has the file open, as the file says it: which forms of rows each reads, and which
//! supervisors have ended. That a process lives its lock says; a row without a living lock means
//! nothing.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use super::alive::Holder;
use super::fault::{Result, SqliteFault};
use super::row::FORM;
use crate::store::{Owner, Presence};

/// How many ended supervisors of one open store are remembered. Defaults to 256 because what the
/// oldest of them had claimed is long over.
const ENDED: i64 = 256;

/// What is read of the rows, and when it was.
pub(super) struct Holders<'c> {
    conn: &'c Connection,
    holder: &'c Holder,
    /// The newest form that this process writes.
    newest: i64,
    /// The newest form that all living ones read, or this process's if none reads less.
    form: i64,
    version: Statement<'c>,
    /// What that was when the present batch of writes began.
    seen: i64,
    older: Statement<'c>,
    ended: Statement<'c>,
    /// The supervisors that have ended, and the file's version when that was read.
    known: Option<(i64, Vec<i64>)>,
    /// The supervisors on this very store that have not ended.
    own: BTreeSet<i64>,
}

impl<'c> Holders<'c> {
    pub(super) fn new(
        conn: &'c Connection,
        holder: &'c Holder,
        newest: i64,
    ) -> rusqlite::Result<Self> {
        let (form, known, own) = (newest, None, BTreeSet::new());
        let version = conn.prepare("PRAGMA data_version")?;
        let older = conn.prepare("SELECT name, boot, form FROM holder WHERE form < ?1")?;
        let ended = conn.prepare("SELECT owner FROM holder WHERE ended AND owner IS NOT NULL")?;
        Ok(Self { conn, holder, newest, form, version, seen: 0, older, ended, known, own })
    }

    /// The version of the file, which another process's writes change.
    pub(super) fn version(&mut self) -> rusqlite::Result<i64> {
        self.seen = self.version.query_row([], |row| row.get(0))?;
        Ok(self.seen)
    }

    /// Whether what others read was found to hold this process's writes back, which nobody tells
    /// the end of.
    pub(super) fn is_held_back(&self) -> bool {
        self.form < self.newest
    }

    /// Reads again which forms all living ones read, in the transaction that writes by it: whoever
    /// opens the file later reads what it writes, or is refused.
    pub(super) fn look(&mut self) -> rusqlite::Result<()> {
        let mut rows = self.older.query([self.newest])?;
        self.form = self.newest;
        while let Some(row) = rows.next()? {
            let (name, boot) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_str()?);
            if lives(self.holder, name, boot) {
                self.form = self.form.min(row.get(2)?);
            }
        }
        Ok(())
    }

    /// The form that may be written.
    pub(super) fn form_to_write(&self) -> Result<i64> {
        if self.form >= FORM {
            return Ok(self.form);
        }
        Err(SqliteFault::OlderReader { reads: self.form }.into())
    }

    /// The supervisors on the file that have not ended.
    pub(super) fn living(&self) -> Result<Vec<Owner>> {
        let mut statement = self.conn.prepare(
            "SELECT name, boot, owner FROM holder WHERE NOT ended AND owner IS NOT NULL
                 AND owner NOT IN (
                 SELECT owner FROM holder WHERE ended AND owner IS NOT NULL)",
        )?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let holders = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let living = |(name, boot, owner): (Vec<u8>, String, i64)| {
            lives(self.holder, &name, &boot).then(|| Owner(owner.cast_unsigned()))
        };
        let living = holders.into_iter().filter_map(living);
        Ok(living.collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(super) fn is_registered(&self, owner: Owner) -> Result<bool> {
        let there = "SELECT 1 FROM holder WHERE name = ?1 AND owner = ?2 AND NOT ended";
        let of = params![self.holder.name, owner.0.cast_signed()];
        Ok(self.conn.query_row(there, of, |_| Ok(())).optional()?.is_some())
    }

    /// Notes what a supervisor says of itself.
    pub(super) fn presence(&mut self, owner: Owner, presence: Presence) -> Result<()> {
        let (name, owner) = (self.holder.name, owner.0.cast_signed());
        match presence {
            Presence::Register | Presence::Renew => drop(self.own.insert(owner)),
            Presence::Retire => drop(self.own.remove(&owner)),
        }
        // Read again next time, whether this transaction is committed or not.
        self.known = None;
        self.conn.execute(
            "INSERT INTO holder (name, boot, owner, form, ended) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET ended = ?5",
            params![name, self.holder.boot, owner, self.newest, presence == Presence::Retire],
        )?;
        self.conn.execute(
            "DELETE FROM holder WHERE name = ?1 AND ended AND number <= (
                 SELECT max(number) FROM holder WHERE name = ?1 AND ended) - ?2",
            params![name, ENDED],
        )?;
        Ok(())
    }

    /// Whether several supervisors are on this very store, which then hear of each other as those
    /// of several processes do.
    pub(super) fn is_shared(&self) -> bool {
        self.own.len() > 1
    }

    /// Whether this supervisor said that it has ended.
    pub(super) fn has_ended(&mut self, owner: i64) -> rusqlite::Result<bool> {
        // Nobody else writes while a batch of writes is done.
        let version = if self.conn.is_autocommit() { self.version()? } else { self.seen };
        if let Some((_, owners)) = self.known.as_ref().filter(|(known, _)| *known == version) {
            return Ok(owners.contains(&owner));
        }
        let owners = self.ended.query_map([], |row| row.get(0))?;
        let owners: Vec<i64> = owners.collect::<rusqlite::Result<_>>()?;
        let ended = owners.contains(&owner);
        self.known = Some((version, owners));
        Ok(ended)
    }
}

/// Says in the file that this process has it open, in the transaction of its opening, and removes
/// what dead ones said.
pub(super) fn enter(conn: &Connection, holder: &Holder, form: i64) -> rusqlite::Result<()> {
    for (number, name, boot) in all(conn)? {
        if !lives(holder, &name, &boot) {
            conn.execute("DELETE FROM holder WHERE number = ?1", [number])?;
        }
    }
    conn.execute(
        "INSERT INTO holder (name, boot, form, ended) VALUES (?1, ?2, ?3, 0)",
        params![holder.name, holder.boot, form],
    )?;
    Ok(())
}

/// Whether another process lives that has the file open.
pub(super) fn any_other(conn: &Connection, holder: &Holder) -> rusqlite::Result<bool> {
    let another = |name: &[u8], boot: &str| name != holder.name && lives(holder, name, boot);
    Ok(all(conn)?.iter().any(|(_, name, boot)| another(name, boot)))
}

/// Whether the process that entered under this name lives: this one does.
fn lives(holder: &Holder, name: &[u8], boot: &str) -> bool {
    name == holder.name || !holder.is_dead(name, boot)
}

fn all(conn: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>, String)>> {
    let mut statement = conn.prepare("SELECT number, name, boot FROM holder")?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    statement.query_map([], read)?.collect()
}
