//! Saves what dead processes left in the journals of this supervisor's folder: at the start, and
//! from time to time, because a process beside this one may die too.

use std::sync::Arc;

use crate::event::{Event, EventKind};
use crate::journal::{DeadJournal, DeadJournals, Entry, EntryFault, JournalWriter, SlotContent};
use crate::log::{log_limited, log_session};
use crate::policy::JOURNAL_POLL;
use crate::session::context::Context;
use crate::store::{
    Intent, Outcome, Phase, Presence, Statement, StoreError, StoreErrorKind, Stored,
};

/// The journals that this supervisor replays.
pub(super) struct JournalReplay {
    writer: Arc<JournalWriter>,
    dead: Vec<DeadJournal>,
}

/// What a pass over one journal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Replayed {
    /// Entries that the store has now.
    saved: usize,
    /// Entries that count no more, because the session has newer credentials or was closed.
    obsolete: usize,
    /// Entries whose write did not end before the process died.
    torn: usize,
    /// Entries that stay, because the store did not take them yet, or because their key is missing.
    left: usize,
}

/// Replays the journals that are there; `None` if this supervisor keeps no journal.
pub(super) async fn first_pass(context: &Arc<Context>) -> Option<JournalReplay> {
    let writer = Arc::clone(context.journal.as_ref()?);
    let mut replay = JournalReplay { writer, dead: Vec::new() };
    replay.pass(context).await;
    Some(replay)
}

impl JournalReplay {
    /// Replays at intervals, until shutdown.
    pub(super) async fn run(mut self, context: Arc<Context>) {
        let closing = context.tasks.closing();
        let mut attempt = 0;
        loop {
            attempt = if self.dead.is_empty() { 0 } else { attempt + 1 };
            let again = context.policy.save_backoff.wait(attempt, fastrand::f64());
            let pause = if attempt == 0 { JOURNAL_POLL } else { again.min(JOURNAL_POLL) };
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                () = context.clock.sleep(pause) => {}
            }
            self.pass(&context).await;
        }
    }

    async fn pass(&mut self, context: &Arc<Context>) {
        self.find(context).await;
        let mut journals = std::mem::take(&mut self.dead).into_iter();
        for journal in journals.by_ref() {
            if let Some(journal) = self.replay(context, journal).await {
                // The others would only wait for the store one by one, and so would the start.
                self.dead.push(journal);
                break;
            }
        }
        self.dead.extend(journals);
    }

    /// Locks the journals of processes that have died since.
    async fn find(&mut self, context: &Context) {
        let (journals, known) = (DeadJournals::beside(&self.writer), self.dead.len());
        let found = context.tasks.spawn_blocking(move || journals.take_over(known)).await;
        match found {
            Some(Ok(found)) => self.dead.extend(found),
            Some(Err(error)) => {
                let error = error.kind();
                log_limited!(
                    context.log_limit(),
                    warn,
                    None,
                    "could not look for journals of dead processes",
                    cause = %error
                );
            }
            None => {}
        }
    }

    /// Returns the journal if the store did not answer. Otherwise nothing is left and the file is
    /// removed, or entries are left that this process cannot save now. It gives the file back then:
    /// another process may have the key, and the next pass finds the file again.
    async fn replay(
        &self,
        context: &Arc<Context>,
        mut journal: DeadJournal,
    ) -> Option<DeadJournal> {
        let read = context.tasks.spawn_blocking(move || (journal.entries(), journal)).await;
        let (entries, mut journal) = read?;
        let Ok(entries) = entries else {
            report_unread(context);
            return None;
        };
        let (mut replayed, mut over, mut is_away) = (Replayed::default(), Vec::new(), false);
        for (slot, content) in entries {
            let Ok(content) = content else {
                replayed.left += 1;
                report_unread(context);
                continue;
            };
            match self.entry(context, content, &mut replayed).await {
                Ok(true) => over.push(slot),
                Ok(false) => {}
                // Of this record alone. The others must not wait for it.
                Err(error) if is_of_record(error.kind()) => replayed.left += 1,
                Err(_) => {
                    is_away = true;
                    break;
                }
            }
        }
        report(context, &mut journal, replayed);
        if replayed.left == 0 && !is_away {
            // First said, and then removed: otherwise a crash in between would let the other processes
            // wait although nothing is left.
            if said(context, &journal).await {
                // If this fails, the next pass finds the file again, with entries that count no more.
                let _ = context.tasks.spawn_blocking(move || drop(journal.remove())).await;
                return None;
            }
            is_away = true;
        }
        let erase = move || {
            for slot in over {
                drop(journal.erase(slot));
            }
            journal
        };
        context.tasks.spawn_blocking(erase).await.filter(|_| is_away)
    }

    /// Sends one entry to the store. True if the store needs it no more.
    async fn entry(
        &self,
        context: &Arc<Context>,
        content: SlotContent,
        replayed: &mut Replayed,
    ) -> Result<bool, StoreError> {
        let bytes = match content {
            SlotContent::Entry(bytes) => bytes,
            SlotContent::Torn => {
                replayed.torn += 1;
                return Ok(false);
            }
            SlotContent::Free => return Ok(false),
        };
        let entry = match Entry::open(&bytes, self.writer.ring()) {
            Ok(entry) => entry,
            Err(fault) => {
                replayed.left += 1;
                report_unreadable(context, fault);
                return Ok(false);
            }
        };
        if let Some(closed) = closed_since(context, &entry).await? {
            replayed.obsolete += 1;
            report_obsolete(context, &entry, Some(closed));
            return Ok(true);
        }
        let statement: Statement = entry.statement(context.now().wall);
        match context.await_store(context.store.apply(&entry.id, statement)).await? {
            Outcome::Done(_) => {
                replayed.saved += 1;
                // The feed of changes may leave out what this process wrote itself.
                if let Some(slot) = context.registry.find(&entry.id) {
                    context.external_change(&slot, None);
                }
                Ok(true)
            }
            Outcome::Conflict(found) => {
                replayed.obsolete += 1;
                report_obsolete(context, &entry, found);
                Ok(true)
            }
            // A newer claim on the same credentials is running.
            Outcome::Leased(_) | Outcome::Wait { .. } => {
                replayed.left += 1;
                Ok(false)
            }
        }
    }
}

