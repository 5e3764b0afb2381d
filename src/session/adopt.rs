//! Adoption and export of tokens.

use super::Session;
use super::job::Job;
use super::outcome::{Adopt, AdoptMode, Adopted};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Provider, erased};
use crate::secret::Secret;
use crate::token::Tokens;

impl<P: Provider> Session<P> {
    /// Makes a session from tokens that the backend has already. This sends no request to the
    /// server.
    ///
    /// The crate assumes that this provider's authority issued the tokens to this client. If there
    /// is no access token, the first call refreshes. If there is no refresh token, the session ends
    /// when its access token expires. Times are wall times. Expired tokens are adopted too: the
    /// next call refreshes them, or reports the session as lost.
    ///
    /// The adoption is queued with grants and revocations. If a revocation is still queued, the
    /// crate tries to send it once before [`Adopt::Replace`] replaces the session.
    ///
    /// ```
    /// use session_warden::session::{Adopt, Adopted};
    /// use session_warden::token::Tokens;
    /// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), session_warden::Error> {
    /// # let fake = ScriptedProvider::new();
    /// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
    /// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
    /// # let session = sessions.session(SessionKey::single("device-17")?);
    ///
    /// // A refresh token from the table that the backend used before.
    /// let tokens = Tokens::new(()).with_refresh_token("refresh-of-the-table", None);
    /// assert_eq!(session.adopt(tokens.clone(), Adopt::IfVacant).await?, Adopted::Yes);
    /// assert_eq!(session.permission_token().await?.expose_secret(), "access-1");
    ///
    /// // The table may be read again: its token is older than that of the session now.
    /// assert_eq!(session.adopt(tokens, Adopt::IfVacant).await?, Adopted::AlreadyThere);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there is neither an access token nor a refresh token, if one is empty, or
    /// if the attributes cannot be written as JSON. `RetryLater` if another process has claimed the
    /// session. `Store` if the claim could not be written; if only the tokens could not be saved,
    /// the session serves them and saves them later. `Superseded`, `Deadline`, `Capacity`,
    /// `ShuttingDown`; `Misconfigured` for a tenant that the provider's source does not know.
    ///
    /// # Cancel safety
    ///
    /// If you drop the call while the adoption is queued, the tokens are not adopted. If you drop
    /// it later, they are adopted.
    pub async fn adopt(&self, tokens: Tokens<P::Attributes>, mode: Adopt) -> Result<Adopted> {
        let take = match mode {
            Adopt::IfVacant => AdoptMode::IfVacant,
            Adopt::Replace => AdoptMode::Replace,
        };
        self.take(tokens, take).await
    }

    /// Returns the session's tokens with their secrets, for a backend that stops using this crate.
    /// This loads them from the store if they are not in memory.
    ///
    /// This also returns the tokens of a lost session, which are probably invalid, and those of a
    /// session in doubt, whose refresh token may be spent. If you use the refresh token elsewhere,
    /// stop using this session: if two programs refresh with one token, the server may revoke it.
    ///
    /// # Errors
    ///
    /// `NotEstablished` if there are none, also after a revocation; `Misconfigured` if the record
    /// is not this provider's; `Store`, `Deadline`, `Capacity`, `RetryLater`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time: it only reads.
    pub async fn export_secrets(&self) -> Result<Tokens<P::Attributes>> {
        self.held().await
    }

    /// Imports one row. If the session has a record and is not in memory, this does not load it.
    /// Otherwise the import is queued, so that it cannot run beside a grant.
    pub(crate) async fn import(&self, tokens: Tokens<P::Attributes>) -> Result<Adopted> {
        let resident = self.dispatcher.find(&self.id).is_some();
        if !resident && self.is_stored().await? {
            return Ok(Adopted::AlreadyThere);
        }
        self.take(tokens, AdoptMode::Import).await
    }

    async fn take(&self, tokens: Tokens<P::Attributes>, take: AdoptMode) -> Result<Adopted> {
        let invalid = |error: Error| error.of_session(&self.id);
        check(&tokens).map_err(invalid)?;
        let tokens = erased::untyped::<P>(tokens).map_err(|unwritable| {
            invalid(
                Error::new(ErrorKind::InvalidInput)
                    .about(
                        "the attributes cannot be written as JSON, so see the cause of this error",
                    )
                    .with_source(unwritable),
            )
        })?;
        let slot = self.obtain()?;
        let job = |reply, _| Job::Adopt { tokens: Box::new(tokens), take, reply };
        self.dispatcher.run_job(&slot, job).await
    }

    /// Whether the store has a session of this id.
    async fn is_stored(&self) -> Result<bool> {
        let context = &self.dispatcher.context;
        match context.await_store(context.store.load(&self.id)).await {
            Ok(found) => Ok(found.is_some_and(|found| found.record.was_established())),
            Err(failed) => Err(failed.into_error().of_session(&self.id)),
        }
    }
}

fn check<A>(tokens: &Tokens<A>) -> Result<()> {
    let invalid = |words| Err(Error::new(ErrorKind::InvalidInput).about(words));
    let secrets = [tokens.access_token(), tokens.refresh_token()];
    if secrets.iter().all(Option::is_none) {
        return invalid(
            "there is neither an access token nor a refresh token to adopt; give at least one",
        );
    }
    let empty = |secret: &Secret| secret.expose_secret().is_empty();
    if secrets.into_iter().flatten().any(empty) {
        return invalid("a token to adopt is empty; leave it out");
    }
    Ok(())
}
