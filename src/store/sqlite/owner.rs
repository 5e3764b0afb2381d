//! The thread that owns the connection, and the way to it.
//!
//! Statements of all sessions come through one bounded queue. What is in it when the thread looks
//! is one batch: one transaction, one write to the disk (group commit). If the batch fails, each
//! of its members is done again alone, so that only those fail that must; an answer is given when
//! the transaction has ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rusqlite::{Connection, Statement};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::alive::Holder;
use super::fault::{SqliteFault, Undone, is_busy};
use super::room::Room;
use super::schema::{self, Refused, lock_pause, patiently};
use super::steps::Steps;
use super::table::{Done, Tables};
use super::{SqliteBuilder, Synchronous, file};
use crate::clock::{Clock, SystemClock};
use crate::policy::FORGET_AGAIN;
use crate::store::StoreError;
use crate::task;

/// How many statements wait at most; the next one's caller waits for a place. Defaults to 1,024, as
/// many as are done in some 50 ms, so that what waits longer waits where it can be dropped.
const QUEUE: usize = 1024;

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
/// each that waits tries a hundred times; a process that was stopped in a batch would else do nothing
/// for as long again.
const LONGEST_YIELD: Duration = Duration::from_millis(100);

/// How often is looked for other processes. Defaults to 250 ms, for which a new one may have to
/// wait for a busy one.
const LOOK: Duration = Duration::from_millis(250);

/// What a statement needs of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it only reads, and does not wait for those who write.
    Read,
    /// To be written, or given up after [`LOCK_WAIT`]. Survives the process.
    Claim,
    /// To be written. Survives the process.
    Write,
    /// To be written so that it survives a loss of power.
    Firm,
}

/// The way to the thread. The thread ends with the last of them.
pub(super) struct Queue {
    sender: Sender<Message>,
    places: Arc<Semaphore>,
    ended: CancellationToken,
}

enum Message {
    Do(Box<dyn Job>),
    End,
}

impl Queue {
    /// Opens the file on a thread of its own, and waits for that.
    pub(super) fn open(with: SqliteBuilder) -> Result<Self, SqliteFault> {
        let (sender, receiver) = channel();
        let (opened, answer) = channel();
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let body = move || {
            own(&with, &receiver, &opened);
            // Only now: whoever waits for the end may open the file again.
            drop(end);
        };
        let system = |error: std::io::Error| SqliteFault::System(error.kind());
        task::thread("session-store", body).map_err(system)?;
        answer.recv().unwrap_or(Err(SqliteFault::Closed))?;
        Ok(Self { sender, places: Arc::new(Semaphore::new(QUEUE)), ended })
    }

