//! The thread that owns the connection.
//!
//! Statements of all sessions come through one queue. What is in it when the thread looks
//! is one batch: one transaction, one write to the disk (group commit). If the batch fails, each
//! of its members is done again alone, so that only those fail that must; an answer is given when
//! the transaction has ended.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rusqlite::{Connection, Statement};

use super::alive::Holder;
use super::fault::{SqliteFault, Undone, is_busy};
use super::job::{Job, Message, Need};
use super::room::Room;
use super::schema::{self, Opened, Opening, lock_pause, patiently};
use super::steps::Steps;
use super::table::Tables;
use super::{Shared, SqliteBuilder, Synchronous, file};
use crate::clock::{Clock, SystemClock};
use crate::policy::FORGET_AGAIN;
use crate::store::StoreError;
use crate::task;

/// How many statements are done in one transaction. Defaults to 256: by then the write to the disk
/// is shared by so many that more would only make the first of them wait.
const BATCH: usize = 256;

/// How long a claim or a read waits for other processes. Defaults to 2 s: nothing is lost with it,
/// and its caller has a deadline. What ends an exchange waits for as long as it takes.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How long the lock is left to other processes after a batch, at least; and for as long as the
/// batch took, up to [`LONGEST_YIELD`]. Defaults to 1 ms, in which each that waits tries once.
const YIELD: Duration = Duration::from_millis(1);

/// How long it is left to them at most, however long the batch took. Defaults to 100 ms, in which
/// each that waits tries a hundred times; a process that was stopped in a batch would else do
/// nothing for as long again.
const LONGEST_YIELD: Duration = Duration::from_millis(100);

/// How often is looked for other processes. Defaults to 250 ms, for which a new one may have to
/// wait for a busy one.
const LOOK: Duration = Duration::from_millis(250);

type Batch = Vec<Box<dyn Job>>;

pub(super) fn own(
    (with, shared): (&SqliteBuilder, &Shared),
    queue: &Receiver<Message>,
    opened: &Sender<Result<bool, StoreError>>,
) {
    let (holder, folder, path) = match place(with) {
        Ok(place) => place,
        Err(fault) => return drop(opened.send(Err(fault.into()))),
    };
    let opening = Opening { with, shared, holder: &holder };
    // Dropped before the holder: whoever finds its lock free finds a whole file.
    let Opened { mut conn, steps, waits_for_keys } = match schema::open(&path, opening) {
        Ok(file) => file,
        Err(refused) => return drop(opened.send(Err(refused))),
    };
    let mut first = None;
    if waits_for_keys {
        drop(opened.send(Ok(true)));
        match wait_for_keys(queue, || schema::bring_forward(&mut conn, &steps, opening)) {
            Some(job) => first = job,
            None => return,
        }
    }
    let tables = Room::new(&conn, &folder)
        .and_then(|room| Tables::new(&conn, (&holder, shared), room))
        .and_then(|tables| Owner::new(&conn, steps, (&holder, tables), with.synchronous));
    match tables {
        Ok(owner) => {
            drop(opened.send(Ok(false)));
            owner.run(first, queue);
        }
        Err(error) => drop(opened.send(Err(super::fault::fault(&error).into()))),
    }
}

/// Serves nothing until the file is brought forward; then gives the statement that did it, if it
/// was one. None if the thread is to end.
fn wait_for_keys(
    queue: &Receiver<Message>,
    mut bring_forward: impl FnMut() -> Result<(), StoreError>,
) -> Option<Option<Box<dyn Job>>> {
    loop {
        match queue.recv() {
            Ok(Message::Do(job)) => match bring_forward() {
                Ok(()) => return Some(Some(job)),
                Err(refused) => job.answer(Some(refused)),
            },
            Ok(Message::Forward(reply)) => {
                let done = bring_forward();
                let over = done.is_ok();
                drop(reply.send(done));
                if over {
                    return Some(None);
                }
            }
            Ok(Message::End) | Err(_) => return None,
        }
    }
}

