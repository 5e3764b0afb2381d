//! Copies the records of one store to another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::record::{Failures, Record, Stored};
use super::statement::{Import, Outcome, Statement};
use super::{RecordFilter, Store, StoreError, StoreErrorKind, StoreResult};
use crate::key::SessionId;
use crate::policy::{COPIED_AT_ONCE, COPY_PAGE, COPY_PROBLEMS, COPY_TOLERANCE};
use crate::token::Credentials;

/// Copies the records of the store `from` to the store `to`, and verifies each copy: it reads the
/// copy back and compares it with the original. It changes nothing in `from`, and it never changes
/// a record that is there in `to`.
///
/// 1. Stop all supervisors on both stores, with [`shutdown`](crate::Supervisor::shutdown). Strict
///    servers end a session if its old refresh token is used again, so two stores with the same
///    sessions must never be in use.
/// 2. Call [`prepare`](Store::prepare) on both stores, each with its own keys. If a store encrypts
///    its records, the copy is encrypted with the keys of `to`.
/// 3. Call `copy_store`. `to` should be a new, empty store.
/// 4. Check [`is_complete`](CopyReport::is_complete). If records were claimed, start a supervisor
///    on `from`, shut it down, and call `copy_store` again.
/// 5. Start the supervisors on `to`.
///
/// You can call this again at any time, with the same stores. Records that were copied before count
/// as [`already_there`](CopyReport::already_there). A call takes three reads and one write for each
/// record of a new store, and two reads for a record that was copied before.
///
/// ```
/// use std::sync::Arc;
/// use session_warden::clock::SystemClock;
/// use session_warden::seal::KeyRing;
/// use session_warden::store::sqlite::SqliteStore;
/// use session_warden::store::{
///     CopyError, CopyOptions, CopyProblem, CopyReport, CopySide, MemoryStore, NotCopied, Store,
///     StoreContext, copy_store,
/// };
///
/// /// Copies 10,000 records at a time, and says how far it is.
/// async fn copy_all(from: &dyn Store, to: &dyn Store) -> Result<bool, CopyError> {
///     let (mut after, mut is_complete) = (None, true);
///     loop {
///         let options = CopyOptions { after, limit: Some(10_000) };
///         let report: CopyReport = copy_store(from, to, options).await?;
///         println!("{} copied, {} there before", report.copied, report.already_there);
///         for CopyProblem { id, why, .. } in &report.problems {
///             match why {
///                 NotCopied::Claimed => println!("{id}: a supervisor is at work"),
///                 NotCopied::Refused => println!("{id}: was deleted in the new store"),
///                 NotCopied::Differs => println!("{id}: the new store has another record"),
///                 NotCopied::Unreadable => println!("{id}: the old record is damaged"),
///                 _ => println!("{id}: {why:?}"),
///             }
///         }
///         is_complete &= report.problem_count() == 0;
///         if report.ended {
///             return Ok(is_complete);
///         }
///         after = report.last;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// # let old_keys = KeyRing::parse("1:pXuPDMX9pSDp8xDVRuuO1HpV5LQHbS5nGGRE8rqwIVo=")?;
/// # let new_keys = old_keys.clone();
/// let clock = Arc::new(SystemClock::new());
/// let (from, to) = (SqliteStore::open(path)?, MemoryStore::new());
/// from.prepare(&StoreContext::new(old_keys, clock.clone()))?;
/// to.prepare(&StoreContext::new(new_keys, clock))?;
/// match copy_all(&from, &to).await {
///     Ok(is_complete) => assert!(is_complete),
///     Err(failed) if failed.side() == CopySide::Target => {
///         println!("go on after {:?}", failed.report().last);
///     }
///     Err(failed) => return Err(failed.into()),
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`CopyError`] if one of the stores fails, or if the key ring of `to` cannot encrypt or decrypt a
/// record. The copies that were made stay. A record of `from` that is damaged, or whose key is
/// missing, is no error: see [`NotCopied::Unreadable`].
///
/// # Cancel safety
///
/// May be dropped. The copies that were made stay.
pub async fn copy_store(
    from: &dyn Store,
    to: &dyn Store,
    options: CopyOptions,
) -> Result<CopyReport, CopyError> {
    let filter = RecordFilter::default();
    let mut report = CopyReport { last: options.after, ..CopyReport::default() };
    let mut left = options.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let listed = from.list(&filter, report.last.as_ref(), left.min(COPY_PAGE)).await;
        let ids: Vec<_> = match listed {
            Ok(page) => page.into_iter().map(|listed| listed.id).collect(),
            Err(failed) => return Err(CopyError::new(report, (CopySide::Source, failed))),
        };
        let Some(last) = ids.last().cloned() else {
            report.ended = true;
            break;
        };
        left = left.saturating_sub(ids.len());
        match copy_page(from, to, ids).await {
            Ok(results) => report.add(results),
            Err(failed) => return Err(CopyError::new(report, failed)),
        }
        // Only now: a copy that goes on after a failure begins with the page that failed.
        report.last = Some(last);
    }
    Ok(report)
}

