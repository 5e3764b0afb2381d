//! Calls to the server that belong to no session.

use super::Sessions;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Tenant;
use crate::provider::{ClientOperation, Provider};
use crate::session::api_call::{ApiCall, CallOf, panicked};
use crate::task::CatchPanic;

impl<P: Provider> Sessions<P> {
    /// Calls the tenant's server with an operation that needs no session, for example to have the
    /// user give the first factor of a sign-in.
    ///
    /// # Errors
    ///
    /// `Refused` if the server refused the call, with its reason; `RetryLater` with
    /// [`outcome`](Error::outcome); `Misconfigured`, `InvalidInput`, `Capacity`, `Deadline`,
    /// `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after the request was sent, the server may have processed the
    /// request.
    pub async fn call<O: ClientOperation<P>>(
        &self,
        tenant: &Tenant,
        operation: O,
    ) -> Result<O::Output> {
        let context = &*self.dispatcher.context;
        let Some(_task_guard) = context.tasks.enter() else {
            return Err(context.tasks.refusal());
        };
        let tenant_client = self.provider.tenant_client(tenant);
        let client = context.resolve(&tenant_client).await?;
        let provider = client.typed::<P>()?;
        let call = async {
            let of = CallOf::Tenant(&self.provider.name, tenant);
            let mut call = ApiCall::begin(context, &tenant_client, &client, of).await?;
            let (request, read_with) = operation.request(&provider)?;
            let answer = call.send(request).await?;
            let read = operation.response(call.sender(), read_with, &answer);
            read.map_err(|failed| call.error_for_caller(failed))
        };
        let call = CatchPanic::new(Box::pin(call));
        match timeout(&*context.clock, context.policy.call_timeout, call).await {
            Some(Some(answer)) => answer,
            Some(None) => Err(panicked()),
            None => Err(Error::new(ErrorKind::Deadline)),
        }
    }
}
