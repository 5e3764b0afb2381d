//! Writes the journal of a running supervisor. A thread of its own does the work, so that no task
//! waits for the disk on a thread of the runtime, and so that entries that come at the same time
//! share one fsync.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::entry::Entry;
use super::journal_fault::JournalFault;
use super::journal_file::JournalFile;
use super::slot_format::slot_with;
use crate::policy::JOURNAL_BATCH;
use crate::seal::KeyRing;
use crate::store::Owner;
use crate::task;

/// The journal of a running supervisor.
pub(crate) struct JournalWriter {
    ring: KeyRing,
    path: PathBuf,
    slots: Arc<Mutex<Slots>>,
    jobs: Sender<Job>,
}

/// Which slots the file has, and which of them are in use.
struct Slots {
    /// The disk has room for an entry in each of these.
    free: Vec<u32>,
    /// Their room must be written before they are used.
    unprepared: Vec<u32>,
    /// How many have an entry that the thread will erase.
    erased_soon: u32,
    /// How many there are, in use or not.
    made: u32,
    most: u32,
    /// How many may hold an entry.
    written: usize,
    /// The store knows that the supervisor has ended.
    retired: bool,
}

enum Job {
    Prepare {
        room: Room,
        reply: oneshot::Sender<Result<Room, JournalFault>>,
    },
    Write {
        slot: u32,
        bytes: Vec<u8>,
        reply: oneshot::Sender<Result<(), JournalFault>>,
    },
    Erase {
        slot: u32,
    },
    /// Only tells that all jobs before it are done.
    Reach {
        reply: oneshot::Sender<()>,
    },
}

impl JournalWriter {
    /// Writes the head of the file, and starts the thread.
    pub(super) fn start(
        mut file: JournalFile,
        (owner, ring): (Owner, KeyRing),
        max_entries: usize,
    ) -> io::Result<Arc<Self>> {
        let path = file.path().to_owned();
        if let Err(error) = file.write_head(owner) {
            drop(file.remove());
            return Err(error);
        }
        let most = u32::try_from(max_entries).unwrap_or(u32::MAX);
        let (free, unprepared) = (Vec::new(), Vec::new());
        let slots =
            Slots { free, unprepared, erased_soon: 0, made: 0, most, written: 0, retired: false };
        let slots = Arc::new(Mutex::new(slots));
        let (jobs, queue) = mpsc::channel();
        let shared = Arc::clone(&slots);
        task::thread("warden-journal", move || run(file, &queue, &shared))?;
        Ok(Arc::new(Self { ring, path, slots, jobs }))
    }

    /// Reserves room for an entry, before the claim of its exchange. The room is on the disk.
    pub(crate) async fn reserve(self: &Arc<Self>) -> Result<Room, JournalFault> {
        let room = loop {
            if let Some(room) = self.next_room() {
                break room;
            }
            if self.slots.lock().erased_soon == 0 {
                return Err(JournalFault::Full);
            }
            // The jobs are done in their order: after this one, those slots are free.
            let (reply, reached) = oneshot::channel();
            self.send(Job::Reach { reply })?;
            reached.await.map_err(|_| JournalFault::Closed)?;
        };
        if *room.state.lock() == RoomState::Prepared {
            return Ok(room);
        }
        let (reply, prepared) = oneshot::channel();
        self.send(Job::Prepare { room, reply })?;
        prepared.await.unwrap_or(Err(JournalFault::Closed))
    }

    /// How many entries the store lacks, as far as is known.
    pub(crate) fn entries(&self) -> usize {
        self.slots.lock().written
    }

    /// Notes that the store knows that the supervisor has ended. The file is not needed after that,
    /// unless it has entries. Otherwise it shows the next process that this one has ended.
    pub(crate) fn retire(&self) {
        self.slots.lock().retired = true;
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// The supervisor's own file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn next_room(self: &Arc<Self>) -> Option<Room> {
        let mut slots = self.slots.lock();
        let (slot, state) = if let Some(slot) = slots.free.pop() {
            (slot, RoomState::Prepared)
        } else if let Some(slot) = slots.unprepared.pop() {
            (slot, RoomState::Unprepared)
        } else if slots.made < slots.most {
            slots.made += 1;
            (slots.made - 1, RoomState::Unprepared)
        } else {
            return None;
        };
        Some(Room { writer: Arc::clone(self), slot, state: Mutex::new(state) })
    }

    fn send(&self, job: Job) -> Result<(), JournalFault> {
        self.jobs.send(job).map_err(|_| JournalFault::Closed)
    }
}

/// A slot that one exchange has reserved.
pub(crate) struct Room {
    writer: Arc<JournalWriter>,
    slot: u32,
    state: Mutex<RoomState>,
}

type WriteReply = oneshot::Receiver<Result<(), JournalFault>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomState {
    Unprepared,
    Prepared,
    /// An entry was sent to the thread.
    Written,
    /// The slot belongs to this room no more.
    Freed,
}

