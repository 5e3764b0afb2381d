//! Requests to the server beside the exchanges: calls, and the preparation of a login.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use http::{Request, Response};

use super::context::Context;
use crate::client::Client;
use crate::client::admission::Permit;
use crate::client::tenant_client::TenantClient;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::provider::{ExchangeError, FailureClass, HttpSender};
use crate::task::CatchPanic;

/// What a request beside the exchanges belongs to.
#[derive(Clone, Copy)]
pub(crate) enum CallOf<'a> {
    Session(&'a SessionId),
    /// A tenant of a provider, and none of its sessions.
    Tenant(&'a ProviderName, &'a Tenant),
}

impl<'a> CallOf<'a> {
    fn session(self) -> Option<&'a SessionId> {
        match self {
            Self::Session(id) => Some(id),
            Self::Tenant(..) => None,
        }
    }

    fn unless_paused(self, context: &Context) -> Result<()> {
        match self {
            Self::Session(id) => context.paused.check(id),
            Self::Tenant(provider, tenant) => context.paused.check_tenant(provider, tenant),
        }
    }
}

/// A request beside the exchanges. It has a permit, and the provider has prepared.
pub(crate) struct ApiCall<'a> {
    context: &'a Context,
    tenant_client: &'a TenantClient,
    client: &'a Client,
    of: CallOf<'a>,
    sender: HttpSender<'a>,
    permit: Permit,
}

impl<'a> ApiCall<'a> {
    /// Waits for a permit, and lets the provider prepare.
    pub(crate) async fn begin(
        context: &'a Context,
        tenant_client: &'a TenantClient,
        client: &'a Client,
        of: CallOf<'a>,
    ) -> Result<Self> {
        of.unless_paused(context)?;
        let session = of.session();
        let permit = client
            .admission
            .enter_untracked(&*context.clock, session, None)
            .await
            .map_err(|rejected| rejected.error)?;
        // Again after the wait for the permit, which may have been long: nothing may leave once
        // `Supervisor::pause` has returned.
        of.unless_paused(context)?;
        let sender = client.sender(&context.clock, session, &context.policy);
        let call = Self { context, tenant_client, client, of, sender, permit };
        let prepared = CatchPanic::new(client.provider.prepare(&call.sender));
        let prepared = timeout(&*context.clock, context.policy.attempt_budget, prepared).await;
        let prepared = match prepared {
            Some(Some(prepared)) => prepared,
            Some(None) => Err(ExchangeError::new(FailureClass::NotSent)
                .with_source("the provider panicked when it prepared")),
            None => Err(ExchangeError::new(FailureClass::NotSent)
                .with_source("the provider did not prepare in time")),
        };
        prepared.map_err(|failed| call.error_for_caller(failed))?;
        Ok(call)
    }

    /// Sends the request, and returns the response with any status.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let sent = self.send_unless_paused(request).await?;
        sent.map_err(|failed| self.error_for_caller(failed))
    }

    /// The same for a request that changes nothing of a session, so that it may be sent again even
    /// if its response was lost.
    pub(crate) async fn send_repeatable(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>> {
        let sent = self.send_unless_paused(request).await?;
        sent.map_err(|failed| self.error_for_caller(failed.nothing_in_doubt()))
    }

    async fn send_unless_paused(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<std::result::Result<Response<Bytes>, ExchangeError>> {
        let Self { context, of, sender, permit, .. } = self;
        // The provider may have taken long to prepare.
        of.unless_paused(context)?;
        Ok(permit.while_open(&*context.clock, sender.send(request)).await)
    }

    /// The sender, which decodes responses.
    pub(crate) fn sender(&self) -> &HttpSender<'a> {
        &self.sender
    }

    /// The caller's error for a failure.
    pub(crate) fn error_for_caller(&self, failed: ExchangeError) -> Error {
        self.context.failed_call(self.tenant_client, self.client, self.of.session(), failed)
    }
}

/// The error for a caller whose operation panicked.
pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Misconfigured)
        .about("the code of the operation panicked; see the panic's message")
}

/// Runs code of the provider in the caller's task, and turns a panic into an error.
pub(crate) fn caught<T>(ask: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| Err(panicked()))
}
