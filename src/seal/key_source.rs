//! Loads key rings from a key management service.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;

use tokio::runtime::Handle;

use super::{KeyRing, RingKey};
use crate::clock::{SystemClock, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::KEY_SOURCE_WAIT;

/// A source of keys for [`KeyRing::from_source`]: a key management service, a vault, or a table of
/// wrapped data keys.
///
/// The crate asks the source for keys in [`from_source`](KeyRing::from_source) and in
/// [`reload_from`](KeyRing::reload_from), and at no other time. The keys stay in memory, so
/// sessions go on while the service cannot be reached. A closure `Fn() -> impl Future` is a source
/// too.
///
/// ```
/// use session_warden::seal::{KeyRing, KeySource, MasterKey, RingKey};
///
/// /// Unwraps data keys. Only the service has the key that they are wrapped with.
/// struct Kms {
///     wrapped: Vec<(u32, Vec<u8>)>,
/// #   key: u8,
/// }
///
/// impl Kms {
///     async fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], std::io::Error> {
///         // A request to the service.
/// #       let plain: Vec<u8> = wrapped.iter().map(|byte| byte ^ self.key).collect();
/// #       plain.try_into().map_err(|_| std::io::ErrorKind::InvalidData.into())
///     }
/// }
///
/// impl KeySource for Kms {
///     async fn keys(&self) -> Result<Vec<RingKey>, Box<dyn std::error::Error + Send + Sync>> {
///         let mut keys = Vec::new();
///         for (number, wrapped) in &self.wrapped {
///             let key = MasterKey::from(self.unwrap(wrapped).await?);
///             keys.push(RingKey::new(*number, key));
///         }
///         Ok(keys)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let mut kms = Kms { wrapped: vec![(1, vec![0x5b; 32])] /* from a file, say */
/// #   , key: 0xa5
/// };
/// let ring = KeyRing::from_source(&kms).await?;
///
/// // A new data key was made and wrapped; all that use the ring have it.
/// kms.wrapped.push((2, vec![0x77; 32]));
/// ring.reload_from(&kms).await?;
/// assert_eq!(format!("{ring:?}"), "KeyRing { seals: 2, opens: [1, 2] }");
/// # Ok(())
/// # }
/// ```
pub trait KeySource: Send + Sync + 'static {
    /// Returns all keys, including those that only open.
    ///
    /// # Errors
    ///
    /// The reason why the source has no keys. It must contain no secret.
    ///
    /// # Cancel safety
    ///
    /// The crate drops the future when it takes longer than 10 s.
    fn keys(
        &self,
    ) -> impl Future<Output = Result<Vec<RingKey>, Box<dyn StdError + Send + Sync>>> + Send;
}

impl<F, Asked> KeySource for F
where
    F: Fn() -> Asked + Send + Sync + 'static,
    Asked: Future<Output = Result<Vec<RingKey>, Box<dyn StdError + Send + Sync>>> + Send,
{
    async fn keys(&self) -> Result<Vec<RingKey>, Box<dyn StdError + Send + Sync>> {
        self().await
    }
}

impl KeyRing {
    /// Makes a ring of the keys that `source` returns. Call it within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RetryLater`] with a [`KeySourceFault`] if the source failed or took longer than
    /// 10 s; `InvalidInput` as [`from_keys`](Self::from_keys) if its keys do not make a ring;
    /// `Misconfigured` if there is no tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, without an effect.
    ///
    /// # Example
    ///
    /// ```
    /// use std::error::Error as _;
    /// use session_warden::seal::{KeyRing, KeySourceFault};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // A vault that an operator must unlock first.
    /// let vault = || async { Err("the vault is locked".into()) };
    /// let failed = KeyRing::from_source(&vault).await.unwrap_err();
    /// let fault = failed.source().and_then(|fault| fault.downcast_ref::<KeySourceFault>());
    /// match fault {
    ///     Some(KeySourceFault::Failed(cause)) => {
    ///         assert_eq!(cause.to_string(), "the vault is locked")
    ///     }
    ///     Some(KeySourceFault::Slow) => println!("check the network to the vault"),
    ///     _ => println!("{failed}"),
    /// }
    /// # }
    /// ```
    pub async fn from_source(source: &impl KeySource) -> Result<Self> {
        if Handle::try_current().is_err() {
            let misconfigured = Error::new(ErrorKind::Misconfigured);
            return Err(misconfigured.about(
                "there is no tokio runtime here; call it within a tokio runtime, for example in a \
                 function with `#[tokio::main]`",
            ));
        }
        // There is no supervisor yet whose clock this could be.
        let asked = timeout(&SystemClock::new(), KEY_SOURCE_WAIT, source.keys()).await;
        let asked = asked.ok_or(KeySourceFault::Slow)?;
        Self::from_keys(asked.map_err(KeySourceFault::Failed)?)
    }