/// The record, if the user has signed out since the entry was written. A store takes a grant that
/// was on its way during a close; the entry of a journal may be from long before.
async fn closed_since(context: &Context, entry: &Entry) -> Result<Option<Stored>, StoreError> {
    if entry.commit.intent != Intent::Establish {
        return Ok(None);
    }
    let found = context.await_store(context.store.load(&entry.id)).await?;
    Ok(found.filter(|found| found.record.phase == Phase::Closed))
}

fn is_of_record(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Corrupt | StoreErrorKind::Sealed)
}

/// Says in the store that nothing of the dead supervisor is left; false if the store did not confirm
/// it.
async fn said(context: &Context, journal: &DeadJournal) -> bool {
    let said = context.store.presence(journal.owner(), Presence::Replayed);
    context.await_store(said).await.is_ok()
}

/// Logs what was done, and each torn entry once.
fn report(context: &Context, journal: &mut DeadJournal, replayed: Replayed) {
    let Replayed { saved, obsolete, torn, left } = replayed;
    if torn > 0 && !journal.reported {
        log_limited!(
            context.log_limit(),
            warn,
            None,
            "the journal of a dead process has entries that were not written to their end, so \
             their tokens are lost",
            torn
        );
        journal.reported = true;
    }
    if saved + obsolete > 0 {
        tracing::info!(saved, obsolete, left, "replayed the journal of a dead process");
    }
}

fn report_unread(context: &Context) {
    log_limited!(
        context.log_limit(),
        warn,
        None,
        "the disk did not give back an entry of the journal of a dead process; it is read again later"
    );
}

fn report_unreadable(context: &Context, fault: EntryFault) {
    log_limited!(
        context.log_limit(),
        error,
        None,
        "could not open an entry of the journal of a dead process, and keeps it; if a key was \
         removed from the key ring, add it again",
        cause = %fault
    );
}

/// Tokens of a session that was closed, forgotten or replaced meanwhile stay valid at the server. If
/// the session has newer tokens of the same grant, nothing is left of these.
fn report_obsolete(context: &Context, entry: &Entry, found: Option<Stored>) {
    let found = found.map(|found| found.record);
    // Of two grants, each has tokens of its own.
    let is_refresh = entry.commit.intent == Intent::Refresh;
    let of_its_grant = found
        .as_ref()
        .is_some_and(|found| found.phase != Phase::Closed && found.epoch == entry.commit.epoch);
    if is_refresh && of_its_grant {
        return;
    }
    log_session!(
        context.log_limit(),
        warn,
        &entry.id,
        "the journal of a dead process has tokens of a session that was closed or replaced meanwhile"
    );
    let epoch = found.map_or(0, |found| found.epoch);
    let (id, now, kind) = (&entry.id, context.now().wall, EventKind::TokensSuperseded);
    context.events.publish(Event::of_session(id, now, epoch, kind));
}