/// This process's place beside the file, the file's folder, and its path.
fn place(with: &SqliteBuilder) -> Result<(Holder, PathBuf, PathBuf), SqliteFault> {
    file::create(&with.path)?;
    // One name for all: who came by another path would look for the owners' locks elsewhere, and
    // take the living for dead.
    let system = |error: std::io::Error| SqliteFault::System(error.kind());
    let path = with.path.canonicalize().map_err(system)?;
    let holder = Holder::new(&path, with.exclusive).map_err(system)?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((holder, folder, path))
}

struct Owner<'c> {
    conn: &'c Connection,
    steps: Steps,
    holder: &'c Holder,
    tables: Tables<'c>,
    synchronous: Synchronous,
    /// What `synchronous` is set to, because to set it takes as long as a statement.
    level: &'static str,
    clock: SystemClock,
    /// Whether other processes have the file open.
    shared: bool,
    /// When that was last looked at.
    looked: Option<Duration>,
    /// The file's version at that time. Whoever opens the file writes to it.
    version: Option<i64>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    /// When the last batch had the lock.
    locked: Duration,
    /// What was forgotten may lie in the log still, since when it was last cut in vain. At first
    /// because a process that was killed may have left it so.
    uncut: Option<Duration>,
}

impl<'c> Owner<'c> {
    fn new(
        conn: &'c Connection,
        steps: Steps,
        (holder, tables): (&'c Holder, Tables<'c>),
        synchronous: Synchronous,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            steps,
            holder,
            tables,
            synchronous,
            level: "",
            clock: SystemClock::new(),
            shared: false,
            looked: None,
            version: None,
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            locked: Duration::ZERO,
            uncut: Some(Duration::ZERO),
        })
    }

    fn run(mut self, mut first: Option<Box<dyn Job>>, queue: &Receiver<Message>) {
        while let Some(first) = first.take().or_else(|| self.next(queue)) {
            let mut batch = vec![first];
            let goes_on = fill(&mut batch, queue);
            let writes = batch.iter().any(|job| job.need() != Need::Read);
            let goes_on = self.serve(batch, Some(queue)) && goes_on;
            if writes {
                self.leave_the_lock();
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The next statement; none if the thread is to end. While something is to be cut from the log,
    /// that is tried meanwhile.
    fn next(&mut self, queue: &Receiver<Message>) -> Option<Box<dyn Job>> {
        loop {
            let now = self.clock.now().monotonic;
            if self.uncut.is_some_and(|tried| now.saturating_sub(tried) >= FORGET_AGAIN) {
                self.cut_log();
            }
            let message = match self.uncut {
                Some(_) => queue.recv_timeout(FORGET_AGAIN),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Do(first)) => return Some(first),
                Ok(Message::Forward(reply)) => drop(reply.send(Ok(()))),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Writes the log back and cuts it to nothing, so that nothing is left of what was forgotten.
    /// Fails while another process reads, and is then tried again.
    fn cut_log(&mut self) {
        let cut = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = self.conn.query_row(cut, [], |row| row.get::<_, bool>(0));
        let now = self.clock.now().monotonic;
        self.uncut = if matches!(busy, Ok(false)) { None } else { Some(now) };
    }

    /// Does a batch; false if the thread is to end. While another process has the lock, reads are
    /// answered, and what comes meanwhile joins the batch.
    fn serve(&mut self, mut batch: Batch, queue: Option<&Receiver<Message>>) -> bool {
        let mut goes_on = true;
        if batch.iter().all(|job| job.need() == Need::Read) {
            self.read(batch);
            return goes_on;
        }
        loop {
            match self.begin(&batch) {
                Ok(()) => break,
                Err(error) if is_busy(&error) => {}
                Err(error) => {
                    fail(batch, &error);
                    return goes_on;
                }
            }
            let (reads, writes) = batch.into_iter().partition(|job| job.need() == Need::Read);
            self.read(reads);
            batch = self.without_late(writes);
            if batch.is_empty() {
                return goes_on;
            }
            task::pause(lock_pause());
            goes_on &= queue.is_none_or(|queue| fill(&mut batch, queue));
        }
        self.locked = self.clock.now().monotonic;
        self.write(batch);
        goes_on
    }

    fn begin(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        // Between transactions, where it may be changed: a claim needs no write to the disk of its
        // own, the commit that follows it brings both there.
        let firm = batch.iter().any(|job| job.need() == Need::Firm);
        let level = schema::level(self.synchronous, firm);
        if level != self.level {
            self.conn.execute_batch(level)?;
            self.level = level;
        }
        self.begin.execute([]).map(drop)
    }

    /// Does a batch in the transaction that was begun, and ends it.
    fn write(&mut self, mut batch: Batch) {
        batch.retain(|job| !job.is_abandoned());
        self.tables.room.ask_again();
        self.tables.log.take_forgot();
        let done = self.look_around().and_then(|()| {
            batch.iter_mut().try_for_each(|job| {
                self.steps.begin();
                job.work(&mut self.tables)
            })
        });
        match done.and_then(|()| self.commit.execute([])) {
            Ok(_) => {
                // First, so that nothing is left when it is said to be forgotten.
                if self.tables.log.take_forgot() {
                    self.cut_log();
                }
                batch.into_iter().for_each(|job| job.answer(None));
            }
            Err(error) => {
                // It may have been rolled back already; then there is nothing to be done.
                drop(self.conn.execute_batch("ROLLBACK"));
                if batch.len() < 2 {
                    fail(batch, &error);
                } else {
                    for job in batch {
                        self.serve(vec![job], None);
                    }
                }
            }
        }
    }

    /// Has what is written now told to other processes, if there are any, and written as all of
    /// them read it. Nobody opens the file while this transaction runs, so one that comes later
    /// reads what it writes.
    fn look_around(&mut self) -> rusqlite::Result<()> {
        let version = Some(self.tables.reader.holders.version()?);
        let changed = version != self.version;
        if changed || self.tables.reader.holders.is_held_back() {
            self.tables.reader.holders.look()?;
        }
        if changed && !self.shared {
            self.look_for_peers(self.clock.now().monotonic);
        }
        self.version = version;
        let heard = self.shared || self.tables.reader.holders.is_shared();
        self.tables.log.begin(heard.then(|| self.clock.now().boot));
        Ok(())
    }

    fn look_for_peers(&mut self, now: Duration) {
        self.shared = self.holder.has_peers();
        self.looked = Some(now);
    }

    /// Reads need no transaction: each is one query.
    fn read(&mut self, batch: Batch) {
        for mut job in batch {
            let done = patiently(LOCK_WAIT, || {
                if job.is_abandoned() {
                    return Ok(());
                }
                self.steps.begin();
                job.work(&mut self.tables).map_err(Undone::Sql)
            });
            job.answer(done.err());
        }
    }

    /// Claims that have waited for too long are answered: they are not sent for.
    fn without_late(&self, batch: Batch) -> Batch {
        let now = self.clock.now().monotonic;
        let late = |job: &dyn Job| {
            let waited = now.saturating_sub(job.since()) >= LOCK_WAIT;
            job.need() == Need::Claim && (waited || job.is_abandoned())
        };
        let (late, rest): (Batch, Batch) = batch.into_iter().partition(|job| late(&**job));
        late.into_iter().for_each(|job| job.answer(Some(SqliteFault::Locked.into())));
        rest
    }

    /// Others who wait for the lock try now and then; one who takes it again at once starves them.
    fn leave_the_lock(&mut self) {
        let now = self.clock.now().monotonic;
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK) {
            self.look_for_peers(now);
        }
        if self.shared {
            task::pause(now.saturating_sub(self.locked).clamp(YIELD, LONGEST_YIELD));
        }
    }
}

/// Takes what is in the queue, as far as it fits into a batch; false if the thread is to end.
fn fill(batch: &mut Batch, queue: &Receiver<Message>) -> bool {
    while batch.len() < BATCH {
        match queue.try_recv() {
            Ok(Message::Do(job)) => batch.push(job),
            Ok(Message::Forward(reply)) => drop(reply.send(Ok(()))),
            Ok(Message::End) => return false,
            // With the last sender gone, the thread ends when it next looks.
            Err(_) => return true,
        }
    }
    true
}

fn fail(batch: Batch, error: &rusqlite::Error) {
    for job in batch {
        job.answer(Some(super::fault::fault(error).into()));
    }
}