/// Which records [`copy_store`] copies. The default is all records. See the example there.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "programs make it as they make a `RecordFilter`")]
pub struct CopyOptions {
    /// Begin after this session: pass [`CopyReport::last`] of an earlier call to go on there.
    pub after: Option<SessionId>,
    /// Copy at most this many records; `None` for no limit.
    pub limit: Option<usize>,
}

/// What [`copy_store`] did. See the example there.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyReport {
    /// How many records were copied and verified.
    pub copied: u64,
    /// How many records the target had already, equal to those of the source.
    pub already_there: u64,
    /// How many records were not copied because of [`NotCopied::Claimed`].
    pub claimed: u64,
    /// How many records were not copied because of [`NotCopied::Refused`].
    pub refused: u64,
    /// How many records were not copied because of [`NotCopied::Differs`].
    pub differing: u64,
    /// How many records were not copied because of [`NotCopied::Unreadable`].
    pub unreadable: u64,
    /// The records that were not copied: the first 1,000, in the order of their ids.
    pub problems: Vec<CopyProblem>,
    /// The last session that was looked at. Later sessions were not.
    pub last: Option<SessionId>,
    /// Whether the end of the source was reached.
    pub ended: bool,
}

impl CopyReport {
    /// How many records were looked at and not copied.
    #[must_use]
    pub fn problem_count(&self) -> u64 {
        self.claimed + self.refused + self.differing + self.unreadable
    }

    /// Whether the end of the source was reached, and the target has an equal record for each
    /// record that was looked at.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended && self.problem_count() == 0
    }

    fn add(&mut self, results: Vec<(SessionId, PageResult)>) {
        for (id, result) in results {
            let why = match result {
                PageResult::Gone => continue,
                PageResult::Copied => {
                    self.copied += 1;
                    continue;
                }
                PageResult::AlreadyThere => {
                    self.already_there += 1;
                    continue;
                }
                PageResult::Not(why) => why,
            };
            *match why {
                NotCopied::Claimed => &mut self.claimed,
                NotCopied::Refused => &mut self.refused,
                NotCopied::Differs => &mut self.differing,
                NotCopied::Unreadable => &mut self.unreadable,
            } += 1;
            if self.problems.len() < COPY_PROBLEMS {
                self.problems.push(CopyProblem { id, why });
            }
        }
    }
}

/// A record that [`copy_store`] did not copy. See the example there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyProblem {
    /// The session.
    pub id: SessionId,
    /// Why it was not copied.
    pub why: NotCopied,
}

/// Why [`copy_store`] did not copy a record. See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCopied {
    /// The record is claimed in the source: a supervisor is sending a request for the session, or
    /// was stopped while it did so. The tokens of the record may be replaced at any moment.
    Claimed,
    /// The target refuses the record. It has deleted sessions, and this one may be one of them. A
    /// store remembers only one number of all its deletions, so it may refuse other sessions too.
    /// Copy to a new store.
    Refused,
    /// The target has another record of the session, or one that it cannot read. It stays as it is.
    /// The session was used or made there, or the copy was changed.
    Differs,
    /// The record of the source is damaged, or the key that encrypts it is not in the source's key
    /// ring.
    Unreadable,
}

/// One of the two stores of [`copy_store`]. See the example there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a copy has two stores")]
pub enum CopySide {
    /// The store that is copied.
    Source,
    /// The store that gets the copies.
    Target,
}

/// Why [`copy_store`] stopped: one of the stores failed. Its cause is the [`StoreError`] of that
/// store. See the example of [`copy_store`].
#[derive(Debug, thiserror::Error)]
#[error("the copy stopped because {} failed", match self.side {
    CopySide::Source => "the store that is copied",
    CopySide::Target => "the store that gets the copies",
})]
pub struct CopyError {
    /// Boxed, so that the `Result` of a copy stays small.
    report: Box<CopyReport>,
    side: CopySide,
    source: StoreError,
}