    /// Has `work` done, which may be done twice: whatever it wrote the first time is then undone.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        need: Need,
        work: impl FnMut(&mut Tables<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::from(SqliteFault::Closed);
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let since = SystemClock::new().now().monotonic;
        let ask = Ask { need, since, work, done: None, reply, _place: place };
        self.sender.send(Message::Do(Box::new(ask))).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Ends the thread after what was asked before, and waits for that.
    pub(super) async fn end(&self) {
        // If the thread is gone, there is nothing to be ended.
        drop(self.sender.send(Message::End));
        self.ended.cancelled().await;
    }
}

/// A statement in the queue.
trait Job: Send {
    fn need(&self) -> Need;
    /// When it was asked, in monotonic time.
    fn since(&self) -> Duration;
    /// Nobody waits for it, and nobody needs what it would do.
    fn is_abandoned(&self) -> bool;
    /// Keeps the answer. Fails only if the transaction did.
    fn work(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()>;
    /// Answers, with this failure if there is one.
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Ask<T, F> {
    need: Need,
    since: Duration,
    work: F,
    done: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    _place: OwnedSemaphorePermit,
}

impl<T: Send, F: FnMut(&mut Tables<'_>) -> Done<T> + Send> Job for Ask<T, F> {
    fn need(&self) -> Need {
        self.need
    }

    fn since(&self) -> Duration {
        self.since
    }

    /// A commit is done also for those who are gone: rotated credentials are never thrown away.
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed() && matches!(self.need, Need::Read | Need::Claim)
    }

    fn work(&mut self, tables: &mut Tables<'_>) -> rusqlite::Result<()> {
        self.done = match (self.work)(tables) {
            Ok(done) => Some(Ok(done)),
            Err(Undone::Told(told)) => Some(Err(told)),
            Err(Undone::Sql(error)) => return Err(error),
        };
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        let answer = match failed {
            Some(failed) => Err(failed),
            None => self.done.unwrap_or_else(|| Err(SqliteFault::Closed.into())),
        };
        // Whoever asked may be gone.
        drop(self.reply.send(answer));
    }
}

type Batch = Vec<Box<dyn Job>>;

/// The life of the thread.
fn own(with: &SqliteBuilder, queue: &Receiver<Message>, opened: &Sender<Result<(), SqliteFault>>) {
    let (conn, steps, holder, folder) = match file(with) {
        Ok(file) => file,
        Err(fault) => return drop(opened.send(Err(fault))),
    };
    let tables = Room::new(&conn, &folder).and_then(|room| Tables::new(&conn, &holder, room));
    match tables.and_then(|tables| Owner::new(&conn, steps, (&holder, tables), with.synchronous)) {
        Ok(owner) => {
            drop(opened.send(Ok(())));
            owner.run(queue);
        }
        Err(error) => drop(opened.send(Err(super::fault::fault(&error)))),
    }
    // The connection is closed first: whoever finds the lock free finds a whole file.
    drop(conn);
}

/// The open file, this process's place beside it, and its folder.
fn file(with: &SqliteBuilder) -> Result<(Connection, Steps, Holder, PathBuf), SqliteFault> {
    file::create(&with.path)?;
    // One name for all: who came by another path would look for the owners' locks elsewhere, and
    // take the living for dead.
    let system = |error: std::io::Error| SqliteFault::System(error.kind());
    let path = with.path.canonicalize().map_err(system)?;
    let holder = Holder::new(&path, with.exclusive).map_err(system)?;
    let (conn, steps) = schema::open(&path, with)?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((conn, steps, holder, folder))
}

/// What the thread works with.
struct Owner<'c> {
    conn: &'c Connection,
    steps: Steps,
    holder: &'c Holder,
    tables: Tables<'c>,
    synchronous: Synchronous,
    /// What `synchronous` is set to, because to set it takes as long as a statement.
    level: &'static str,
    clock: SystemClock,
    peers: Peers,
    version: Statement<'c>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    /// When the last batch had the lock.
    locked: Duration,
    /// What was forgotten may lie in the log still, since when it was last cut in vain. At first
    /// because a process that was killed may have left it so.
    uncut: Option<Duration>,
}

/// Whether other processes have the file open.
#[derive(Default)]
struct Peers {
    there: bool,
    /// When that was last looked at.
    looked: Option<Duration>,
    /// The file's version at that time. Whoever opens the file writes to it.
    version: i64,
}

impl<'c> Owner<'c> {
    fn new(
        conn: &'c Connection,
        steps: Steps,
        (holder, tables): (&'c Holder, Tables<'c>),
        synchronous: Synchronous,
    ) -> rusqlite::Result<Self> {
        let (clock, peers) = (SystemClock::new(), Peers::default());
        let version = conn.prepare("PRAGMA data_version")?;
        let (begin, commit) = (conn.prepare("BEGIN IMMEDIATE")?, conn.prepare("COMMIT")?);
        let (level, locked) = ("", Duration::ZERO);
        Ok(Self {
            conn,
            steps,
            holder,
            tables,
            synchronous,
            level,
            clock,
            peers,
            version,
            begin,
            commit,
            locked,
            uncut: Some(Duration::ZERO),
        })
    }

    fn run(mut self, queue: &Receiver<Message>) {
        while let Some(first) = self.next(queue) {
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
        let firm = batch.iter().any(|job| job.need() == Need::Firm);
        let done = if firm { self.tell_peers() } else { Ok(()) };
        let done = done.and_then(|()| {
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

    /// Has what is stored now told to other processes, if there are any. Nobody opens the file
    /// while this transaction runs, so one that comes later reads what it writes.
    fn tell_peers(&mut self) -> rusqlite::Result<()> {
        let version: i64 = self.version.query_row([], |row| row.get(0))?;
        if !self.peers.there && version != self.peers.version {
            self.look_for_peers(self.clock.now().monotonic);
            self.peers.version = version;
        }
        let now = self.peers.there.then(|| self.clock.now().boot);
        self.tables.log.begin(now);
        Ok(())
    }

    fn look_for_peers(&mut self, now: Duration) {
        self.peers.there = self.holder.has_peers();
        self.peers.looked = Some(now);
    }

    /// Reads need no transaction: each is one query.
    fn read(&mut self, batch: Batch) {
        for mut job in batch {
            let done = patiently(LOCK_WAIT, || {
                if job.is_abandoned() {
                    return Ok(());
                }
                self.steps.begin();
                job.work(&mut self.tables).map_err(Refused::from)
            });
            job.answer(done.err().map(StoreError::from));
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
        if self.peers.looked.is_none_or(|looked| now.saturating_sub(looked) >= LOOK) {
            self.look_for_peers(now);
        }
        if self.peers.there {
            task::pause(now.saturating_sub(self.locked).clamp(YIELD, LONGEST_YIELD));
        }
    }
}

/// Takes what is in the queue, as far as it fits into a batch; false if the thread is to end.
fn fill(batch: &mut Batch, queue: &Receiver<Message>) -> bool {
    while batch.len() < BATCH {
        match queue.try_recv() {
            Ok(Message::Do(job)) => batch.push(job),
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
