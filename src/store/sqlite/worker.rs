//! The thread that owns the connection.
//!
//! Jobs of all sessions come through one queue. The jobs that the thread finds there at once are
//! one batch: one transaction, one write to the disk (group commit). If the batch fails, the thread
//! runs each of its jobs again in a transaction of its own, so that only those fail that must. A
//! caller gets its answer after the transaction has ended.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rusqlite::{Connection, Statement};

use super::busy_retry::{lock_pause, retry_while_busy};
use super::database::Database;
use super::free_space::FreeSpace;
use super::liveness::ProcessLock;
use super::opening::{self, OpenContext, OpenedFile};
use super::sqlite_fault::{SqliteFault, fault, is_busy};
use super::statement_error::StatementError;
use super::step_limit::StepLimit;
use super::worker_job::{Job, JobKind, Message};
use super::{Shared, SqliteBuilder, Synchronous, file_permissions};
use crate::clock::{Clock, SystemClock};
use crate::policy::FORGET_AGAIN;
use crate::store::StoreError;
use crate::task;

/// How many jobs one transaction has at most. Defaults to 256: so many share the write to the disk
/// by then that more would only make the first of them wait.
const MAX_BATCH: usize = 256;

/// How long a claim or a read waits for other processes. Defaults to 2 s: nothing is lost when it
/// fails, and its caller has a deadline. A write that ends an exchange waits as long as it takes.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How long the thread leaves the lock to other processes after a batch, at least; it leaves it for
/// as long as the batch took, up to [`MAX_YIELD`]. Defaults to 1 ms, in which each waiting process
/// tries once.
const MIN_YIELD: Duration = Duration::from_millis(1);

/// How long the thread leaves the lock to other processes at most. Defaults to 100 ms, in which
/// each waiting process tries a hundred times. Without this bound, a process that was suspended
/// within a batch would then do nothing for as long again.
const MAX_YIELD: Duration = Duration::from_millis(100);

/// How often the thread looks for other processes. Defaults to 250 ms: a new process may have to
/// wait that long for a busy one.
const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(250);

type Batch = Vec<Box<dyn Job>>;

/// Opens the file and serves the queue until it is told to stop. `opened` gets `true` if the file
/// waits for keys, and `false` when it is ready.
pub(super) fn run(
    (options, shared): (&SqliteBuilder, &Shared),
    queue: &Receiver<Message>,
    opened: &Sender<Result<bool, StoreError>>,
) {
    // Declared before the connection and so dropped after it. If the lock were released first,
    // another process would take this one for dead and take over its claims while the connection
    // may still write.
    let (process_lock, folder, path) = match acquire_process_lock(options) {
        Ok(acquired) => acquired,
        Err(fault) => return drop(opened.send(Err(fault.into()))),
    };
    let context = OpenContext { options, shared, process_lock: &process_lock };
    let OpenedFile { mut conn, step_limit, waits_for_keys } = match opening::open(&path, context) {
        Ok(file) => file,
        Err(refused) => return drop(opened.send(Err(refused))),
    };
    let mut first = None;
    if waits_for_keys {
        // Before the wait: the opening has to return, because the supervisor brings the keys only
        // after it.
        drop(opened.send(Ok(true)));
        match wait_for_keys(queue, || opening::migrate_waiting(&mut conn, &step_limit, context)) {
            Some(job) => first = job,
            None => return,
        }
    }
    // After the migration: prepared statements name the columns of the newest version.
    let worker = FreeSpace::new(&conn, &folder)
        .and_then(|free_space| Database::new(&conn, (&process_lock, shared), free_space))
        .and_then(|db| Worker::new(&conn, step_limit, (&process_lock, db), options.synchronous));
    match worker {
        Ok(worker) => {
            drop(opened.send(Ok(false)));
            worker.serve_queue(first, queue);
        }
        Err(error) => drop(opened.send(Err(fault(&error).into()))),
    }
}

