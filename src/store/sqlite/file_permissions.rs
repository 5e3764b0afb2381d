//! The file on its disk: made for its user alone, and refused if others may have written it.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::sqlite_fault::SqliteFault;

/// What SQLite puts beside a database and reads back as a part of it.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Makes the file if there is none, for nobody but the process's own user: names of tenants and
/// sessions are in clear in it. What SQLite puts beside it gets the same permissions.
///
/// A file that is there is not opened: to close it would drop the locks that SQLite has on it in
/// this process, because POSIX locks belong to the process.
pub(super) fn create(path: &Path) -> Result<(), SqliteFault> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(SqliteFault::System(error.kind())),
    }
}

/// Refuses a database, or what lies beside it, that others can write or own. `path` has no links.
/// `by_group`: the file's group may write it.
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

/// Processes of several users do not share a file, because none of them can open another's lock.
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
