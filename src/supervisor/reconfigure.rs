//! Changes of a provider's settings while the supervisor runs.

use std::sync::Arc;

use super::Sessions;
use crate::client::tenant_client::TenantClient;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Tenant;
use crate::policy::TENANT_CLIENTS_AT_ONCE;
use crate::provider::{Provider, Registration};

impl<P: Provider> Sessions<P> {
    /// Returns a tenant's provider with its present settings. Of a wrapper it returns the provider
    /// inside ([`Provider::wrapped`]); [`replace`](Self::replace) with that one removes the wrapper.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the source does not know the tenant; `RetryLater` if the source failed;
    /// `InvalidInput` if another provider, with no `P` inside, stands in for a `P`.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: it only reads.
    pub async fn provider(&self, tenant: &Tenant) -> Result<Arc<P>> {
        self.dispatcher.context.resolve(&self.provider.tenant_client(tenant)).await?.typed()
    }

    /// Replaces the settings for all tenants, for example with a new client secret or another
    /// server. Exchanges that run keep the former settings, and later exchanges use the new
    /// settings. Sessions that failed as `Misconfigured` try again.
    ///
    /// Credentials stay bound to the authority that issued them and to the client to which it
    /// issued them. If these differ from the new settings, the crate keeps the credentials, but it
    /// does not hand out or send their tokens until the settings fit again. The limits on running
    /// exchanges are those of the new settings. If a server asked the crate to wait, the crate
    /// still waits.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if each tenant has its own provider: [`reload`](Self::reload) asks their
    /// source. `Misconfigured` for settings that `start` would refuse; the former ones then stay in
    /// force.
    ///
    /// # Cancel safety
    ///
    /// The settings apply at once. If the future is dropped, some sessions notice the change only
    /// when they are next used.
    pub async fn replace(&self, provider: impl Into<Registration<P>>) -> Result<()> {
        let Some(tenant_client) = self.provider.of_all() else {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("each tenant has its own provider; call `reload` in place of `replace`"));
        };
        tenant_client.try_replace(provider.into().settings)?;
        self.reconsider(std::slice::from_ref(tenant_client)).await;
        Ok(())
    }

    /// Asks the source again for the provider of this tenant, or with `None` for the providers of
    /// all tenants that are in memory. This changes sessions as [`replace`](Self::replace) does.
    ///
    /// # Errors
    ///
    /// `Misconfigured` if the source does not know the tenant any more; `RetryLater` if the source
    /// failed. In both cases the former provider stays, and the crate asks the source again before
    /// the next use. If several tenants fail, this returns the first error. `InvalidInput` if there
    /// is one provider for all tenants.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the crate asks the source before the next use.
    pub async fn reload(&self, tenant: Option<&Tenant>) -> Result<()> {
        if self.provider.of_all().is_some() {
            return Err(Error::new(ErrorKind::InvalidInput).about(
                "there is one provider for all tenants; call `replace` in place of `reload`",
            ));
        }
        let tenant_clients = match tenant {
            Some(tenant) => self.provider.known(tenant).into_iter().collect(),
            None => self.provider.all(),
        };
        for tenant_client in &tenant_clients {
            tenant_client.expire();
        }
        let (mut reloaded, mut renewed) = (Ok(()), Vec::with_capacity(tenant_clients.len()));
        for some in tenant_clients.chunks(TENANT_CLIENTS_AT_ONCE) {
            let asked = some.iter().map(|tenant_client| self.ask_source_again(tenant_client));
            for (tenant_client, asked) in
                some.iter().zip(futures_util::future::join_all(asked).await)
            {
                if asked.is_ok() {
                    renewed.push(Arc::clone(tenant_client));
                }
                reloaded = reloaded.and(asked);
            }
        }
        self.reconsider(&renewed).await;
        reloaded
    }

    async fn ask_source_again(&self, tenant_client: &Arc<TenantClient>) -> Result<()> {
        let context = &self.dispatcher.context;
        let asked = tenant_client.renew(&*context.clock, &context.policy).await;
        asked.map(drop).map_err(|unresolved| context.unresolved(unresolved))
    }

    /// Lets the sessions of these clients notice the change, in one pass over all sessions. They
    /// would notice when they are next used, but until then tokens that do not fit any more would
    /// be handed out.
    async fn reconsider(&self, tenant_clients: &[Arc<TenantClient>]) {
        let context = &self.dispatcher.context;
        let (task_context, tenant_clients) = (Arc::clone(context), tenant_clients.to_vec());
        let resident = context
            .tasks
            .spawn_blocking(move || task_context.registry.resident(&tenant_clients))
            .await;
        for (seen, slot) in resident.unwrap_or_default().into_iter().enumerate() {
            context.reconsider(&slot);
            context.let_go(slot);
            if seen % 1_000 == 999 {
                // There may be millions of sessions.
                tokio::task::yield_now().await;
            }
        }
    }
}
