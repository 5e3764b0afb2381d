//! Reports about the responses of APIs that were called with a session's token.

use http::response;

use super::outcome::{Invalidation, Verdict};
use super::{Session, mark_lost};
use crate::error::LostReason;
use crate::provider::Rejection;
use crate::token::PermissionToken;

impl<P> Session<P> {
    /// Checks the response of an API that was called with `used`, and returns whether to call the
    /// API again with another token. `body_prefix` is the part of the body that you have read,
    /// because vendors put the reason there.
    ///
    /// Pass every response to this method, also a success, because a success resets the damping to
    /// its shortest span. After [`Verdict::Retry`], call the API once more, not in a loop. The
    /// session does not hand out a rejected token again, unless the rejection is damped (see
    /// [`invalidate`](Self::invalidate)). If it is damped, the verdict is [`Verdict::Forward`].
    ///
    /// ```
    /// use http::{Response, StatusCode};
    /// use session_warden::session::Verdict;
    /// use session_warden::{Error, PermissionToken, Session};
    ///
    /// async fn call_api(session: &Session) -> Result<StatusCode, Error> {
    ///     let token = session.permission_token().await?;
    ///     let (response, body) = send(&token).into_parts();
    ///     match session.rejected(&token, &response, &body) {
    ///         Verdict::Forward => Ok(response.status),
    ///         Verdict::Retry => {
    ///             let newer = session.permission_token().await?;
    ///             let (response, body) = send(&newer).into_parts();
    ///             session.rejected(&newer, &response, &body);
    ///             Ok(response.status)
    ///         }
    ///     }
    /// }
    ///
    /// /// An API that rejects the first token.
    /// fn send(token: &PermissionToken) -> Response<Vec<u8>> {
    ///     let mut response = Response::new(Vec::new());
    ///     if token.expose_secret() == "access-1" {
    ///         *response.status_mut() = StatusCode::UNAUTHORIZED;
    ///     }
    ///     response
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
    /// # let fake = ScriptedProvider::new();
    /// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
    /// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
    /// # let session = sessions.session(SessionKey::single("device-17")?);
    /// # let _ = session.establish(()).await?;
    /// # assert_eq!(call_api(&session.erase()).await?, StatusCode::OK);
    /// # assert_eq!(session.permission_token().await?.expose_secret(), "access-2");
    /// # Ok(())
    /// # }
    /// ```
    pub fn rejected(
        &self,
        used: &PermissionToken,
        response: &response::Parts,
        body_prefix: &[u8],
    ) -> Verdict {
        // A session that has handed out a token has a client.
        let Ok(client) = self.client() else { return Verdict::Forward };
        match client.provider.rejection(response, body_prefix) {
            Rejection::TokenDead => match self.invalidate(used) {
                Invalidation::Refresh => Verdict::Retry,
                Invalidation::Damped => Verdict::Forward,
            },
            Rejection::SessionDead => {
                if let Some(slot) = self.dispatcher.find(&self.id) {
                    let context = &self.dispatcher.context;
                    context.reject(&slot, used.generation());
                    let (dead, task_guard) = (used.generation(), context.tasks.enter());
                    mark_lost::end(context, &slot, dead, LostReason::Revoked, task_guard);
                }
                Verdict::Forward
            }
            Rejection::None if response.status.is_success() => {
                self.accept(used);
                Verdict::Forward
            }
            Rejection::None | Rejection::OtherReason => Verdict::Forward,
        }
    }

    /// Reports that an API rejected `used`. After the answer [`Invalidation::Refresh`] the session
    /// does not hand out `used` again. A token that has already replaced `used` is not affected.
    ///
    /// The answer is [`Invalidation::Damped`] if `used` itself replaced a rejected token within the
    /// last 10 s. The crate then starts no refresh and goes on handing out `used`, because other
    /// APIs may accept it. So an API that rejects every token does not cause a refresh with each
    /// call. The span of 10 s doubles with each refresh that a rejection starts, up to 10 min. A
    /// response that accepts the token (see [`rejected`](Self::rejected)) sets the span back to 10
    /// s. A refresh that starts because the token is due ends the damping.
    ///
    /// ```
    /// use session_warden::session::Invalidation;
    /// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), session_warden::Error> {
    /// # let fake = ScriptedProvider::new();
    /// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
    /// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
    /// # let session = sessions.session(SessionKey::single("device-17")?);
    /// # let _ = session.establish(()).await?;
    ///
    /// // An API that rejects every token of this session.
    /// let first = session.permission_token().await?;
    /// assert_eq!(session.invalidate(&first), Invalidation::Refresh);
    /// let second = session.permission_token().await?;
    /// assert_ne!(second.expose_secret(), first.expose_secret());
    /// assert_eq!(session.invalidate(&second), Invalidation::Damped);
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, used: &PermissionToken) -> Invalidation {
        // If there is no room for the session in memory, it has no token that could be rejected.
        match self.obtain() {
            Ok(slot) => self.dispatcher.context.invalidate(&slot, used.generation()),
            Err(_) => Invalidation::Refresh,
        }
    }

    fn accept(&self, used: &PermissionToken) {
        let context = &self.dispatcher.context;
        if let Some(slot) = self.slot.get() {
            slot.accept(used.generation(), || context.step_context(slot));
        } else if let Some(slot) = self.dispatcher.find(&self.id) {
            slot.accept(used.generation(), || context.step_context(&slot));
        }
    }
}
