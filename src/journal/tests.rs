use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::slot_format::{ENTRY_BYTES, slot_offset};
use super::*;
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::policy::JOURNAL_SLOT;
use crate::seal::MasterKey;
use crate::store::{Attempt, ClaimId, Commit, Ends, Intent, Statement};
use crate::token::{Credentials, Tokens};

const OWNER: Owner = Owner(0xA11CE);

fn ring(number: u32) -> KeyRing {
    KeyRing::new(number, MasterKey::from([7; 32]))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn started(folder: &TempDir, owner: Owner, max_entries: usize) -> Arc<JournalWriter> {
    let journal = Journal::open(folder.path()).unwrap().max_entries(max_entries);
    journal.start(owner, ring(1)).unwrap()
}

fn entry_with(token: &str) -> Entry {
    let key = SessionKey::new("tenant", "device").unwrap();
    let tokens = Tokens::new(Arc::from("{}")).with_access_token(token, None);
    let credentials = Arc::new(Credentials::new(tokens, "https://a", "c"));
    let attempt = Attempt { base: 3, fence: 7, claim: ClaimId(u64::MAX) };
    let ends = Ends { access_in: Some(Duration::from_secs(60)), ..Ends::default() };
    let commit = Commit { intent: Intent::Refresh, epoch: 2, attempt, credentials, ends };
    let id = SessionId::new(ProviderName::new("provider").unwrap(), key);
    Entry { id, commit, at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) }
}

/// The journals of dead processes beside this one. The lock of a supervisor that was just dropped is
/// free as soon as its thread has ended.
fn dead(beside: &JournalWriter, count: usize) -> Vec<DeadJournal> {
    let (journals, mut found) = (DeadJournals::beside(beside), Vec::new());
    while found.len() < count {
        found.extend(journals.take_over(found.len()).unwrap());
        std::thread::yield_now();
    }
    found
}

fn files(folder: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn an_entry_opens_as_it_was_written() {
    let entry = entry_with("the-token");
    let sealed = entry.seal(&ring(1)).unwrap();
    let opened = Entry::open(&sealed, &ring(1)).unwrap();
    assert_eq!((opened.id, opened.at), (entry.id, entry.at));
    let (was, is) = (&entry.commit, &opened.commit);
    assert_eq!((is.intent, is.epoch, is.attempt, is.ends), (was.intent, 2, was.attempt, was.ends));
    let access = is.credentials.tokens().access_token().unwrap();
    assert_eq!(access.expose_secret(), "the-token");
    assert!(!sealed.windows(9).any(|bytes| bytes == b"the-token"), "it is encrypted");
}

#[test]
fn a_journal_has_the_usual_number_of_entries_and_at_least_one() {
    let folder = folder();
    let entries = |journal: &Journal| format!("{journal:?}");
    let journal = Journal::open(folder.path()).unwrap();
    let expected = format!("Journal {{ max_entries: {JOURNAL_ENTRIES}, .. }}");
    assert_eq!(entries(&journal), expected);
    assert_eq!(entries(&journal.max_entries(0)), "Journal { max_entries: 1, .. }");
}

#[test]
fn an_entry_that_was_changed_does_not_open() {
    let sealed = entry_with("access").seal(&ring(1)).unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        Entry::open(&changed, &ring(1)).unwrap_err();
        Entry::open(&sealed[..at], &ring(1)).unwrap_err();
    }
}

#[test]
fn an_entry_whose_key_is_missing_says_which_and_one_under_another_key_does_not_open() {
    let sealed = entry_with("access").seal(&ring(1)).unwrap();
    assert_eq!(Entry::open(&sealed, &ring(2)).unwrap_err(), EntryFault::KeyMissing(1));
    let other = KeyRing::new(1, MasterKey::from([8; 32]));
    assert_eq!(Entry::open(&sealed, &other).unwrap_err(), EntryFault::Altered);
}

#[test]
fn the_durations_of_an_entry_count_from_the_time_of_its_response() {
    let entry = entry_with("access");
    for (passed, left) in [(0, 60), (10, 50), (100, 0)] {
        let statement = entry.statement(entry.at + Duration::from_secs(passed));
        let Statement::Commit(commit) = statement else { panic!("{statement:?}") };
        assert_eq!(commit.ends.access_in, Some(Duration::from_secs(left)));
    }
}

