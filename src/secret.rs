//! The type of all secrets.
//!
//! A secret is not printed and not serialized. Its clones share one copy of the text, and dropping
//! the last clone overwrites the text.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize;

/// A token, password or client secret.
///
/// Clones share one allocation. Dropping the last clone overwrites it. There is no `Display` and no
/// `Serialize`, and `Debug` prints `[redacted]`. Only [`expose_secret`] returns the text, so a
/// search for that name finds every place that reads a secret.
///
/// The crate does not overwrite the buffers of hyper and rustls, and it does not protect against
/// core dumps.
///
/// ```
/// use session_warden::secret::Secret;
///
/// let secret = Secret::from("correct horse");
/// assert_eq!(format!("{secret:?}"), "[redacted]");
/// assert_eq!(secret.expose_secret(), "correct horse");
/// ```
///
/// [`expose_secret`]: Self::expose_secret
#[derive(Clone)]
pub struct Secret {
    /// The whole buffer, with the prefix before the secret ("Bearer ", for example), so that a
    /// header value and the secret share their bytes.
    buffer: Arc<SecretString>,
    start: usize,
}

impl Secret {
    /// Returns the text of the secret.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.buffer.expose_secret().get(self.start..).unwrap_or("")
    }

    /// The same secret in a buffer that begins with `prefix`.
    pub(crate) fn prefixed(&self, prefix: &str) -> Self {
        if self.prefix() == prefix {
            return self.clone();
        }
        // Allocated at its full length: a buffer that grows leaves an unwiped copy behind.
        let text = self.expose_secret();
        let mut buffer = String::with_capacity(prefix.len() + text.len());
        buffer.push_str(prefix);
        buffer.push_str(text);
        Self { buffer: Arc::new(SecretString::from(buffer)), start: prefix.len() }
    }

    /// The whole buffer with the prefix, not a copy of it.
    pub(crate) fn shared_bytes(&self) -> Bytes {
        Bytes::from_owner(Shared(Arc::clone(&self.buffer)))
    }

    fn prefix(&self) -> &str {
        self.buffer.expose_secret().get(..self.start).unwrap_or("")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<SecretString> for Secret {
    fn from(text: SecretString) -> Self {
        Self { buffer: Arc::new(text), start: 0 }
    }
}

impl From<String> for Secret {
    fn from(mut text: String) -> Self {
        // `SecretString::from(String)` shrinks the buffer, which may move the text without a wipe.
        let exact: Box<str> = Box::from(text.as_str());
        text.zeroize();
        SecretString::from(exact).into()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        SecretString::from(Box::<str>::from(text)).into()
    }
}

struct Shared(Arc<SecretString>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert!(!format!("{:?}", Secret::from("canary")).contains("canary"));
    }

    #[test]
    fn a_prefix_shares_the_buffer_and_leaves_the_secret_as_it_was() {
        let secret = Secret::from("abc").prefixed("Bearer ");
        assert_eq!(secret.expose_secret(), "abc");
        assert_eq!(&secret.shared_bytes()[..], b"Bearer abc");
        assert_eq!(secret.prefixed("").shared_bytes(), Bytes::from_static(b"abc"));
        assert!(Arc::ptr_eq(&secret.prefixed("Bearer ").buffer, &secret.buffer));
    }
}
