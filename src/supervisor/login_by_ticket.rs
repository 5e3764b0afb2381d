//! Logins through a browser or on another device, in which the ticket names the session.

use super::Sessions;
use crate::error::Result;
use crate::key::SessionKey;
use crate::provider::{DeviceAuthorization, RedirectLogin};
use crate::session::device_login::{self, DeviceLogin};
use crate::session::login::{self, Login};
use crate::session::{Establishment, Session};
use crate::ticket::Ticket;

impl<P: RedirectLogin> Sessions<P> {
    /// Begins a login through the browser for this session, as [`Session::begin_login`] does. See
    /// the example of [`Login`].
    ///
    /// # Errors
    ///
    /// As [`Session::begin_login`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, without an effect.
    pub async fn begin_login(&self, key: SessionKey, options: P::LoginOptions) -> Result<Login> {
        self.session(key).begin_login(options).await
    }

    /// Finishes the login that the ticket belongs to, and returns the session that the ticket
    /// names. This may be any session of this provider. If you know from the request whose session
    /// it must be, use [`Session::finish_login`].
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

impl<P: DeviceAuthorization> Sessions<P> {
    /// Begins a login on another device for this session, as [`Session::begin_device_login`] does.
    /// See the example of [`DeviceLogin`].
    ///
    /// # Errors
    ///
    /// As [`Session::begin_device_login`].
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped, without an effect.
    pub async fn begin_device_login(
        &self,
        key: SessionKey,
        options: P::DeviceOptions,
    ) -> Result<DeviceLogin> {
        self.session(key).begin_device_login(options).await
    }

    /// Finishes the login on another device that the ticket belongs to, and returns the session that
    /// the ticket names. This may be any session of this provider.
    ///
    /// # Errors
    ///
    /// As [`Session::finish_device_login`].
    ///
    /// # Cancel safety
    ///
    /// As [`Session::finish_device_login`].
    pub async fn finish_device_login(
        &self,
        ticket: &Ticket,
    ) -> Result<(Session<P>, Establishment<P>)> {
        device_login::finish(&self.dispatcher, &self.provider, ticket).await
    }
}
