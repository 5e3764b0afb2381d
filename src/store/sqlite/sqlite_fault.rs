//! What can be wrong with a database file.

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::{StoreError, StoreErrorKind};

/// What is wrong with a database file, or with a record in it. It is the cause,
/// [`source`](std::error::Error::source), of a [`StoreError`], and holds no secret.
///
/// See the example of [`SqliteBuilder`](super::SqliteBuilder).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteFault {
    /// A newer version of this crate wrote the file. The file is unchanged.
    #[error("the file is of version {found}, and this programme knows {known}: update it")]
    Newer {
        /// The version of the file.
        found: i64,
        /// The newest version that this programme knows.
        known: i64,
    },
    /// A process of another version of this crate has the file open, for longer than `open` waits.
    /// The file is unchanged.
    #[error("a process of another version has the file open: end it, then start this one")]
    OtherVersion,
    /// A newer version of this crate wrote the record. The record is unchanged.
    #[error("the record is of form {found}, and this programme reads {known}: update it")]
    NewerForm {
        /// The form of the record.
        found: i64,
        /// The newest form that this programme reads.
        known: i64,
    },
    /// A process that has the file open reads only records of forms that this version does not
    /// write.
    #[error("a process that has the file open reads forms up to {reads} only: update it")]
    OlderReader {
        /// The newest form that it reads.
        reads: i64,
    },
    /// The file is another programme's database. The file is unchanged.
    #[error("the file is another programme's database: name another path")]
    Foreign,
    /// The file's schema differs from this crate's: somebody added to it or changed it. The file is
    /// unchanged.
    #[error(
        "the file's schema was changed: remove what was added (triggers, views, tables, indexes), \
         or restore a backup"
    )]
    OtherSchema,
    /// Another user can write or owns the file, or a file of SQLite's beside it.
    #[error(
        "others can write or own the file or its log, so they may have changed it: if they have \
         not, give both to the process's user (chown) and take the right to write from others \
         (chmod go-w)"
    )]
    Exposed,
    /// The path does not name a regular file.
    #[error(
        "the path, or one beside it that SQLite uses, names no regular file: name another path"
    )]
    NotAFile,
    /// A statement took more than 500 million steps of SQLite's virtual machine, which no statement
    /// of this crate takes.
    #[error("a statement did not end: the file is damaged, restore a backup")]
    TooLong,
    /// The file was made for sealed records, and is opened for records in clear.
    #[error("the file's records are sealed: open it without tokens_in_clear")]
    Sealed,
    /// The file was made for records in clear, and is opened for sealed ones.
    #[error("the file's records are in clear: open it with tokens_in_clear, or begin another file")]
    InClear,
    /// The file or its folder cannot be written.
    #[error("the file cannot be written: check its permissions and its disk")]
    ReadOnly,
    /// Too little space is free for new credentials.
    #[error(
        "there is no room for new credentials: make some on the file's disk, or raise max_bytes"
    )]
    NoRoom,
    /// Credentials have more bytes than 16 MiB.
    #[error("the credentials are too large for a record: have the server issue shorter tokens")]
    TooLarge,
    /// Another process held the file for too long.
    #[error("another process held the file for too long")]
    Locked,
    /// A record is not of a form that this version reads.
    #[error("the record is not of a form that this version reads")]
    Malformed,
    /// The store was closed, or its thread is gone.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused the lock file or the thread that the store needs.
    #[error("the file's owner lock or thread cannot be had, {0}: check its folder's permissions")]
    System(std::io::ErrorKind),
    /// SQLite failed for another reason.
    #[error("SQLite failed with code {code}, {words}")]
    Failed {
        /// Its extended result code.
        code: i32,
        /// What the code means.
        words: &'static str,
    },
}

impl From<SqliteFault> for StoreError {
    fn from(fault: SqliteFault) -> Self {
        let kind = match &fault {
            SqliteFault::Newer { .. }
            | SqliteFault::OtherVersion
            | SqliteFault::NewerForm { .. }
            | SqliteFault::OlderReader { .. }
            | SqliteFault::Foreign
            | SqliteFault::OtherSchema
            | SqliteFault::Exposed
            | SqliteFault::NotAFile
            | SqliteFault::Sealed
            | SqliteFault::InClear
            | SqliteFault::ReadOnly
            | SqliteFault::Closed
            | SqliteFault::System(_) => StoreErrorKind::Unavailable,
            SqliteFault::NoRoom | SqliteFault::TooLarge => StoreErrorKind::Full,
            SqliteFault::Locked => StoreErrorKind::Slow,
            SqliteFault::Malformed | SqliteFault::TooLong => StoreErrorKind::Corrupt,
            SqliteFault::Failed { code, .. } => match code & 0xFF {
                ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => StoreErrorKind::Corrupt,
                _ => StoreErrorKind::Unavailable,
            },
        };
        Self::new(kind).with_source(fault)
    }
}

pub(super) fn is_busy(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

pub(super) fn fault(error: &Error) -> SqliteFault {
    let failure = error.sqlite_error();
    let is = |code| failure.is_some_and(|failure| failure.code == code);
    if is(ErrorCode::DatabaseBusy) || is(ErrorCode::DatabaseLocked) {
        SqliteFault::Locked
    } else if is(ErrorCode::DiskFull) {
        SqliteFault::NoRoom
    } else if is(ErrorCode::OperationInterrupted) {
        SqliteFault::TooLong
    } else if is(ErrorCode::ReadOnly) {
        SqliteFault::ReadOnly
    } else {
        // SQLite's own message may quote values, so only the code is shown.
        let code = failure.map_or(ffi::SQLITE_ERROR, |failure| failure.extended_code);
        SqliteFault::Failed { code, words: ffi::code_to_str(code) }
    }
}