impl Room {
    /// Writes the entry. It is on the disk when this returns.
    pub(crate) async fn write(&self, entry: &Entry) -> Result<(), JournalFault> {
        let bytes = slot_with(&entry.seal(&self.writer.ring)?).ok_or(JournalFault::TooLarge)?;
        let Some(written) = self.send_write(bytes)? else { return Ok(()) };
        let written = written.await.unwrap_or(Err(JournalFault::Closed));
        if written.is_err() {
            let mut state = self.state.lock();
            // `free` may have come first. The slot is then another room's.
            if *state == RoomState::Written {
                self.set(&mut state, RoomState::Unprepared);
            }
        }
        written
    }

    /// Sends the entry to the thread; `None` if the room was freed meanwhile, because the store has
    /// the entry already.
    fn send_write(&self, bytes: Vec<u8>) -> Result<Option<WriteReply>, JournalFault> {
        // The lock is held until the job is sent: otherwise `free` could come in between, and the
        // entry would overwrite that of the slot's next room.
        let mut state = self.state.lock();
        if *state == RoomState::Freed {
            return Ok(None);
        }
        // Before it is sent: if the caller gives up now, the entry may still be written, and the
        // slot must not be used for another one.
        self.set(&mut state, RoomState::Written);
        let (reply, written) = oneshot::channel();
        self.writer.send(Job::Write { slot: self.slot, bytes, reply })?;
        Ok(Some(written))
    }

    /// Frees the slot: the store has the entry, or it counts no more.
    pub(crate) fn free(&self) {
        let mut state = self.state.lock();
        let former = self.set(&mut state, RoomState::Freed);
        if former == RoomState::Written {
            // The thread gives the slot back when it has erased the entry, so that a disk that
            // hangs does not fill the queue. Fails only when the thread has ended; the entry is then
            // replayed once more.
            self.writer.slots.lock().erased_soon += 1;
            let _ = self.writer.send(Job::Erase { slot: self.slot });
        } else {
            self.give_back(former);
        }
    }

    /// Sets the state, and counts the entries. Returns the former state.
    fn set(&self, state: &mut RoomState, to: RoomState) -> RoomState {
        let former = std::mem::replace(state, to);
        let mut slots = self.writer.slots.lock();
        match (former == RoomState::Written, to == RoomState::Written) {
            (false, true) => slots.written += 1,
            (true, false) => slots.written -= 1,
            (true, true) | (false, false) => {}
        }
        former
    }

    fn give_back(&self, former: RoomState) {
        let mut slots = self.writer.slots.lock();
        match former {
            RoomState::Unprepared => slots.unprepared.push(self.slot),
            RoomState::Prepared => slots.free.push(self.slot),
            // The slot of an entry that the store lacks stays in use: the next process replays it.
            RoomState::Written | RoomState::Freed => {}
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let state = *self.state.get_mut();
        self.give_back(state);
    }
}

/// Does the jobs until the supervisor is gone. Removes the file then if it is not needed.
fn run(mut file: JournalFile, queue: &Receiver<Job>, slots: &Mutex<Slots>) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(JOURNAL_BATCH - 1));
        let mut done: Vec<_> = batch.iter().map(|job| file.carry_out(job)).collect();
        if batch.iter().any(|job| matches!(job, Job::Prepare { .. } | Job::Write { .. }))
            && let Err(error) = file.sync()
        {
            // Which of them are on the disk cannot be known.
            done.fill(Err(JournalFault::of(&error)));
        }
        for (job, done) in batch.into_iter().zip(done) {
            answer(job, done, slots);
        }
    }
    let slots = slots.lock();
    if slots.retired && slots.written == 0 {
        drop(file.remove());
    }
}

fn answer(job: Job, done: Result<(), JournalFault>, slots: &Mutex<Slots>) {
    match job {
        Job::Prepare { room, reply } => {
            if done.is_ok() {
                *room.state.lock() = RoomState::Prepared;
            }
            // If nobody waits any more, the room is dropped and gives its slot back.
            drop(reply.send(done.map(|()| room)));
        }
        Job::Write { reply, .. } => drop(reply.send(done)),
        Job::Reach { reply } => drop(reply.send(())),
        Job::Erase { slot } => {
            let mut slots = slots.lock();
            slots.erased_soon -= 1;
            if done.is_ok() { slots.free.push(slot) } else { slots.unprepared.push(slot) }
        }
    }
}

impl JournalFile {
    fn carry_out(&mut self, job: &Job) -> Result<(), JournalFault> {
        let done = match job {
            Job::Prepare { room, .. } => self.fill(room.slot),
            Job::Write { slot, bytes, .. } => self.write(*slot, bytes),
            Job::Erase { slot } => self.erase(*slot),
            Job::Reach { .. } => Ok(()),
        };
        done.map_err(|error| JournalFault::of(&error))
    }
}
