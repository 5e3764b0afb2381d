//! Why the journal cannot take an entry.

use std::io;

/// The cause of an error about the journal. It names no path and no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JournalFault {
    /// All entries are in use: exchanges run, or the store has been away for long.
    #[error("all entries of the journal are in use")]
    Full,
    /// The credentials do not fit into one entry.
    #[error("the credentials are larger than an entry of the journal")]
    TooLarge,
    /// The disk did not answer in time.
    #[error("the disk of the journal did not answer in time")]
    Slow,
    /// The credentials could not be encrypted.
    #[error("the entry could not be encrypted")]
    NotSealed,
    /// The thread of the journal has ended.
    #[error("the journal is closed")]
    Closed,
    /// The operating system refused it.
    #[error("the operating system refused it: {0}")]
    System(io::ErrorKind),
}

impl JournalFault {
    pub(super) fn of(error: &io::Error) -> Self {
        Self::System(error.kind())
    }
}