/// Runs no job until the file is migrated. Then returns the job that led to the migration, if it
/// was a job. `None` if the thread is to stop.
fn wait_for_keys(
    queue: &Receiver<Message>,
    mut migrate: impl FnMut() -> Result<(), StoreError>,
) -> Option<Option<Box<dyn Job>>> {
    loop {
        match queue.recv() {
            Ok(Message::Run(job)) => match migrate() {
                Ok(()) => return Some(Some(job)),
                Err(refused) => job.finish(Some(refused)),
            },
            Ok(Message::Migrate(reply)) => {
                let migrated = migrate();
                let ready = migrated.is_ok();
                drop(reply.send(migrated));
                if ready {
                    return Some(None);
                }
            }
            Ok(Message::Stop) | Err(_) => return None,
        }
    }
}

/// This process's lock beside the file, the file's folder, and its path.
fn acquire_process_lock(
    options: &SqliteBuilder,
) -> Result<(ProcessLock, PathBuf, PathBuf), SqliteFault> {
    // First, because a path that names nothing has no canonical form.
    file_permissions::create(&options.path)?;
    // One path for all processes: a process that came by another path would look for the others'
    // locks elsewhere and take the living for dead.
    let system = |error: std::io::Error| SqliteFault::System(error.kind());
    let path = options.path.canonicalize().map_err(system)?;
    let process_lock = ProcessLock::new(&path, options.exclusive).map_err(system)?;
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((process_lock, folder, path))
}

struct Worker<'c> {
    conn: &'c Connection,
    step_limit: StepLimit,
    process_lock: &'c ProcessLock,
    db: Database<'c>,
    synchronous: Synchronous,
    /// The pragma that was run last; to run it again would take as long as a statement.
    synchronous_pragma: &'static str,
    clock: SystemClock,
    /// Whether other processes have the file open.
    has_peers: bool,
    /// When the thread last looked for other processes.
    peers_checked_at: Option<Duration>,
    /// The file's data version in the last batch. Every process that opens the file writes to it,
    /// so a version that has not changed means that no process has come.
    data_version: Option<i64>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    /// When the last batch got the lock.
    locked_at: Duration,
    /// When the thread last tried to truncate the log while deleted names may lie in it; `None` if
    /// there are none. At the start there may be some, left by a process that was killed.
    truncation_tried_at: Option<Duration>,
}

