//! Logins through a browser, where the ticket names the session.

use super::Sessions;
use crate::error::Result;
use crate::key::SessionKey;
use crate::provider::RedirectLogin;
use crate::session::login::{self, Login};
use crate::session::{Establishment, Session};
use crate::ticket::Ticket;

impl<P: RedirectLogin> Sessions<P> {
    /// Begins a login through the browser for this session, as [`Session::begin_login`] does.
    ///
    /// # Errors
    ///
    /// As [`Session::begin_login`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped; nothing has begun then.
    pub async fn begin_login(&self, key: SessionKey, options: P::LoginOptions) -> Result<Login> {
        self.session(key).begin_login(options).await
    }

    /// Finishes the login that the ticket belongs to. The ticket may name any session of this
    /// provider; if the request says whose session it must be, use [`Session::finish_login`].
    ///
    /// # Errors
    ///
    /// As [`Session::finish_login`].
    ///
    /// # Cancel safety
    ///
    /// As [`Session::establish`].
    pub async fn finish_login(
        &self,
        ticket: &Ticket,
        redirect: &str,
    ) -> Result<(Session<P>, Establishment<P>)> {
        login::finish(&self.dispatcher, &self.provider, ticket, redirect).await
    }
}
