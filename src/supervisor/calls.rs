//! Calls at the server that need no session.

use super::Sessions;
use crate::clock::within;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Tenant;
use crate::provider::{ClientOperation, Provider};
use crate::session::errand::{Errand, panicked};
use crate::task::Foreign;

impl<P: Provider> Sessions<P> {
    /// Calls the tenant's server for what comes before a session: a first factor, say.
    ///
    /// # Errors
    ///
    /// `Refused` with what the server refused; `RetryLater` with [`outcome`](Error::outcome);
    /// `Misconfigured`, `InvalidInput`, `Capacity`, `Deadline`, `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// Dropped after it was sent, the server may have processed it.
    pub async fn call<O: ClientOperation<P>>(
        &self,
        tenant: &Tenant,
        operation: O,
    ) -> Result<O::Output> {
        let core = &*self.door.core;
        let Some(_place) = core.tasks.enter() else {
            return Err(Error::new(ErrorKind::ShuttingDown));
        };
        let site = self.provider.site(tenant);
        let client = core.resolve(&site).await?;
        let provider = client.typed::<P>()?;
        let call = async {
            let mut errand = Errand::begin(core, &site, &client, None).await?;
            let (request, context) = operation.request(&provider)?;
            let answer = errand.send(request).await?;
            let read = operation.response(errand.wire(), context, &answer);
            read.map_err(|failed| errand.told(failed))
        };
        let call = Foreign::new(Box::pin(call));
        match within(&*core.clock, core.policy.call_timeout, call).await {
            Some(Some(answer)) => answer,
            Some(None) => Err(panicked()),
            None => Err(Error::new(ErrorKind::Deadline)),
        }
    }
}
