use super::*;
use crate::store::sqlite::tests::Folder;

#[test]
fn a_holder_lives_until_it_is_dropped_or_the_machine_is_started_anew() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let new = || ProcessLock::new(&database, false).unwrap();
    let (one, two) = (new(), new());
    assert!(!one.is_dead(&two.name, &two.boot) && !one.is_dead(&one.name, &one.boot));
    assert!(one.is_dead(&two.name, "another boot"));
    assert!(one.has_peers());
    let (name, boot) = (two.name, two.boot.clone());
    drop(two);
    assert!(one.is_dead(&name, &boot));
    assert!(!one.has_peers());
}

/// What a stranger can put where a lock is looked for.
fn foreign_files() -> Vec<fn(&Path, &Path)> {
    let mut ways: Vec<fn(&Path, &Path)> = vec![
        |_, at| {
            let made = std::process::Command::new("mkfifo").arg(at).status().unwrap();
            assert!(made.success());
        },
        |folder, at| {
            let elsewhere = folder.join("elsewhere");
            fs::write(&elsewhere, "").unwrap();
            std::os::unix::fs::symlink(elsewhere, at).unwrap();
        },
        |_, at| std::os::unix::fs::symlink("/dev/zero", at).unwrap(),
        |_, at| fs::create_dir(at).unwrap(),
    ];
    if geteuid().is_root() {
        ways.push(|_, at| {
            fs::write(at, "").unwrap();
            std::os::unix::fs::chown(at, Some(65_534), None).unwrap();
        });
    }
    ways
}

#[test]
fn what_a_stranger_puts_in_the_place_of_a_lock_is_no_peer_and_proves_no_death() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let one = ProcessLock::new(&database, false).unwrap();
    let at = path(&database, &[7; 16]);
    for put in foreign_files() {
        put(folder.path(), &at);
        assert_eq!(inspect(&at), LockFile::Foreign);
        assert!(!one.is_dead(&[7; 16], &one.boot) && !one.has_peers());
        assert!(fs::symlink_metadata(&at).is_ok(), "it is left alone");
        fs::remove_file(&at).or_else(|_| fs::remove_dir(&at)).unwrap();
    }
    fs::write(folder.path().join("a.db.holder-else"), "").unwrap();
    assert!(!one.has_peers());
}

#[test]
fn a_reader_can_neither_open_a_lock_nor_pass_for_a_peer() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let one = ProcessLock::new(&database, false).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&path(&database, &one.name)), 0o600);
    // What 0.1.0 left behind, and somebody who reads it.
    let left = path(&database, &[7; 16]);
    fs::write(&left, "").unwrap();
    fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
    let reader = File::open(&left).unwrap();
    flock(&reader, FlockOperation::NonBlockingLockShared).unwrap();
    assert!(one.is_dead(&[7; 16], &one.boot) && !one.has_peers());
    assert!(!left.exists());
    // One that lives is kept for its user from now on.
    fs::write(&left, "").unwrap();
    fs::set_permissions(&left, Permissions::from_mode(0o644)).unwrap();
    let holder = File::open(&left).unwrap();
    flock(&holder, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(one.has_peers());
    assert_eq!(mode(&left), 0o600);
}

#[test]
fn a_process_of_version_1_is_told_apart_and_what_it_left_is_cleared_up() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let one = ProcessLock::new(&database, false).unwrap();
    assert!(!one.has_older_peers());
    let lock = folder.path().join(format!("a.db.owner-{}", "7".repeat(32)));
    let older = File::create_new(&lock).unwrap();
    flock(&older, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(one.has_older_peers() && !one.has_peers());
    drop(older);
    assert!(!one.has_older_peers() && !lock.exists());
}

#[test]
fn a_folder_with_more_locks_than_are_looked_at_counts_as_shared() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let one = ProcessLock::new(&database, false).unwrap();
    for number in 0..=u128::try_from(OWNER_LOCKS).unwrap() {
        let at = path(&database, &number.to_be_bytes());
        std::os::unix::fs::symlink("nowhere", at).unwrap();
    }
    assert!(one.has_peers());
}

#[test]
fn what_a_killed_process_left_is_dead_and_cleared_up() {
    let folder = Folder::new();
    let database = folder.path().join("a.db");
    let one = ProcessLock::new(&database, false).unwrap();
    let left = path(&database, &[7; 16]);
    drop(File::create_new(&left).unwrap());
    assert!(one.is_dead(&[7; 16], &one.boot));
    assert!(!one.has_peers());
    assert!(!left.exists() && path(&database, &one.name).exists());
}
