//! What can be wrong with a database file.

use std::borrow::Cow;

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::{StoreError, StoreErrorKind};

/// What is wrong with a database file, or with a record in it. It is the cause,
/// [`source`](std::error::Error::source), of a [`StoreError`], whose own text says what to do. It
/// holds no secret.
///
/// See the example of [`SqliteBuilder`](super::SqliteBuilder).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteFault {
    /// A newer version of this crate wrote the file. The file is unchanged.
    #[error("a newer file format")]
    Newer {
        /// The version of the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A process of another version of this crate has the file open, for longer than `open` waits.
    /// The file is unchanged.
    #[error("an open file that waits for its migration")]
    OtherVersion,
    /// A newer version of this crate wrote the record. The record is unchanged.
    #[error("a newer record format")]
    NewerForm {
        /// The form of the record.
        found: i64,
        /// The newest form that this program reads.
        known: i64,
    },
    /// A process that has the file open reads only records of forms that this version does not
    /// write.
    #[error("an older reader of the file")]
    OlderReader {
        /// The newest form that it reads.
        reads: i64,
    },
    /// The folder in which the file is to be created does not exist.
    #[error("a missing folder")]
    NoFolder,
    /// The file is not an SQLite database. The file is unchanged.
    #[error("a file in another format")]
    NotADatabase,
    /// The file is another program's database. The file is unchanged.
    #[error("a foreign database")]
    Foreign,
    /// The file's schema differs from this crate's: somebody added to it or changed it. The file is
    /// unchanged.
    #[error("an unknown schema")]
    OtherSchema,
    /// Another user can write or owns the file, or a file of SQLite's beside it.
    #[error("a file that other users can change")]
    Exposed,
    /// The path does not name a regular file.
    #[error("a folder, a pipe, a device or a link")]
    NotAFile,
    /// Another process has the file open, and one of the two opened it with
    /// [`exclusive`](super::SqliteBuilder::exclusive); or another process kept the file locked for
    /// as long as `open` waits.
    #[error("a lock of another process")]
    InUse,
    /// A statement took more than 500 million steps of SQLite's virtual machine, which no statement
    /// of this crate takes.
    #[error("a statement with too many steps")]
    TooLong,
    /// The file was made for sealed records, and is opened for records in clear.
    #[error("a file with encrypted records")]
    Sealed,
    /// The file was made for records in clear, and is opened for sealed ones.
    #[error("a file with records in clear")]
    InClear,
    /// The file or its folder cannot be written.
    #[error("a file that is read-only")]
    ReadOnly,
    /// Too little space is free for new credentials.
    #[error("too little free space")]
    NoRoom,
    /// Credentials have more bytes than 16 MiB.
    #[error("credentials with too many bytes")]
    TooLarge,
    /// Another process held the file for too long.
    #[error("a busy file")]
    Locked,
    /// A record is not of a form that this version reads.
    #[error("a malformed record")]
    Malformed,
    /// The store was closed, or its thread is gone.
    #[error("a closed store")]
    Closed,
    /// The operating system refused the lock file or the thread that the store needs.
    #[error("the operating system answered: {0}")]
    System(std::io::ErrorKind),
    /// SQLite failed for another reason.
    #[error("SQLite answered with code {code}, {words}")]
    Failed {
        /// Its extended result code.
        code: i32,
        /// What the code means.
        words: &'static str,
    },
}