#[tokio::test]
async fn an_entry_of_a_dead_process_is_found_with_its_owner() {
    let folder = folder();
    let (own, other) = (started(&folder, Owner(1), 4), started(&folder, OWNER, 4));
    let room = other.reserve().await.unwrap();
    room.write(&entry_with("access")).await.unwrap();
    assert_eq!((other.entries(), own.entries()), (1, 0));
    let alive = DeadJournals::beside(&own).take_over(0).unwrap();
    assert!(alive.is_empty(), "the other is alive");
    drop((room, other));
    let mut found = dead(&own, 1);
    let entries = found[0].entries().unwrap();
    let [(0, Ok(SlotContent::Entry(bytes)))] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(Entry::open(bytes, &ring(1)).unwrap().commit.epoch, 2);
    assert_eq!(found[0].owner(), OWNER);
    let taken = DeadJournals::beside(&own).take_over(1).unwrap();
    assert!(taken.is_empty(), "it is locked by the one that replays it");
    found[0].erase(0).unwrap();
    assert!(found[0].entries().unwrap().is_empty());
    found.remove(0).remove().unwrap();
    assert_eq!(files(&folder), [own.path()]);
}

#[tokio::test]
async fn a_journal_without_entries_is_removed_when_its_supervisor_has_retired() {
    let folder = folder();
    let writer = started(&folder, OWNER, 4);
    let room = writer.reserve().await.unwrap();
    room.write(&entry_with("access")).await.unwrap();
    room.free();
    let unused = writer.reserve().await.unwrap();
    writer.retire();
    drop((room, unused, writer));
    while !files(&folder).is_empty() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_slot_is_used_again_when_its_entry_is_saved_and_its_room_is_on_the_disk_before() {
    let folder = folder();
    let writer = started(&folder, OWNER, 2);
    let length = || fs::metadata(writer.path()).unwrap().len();
    for round in 0..4 {
        let (first, second) = (writer.reserve().await.unwrap(), writer.reserve().await.unwrap());
        assert_eq!(length(), slot_offset(2), "round {round}");
        assert_eq!(writer.reserve().await.err(), Some(JournalFault::Full));
        first.write(&entry_with("access")).await.unwrap();
        first.free();
        first.free();
        drop(second);
    }
    assert_eq!((writer.entries(), length()), (0, slot_offset(2)));
    // An entry that is not saved keeps its slot, also when nobody waits for it any more.
    let kept = writer.reserve().await.unwrap();
    kept.write(&entry_with("access")).await.unwrap();
    drop(kept);
    let _other = writer.reserve().await.unwrap();
    assert_eq!(writer.reserve().await.err(), Some(JournalFault::Full));
    assert_eq!(writer.entries(), 1);
}

#[tokio::test]
async fn rooms_that_come_at_the_same_time_are_different_ones() {
    let folder = folder();
    let writer = started(&folder, OWNER, 200);
    let rooms = futures_util::future::join_all((0..200).map(|_| writer.reserve())).await;
    let rooms: Vec<_> = rooms.into_iter().map(Result::unwrap).collect();
    let entry = entry_with("access");
    let written = rooms.iter().map(|room| room.write(&entry));
    for written in futures_util::future::join_all(written).await {
        written.unwrap();
    }
    let own = started(&folder, Owner(1), 1);
    drop((rooms, writer));
    assert_eq!(dead(&own, 1)[0].entries().unwrap().len(), 200);
}

#[tokio::test]
async fn credentials_that_do_not_fit_are_refused_and_leave_their_room_free() {
    let folder = folder();
    let writer = started(&folder, OWNER, 1);
    let room = writer.reserve().await.unwrap();
    let large = entry_with(&"a".repeat(ENTRY_BYTES));
    assert_eq!(room.write(&large).await, Err(JournalFault::TooLarge));
    assert_eq!(writer.entries(), 0);
    room.write(&entry_with(&"a".repeat(ENTRY_BYTES - 2048))).await.unwrap();
    assert_eq!(writer.entries(), 1);
}

#[tokio::test]
async fn an_entry_that_was_written_in_part_is_told_from_the_others() {
    let folder = folder();
    let (own, other) = (started(&folder, Owner(1), 4), started(&folder, OWNER, 4));
    let path = other.path().to_owned();
    for _ in 0..3 {
        let room = other.reserve().await.unwrap();
        room.write(&entry_with("access")).await.unwrap();
    }
    drop(other);
    // The machine lost its power in the middle of the last write, whose slot was not there before.
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(slot_offset(2) + 100).unwrap();
    let mut found = dead(&own, 1);
    let entries = found[0].entries().unwrap();
    let torn: Vec<_> = entries.iter().map(|(_, of)| matches!(of, Ok(SlotContent::Torn))).collect();
    assert_eq!(torn, [false, false, true]);
}

#[test]
fn files_that_are_no_journals_are_left_alone_and_blank_ones_are_removed() {
    let folder = folder();
    let writer = started(&folder, OWNER, 1);
    let path = |name: &str| folder.path().join(format!("{name:0>32}.journal"));
    fs::write(path("1"), b"").unwrap();
    fs::write(path("2"), vec![0; JOURNAL_SLOT]).unwrap();
    fs::write(path("3"), b"session-warden journal 2, of a later version").unwrap();
    fs::write(folder.path().join("notes.journal"), b"").unwrap();
    fs::create_dir(path("4")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(path("3"), path("5")).unwrap();
    let found = DeadJournals::beside(&writer).take_over(0).unwrap();
    assert!(found.is_empty());
    for (name, stays) in [("1", false), ("2", false), ("3", true), ("4", true)] {
        assert_eq!(path(name).exists(), stays, "{name}");
    }
    assert!(folder.path().join("notes.journal").exists());
}

#[test]
fn no_more_files_are_open_than_the_bound() {
    let folder = folder();
    let writer = started(&folder, OWNER, 1);
    for number in 0..=crate::policy::JOURNAL_FILES {
        let path = folder.path().join(format!("{number:032x}.journal"));
        fs::write(path, slot_format::file_head(OWNER)).unwrap();
    }
    let found = DeadJournals::beside(&writer).take_over(0).unwrap();
    assert_eq!(found.len(), crate::policy::JOURNAL_FILES);
    assert!(DeadJournals::beside(&writer).take_over(found.len()).unwrap().is_empty());
}

#[test]
fn a_folder_that_cannot_be_used_and_keys_that_do_not_last_are_refused() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused = Journal::open(file.join("journal")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    for ring in [KeyRing::generate().unwrap(), KeyRing::new(1, MasterKey::from([0; 32]))] {
        let journal = Journal::open(folder.path().join("new/journal")).unwrap();
        let refused = journal.start(OWNER, ring).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        assert!(refused.to_string().contains("key_ring"), "{refused}");
    }
}

#[cfg(unix)]
#[test]
fn only_the_process_s_user_can_read_the_journal() {
    use std::os::unix::fs::PermissionsExt;
    let parent = folder();
    let journal = Journal::open(parent.path().join("journal")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&parent.path().join("journal")), 0o700);
    assert_eq!(mode(journal.file.path()), 0o600);
}

#[tokio::test]
async fn an_entry_that_comes_after_its_room_was_freed_is_not_written() {
    let folder = folder();
    let journal = started(&folder, OWNER, 1);
    let freed = journal.reserve().await.unwrap();
    freed.free();
    let next = journal.reserve().await.unwrap();
    next.write(&entry_with("next")).await.unwrap();
    freed.write(&entry_with("late")).await.unwrap();
    freed.free();
    drop(freed);
    assert_eq!(journal.entries(), 1);
    assert_eq!(journal.reserve().await.err(), Some(JournalFault::Full), "the slot has one owner");
    drop((next, journal));
    let other = started(&folder, Owner(1), 1);
    let mut found = dead(&other, 1);
    let entries = found[0].entries().unwrap();
    let [(0, Ok(SlotContent::Entry(bytes)))] = &entries[..] else { panic!("{entries:?}") };
    let entry = Entry::open(bytes, &ring(1)).unwrap();
    let access = entry.commit.credentials.tokens().access_token().unwrap();
    assert_eq!(access.expose_secret(), "next");
}