impl<'c> Worker<'c> {
    fn new(
        conn: &'c Connection,
        step_limit: StepLimit,
        (process_lock, db): (&'c ProcessLock, Database<'c>),
        synchronous: Synchronous,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            conn,
            step_limit,
            process_lock,
            db,
            synchronous,
            synchronous_pragma: "",
            clock: SystemClock::new(),
            has_peers: false,
            peers_checked_at: None,
            data_version: None,
            // IMMEDIATE takes the write lock before the first read, so that each statement decides
            // on the very row that it replaces. A deferred transaction takes the lock with its
            // first write, and fails there if another process has written since it read.
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            locked_at: Duration::ZERO,
            truncation_tried_at: Some(Duration::ZERO),
        })
    }

    fn serve_queue(mut self, mut first: Option<Box<dyn Job>>, queue: &Receiver<Message>) {
        while let Some(first) = first.take().or_else(|| self.next_job(queue)) {
            let mut batch = vec![first];
            let goes_on = fill_batch(&mut batch, queue);
            let writes = batch.iter().any(|job| job.kind() != JobKind::Read);
            // The batch runs even if a stop came with it: its jobs were queued before the stop.
            let goes_on = self.run_batch(batch, Some(queue)) && goes_on;
            // After the answers, which must not wait for the pause.
            if writes {
                self.yield_lock();
            }
            if !goes_on {
                return;
            }
        }
    }

    /// The next job; `None` if the thread is to stop. While the log must be truncated, the thread
    /// tries it between jobs.
    fn next_job(&mut self, queue: &Receiver<Message>) -> Option<Box<dyn Job>> {
        loop {
            // Before the wait, and not only after a timeout: with a job every few milliseconds the
            // timeout would never come, and deleted names would stay in the log.
            let now = self.clock.now().monotonic;
            if self.truncation_tried_at.is_some_and(|at| now.saturating_sub(at) >= FORGET_AGAIN) {
                self.truncate_log();
            }
            let message = match self.truncation_tried_at {
                Some(_) => queue.recv_timeout(FORGET_AGAIN),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Run(first)) => return Some(first),
                Ok(Message::Migrate(reply)) => drop(reply.send(Ok(()))),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Writes the log back into the file and truncates it, so that nothing is left of deleted
    /// names. Fails while another process reads; the thread then tries again later.
    fn truncate_log(&mut self) {
        let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy = self.conn.query_row(truncate, [], |row| row.get::<_, bool>(0));
        let now = self.clock.now().monotonic;
        self.truncation_tried_at = if matches!(busy, Ok(false)) { None } else { Some(now) };
    }

    /// Runs a batch; false if the thread is to stop. While another process has the lock, the thread
    /// answers reads, and new jobs join the batch.
    fn run_batch(&mut self, mut batch: Batch, queue: Option<&Receiver<Message>>) -> bool {
        let mut goes_on = true;
        if batch.iter().all(|job| job.kind() == JobKind::Read) {
            self.run_reads(batch);
            return goes_on;
        }
        loop {
            match self.begin_transaction(&batch) {
                Ok(()) => break,
                Err(error) if is_busy(&error) => {}
                Err(error) => {
                    fail_all(batch, &error);
                    return goes_on;
                }
            }
            // Reads leave the batch before the pause. Another process may hold the lock for
            // seconds, and a read of a token must not take that long.
            let (reads, writes) = batch.into_iter().partition(|job| job.kind() == JobKind::Read);
            self.run_reads(reads);
            batch = self.fail_late_claims(writes);
            // Before the pause as well: without a write there is no reason to wait for the lock.
            if batch.is_empty() {
                return goes_on;
            }
            task::pause(lock_pause());
            goes_on &= queue.is_none_or(|queue| fill_batch(&mut batch, queue));
        }
        self.locked_at = self.clock.now().monotonic;
        self.run_writes(batch);
        goes_on
    }

    fn begin_transaction(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        // Before BEGIN, because SQLite refuses the pragma within a transaction. A batch with one
        // durable job is durable as a whole. A claim alone needs no write to the disk of its own:
        // the log keeps its order, so the commit that follows the claim brings both to the disk.
        let durable = batch.iter().any(|job| job.kind() == JobKind::Durable);
        let pragma = self.synchronous.pragma(durable);
        if pragma != self.synchronous_pragma {
            self.conn.execute_batch(pragma)?;
            self.synchronous_pragma = pragma;
        }
        self.begin.execute([]).map(drop)
    }

    /// Runs a batch in the transaction that was begun, and ends the transaction.
    fn run_writes(&mut self, mut batch: Batch) {
        // Only now that the lock is there: a caller may have gone while the batch waited for it. A
        // claim that nobody waits for would keep the session from all others until its lease ends.
        batch.retain(|job| !job.is_abandoned());
        // Both before the first job: the last batch may have been rolled back, and what it noted
        // does not count for this one.
        self.db.free_space.begin_batch();
        self.db.change_log.take_deleted_names();
        let peers = self.refresh_peers();
        let done = peers.and_then(|()| batch.iter_mut().try_for_each(|job| self.run_job(job)));
        match done.and_then(|()| self.commit.execute([])) {
            Ok(_) => {
                // Before the answers: a caller whose delete is answered may copy the file, and the
                // name must not be in it any more.
                if self.db.change_log.take_deleted_names() {
                    self.truncate_log();
                }
                // After the commit: a claimant that has its answer sends the refresh token. If the
                // commit failed after that, another process could claim and send the same token.
                batch.into_iter().for_each(|job| job.finish(None));
            }
            Err(error) => self.roll_back(batch, &error),
        }
    }

    /// Runs one job, with the whole of the steps that a job may take.
    fn run_job(&mut self, job: &mut Box<dyn Job>) -> rusqlite::Result<()> {
        self.step_limit.reset();
        job.run(&mut self.db)
    }

    /// Undoes a batch that failed, and runs its jobs one by one.
    fn roll_back(&mut self, batch: Batch, error: &rusqlite::Error) {
        // Before the jobs run again: a job decides on what it reads, and must not read what its own
        // first run wrote. SQLite may have rolled back by itself, so an error of this says nothing.
        drop(self.conn.execute_batch("ROLLBACK"));
        if batch.len() < 2 {
            return fail_all(batch, error);
        }
        // Without the queue, whose jobs came later and must not overtake the rest of this batch.
        for job in batch {
            self.run_batch(vec![job], None);
        }
    }

    /// Finds out which other processes have the file open and which form of rows all of them read,
    /// and has this batch's changes logged if any process needs them.
    ///
    /// Within the transaction: no process can open the file until it ends, so a process that comes
    /// later reads what this batch wrote. If this ran before BEGIN, a process could come in
    /// between. It would miss this batch's changes and serve a revoked token from memory, or meet
    /// rows of a form that it does not read.
    fn refresh_peers(&mut self) -> rusqlite::Result<()> {
        let version = Some(self.db.rows.holder_table.read_version()?);
        let changed = version != self.data_version;
        if changed || self.db.rows.holder_table.is_form_limited() {
            self.db.rows.holder_table.read_forms()?;
        }
        if changed && !self.has_peers {
            self.check_for_peers(self.clock.now().monotonic);
        }
        // Only after the reads: if one of them fails, the next batch must do them again.
        self.data_version = version;
        let needed = self.has_peers || self.db.rows.holder_table.has_several_owners();
        self.db.change_log.begin_batch(needed.then(|| self.clock.now().boot));
        Ok(())
    }

    fn check_for_peers(&mut self, now: Duration) {
        self.has_peers = self.process_lock.has_peers();
        self.peers_checked_at = Some(now);
    }

    /// Runs reads without a transaction: each is one query, which sees one state of the file.
    fn run_reads(&mut self, batch: Batch) {
        for mut job in batch {
            let done = retry_while_busy((LOCK_WAIT, SqliteFault::Locked), || {
                // In each try: the caller may go while another process is in the way.
                if job.is_abandoned() {
                    return Ok(());
                }
                self.run_job(&mut job).map_err(StatementError::Sql)
            });
            job.finish(done.err());
        }
    }

    /// Fails claims that have waited for too long, and returns the other jobs. Nothing is lost with
    /// a claim, while the credentials of a commit exist nowhere else.
    fn fail_late_claims(&self, batch: Batch) -> Batch {
        let now = self.clock.now().monotonic;
        let is_late = |job: &dyn Job| {
            let waited = now.saturating_sub(job.queued_at()) >= LOCK_WAIT;
            job.kind() == JobKind::Claim && (waited || job.is_abandoned())
        };
        let (late, rest): (Batch, Batch) = batch.into_iter().partition(|job| is_late(&**job));
        late.into_iter().for_each(|job| job.finish(Some(SqliteFault::Locked.into())));
        rest
    }

    /// Leaves the lock to other processes for a while. They try for it at intervals, so a process
    /// that takes it again at once starves them.
    fn yield_lock(&mut self) {
        let now = self.clock.now().monotonic;
        if self.peers_checked_at.is_none_or(|at| now.saturating_sub(at) >= PEER_CHECK_INTERVAL) {
            self.check_for_peers(now);
        }
        if self.has_peers {
            task::pause(now.saturating_sub(self.locked_at).clamp(MIN_YIELD, MAX_YIELD));
        }
    }
}

/// Takes jobs from the queue as long as they fit into a batch; false if the thread is to stop.
fn fill_batch(batch: &mut Batch, queue: &Receiver<Message>) -> bool {
    while batch.len() < MAX_BATCH {
        match queue.try_recv() {
            Ok(Message::Run(job)) => batch.push(job),
            Ok(Message::Migrate(reply)) => drop(reply.send(Ok(()))),
            Ok(Message::Stop) => return false,
            // If the last sender is gone, `next_job` finds that out after this batch.
            Err(_) => return true,
        }
    }
    true
}

fn fail_all(batch: Batch, error: &rusqlite::Error) {
    for job in batch {
        job.finish(Some(fault(error).into()));
    }
}
