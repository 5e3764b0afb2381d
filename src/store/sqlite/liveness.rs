//! Which of the processes on a file live.
//!
//! Each opened store holds a lock on a file of its own beside the database, which the operating
//! system drops when the process dies. Whoever finds a claim asks for its holder's lock: if it can
//! be had, or the file is gone, or the machine was started since, the holder is dead, and its
//! lease need not be waited for.
//!
//! Whoever can write the folder can put anything where a lock is looked for. So a lock is opened
//! without waiting and through no link, and counts only if it is a regular file of the process's
//! own user. Nobody else can open it, and so nobody else can lock it.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::shared::{MULTI_PROCESS, ProcessLock};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use self::single::{MULTI_PROCESS, ProcessLock};

/// Tells an opened store from all others.
pub(super) type Name = [u8; 16];

#[cfg(any(target_os = "linux", target_os = "android"))]
mod shared {
    use std::ffi::{OsStr, OsString};
    use std::fs::{self, File, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    use rustix::fs::{FlockOperation, OFlags, flock};
    use rustix::process::geteuid;

    use super::Name;
    use crate::policy::{OWNER_LOCK_TRIES, OWNER_LOCKS};
    use crate::seal::random;

    /// Several processes may open one file: their boot times are of one clock.
    pub(in crate::store::sqlite) const MULTI_PROCESS: bool = true;

    /// This process's place among those on the file, until it is dropped.
    pub(in crate::store::sqlite) struct ProcessLock {
        pub(in crate::store::sqlite) name: Name,
        /// Of the running kernel: another one means that the machine was started since.
        pub(in crate::store::sqlite) boot: String,
        database: PathBuf,
        /// No other process has the file open: who has another name is dead.
        exclusive: bool,
        _lock: File,
    }

    impl ProcessLock {
        pub(in crate::store::sqlite) fn new(database: &Path, exclusive: bool) -> io::Result<Self> {
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
            for _ in 0..OWNER_LOCK_TRIES {
                let name: Name = random().map_err(io::Error::other)?;
                let path = path(database, &name);
                let mut options = OpenOptions::new();
                let lock = options.write(true).create_new(true).mode(OWNER_ONLY).open(&path)?;
                // Between its making and its locking, somebody who clears up may take it for a dead
                // one's and remove it; then another is made.
                let mine = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                    && lock.metadata().is_ok_and(|file| file.nlink() > 0);
                if mine {
                    let database = database.to_owned();
                    return Ok(Self { name, boot, database, exclusive, _lock: lock });
                }
            }
            Err(io::ErrorKind::WouldBlock.into())
        }

        /// Whether the holder of this name, which was started with this boot, lives no more.
        pub(in crate::store::sqlite) fn is_dead(&self, name: &[u8], boot: &str) -> bool {
            if name == self.name {
                return false;
            }
            let name: Result<Name, _> = name.try_into();
            self.exclusive
                || boot != self.boot
                || name.is_ok_and(|name| is_dead(&path(&self.database, &name)))
        }

        /// Whether another lives. The files of the dead are removed, and those of strangers are
        /// passed over. Where there are too many files to look at, another is taken to live.
        pub(in crate::store::sqlite) fn has_peers(&self) -> bool {
            self.any_alive(LOCK_INFIX)
        }

        /// Whether a process of version 0.1 lives, whose locks have names of their own.
        pub(in crate::store::sqlite) fn has_older_peers(&self) -> bool {
            self.any_alive(OLDER_LOCK_INFIX)
        }

        fn any_alive(&self, kind: &str) -> bool {
            let own = path(&self.database, &self.name);
            let Some(Ok(entries)) = own.parent().map(fs::read_dir) else { return false };
            let (mut peers, mut seen) = (false, 0);
            for entry in entries.flatten() {
                let name = entry.file_name();
                if own.file_name() == Some(&*name) || !is_lock(&self.database, kind, &name) {
                    continue;
                }
                if seen == OWNER_LOCKS {
                    return true;
                }
                seen += 1;
                peers |= match inspect(&entry.path()) {
                    LockFile::Dead => {
                        drop(fs::remove_file(entry.path()));
                        false
                    }
                    LockFile::Held => true,
                    LockFile::Missing | LockFile::Foreign => false,
                };
            }
            peers
        }
    }

    impl Drop for ProcessLock {
        fn drop(&mut self) {
            // While the lock is held, so that nobody finds it free with the name still there. What
            // is left behind is cleared up by others.
            drop(fs::remove_file(path(&self.database, &self.name)));
        }
    }

    /// Its owner reads and writes it, and nobody else may do anything.
    const OWNER_ONLY: u32 = 0o600;

    /// What stands between the names of a database and of a holder. Another name than version 0.1
    /// gave its locks, so that its processes are told apart from this version's.
    const LOCK_INFIX: &str = ".holder-";
    const OLDER_LOCK_INFIX: &str = ".owner-";

    fn path(database: &Path, name: &Name) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push(LOCK_INFIX);
        path.push(format!("{:032x}", u128::from_be_bytes(*name)));
        path.into()
    }