    /// Replaces the keys with those that `source` returns now, in all clones at once.
    ///
    /// # Errors
    ///
    /// As [`from_source`](Self::from_source); the ring keeps the keys that it had.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; the ring keeps the keys that it had.
    pub async fn reload_from(&self, source: &impl KeySource) -> Result<()> {
        self.reload(Self::from_source(source).await?);
        Ok(())
    }
}

/// Why a source returned no keys. See the example of [`KeyRing::from_source`].
///
/// It is the cause, [`source`](StdError::source), of an [`Error`]. Its own cause is the error of
/// the source, which `Debug` leaves out.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeySourceFault {
    /// The source returned an error.
    #[error("the key source returned an error")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
    /// The source took longer than 10 s.
    #[error("the key source timed out")]
    Slow,
}

impl fmt::Debug for KeySourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "Failed([redacted])",
            Self::Slow => "Slow",
        })
    }
}

impl From<KeySourceFault> for Error {
    fn from(fault: KeySourceFault) -> Self {
        let advice = match fault {
            KeySourceFault::Failed(_) => {
                "the key source gave no keys; correct what the cause of this error says, and try \
                 again"
            }
            KeySourceFault::Slow => {
                "the key source did not answer in time; check that it can be reached, and try again"
            }
        };
        Self::new(ErrorKind::RetryLater).about(advice).with_source(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::seal::{KeyRingFault, MasterKey};

    type Asked = Result<Vec<RingKey>, Box<dyn StdError + Send + Sync>>;

    fn ring_key(number: u8) -> RingKey {
        RingKey::new(number.into(), MasterKey::from([number; 32]))
    }

    /// Gives what it holds, or fails if that is nothing.
    struct Table(Option<Vec<RingKey>>);

    impl KeySource for Table {
        async fn keys(&self) -> Asked {
            tokio::task::yield_now().await;
            self.0.clone().ok_or_else(|| "canary7f3a91".into())
        }
    }

    fn cause(error: &Error) -> &KeySourceFault {
        error.source().unwrap().downcast_ref().unwrap()
    }

    #[tokio::test]
    async fn a_ring_takes_its_keys_from_a_source_and_takes_them_again() {
        let ring = KeyRing::from_source(&Table(Some(vec![ring_key(1)]))).await.unwrap();
        let clone = ring.clone();
        let new = || ring_key(2).opens_only();
        ring.reload_from(&move || async move { Ok(vec![new(), ring_key(1)]) }).await.unwrap();
        assert_eq!(format!("{clone:?}"), "KeyRing { seals: 1, opens: [1, 2] }");
    }

    #[tokio::test]
    async fn a_source_that_fails_changes_nothing_and_is_shown_by_its_own_cause_alone() {
        let ring = KeyRing::from_source(&Table(Some(vec![ring_key(1)]))).await.unwrap();
        let failed = ring.reload_from(&Table(None)).await.unwrap_err();
        assert_eq!(format!("{ring:?}"), "KeyRing { seals: 1, opens: [1] }");
        assert_eq!(failed.kind(), ErrorKind::RetryLater);
        let shown = format!("{failed} {failed:?} {failed:#?} {}", cause(&failed));
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(cause(&failed).source().unwrap().to_string(), "canary7f3a91");
    }

    #[tokio::test]
    async fn what_a_source_gives_must_be_a_ring() {
        let failed = KeyRing::from_source(&Table(Some(Vec::new()))).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::InvalidInput);
        let fault = failed.source().unwrap().downcast_ref::<KeyRingFault>();
        assert_eq!(fault, Some(&KeyRingFault::NoKey));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_waited_for_so_long_and_no_longer() {
        let dropped = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&dropped);
        let slow = |wait| Slow(wait, Arc::clone(&seen));
        let second = Duration::from_secs(1);
        KeyRing::from_source(&slow(KEY_SOURCE_WAIT - second)).await.unwrap();
        let failed = KeyRing::from_source(&slow(KEY_SOURCE_WAIT + second)).await.unwrap_err();
        assert!(matches!(cause(&failed), KeySourceFault::Slow), "{failed:?}");
        assert_eq!(dropped.load(Ordering::Relaxed), 2, "what it began is dropped");
    }

    struct Slow(Duration, Arc<AtomicUsize>);

    impl KeySource for Slow {
        async fn keys(&self) -> Asked {
            let _counted = Counted(Arc::clone(&self.1));
            SystemClock::new().sleep(self.0).await;
            Ok(vec![ring_key(1)])
        }
    }

    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_source_without_a_runtime_is_told_so() {
        let source = Table(Some(vec![ring_key(1)]));
        let asked = futures_util::FutureExt::now_or_never(KeyRing::from_source(&source));
        let refused = asked.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
    }
}
