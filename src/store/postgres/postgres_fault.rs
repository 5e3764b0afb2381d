//! What can be wrong with a PostgreSQL database.

use std::borrow::Cow;
use std::error::Error as StdError;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::row_fault::RowFault;
use crate::store::session_row::NEWEST_FORM;
use crate::store::{StoreError, StoreErrorKind};

/// What is wrong with a database, or with a record in it. It is the cause,
/// [`source`](std::error::Error::source), of a [`StoreError`], whose own text says what to do. It
/// holds no secret.
///
/// See the example of [`PostgresBuilder`](super::PostgresBuilder).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresFault {
    /// The connection URL cannot be read, or has a parameter that is not known.
    #[error("an invalid connection URL")]
    InvalidUrl,
    /// The schema or the table prefix is not a valid name: at most 30 lower-case letters, digits and
    /// underscores, a letter first.
    #[error("an invalid name")]
    InvalidName,
    /// A root certificate cannot be read, or there is none.
    #[error("no usable root certificate")]
    InvalidRoots,
    /// The server is older than PostgreSQL 13.
    #[error("PostgreSQL {found}")]
    TooOld {
        /// The major version of the server.
        found: u32,
    },
    /// The text of the database is not encoded as UTF-8.
    #[error("a database that is not encoded as UTF-8")]
    NotUtf8,
    /// The server confirms writes before they are on its disk (`synchronous_commit = off`).
    #[error("writes that are confirmed too early")]
    NotDurable,
    /// The tables are missing or too old, and the store was told not to migrate.
    #[error("tables that are not migrated")]
    NotMigrated,
    /// A newer version of this crate made the tables. They are unchanged.
    #[error("newer tables")]
    Newer {
        /// The version of the tables.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// A newer version of this crate wrote the record. The record is unchanged.
    #[error("a newer record format")]
    NewerForm {
        /// The format of the record.
        found: i64,
        /// The newest format that this program reads.
        known: i64,
    },
    /// The tables were made for sealed records, and are opened for records in clear.
    #[error("a database with encrypted records")]
    Sealed,
    /// The tables were made for records in clear, and are opened for sealed ones.
    #[error("a database with records in clear")]
    InClear,
    /// The database server cannot be reached, or refuses the connection, for example because it has
    /// too many.
    #[error("no connection: {cause}")]
    Unreachable {
        /// What the operating system, TLS or the server says.
        cause: String,
    },
    /// The database server did not answer in time, or no connection was free. A write may or may not
    /// have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended while a statement was under way. A write may or may not have been done.
    #[error("a connection that ended")]
    ConnectionLost,
    /// Other processes changed the record again and again while this statement was tried, or their
    /// transactions waited for each other.
    #[error("a record that changes all the time")]
    Contended,
    /// The database server is a standby, or is set to read-only.
    #[error("a read-only database")]
    ReadOnly,
    /// The database user lacks a privilege, or may not sign in.
    #[error("a privilege that is missing (SQLSTATE {code})")]
    Denied {
        /// The code of the server's answer.
        code: String,
    },
    /// The database has gone back to an earlier state, and the replicas are writing again what they
    /// wrote lately. Until then, the store refuses claims.
    #[error("a database that has gone back to an earlier state")]
    FailedOver,
    /// The disk of the database server is full.
    #[error("a full disk")]
    NoRoom,
    /// The encrypted credentials are larger than 16 MiB.
    #[error("credentials with too many bytes")]
    TooLarge,
    /// A record is not in a format that this version reads.
    #[error("a malformed record")]
    Malformed,
    /// The tasks of the store have ended, because the runtime that it was opened on has ended.
    #[error("a closed store")]
    Closed,
    /// The server failed for another reason.
    #[error("SQLSTATE {code}")]
    Failed {
        /// The code of the server's answer.
        code: String,
    },
}

impl PostgresFault {
    /// Whether it is not known if the statement was done.
    pub(super) fn leaves_unknown(&self) -> bool {
        matches!(self, Self::TimedOut | Self::ConnectionLost)
    }