    /// Whether a file beside the database has the name of an owner's lock.
    fn is_lock(database: &Path, kind: &str, name: &OsStr) -> bool {
        let mut prefix = database.file_name().map(OsString::from).unwrap_or_default();
        prefix.push(kind);
        let number = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        number.is_some_and(|number| number.len() == 32 && number.iter().all(u8::is_ascii_hexdigit))
    }

    /// What stands where a lock is looked for.
    #[derive(Debug, PartialEq, Eq)]
    enum LockFile {
        Missing,
        /// Nobody of this user made it.
        Foreign,
        Dead,
        Held,
    }

    /// A shared lock, so that two who look at once do not take each other for the holder, whose own
    /// is exclusive. One who holds it while its file is made has that one made anew.
    fn inspect(path: &Path) -> LockFile {
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let flags = flags.bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return LockFile::Missing,
            Err(_) => return if is_own(path) { LockFile::Held } else { LockFile::Foreign },
        };
        match file.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.uid() == geteuid().as_raw() => {
                restrict_permissions(&file, metadata.mode());
                let free = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
                if free { LockFile::Dead } else { LockFile::Held }
            }
            Ok(_) => LockFile::Foreign,
            Err(_) => LockFile::Held,
        }
    }

    /// Of one that cannot be opened.
    fn is_own(path: &Path) -> bool {
        let own = |file: fs::Metadata| file.is_file() && file.uid() == geteuid().as_raw();
        fs::symlink_metadata(path).is_ok_and(own)
    }

    /// Version 0.1.0 lets others read its locks, and so lock them.
    fn restrict_permissions(file: &File, mode: u32) {
        if mode & 0o077 != 0 {
            drop(file.set_permissions(Permissions::from_mode(OWNER_ONLY)));
        }
    }

    /// A stranger's file in the place of a lock is no proof that its holder is dead, whose lease
    /// then is waited for.
    fn is_dead(path: &Path) -> bool {
        matches!(inspect(path), LockFile::Missing | LockFile::Dead)
    }

    #[cfg(test)]
    mod tests;
}

/// Elsewhere boot times of two processes cannot be compared, so a file is one process's at a time:
/// SQLite's own lock sees to that, and a claim of another name is a dead one's.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod single {
    use std::io;
    use std::path::Path;

    use super::Name;
    use crate::seal::random;

    pub(in crate::store::sqlite) const MULTI_PROCESS: bool = false;

    pub(in crate::store::sqlite) struct ProcessLock {
        pub(in crate::store::sqlite) name: Name,
        pub(in crate::store::sqlite) boot: String,
    }

    impl ProcessLock {
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

        pub(in crate::store::sqlite) fn has_older_peers(&self) -> bool {
            false
        }
    }
}
