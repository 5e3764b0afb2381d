//! The error of a store.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind, ExchangeOutcome};

/// Why a statement could not be done. `Display` says what is wrong and what to do.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    about: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// Makes an error of this kind. See the example of [`StoreErrorKind`].
    #[must_use]
    pub fn new(kind: StoreErrorKind) -> Self {
        Self { kind, about: None, source: None }
    }

    /// With a sentence that says what is wrong and what to do, which `Display` writes in place of
    /// the text of the kind: in lower case, with no full stop and no secret.
    #[must_use]
    pub fn about(mut self, words: impl Into<Cow<'static, str>>) -> Self {
        self.about = Some(words.into());
        self
    }

    /// Adds the cause, which must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The same error with `place` before its text.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn at(self, place: &str) -> Self {
        let words = format!("{place}: {self}");
        self.about(words)
    }

    /// What the caller gets: nothing was sent to the server.
    pub(crate) fn into_error(self) -> Error {
        self.explain(ErrorKind::Store).with_outcome(ExchangeOutcome::NotSent)
    }

    /// An error of `kind` with this error as its cause. The explanation moves up to it, so that the
    /// outermost error says what to do and no text is there twice.
    pub(crate) fn explain(mut self, kind: ErrorKind) -> Error {
        let words = self.about.take().unwrap_or_else(|| self.kind.advice().into());
        Error::new(kind).about(words).with_source(self)
    }
}

impl From<StoreError> for Error {
    /// An error of the kind `Store`, with the words of the store's error.
    fn from(error: StoreError) -> Self {
        error.explain(ErrorKind::Store)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.about.as_deref().unwrap_or_else(|| self.kind.words()))
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What can be wrong with a store.
///
/// ```
/// use std::io;
/// use session_warden::store::{StoreError, StoreErrorKind};
///
/// /// The error of a store that writes to files.
/// fn store_error(failed: io::Error) -> StoreError {
///     let kind = match failed.kind() {
///         io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::Full,
///         io::ErrorKind::TimedOut => StoreErrorKind::Slow,
///         io::ErrorKind::InvalidData => StoreErrorKind::Corrupt,
///         _ => StoreErrorKind::Unavailable,
///     };
///     StoreError::new(kind).with_source(failed)
/// }
///
/// let full = store_error(io::ErrorKind::StorageFull.into());
/// assert_eq!(full.kind(), StoreErrorKind::Full);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or refuses the statement.
    Unavailable,
    /// The store did not answer in time.
    Slow,
    /// The store has no room.
    Full,
    /// This record is damaged; the others are not.
    Corrupt,
    /// The key that encrypts this record is missing. The store keeps the record, and can read it
    /// again when the key is back in the key ring.
    Sealed,
}

impl StoreErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::Unavailable => "the store is not available",
            Self::Slow => "the store did not answer in time",
            Self::Full => "the store is full",
            Self::Corrupt => "the record cannot be read",
            Self::Sealed => "the key that encrypts the record is missing",
        }
    }

    /// What to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Unavailable => "it is not available, so see the cause of this error",
            Self::Slow => "it took longer than `Policy::store_timeout` allows, so try again",
            Self::Full => "it has no room for new credentials, so make room on its disk",
            Self::Corrupt => {
                "the session's record is damaged, so restore a backup, or delete the record with \
                 `Session::forget`"
            }
            Self::Sealed => {
                "the key that encrypts the session's record is not in the key ring, so add it again"
            }
        }
    }
}
