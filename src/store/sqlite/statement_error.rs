//! Why a statement or an opening was not done.

use rusqlite::Error;

use super::sqlite_fault::{SqliteFault, fault};
use crate::store::row_fault::RowFault;
use crate::store::session_row::NEWEST_FORM;
use crate::store::{SealFault, StoreError};

/// The result of an opening or a statement.
pub(super) type Result<T, E = StatementError> = std::result::Result<T, E>;

/// Why an opening or a statement was not done.
#[derive(Debug)]
pub(super) enum StatementError {
    /// SQLite failed. The whole transaction may have failed with it.
    Sql(Error),
    /// Only this statement failed, and it wrote nothing.
    Rejected(StoreError),
    /// It may succeed in a moment. If it does not, this is the fault.
    TryAgain(SqliteFault),
}

impl StatementError {
    pub(super) fn malformed() -> Self {
        SqliteFault::Malformed.into()
    }
}

impl From<Error> for StatementError {
    /// A column of the wrong type means that the record is damaged, not the file.
    fn from(error: Error) -> Self {
        let damaged = matches!(
            error,
            Error::InvalidColumnType(..)
                | Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::Utf8Error(..)
        );
        if damaged { Self::malformed() } else { Self::Sql(error) }
    }
}

impl From<StoreError> for StatementError {
    fn from(error: StoreError) -> Self {
        Self::Rejected(error)
    }
}

impl From<SqliteFault> for StatementError {
    fn from(fault: SqliteFault) -> Self {
        Self::Rejected(fault.into())
    }
}

impl From<RowFault> for StatementError {
    fn from(fault: RowFault) -> Self {
        match fault {
            RowFault::Malformed => SqliteFault::Malformed.into(),
            RowFault::NewerForm(found) => {
                SqliteFault::NewerForm { found, known: NEWEST_FORM }.into()
            }
        }
    }
}

impl From<SealFault> for StatementError {
    fn from(fault: SealFault) -> Self {
        Self::Rejected(fault.into())
    }
}

impl From<StatementError> for StoreError {
    fn from(failed: StatementError) -> Self {
        match failed {
            StatementError::Sql(error) => fault(&error).into(),
            StatementError::Rejected(error) => error,
            StatementError::TryAgain(fault) => fault.into(),
        }
    }
}