    /// Whether the server refused a statement for a value in it, so that the rest of its batch may
    /// succeed.
    pub(super) fn is_about_a_value(&self) -> bool {
        matches!(self, Self::Failed { code } if code.starts_with("22") || code.starts_with("54"))
    }

    /// Whether another statement on the same connection would fail too.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::TimedOut | Self::ConnectionLost | Self::Unreachable { .. } | Self::ReadOnly
        )
    }

    /// What is wrong, and what to do.
    fn advice(&self) -> Cow<'static, str> {
        match self {
            Self::TooOld { found } => {
                format!("the database server is PostgreSQL {found}; use PostgreSQL 13 or newer")
                    .into()
            }
            Self::Newer { found, known } => format!(
                "the tables have version {found} and this program knows versions up to {known}; \
                 update this program"
            )
            .into(),
            Self::NewerForm { found, known } => format!(
                "the record has format {found} and this program reads formats up to {known}; \
                 update this program"
            )
            .into(),
            Self::Denied { code } => format!(
                "the database refused the sign-in, or the user lacks a privilege (SQLSTATE \
                 {code}); check user and password, and grant what `PostgresBuilder::grants_sql` returns"
            )
            .into(),
            Self::Failed { code } => format!(
                "the database failed (SQLSTATE {code}); look the code up in PostgreSQL's \
                 documentation and in the server's log"
            )
            .into(),
            Self::InvalidUrl
            | Self::InvalidName
            | Self::InvalidRoots
            | Self::NotUtf8
            | Self::NotDurable
            | Self::NotMigrated
            | Self::Sealed
            | Self::InClear
            | Self::Unreachable { .. }
            | Self::TimedOut
            | Self::ConnectionLost
            | Self::Contended
            | Self::ReadOnly
            | Self::FailedOver
            | Self::NoRoom
            | Self::TooLarge
            | Self::Malformed
            | Self::Closed => self.constant_advice().into(),
        }
    }

    fn constant_advice(&self) -> &'static str {
        match self {
            Self::InvalidUrl => INVALID_URL,
            Self::InvalidName => INVALID_NAME,
            Self::InvalidRoots => INVALID_ROOTS,
            Self::NotUtf8 => {
                "the database is not encoded as UTF-8; create one with ENCODING 'UTF8'"
            }
            Self::NotDurable => NOT_DURABLE,
            Self::NotMigrated => NOT_MIGRATED,
            Self::Sealed => "the records are encrypted; open the store without `tokens_in_clear`",
            Self::InClear => IN_CLEAR,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::TimedOut => "the database server did not answer in time; try again",
            Self::ConnectionLost => "the connection to the database ended; try again",
            Self::Contended => "other processes change the record all the time; try again",
            Self::ReadOnly => READ_ONLY,
            Self::FailedOver => FAILED_OVER,
            Self::NoRoom => "the disk of the database server is full; free space on it",
            Self::TooLarge => TOO_LARGE,
            Self::Malformed => MALFORMED,
            Self::Closed => CLOSED,
            Self::TooOld { .. }
            | Self::Newer { .. }
            | Self::NewerForm { .. }
            | Self::Denied { .. }
            | Self::Failed { .. } => "see the cause of this error",
        }
    }
}

const IN_CLEAR: &str = "the records are not encrypted; open the store with `tokens_in_clear`, or \
                        use another schema";
const TOO_LARGE: &str = "the tokens are too long to be stored; let the server issue shorter ones";
const MALFORMED: &str =
    "the record is damaged; restore a backup, or delete it with `Session::forget`";
const CLOSED: &str = "the runtime on which the store was opened has ended; open it on one that \
                      lives as long as the program";
const INVALID_URL: &str = "the connection URL cannot be read; write it as \
                           `postgres://user:password@host:5432/database?sslmode=verify-full`";
const INVALID_NAME: &str = "the name of the schema or the table prefix is invalid; write at most \
                            30 lower-case letters, digits and underscores, a letter first";
