//! A fake that replaces a provider without a change of types.

use std::fmt;
use std::time::Duration;

use super::scripted::{Reply, Script, ScriptedProvider};
use crate::provider::{Provider, Registration};

/// Replaces a provider `P`, without a server. Register it in the place of a `P`: the types
/// `Sessions<P>` and `Session<P>` in your code stay the same. It accepts every grant of `P`.
///
/// ```
/// use std::time::Duration;
/// use session_warden::provider::oauth2::{Attributes, OAuth2, Password};
/// use session_warden::testing::FakeProvider;
/// use session_warden::{Session, SessionKey, Supervisor};
///
/// // The code under test names the real provider.
/// async fn sign_in(session: &Session<OAuth2>) -> Result<String, session_warden::Error> {
///     let _ = session.establish(Password::new("ada", "secret")).await?;
///     Ok(session.permission_token().await?.expose_secret().to_owned())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let fake = FakeProvider::<OAuth2>::new(Attributes::default())
///     .issue("first", Duration::from_secs(60))
///     .issue("second", Duration::from_secs(60));
/// let supervisor = Supervisor::builder().provider("acme", fake).start().await?;
/// let session = supervisor.sessions("acme")?.session(SessionKey::new("tenant", "device")?);
/// assert_eq!(sign_in(&session).await?, "first");
/// assert_eq!(sign_in(&session).await?, "second");
/// # Ok(())
/// # }
/// ```
pub struct FakeProvider<P: Provider> {
    scripted: ScriptedProvider<P::Grant, P::Challenge, P::Attributes>,
}

impl<P: Provider> FakeProvider<P> {
    /// Makes a provider that issues tokens with these attributes.
    #[must_use]
    pub fn new(attributes: P::Attributes) -> Self {
        Self { scripted: ScriptedProvider::of(attributes) }
    }

    /// Issues this access token, with this lifetime, to the next grant or refresh. If you call this
    /// several times, grants and refreshes get the tokens in this order. After the last of them,
    /// the provider issues tokens of its own.
    #[must_use]
    pub fn issue(self, access: &str, lifetime: Duration) -> Self {
        let script = self.scripted.script();
        script.next(Reply::IssueAs(access.to_owned(), Some(lifetime)));
        self
    }

    /// The script, with which a test causes failures and reads counts.
    #[must_use]
    pub fn script(&self) -> Script<P::Challenge> {
        self.scripted.script()
    }
}

impl<P: Provider> From<FakeProvider<P>> for Registration<P> {
    fn from(fake: FakeProvider<P>) -> Self {
        Self::standing_in(fake.scripted)
    }
}

impl<P: Provider> fmt::Debug for FakeProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeProvider").finish_non_exhaustive()
    }
}
