//! Key rings and database files.

use std::path::Path;
use std::time::Duration;

use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::sqlite::SqliteStore;
use session_warden::store::{StoreError, StoreErrorKind};
use tempfile::TempDir;

use super::*;
use crate::support::provider_of;

fn ring(number: u32, byte: u8) -> KeyRing {
    KeyRing::new(number, MasterKey::from([byte; 32]))
}

/// Checks kind and text of an error of `open`.
#[track_caller]
fn cannot_open(path: &Path, error: &StoreError, text: &str) {
    let text = format!("the SQLite file {path:?} cannot be opened: {text}");
    assert_eq!((error.to_string(), error.kind()), (text, StoreErrorKind::Unavailable));
    repeats_no_cause(error);
}

/// A supervisor on the file in this folder.
async fn on_file(folder: &TempDir, server: &FakeAuthServer, ring: KeyRing) -> Supervisor {
    let store = SqliteStore::open(folder.path().join("sessions.db")).unwrap();
    let builder = builder().store(store).key_ring(ring).provider("acme", provider_of(server));
    builder.start().await.unwrap()
}

async fn establish(supervisor: &Supervisor) {
    let password = Password::new("ada", "pw");
    let _ = session::<OAuth2>(supervisor, "acme").establish(password).await.unwrap();
}

#[tokio::test]
async fn a_supervisor_on_a_file_without_keys_says_how_to_give_it_some() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let store = SqliteStore::open(&path).unwrap();
    let builder = builder().store(store).provider("acme", https());
    let error = builder.start().await.map(drop).unwrap_err();
    let text = format!(
        "wrong configuration: the SQLite file {path:?} cannot be opened: the store's records are \
         encrypted with keys that must outlive the process; give the supervisor a key ring \
         (`SupervisorBuilder::key_ring` with `KeyRing::from_file` or `KeyRing::from_env`)"
    );
    says(&error, ErrorKind::Misconfigured, &text);
}

/// This is allowed, and no error.
#[tokio::test]
async fn a_second_supervisor_on_a_file_shares_its_sessions() {
    let (folder, server) = (tempfile::tempdir().unwrap(), fake_server().await);
    let first = on_file(&folder, &server, ring(1, 1)).await;
    let second = on_file(&folder, &server, ring(1, 1)).await;
    establish(&first).await;
    session::<OAuth2>(&second, "acme").permission_token().await.map(drop).unwrap();
    assert_eq!(server.refreshes(), 0);
}

/// Both ways round, at once because each waits for as long as the other process might take to end.
#[test]
fn exclusive_on_a_file_in_use_names_the_file_and_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let (shared, alone) = (folder.path().join("shared.db"), folder.path().join("alone.db"));
    let builder = |path: &Path| SqliteStore::builder(path).key_ring(ring(1, 1));
    let holders = (builder(&shared).open().unwrap(), builder(&alone).exclusive().open().unwrap());
    let text = "another process keeps the file locked, probably because it or this process opened \
                the file with `exclusive`; stop the other process, or open the file without \
                `exclusive` in both";
    std::thread::scope(|scope| {
        let late = scope.spawn(|| builder(&shared).exclusive().open().unwrap_err());
        let second = scope.spawn(|| builder(&alone).open().unwrap_err());
        cannot_open(&shared, &late.join().unwrap(), text);
        cannot_open(&alone, &second.join().unwrap(), text);
    });
    drop(holders);
}

#[test]
fn a_passphrase_is_no_key() {
    let error = KeyRing::parse("correct-horse-battery-staple").map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: entry 1 of the key ring does not have the form <number>:<base64 of 32 \
         bytes>, and a passphrase is not a key; write 1:<key>, with a key from `openssl rand \
         -base64 32`",
    );
    let error = KeyRing::parse("1:correct-horse-battery-staple").map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: key 1 of the key ring is not base64, and a passphrase is not a key; make \
         a key with `openssl rand -base64 32`",
    );
}

#[test]
fn an_unset_key_variable_and_a_missing_key_file_are_named() {
    let error = KeyRing::from_env("SESSION_WARDEN_TEST_UNSET").map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: the environment variable SESSION_WARDEN_TEST_UNSET is not set; set it to \
         a key ring, for example 1:<key>, with a key from `openssl rand -base64 32`",
    );
    let error = KeyRing::from_file("/nowhere/keys").map(drop).unwrap_err();
    says(
        &error,
        ErrorKind::InvalidInput,
        "invalid input: the key ring's file does not exist; check the path",
    );
}

#[tokio::test]
async fn a_file_that_another_key_sealed_says_which_key_is_missing() {
    let (folder, server) = (tempfile::tempdir().unwrap(), fake_server().await);
    let first = on_file(&folder, &server, ring(1, 1)).await;
    establish(&first).await;
    let _ = first.shutdown(Duration::from_secs(20)).await;
    for (other, text) in [
        (
            ring(2, 2),
            "the store failed: key 1, which encrypts the session's record, is not in the key \
             ring; add it again",
        ),
        (
            ring(1, 2),
            "the store failed: the session's record does not open with the key of its number: if \
             the key ring has another key under that number, restore the old key, and otherwise \
             restore a backup",
        ),
    ] {
        let second = on_file(&folder, &server, other).await;
        let error = session::<OAuth2>(&second, "acme").permission_token().await.unwrap_err();
        says(&error, ErrorKind::Store, text);
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("sessions.db");
    let error = SqliteStore::open(&path).unwrap_err();
    cannot_open(&path, &error, "the folder does not exist; create it, or name another path");
}

#[test]
fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "These are notes, and not a database at all.").unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    let text = "the file is not an SQLite database; name another path, or restore a backup";
    cannot_open(&path, &error, text);
    let error = SqliteStore::open(folder.path()).unwrap_err();
    cannot_open(
        folder.path(),
        &error,
        "the path, or a path beside it that SQLite uses, does not name a regular file; name \
         another path",
    );
}