impl CopyError {
    fn new(report: CopyReport, (side, source): StoreFault) -> Self {
        Self { report: Box::new(report), side, source }
    }

    /// The store that failed.
    #[must_use]
    pub fn side(&self) -> CopySide {
        self.side
    }

    /// What was done before. To go on, call [`copy_store`] again, and begin
    /// [after](CopyOptions::after) its [`last`](CopyReport::last).
    #[must_use]
    pub fn report(&self) -> &CopyReport {
        &self.report
    }
}

/// The store that failed, and its error.
type StoreFault = (CopySide, StoreError);

/// The result for one record of a page.
#[derive(Clone, Copy)]
enum PageResult {
    Copied,
    AlreadyThere,
    /// The source deleted the record after it was listed.
    Gone,
    Not(NotCopied),
}

/// What is to be done with one record of a page.
enum Step {
    Ended(PageResult),
    Import(Box<Stored>),
}

async fn copy_page(
    from: &dyn Store,
    to: &dyn Store,
    ids: Vec<SessionId>,
) -> Result<Vec<(SessionId, PageResult)>, StoreFault> {
    let originals = load_all(from, &ids).await;
    let copies = load_all(to, &ids).await;
    let (mut results, mut imports) = (Vec::with_capacity(ids.len()), Vec::new());
    for ((id, original), copy) in ids.into_iter().zip(originals).zip(copies) {
        match before_import(original, copy)? {
            Step::Ended(result) => results.push((id, result)),
            Step::Import(original) => imports.push((id, original)),
        }
    }
    results.extend(import_all(to, imports).await?);
    results.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(results)
}

/// Compares the records of both stores before anything is written.
fn before_import(
    original: StoreResult<Option<Stored>>,
    copy: StoreResult<Option<Stored>>,
) -> Result<Step, StoreFault> {
    let ended = |why| Ok(Step::Ended(PageResult::Not(why)));
    let original = match original {
        Ok(Some(original)) => original,
        Ok(None) => return Ok(Step::Ended(PageResult::Gone)),
        Err(failed) => {
            return match failed.kind() {
                StoreErrorKind::Corrupt | StoreErrorKind::Sealed => ended(NotCopied::Unreadable),
                StoreErrorKind::Unavailable | StoreErrorKind::Slow | StoreErrorKind::Full => {
                    Err((CopySide::Source, failed))
                }
            };
        }
    };
    if original.record.lease.is_some() {
        return ended(NotCopied::Claimed);
    }
    match copy {
        Ok(None) => Ok(Step::Import(Box::new(original))),
        Ok(Some(copy)) => Ok(Step::Ended(compared(&original, &copy, PageResult::AlreadyThere))),
        Err(failed) if failed.kind() == StoreErrorKind::Corrupt => ended(NotCopied::Differs),
        // Also if a key is missing: without it, no record can be written or verified.
        Err(failed) => Err((CopySide::Target, failed)),
    }
}

/// Writes the records and reads them again.
async fn import_all(
    to: &dyn Store,
    imports: Vec<(SessionId, Box<Stored>)>,
) -> Result<Vec<(SessionId, PageResult)>, StoreFault> {
    let outcomes: Vec<_> = iter(&imports)
        .map(|(id, original)| to.apply(id, Statement::Import(Box::new(Import::from(&**original)))))
        .buffered(COPIED_AT_ONCE)
        .try_collect()
        .await
        .map_err(|failed| (CopySide::Target, failed))?;
    let ids: Vec<_> = imports.iter().map(|(id, _)| id.clone()).collect();
    let copies = if ids.is_empty() { Vec::new() } else { load_all(to, &ids).await };
    let mut results = Vec::with_capacity(imports.len());
    for (((id, original), outcome), copy) in imports.into_iter().zip(outcomes).zip(copies) {
        results.push((id, after_import(&original, &outcome, copy)?));
    }
    Ok(results)
}

