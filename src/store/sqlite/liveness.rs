//! Which of the processes that opened a file are alive.
//!
//! Each opened store holds a lock on a lock file of its own beside the database. The operating
//! system releases the lock when the process dies. A process that finds a claim tries the lock of
//! the claim's holder. If it gets the lock, if the lock file is gone, or if the machine was started
//! since, the holder is dead, and nobody needs to wait for its lease.
//!
//! Other users may be able to write to the folder and put anything in the place of a lock file. So
//! a lock file is opened without blocking and without following links, and counts only if it is a
//! regular file of the process's own user. No other user can open it, and so none can lock it.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use self::shared::{MULTI_PROCESS, ProcessLock};
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use self::single::{MULTI_PROCESS, ProcessLock};

/// The random name of an opened store.
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

    /// Several processes may open one file, because their boot times come from one clock.
    pub(in crate::store::sqlite) const MULTI_PROCESS: bool = true;

    /// This process's lock beside the file. While it is held, other processes take this one to be
    /// alive.
    pub(in crate::store::sqlite) struct ProcessLock {
        pub(in crate::store::sqlite) name: Name,
        /// The boot id of the running kernel. Another one means that the machine was started since.
        pub(in crate::store::sqlite) boot: String,
        database: PathBuf,
        /// No other process can have the file open, so every other name is of a dead process.
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
                // The link count is read after the lock is taken. Before that, a process that
                // removes the files of dead ones may have removed this one. Its lock would then
                // guard nothing that others can find, and they would take over claims of this
                // living process.
                let mine = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                    && lock.metadata().is_ok_and(|file| file.nlink() > 0);
                if mine {
                    let database = database.to_owned();
                    return Ok(Self { name, boot, database, exclusive, _lock: lock });
                }
            }
            Err(io::ErrorKind::WouldBlock.into())
        }

        /// Whether the process of this name, which ran under this boot id, is dead.
        pub(in crate::store::sqlite) fn is_dead(&self, name: &[u8], boot: &str) -> bool {
            if name == self.name {
                return false;
            }
            let name: Result<Name, _> = name.try_into();
            self.exclusive
                || boot != self.boot
                || name.is_ok_and(|name| is_dead(&path(&self.database, &name)))
        }

        /// Whether another process is alive. Removes the lock files of dead processes and skips
        /// files of other users. True as well if there are too many files to look at.
        pub(in crate::store::sqlite) fn has_peers(&self) -> bool {
            self.any_alive(LOCK_INFIX)
        }

        /// Whether a process of version 0.1 is alive, whose lock files have other names.
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
            // Before the lock is released, so that no process finds a free lock under a name that
            // is still there. If this fails, the file is left for others to remove.
            drop(fs::remove_file(path(&self.database, &self.name)));
        }
    }

    /// Only the owner may read and write the file.
    const OWNER_ONLY: u32 = 0o600;

    /// Stands between the name of the database and that of the process. It differs from the one of
    /// version 0.1, so that processes of that version can be told apart.
    const LOCK_INFIX: &str = ".holder-";
    const OLDER_LOCK_INFIX: &str = ".owner-";

    fn path(database: &Path, name: &Name) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push(LOCK_INFIX);
        path.push(format!("{:032x}", u128::from_be_bytes(*name)));
        path.into()
    }

    /// Whether a file beside the database has the name of a lock file.
    fn is_lock(database: &Path, kind: &str, name: &OsStr) -> bool {
        let mut prefix = database.file_name().map(OsString::from).unwrap_or_default();
        prefix.push(kind);
        let number = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        number.is_some_and(|number| number.len() == 32 && number.iter().all(u8::is_ascii_hexdigit))
    }

    /// What is found in the place of a lock file.
    #[derive(Debug, PartialEq, Eq)]
    enum LockFile {
        Missing,
        /// Another user made it, or it is no regular file.
        Foreign,
        Dead,
        Held,
    }

    /// Tries the lock with a shared lock. The holder's own is exclusive, so two processes that look
    /// at once do not take each other for the holder. If a process looks between the creation of a
    /// file and its lock, the creator fails to lock it and makes another file.
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
                // Before the lock is tried. Otherwise another user could open the file in between
                // and lock it, and a dead process would be taken to be alive from then on.
                restrict_permissions(&file, metadata.mode());
                let free = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
                if free { LockFile::Dead } else { LockFile::Held }
            }
            Ok(_) => LockFile::Foreign,
            Err(_) => LockFile::Held,
        }
    }

    /// Whether a file that cannot be opened belongs to this user.
    fn is_own(path: &Path) -> bool {
        let own = |file: fs::Metadata| file.is_file() && file.uid() == geteuid().as_raw();
        fs::symlink_metadata(path).is_ok_and(own)
    }

    /// Version 0.1.0 let other users read its lock files, and so lock them.
    fn restrict_permissions(file: &File, mode: u32) {
        if mode & 0o077 != 0 {
            drop(file.set_permissions(Permissions::from_mode(OWNER_ONLY)));
        }
    }

    /// A file of another user proves nothing, so the process counts as alive, and others wait for
    /// its lease.
    fn is_dead(path: &Path) -> bool {
        matches!(inspect(path), LockFile::Missing | LockFile::Dead)
    }

    #[cfg(test)]
    mod tests;
}

/// On other systems the boot times of two processes cannot be compared, so only one process may
/// have a file open. SQLite's own lock enforces it, so a claim under another name is of a dead
/// process.
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
