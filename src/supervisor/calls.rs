//! Calls at the server that need no session.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::Sessions;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Tenant;
use crate::provider::client::Client;
use crate::provider::site::Site;
use crate::provider::{ClientOperation, ExchangeError, FailureClass, Provider};
use crate::session::core::Core;
use crate::task::within;

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
        let (client, provider) = self.client(tenant).await?;
        let call = ask(core, &site, &client, &*provider, &operation);
        let call = within(&*core.clock, core.policy.wait, AssertUnwindSafe(call).catch_unwind());
        match call.await {
            Some(Ok(answer)) => answer,
            Some(Err(_)) => {
                Err(Error::new(ErrorKind::Misconfigured).about("the call's own code panicked"))
            }
            None => Err(Error::new(ErrorKind::Deadline)),
        }
    }

    /// A tenant's client, with its provider's type.
    pub(super) async fn client(&self, tenant: &Tenant) -> Result<(Arc<Client>, Arc<P>)> {
        let core = &self.door.core;
        let site = self.provider.site(tenant);
        let client = core.resolve(&site).await?;
        let provider = client.typed().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput).about("another provider stands in for this one")
        })?;
        Ok((client, provider))
    }
}

async fn ask<P: Provider, O: ClientOperation<P>>(
    core: &Core,
    site: &Site,
    client: &Client,
    provider: &P,
    operation: &O,
) -> Result<O::Output> {
    let wire = client.wire(&*core.clock, None, &core.policy);
    let _permit = client.gate.enter_beside(&*core.clock).await.map_err(|shut| shut.error)?;
    let in_time = core.policy.exchange_budget;
    let prepared = within(&*core.clock, in_time, client.provider.prepare(&wire)).await;
    let told = |failed: ExchangeError| core.told(site, client, None, failed);
    prepared.unwrap_or_else(|| Err(slow(FailureClass::NotSent))).map_err(told)?;
    let request = operation.request(provider)?;
    let answer = within(&*core.clock, in_time, wire.send(request)).await;
    let answer = answer.unwrap_or_else(|| Err(slow(FailureClass::Ambiguous))).map_err(told)?;
    operation.response(&wire, &answer).map_err(told)
}

fn slow(class: FailureClass) -> ExchangeError {
    ExchangeError::new(class).with_source("the server did not answer in time")
}