/// Compares the record that was written with its original.
fn after_import(
    original: &Stored,
    outcome: &Outcome,
    copy: StoreResult<Option<Stored>>,
) -> Result<PageResult, StoreFault> {
    // A conflict with a record: another copy runs, or a supervisor made the session meanwhile.
    let if_same = match outcome {
        Outcome::Done(_) => PageResult::Copied,
        Outcome::Conflict(None) => return Ok(PageResult::Not(NotCopied::Refused)),
        Outcome::Conflict(Some(_)) | Outcome::Leased(_) | Outcome::Wait { .. } => {
            PageResult::AlreadyThere
        }
    };
    match copy {
        Ok(Some(copy)) => Ok(compared(original, &copy, if_same)),
        Ok(None) => Ok(PageResult::Not(NotCopied::Differs)),
        Err(failed) if failed.kind() == StoreErrorKind::Corrupt => {
            Ok(PageResult::Not(NotCopied::Differs))
        }
        Err(failed) => Err((CopySide::Target, failed)),
    }
}

/// One result for each id, also if the store returns fewer.
async fn load_all(store: &dyn Store, ids: &[SessionId]) -> Vec<StoreResult<Option<Stored>>> {
    let mut records = store.load_many(ids).await;
    records.resize_with(ids.len(), || {
        let words = "the store returned fewer records than it was asked for";
        Err(StoreError::new(StoreErrorKind::Unavailable).about(words))
    });
    records
}

fn compared(original: &Stored, copy: &Stored, if_same: PageResult) -> PageResult {
    if is_same(original, copy) { if_same } else { PageResult::Not(NotCopied::Differs) }
}

/// Whether a record and its copy agree in all that must be equal. The version of the copy may be
/// higher.
fn is_same(original: &Stored, copy: &Stored) -> bool {
    let (one, other) = (&original.record, &copy.record);
    other.lease.is_none()
        && other.version >= one.version
        && counters(one) == counters(other)
        && (one.phase, one.suspect, one.lost) == (other.phase, other.suspect, other.lost)
        && (one.made_by, one.tries) == (other.made_by, other.tries)
        && have_same_times(original, copy)
        && have_same_failures(one.failures.as_deref(), other.failures.as_deref())
        && are_same_credentials(one.credentials.as_ref(), other.credentials.as_ref())
        && are_same_credentials(one.outbox.as_ref(), other.outbox.as_ref())
}

fn counters(record: &Record) -> (u64, u64, u64) {
    (record.epoch, record.generation, record.fence)
}

/// Compares the times as durations, because the clocks of the two stores may differ.
fn have_same_times(one: &Stored, other: &Stored) -> bool {
    // A wait that is over is the same as none.
    let retry = |stored: &Stored| Some(stored.retry_in().unwrap_or_default());
    [
        (one.access_left(), other.access_left()),
        (one.refresh_left(), other.refresh_left()),
        (one.due_in(), other.due_in()),
        (one.announce_in(), other.announce_in()),
        (one.failing_for(), other.failing_for()),
        (one.ended_for(), other.ended_for()),
        (retry(one), retry(other)),
    ]
    .into_iter()
    .all(|(one, other)| match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) <= COPY_TOLERANCE,
        (one, other) => one == other,
    })
}

/// The time since when they come is compared with the other times.
fn have_same_failures(one: Option<&Failures>, other: Option<&Failures>) -> bool {
    let known = |failures: Option<&Failures>| {
        failures.map(|of| (of.unclassified, of.status, of.code.clone()))
    };
    known(one) == known(other)
}

/// Compares the secrets themselves. The result alone leaves this function.
fn are_same_credentials(one: Option<&Arc<Credentials>>, other: Option<&Arc<Credentials>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one.is_none() && other.is_none() };
    let secrets = |of: &Credentials| {
        let tokens = of.tokens();
        let secrets = [tokens.access_token(), tokens.refresh_token(), tokens.token_secret()];
        secrets.map(|secret| secret.cloned())
    };
    let same_secrets = secrets(one).iter().zip(&secrets(other)).all(|pair| match pair {
        (Some(one), Some(other)) => one.expose_secret() == other.expose_secret(),
        (one, other) => one.is_none() && other.is_none(),
    });
    let ends =
        |of: &Credentials| [of.tokens().access_expires_at(), of.tokens().refresh_expires_at()];
    same_secrets
        && one.authority() == other.authority()
        && one.client() == other.client()
        && one.tokens().attributes() == other.tokens().attributes()
        && ends(one).into_iter().zip(ends(other)).all(|(one, other)| are_near(one, other))
}

/// Whether two times of one clock are equal, but for what a store rounds.
fn are_near(one: Option<SystemTime>, other: Option<SystemTime>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return one == other };
    let apart = one.duration_since(other).unwrap_or_else(|before| before.duration());
    apart <= ROUNDED
}

/// How much a store may round a time in credentials.
const ROUNDED: Duration = Duration::from_secs(1);
