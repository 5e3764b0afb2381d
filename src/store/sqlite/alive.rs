//! Which of the processes on a file live.
//!
//! Each opened store holds a lock on a file of its own beside the database, which the operating
//! system drops when the process dies. Whoever finds a claim asks for its holder's lock: if it can
//! be had, or the file is gone, or the machine was started since, the holder is dead, and its
//! lease need not be waited for.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::shared::{Holder, SHARED};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use self::single::{Holder, SHARED};

/// Tells an opened store from all others.
pub(super) type Name = [u8; 16];

#[cfg(any(target_os = "linux", target_os = "android"))]
mod shared {
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    use rustix::fs::{FlockOperation, flock, fstat};

    use super::Name;
    use crate::seal::random;

    /// Several processes may open one file: their boot times are of one clock.
    pub(in crate::store::sqlite) const SHARED: bool = true;

    /// This process's place among those on the file, until it is dropped.
    pub(in crate::store::sqlite) struct Holder {
        pub(in crate::store::sqlite) name: Name,
        /// Of the running kernel: another one means that the machine was started since.
        pub(in crate::store::sqlite) boot: String,
        database: PathBuf,
        /// No other process has the file open: who has another name is dead.
        alone: bool,
        _lock: File,
    }

    impl Holder {
        pub(in crate::store::sqlite) fn new(database: &Path, alone: bool) -> io::Result<Self> {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
            loop {
                let name: Name = random().map_err(io::Error::other)?;
                let path = path(database, &name);
                let lock = File::create_new(&path)?;
                // Between its making and its locking, somebody who clears up may take it for a dead
                // one's and remove it; then another is made.
                let mine = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                    && fstat(&lock).is_ok_and(|stat| stat.st_nlink > 0);
                if mine {
                    let database = database.to_owned();
                    return Ok(Self { name, boot, database, alone, _lock: lock });
                }
            }
        }

        /// Whether the holder of this name, which was started with this boot, lives no more.
        pub(in crate::store::sqlite) fn is_dead(&self, name: &[u8], boot: &str) -> bool {
            if name == self.name {
                return false;
            }
            let name: Result<Name, _> = name.try_into();
            self.alone
                || boot != self.boot
                || name.is_ok_and(|name| is_dead(&path(&self.database, &name)))
        }

        /// Whether another lives. The files of the dead are removed.
        pub(in crate::store::sqlite) fn has_peers(&self) -> bool {
            let Some(prefix) = prefix(&self.database) else { return false };
            let own = path(&self.database, &self.name);
            let Some(Ok(entries)) = own.parent().map(fs::read_dir) else { return false };
            let mut peers = false;
            for entry in entries.flatten() {
                let name = entry.file_name();
                let owner = name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
                if owner && own.file_name() != Some(&*name) {
                    peers |= !remove_dead(&entry.path());
                }
            }
            peers
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            // While the lock is held, so that nobody finds it free with the name still there. What
            // is left behind is cleared up by others.
            drop(fs::remove_file(path(&self.database, &self.name)));
        }
    }

    fn prefix(database: &Path) -> Option<OsString> {
        let mut name = database.file_name()?.to_owned();
        name.push(".owner-");
        Some(name)
    }

    fn path(database: &Path, name: &Name) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push(".owner-");
        path.push(format!("{:032x}", u128::from_be_bytes(*name)));
        path.into()
    }

    /// A shared lock, so that two who ask at once do not take each other for the holder.
    fn is_dead(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whether it was a dead one's.
    fn remove_dead(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => {
                let dead = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
                if dead {
                    drop(fs::remove_file(path));
                }
                dead
            }
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_holder_lives_until_it_is_dropped_or_the_machine_is_started_anew() {
            let folder = crate::store::sqlite::folder::Folder::new();
            let database = folder.path().join("a.db");
            let new = || Holder::new(&database, false).unwrap();
            let (one, two) = (new(), new());
            assert!(!one.is_dead(&two.name, &two.boot) && !one.is_dead(&one.name, &one.boot));
            assert!(one.is_dead(&two.name, "another boot"));
            assert!(one.has_peers());
            let (name, boot) = (two.name, two.boot.clone());
            drop(two);
            assert!(one.is_dead(&name, &boot));
            assert!(!one.has_peers());
        }

        #[test]
        fn what_a_killed_process_left_is_dead_and_cleared_up() {
            let folder = crate::store::sqlite::folder::Folder::new();
            let database = folder.path().join("a.db");
            let one = Holder::new(&database, false).unwrap();
            let left = path(&database, &[7; 16]);
            drop(File::create_new(&left).unwrap());
            assert!(one.is_dead(&[7; 16], &one.boot));
            assert!(!one.has_peers());
            assert!(!left.exists() && path(&database, &one.name).exists());
        }
    }
}

/// Elsewhere boot times of two processes cannot be compared, so a file is one process's at a time:
/// SQLite's own lock sees to that, and a claim of another name is a dead one's.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod single {
    use std::io;
    use std::path::Path;

    use super::Name;
    use crate::seal::random;

    pub(in crate::store::sqlite) const SHARED: bool = false;

    pub(in crate::store::sqlite) struct Holder {
        pub(in crate::store::sqlite) name: Name,
        pub(in crate::store::sqlite) boot: String,
    }

    impl Holder {
        pub(in crate::store::sqlite) fn new(_: &Path, _alone: bool) -> io::Result<Self> {
            let name: Name = random().map_err(io::Error::other)?;
            Ok(Self { name, boot: String::new() })
        }

        pub(in crate::store::sqlite) fn is_dead(&self, name: &[u8], _: &str) -> bool {
            name != self.name
        }

        pub(in crate::store::sqlite) fn has_peers(&self) -> bool {
            false
        }
    }
}