const INVALID_ROOTS: &str = "the root certificate cannot be read; write it as PEM, and name an \
                             existing file in `sslrootcert`";
const NOT_DURABLE: &str = "the database confirms writes before they are on its disk; set \
                           `synchronous_commit = on` for the database or its user";
const NOT_MIGRATED: &str = "the tables are missing or older than this program; run what \
                            `PostgresBuilder::migrations_sql` returns, or open the store without \
                            `skip_migrations`";
const FAILED_OVER: &str = "the database has gone back to an earlier state, and its replicas write \
                           again what they wrote lately; try again in some seconds";
const UNREACHABLE: &str = "the database server cannot be reached, or its TLS certificate is not \
                           trusted; check host, port and `sslmode`, and see the cause of this error";
const READ_ONLY: &str = "the database server is read-only; connect to the primary, for example \
                         with several hosts and `target_session_attrs=read-write` in the URL";

impl From<PostgresFault> for StoreError {
    fn from(fault: PostgresFault) -> Self {
        let kind = match &fault {
            PostgresFault::TimedOut | PostgresFault::Contended => StoreErrorKind::Slow,
            PostgresFault::NoRoom | PostgresFault::TooLarge => StoreErrorKind::Full,
            PostgresFault::Malformed => StoreErrorKind::Corrupt,
            PostgresFault::InvalidUrl
            | PostgresFault::InvalidName
            | PostgresFault::InvalidRoots
            | PostgresFault::TooOld { .. }
            | PostgresFault::NotUtf8
            | PostgresFault::NotDurable
            | PostgresFault::NotMigrated
            | PostgresFault::Newer { .. }
            | PostgresFault::NewerForm { .. }
            | PostgresFault::Sealed
            | PostgresFault::InClear
            | PostgresFault::Unreachable { .. }
            | PostgresFault::ConnectionLost
            | PostgresFault::ReadOnly
            | PostgresFault::FailedOver
            | PostgresFault::Denied { .. }
            | PostgresFault::Closed
            | PostgresFault::Failed { .. } => StoreErrorKind::Unavailable,
        };
        Self::new(kind).about(fault.advice()).with_source(fault)
    }
}

impl From<RowFault> for PostgresFault {
    fn from(fault: RowFault) -> Self {
        match fault {
            RowFault::Malformed => Self::Malformed,
            RowFault::NewerForm(found) => Self::NewerForm { found, known: NEWEST_FORM },
        }
    }
}

impl From<RowFault> for StoreError {
    fn from(fault: RowFault) -> Self {
        PostgresFault::from(fault).into()
    }
}

impl From<Error> for PostgresFault {
    /// The server's own message may quote values, so only the code is kept.
    fn from(error: Error) -> Self {
        let Some(code) = error.code() else { return Self::ConnectionLost };
        let class = code.code().get(..2).unwrap_or_default();
        if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            Self::ReadOnly
        } else if *code == SqlState::DISK_FULL {
            Self::NoRoom
        } else if *code == SqlState::QUERY_CANCELED {
            Self::TimedOut
        } else if class == "40" {
            // Two transactions waited for each other, or the isolation level is a stricter one.
            Self::Contended
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE || class == "28" {
            Self::Denied { code: code.code().to_owned() }
        } else if matches!(class, "08" | "57") {
            // The server is shutting down or starting, or PgBouncer lost it.
            Self::ConnectionLost
        } else {
            Self::Failed { code: code.code().to_owned() }
        }
    }
}

impl From<PoolError> for PostgresFault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => {
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                let fault = Self::from(error);
                // No statement was under way. A server without a free connection counts too.
                // The driver looks for a server that takes writes, and says so if there is none.
                if cause.contains("does not allow writes") {
                    return Self::ReadOnly;
                }
                let refused = matches!(&fault, Self::Failed { code } if code.starts_with("53"));
                let unreachable = refused || fault == Self::ConnectionLost;
                if unreachable { Self::Unreachable { cause } } else { fault }
            }
            PoolError::Timeout(_) => Self::TimedOut,
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Self::Closed
            }
        }
    }
}
