//! What is asked of a server beside the exchanges: calls, and what a login needs to know first.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use http::{Request, Response};

use super::context::Context;
use crate::client::Client;
use crate::client::admission::Permit;
use crate::client::tenant_client::TenantClient;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionId;
use crate::provider::{ExchangeError, FailureClass, HttpSender};
use crate::task::CatchPanic;

/// One errand. It has a turn at the provider, whose endpoints are known.
pub(crate) struct ApiCall<'a> {
    context: &'a Context,
    tenant_client: &'a TenantClient,
    client: &'a Client,
    session: Option<&'a SessionId>,
    sender: HttpSender<'a>,
    permit: Permit,
}

impl<'a> ApiCall<'a> {
    /// Waits for a turn, and lets the provider prepare.
    pub(crate) async fn begin(
        context: &'a Context,
        tenant_client: &'a TenantClient,
        client: &'a Client,
        session: Option<&'a SessionId>,
    ) -> Result<Self> {
        let permit = client
            .admission
            .enter_untracked(&*context.clock, session, None)
            .await
            .map_err(|rejected| rejected.error)?;
        let sender = client.sender(&context.clock, session, &context.policy);
        let call = Self { context, tenant_client, client, session, sender, permit };
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

    /// Sends the request, whatever answer that gets.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let Self { context, sender, permit, .. } = self;
        let sent = permit.while_open(&*context.clock, sender.send(request)).await;
        sent.map_err(|failed| self.error_for_caller(failed))
    }

    /// The wire, to read answers by.
    pub(crate) fn sender(&self) -> &HttpSender<'a> {
        &self.sender
    }

    /// What the caller is told of a failure.
    pub(crate) fn error_for_caller(&self, failed: ExchangeError) -> Error {
        self.context.failed_call(self.tenant_client, self.client, self.session, failed)
    }
}

/// What the caller is told whose operation panicked.
pub(crate) fn panicked() -> Error {
    Error::new(ErrorKind::Misconfigured).about("the call's own code panicked")
}

/// What the provider's own code gives in its caller's task.
pub(crate) fn caught<T>(ask: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|_| Err(panicked()))
}
