//! Why a text is not a key ring.

use std::borrow::Cow;
use std::io;

use crate::error::{Error, ErrorKind};

/// Why a text is not a key ring. It contains nothing of a key. See the example of
/// [`KeyRing::parse`](super::KeyRing::parse).
///
/// It is the cause, [`source`](std::error::Error::source), of an [`Error`], whose own text says
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingFault {
    /// The environment variable is not set.
    #[error("an unset environment variable")]
    Unset {
        /// Its name, if it looks like one.
        variable: Option<String>,
    },
    /// The variable or the file is not UTF-8.
    #[error("bytes that are no text")]
    NotText,
    /// The file cannot be read.
    #[error("the operating system answered: {0}")]
    Unreadable(io::ErrorKind),
    /// The text has more than 64 KiB.
    #[error("too much text")]
    TooLong,
    /// There is no entry.
    #[error("a text without an entry")]
    NoKey,
    /// No key may seal.
    #[error("a ring without a key that encrypts")]
    NoSealingKey,
    /// An entry does not begin with a number below 2^32 and a colon.
    #[error("a malformed entry")]
    NotAnEntry {
        /// Which one, counted from 1.
        entry: usize,
    },
    /// A key is not base64.
    #[error("malformed base64")]
    NotBase64 {
        /// The key's number.
        number: u32,
    },
    /// A key does not have 32 bytes.
    #[error("a key of another length")]
    WrongLength {
        /// The key's number.
        number: u32,
        /// How many bytes it has.
        bytes: usize,
    },
    /// Two keys have one number.
    #[error("a number that two keys have")]
    DoubleNumber {
        /// The number.
        number: u32,
    },
    /// Two numbers have the same key, so that a change from one to the other would have no effect.
    #[error("a key that has two numbers")]
    EqualKeys {
        /// The number of the one.
        number: u32,
        /// The number of the other.
        other: u32,
    },
    /// A key has no random bytes: all of them are zero, or, in a text, fewer than 8 are different.
    #[error("a key that is not random")]
    WeakKey {
        /// The key's number.
        number: u32,
    },
    /// Somebody else can write the file or owns it, so the keys may be theirs.
    #[error("a file that other users can change")]
    Exposed,
    /// The path names no regular file.
    #[error("a folder, a pipe or a device")]
    NotAFile,
}

impl KeyRingFault {
    /// What is wrong, and what to do.
    fn advice(&self) -> Cow<'static, str> {
        let of_key = match self {
            Self::Unset { variable } => {
                let name = variable.as_deref().unwrap_or("whose name was given");
                format!(
                    "the environment variable {name} is not set; set it to a key ring, for example \
                     1:<key>, with a key from {MAKE_KEY}"
                )
            }
            Self::NotAnEntry { entry } => format!(
                "entry {entry} of the key ring does not have the form <number>:<base64 of 32 \
                 bytes>, and a passphrase is not a key; write 1:<key>, with a key from {MAKE_KEY}"
            ),
            Self::NotBase64 { number } => format!(
                "key {number} of the key ring is not base64, and a passphrase is not a key; make a \
                 key with {MAKE_KEY}"
            ),
            Self::WrongLength { number, bytes } => format!(
                "key {number} of the key ring has {bytes} bytes in place of 32; make a key with \
                 {MAKE_KEY}"
            ),
            Self::DoubleNumber { number } => {
                format!(
                    "two keys of the key ring have the number {number}; number them differently"
                )
            }
            Self::EqualKeys { number, other } => format!(
                "keys {number} and {other} of the key ring are the same; make a new key with \
                 {MAKE_KEY}"
            ),
            Self::WeakKey { number } => {
                format!("key {number} of the key ring can be guessed; make a key with {MAKE_KEY}")
            }
            Self::NoKey => {
                format!("the key ring has no key; write 1:<key>, with a key from {MAKE_KEY}")
            }
            Self::NotText => return NOT_TEXT.into(),
            Self::Unreadable(io::ErrorKind::NotFound) => return NO_FILE.into(),
            Self::Unreadable(_) => return UNREADABLE.into(),
            Self::TooLong => return TOO_LONG.into(),
            Self::NoSealingKey => return NO_SEALING_KEY.into(),
            Self::Exposed => return EXPOSED.into(),
            Self::NotAFile => return NOT_A_FILE.into(),
        };
        of_key.into()
    }
}

const MAKE_KEY: &str = "`openssl rand -base64 32`";
const NOT_TEXT: &str = "the key ring is not UTF-8 text; write entries of the form <number>:<base64 \
                        of 32 bytes>";
const NO_FILE: &str = "the key ring's file does not exist; check the path";
const UNREADABLE: &str = "the key ring's file cannot be read; check the path, and that the \
                          process's user may read the file";
const TOO_LONG: &str = "the key ring's text is too long; check that it is the right file";
const NO_SEALING_KEY: &str = "every key of the key ring is marked `opens:`, so none encrypts; \
                              remove the mark from the key that is to encrypt";
const EXPOSED: &str = "users other than the process's user and root own the key ring's file or can \
                       write it, so the keys may be theirs; make new keys, and let only the \
                       process's user write the file (chown, chmod go-w)";
const NOT_A_FILE: &str = "the key ring's path does not name a regular file; check the path";

impl From<KeyRingFault> for Error {
    fn from(fault: KeyRingFault) -> Self {
        Self::new(ErrorKind::InvalidInput).about(fault.advice()).with_source(fault)
    }
}