impl SqliteFault {
    /// What is wrong, and what to do.
    fn advice(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Newer { found, known } => {
                return format!(
                    "the file has version {found} and this program knows versions up to {known}; \
                     update this program"
                )
                .into();
            }
            Self::NewerForm { found, known } => {
                return format!(
                    "the record has format {found} and this program reads formats up to {known}; \
                     update this program"
                )
                .into();
            }
            Self::OlderReader { reads } => {
                return format!(
                    "another process that has the file open reads record formats up to {reads} \
                     only; update that program"
                )
                .into();
            }
            Self::Failed { code, .. } => {
                return format!(
                    "SQLite failed with code {code}; check the file and its disk, or restore a \
                     backup"
                )
                .into();
            }
            Self::OtherVersion => OTHER_VERSION,
            Self::NoFolder => "the folder does not exist; create it, or name another path",
            Self::NotADatabase => {
                "the file is not an SQLite database; name another path, or restore a backup"
            }
            Self::Foreign => "the file is the database of another program; name another path",
            Self::OtherSchema => OTHER_SCHEMA,
            Self::Exposed => EXPOSED,
            Self::NotAFile => NOT_A_FILE,
            Self::InUse => IN_USE,
            Self::TooLong => "a statement did not end, so the file is damaged; restore a backup",
            Self::Sealed => "the file's records are encrypted; open it without `tokens_in_clear`",
            Self::InClear => IN_CLEAR,
            Self::ReadOnly => "the file cannot be written; check its permissions and its disk",
            Self::NoRoom => NO_ROOM,
            Self::TooLarge => {
                "the tokens are too long to be stored; let the server issue shorter ones"
            }
            Self::Locked => "another process has kept the file locked for too long; try again",
            Self::Malformed => MALFORMED,
            Self::Closed => "the store was closed; open the file again",
            Self::System(_) => SYSTEM,
        };
        text.into()
    }
}

const OTHER_VERSION: &str = "a process with another version of this crate has the file open; stop \
                             that process, then start this one";
const OTHER_SCHEMA: &str = "the file's schema was changed; remove the triggers, views, tables and \
                            indexes that were added, or restore a backup";
const EXPOSED: &str = "users other than the process's user own the file or its log or can write \
                       them, and may have changed them: if they did not, give both files to the \
                       process's user (chown) and let no other user write them (chmod go-w)";
const NOT_A_FILE: &str = "the path, or a path beside it that SQLite uses, does not name a regular \
                          file; name another path";
const IN_USE: &str = "another process keeps the file locked, probably because it or this process \
                      opened the file with `exclusive`; stop the other process, or open the file \
                      without `exclusive` in both";
const IN_CLEAR: &str = "the file's records are not encrypted; open it with `tokens_in_clear`, or \
                        begin another file";
const NO_ROOM: &str = "too little space is free for new credentials; free space on the file's \
                       disk, or raise `SqliteBuilder::max_bytes`";
const MALFORMED: &str =
    "the record is damaged; restore a backup, or delete it with `Session::forget`";
const SYSTEM: &str = "the operating system refused the file, its lock or the store's thread; check \
                      the permissions of the file and its folder";

impl From<SqliteFault> for StoreError {
    fn from(fault: SqliteFault) -> Self {
        let kind = match &fault {
            SqliteFault::Newer { .. }
            | SqliteFault::OtherVersion
            | SqliteFault::NewerForm { .. }
            | SqliteFault::OlderReader { .. }
            | SqliteFault::NoFolder
            | SqliteFault::NotADatabase
            | SqliteFault::Foreign
            | SqliteFault::OtherSchema
            | SqliteFault::Exposed
            | SqliteFault::NotAFile
            | SqliteFault::InUse
            | SqliteFault::Sealed
            | SqliteFault::InClear
            | SqliteFault::ReadOnly
            | SqliteFault::Closed
            | SqliteFault::System(_) => StoreErrorKind::Unavailable,
            SqliteFault::NoRoom | SqliteFault::TooLarge => StoreErrorKind::Full,
            SqliteFault::Locked => StoreErrorKind::Slow,
            SqliteFault::Malformed | SqliteFault::TooLong => StoreErrorKind::Corrupt,
            SqliteFault::Failed { code, .. } => match code & 0xFF {
                ffi::SQLITE_CORRUPT => StoreErrorKind::Corrupt,
                _ => StoreErrorKind::Unavailable,
            },
        };
        Self::new(kind).about(fault.advice()).with_source(fault)
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
    } else if is(ErrorCode::NotADatabase) {
        SqliteFault::NotADatabase
    } else {
        // SQLite's own message may quote values, so only the code is shown.
        let code = failure.map_or(ffi::SQLITE_ERROR, |failure| failure.extended_code);
        SqliteFault::Failed { code, words: ffi::code_to_str(code) }
    }
}
