//! The permissions of the file: it is created for its user only, and refused if other users can
//! write it.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::sqlite_fault::SqliteFault;

/// The suffixes of the database and of the files beside it that SQLite reads as parts of it.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Creates the file if there is none, for the process's own user only, because names of tenants and
/// sessions are in clear in it. SQLite gives the files beside it the same permissions.
///
/// An existing file is not opened. POSIX locks belong to the process: closing the file would
/// release the locks that SQLite may hold on it in this process.
pub(super) fn create(path: &Path) -> Result<(), SqliteFault> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SqliteFault::NoFolder),
        Err(error) => Err(SqliteFault::System(error.kind())),
    }
}

/// Refuses a database if other users can write or own it or a file beside it. `path` must have no
/// links. With `by_group`, the group may write it.
pub(super) fn check(path: &Path, by_group: bool) -> Result<(), SqliteFault> {
    SUFFIXES.into_iter().try_for_each(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        match fs::symlink_metadata(PathBuf::from(name)) {
            Ok(file) if !file.is_file() => Err(SqliteFault::NotAFile),
            Ok(file) if is_exposed(&file, by_group) => Err(SqliteFault::Exposed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(SqliteFault::System(error.kind())),
        }
    })
}

/// Processes of different users cannot share a file, because none can open another's lock file.
#[cfg(unix)]
fn is_exposed(file: &Metadata, by_group: bool) -> bool {
    use std::os::unix::fs::MetadataExt;
    let strangers = if by_group { 0o002 } else { 0o022 };
    file.uid() != rustix::process::geteuid().as_raw() || file.mode() & strangers != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &Metadata, _: bool) -> bool {
    false
}
