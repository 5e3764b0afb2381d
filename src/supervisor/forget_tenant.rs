//! Deletes all sessions of a tenant, and counts what is left of them.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::{Sessions, Supervisor};
use crate::error::Result;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::ROWS_AT_ONCE;
use crate::provider::Provider;
use crate::session::context::Context;
use crate::session::dispatch::Dispatcher;
use crate::session::{forget, list};
use crate::store::{Outcome, RecordFilter, Statement, StoreError};

impl Supervisor {
    /// [Forgets](crate::Session::forget) all sessions of a tenant at all providers, in memory or not,
    /// also those of providers that are not registered, and then counts what the store still has of
    /// them. This does not revoke them at the server.
    ///
    /// Stop sign-ins of this tenant first: a session that is established meanwhile may stay, and
    /// [`left`](ForgottenTenant::left) counts it.
    ///
    /// # Errors
    ///
    /// As [`forget`](crate::Session::forget), for the first session that could not be forgotten, and
    /// `Store` if the sessions could not be read. Call this again.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: forgotten sessions stay forgotten, and deletions that have begun
    /// are still carried out.
    pub async fn forget_tenant(&self, tenant: &Tenant) -> Result<ForgottenTenant> {
        let (dispatcher, registry) = (&self.dispatcher, &self.dispatcher.context.registry);
        let providers: Vec<_> = registry.providers().map(|entry| entry.name.clone()).collect();
        let ForgottenSessions { sessions, left } =
            forget_all(dispatcher, (None, tenant), &providers).await?;
        let encrypts = dispatcher.context.store.key_ring().is_some();
        let keys = if encrypts { TenantKeys::Derived } else { TenantKeys::None };
        Ok(ForgottenTenant { sessions, left, keys })
    }
}

impl<P: Provider> Sessions<P> {
    /// [Forgets](crate::Session::forget) all sessions of a tenant at this provider, in memory or not,
    /// and then counts what the store still has of them. This does not revoke them at the server.
    ///
    /// Stop sign-ins of this tenant first: a session that is established meanwhile may stay, and
    /// [`left`](ForgottenSessions::left) counts it.
    ///
    /// # Errors
    ///
    /// As [`forget`](crate::Session::forget), for the first session that could not be forgotten, and
    /// `Store` if the sessions could not be read. Call this again.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: forgotten sessions stay forgotten, and deletions that have begun
    /// are still carried out.
    pub async fn forget_tenant(&self, tenant: &Tenant) -> Result<ForgottenSessions> {
        let name = self.provider.name.clone();
        forget_all(&self.dispatcher, (Some(&name), tenant), std::slice::from_ref(&name)).await
    }
}

/// What a [`forget_tenant`](Sessions::forget_tenant) of one provider did.
///
/// ```
/// use session_warden::key::Tenant;
/// use session_warden::supervisor::ForgottenSessions;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{Error, Sessions};
///
/// async fn leave(sessions: &Sessions<ScriptedProvider>, customer: &Tenant) -> Result<(), Error> {
///     let ForgottenSessions { sessions, left, .. } = sessions.forget_tenant(customer).await?;
///     println!("{sessions} sessions were deleted, {left} are left");
///     Ok(())
/// }
/// ```
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgottenSessions {
    /// How many sessions were deleted.
    pub sessions: u64,
    /// How many records of these sessions the store had afterwards. More than zero means that
    /// sessions were established meanwhile: stop the sign-ins and call the method again.
    pub left: u64,
}

/// What [`Supervisor::forget_tenant`] did.
///
/// ```
/// use session_warden::key::Tenant;
/// use session_warden::store::MemoryStore;
/// use session_warden::supervisor::{ForgottenTenant, TenantKeys};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let builder = Supervisor::builder().store(MemoryStore::new());
/// # let supervisor = builder.provider("fake", ScriptedProvider::new()).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let _ = sessions.session(SessionKey::new("north", "device-17")?).establish(()).await?;
///
/// // A customer leaves, and wants to know that all of its sessions are deleted.
/// let ForgottenTenant { sessions, left, keys, .. } =
///     supervisor.forget_tenant(&Tenant::new("north")?).await?;
/// assert_eq!((sessions, left), (1, 0));
/// match keys {
///     TenantKeys::Derived => println!("backups have its sessions until they expire"),
///     TenantKeys::None => println!("this store encrypts nothing: copies of it are readable"),
///     _ => {}
/// }
/// # assert_eq!(keys, TenantKeys::None);
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgottenTenant {
    /// How many sessions were deleted.
    pub sessions: u64,
    /// How many records of the tenant the store had afterwards. More than zero means that sessions
    /// were established meanwhile: stop the sign-ins and call the method again.
    pub left: u64,
    /// What happened to the keys of the tenant's records.
    pub keys: TenantKeys,
}

/// What [`Supervisor::forget_tenant`] did with the keys of the tenant's records. See the example of
/// [`ForgottenTenant`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantKeys {
    /// The keys are still there, and old copies of the records can be decrypted with them, for example
    /// in backups. The keys of all tenants are derived from the master keys of the key ring, so no
    /// key can be destroyed for one tenant alone. The copies are unreadable when they have expired, or
    /// when the master key that encrypts them was [removed](crate::guide::operations#changing-keys)
    /// everywhere.
    Derived,
    /// The store encrypts nothing, so there are no keys. Copies of a file or of a database in clear
    /// are readable, for example backups; a store in memory has none.
    None,
}

/// One filter for each provider that the store has sessions of, or for the only provider. With a
/// tenant and no provider, PostgreSQL would read the whole table: its index begins with the provider.
async fn filters(
    context: &Context,
    (provider, tenant): (Option<&ProviderName>, &Tenant),
) -> Result<Vec<RecordFilter>> {
    let providers = match provider {
        Some(provider) => BTreeSet::from([provider.clone()]),
        None => providers_of_store(context).await?,
    };
    let of = |provider| RecordFilter {
        provider: Some(provider),
        tenant: Some(tenant.clone()),
        phase: None,
    };
    Ok(providers.into_iter().map(of).collect())
}

/// The providers that the store has sessions of. Reads one page for each of them at most.
async fn providers_of_store(context: &Context) -> Result<BTreeSet<ProviderName>> {
    let (mut after, mut providers) = (None, BTreeSet::new());
    loop {
        let page = list::page(context, &RecordFilter::default(), after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(providers) };
        after = Some(SessionId::ceiling(last.id.provider()));
        providers.extend(page.into_iter().map(|listed| listed.id.provider().clone()));
    }
}

/// Deletes all sessions of a tenant, at one provider or at all, and what is in memory of them at
/// these providers.
async fn forget_all(
    dispatcher: &Arc<Dispatcher>,
    of: (Option<&ProviderName>, &Tenant),
    providers: &[ProviderName],
) -> Result<ForgottenSessions> {
    let context = &dispatcher.context;
    let mut sessions = 0;
    for filter in filters(context, of).await? {
        let mut after = None;
        loop {
            let page = list::page(context, &filter, after.as_ref()).await?;
            let ids: Vec<_> = page.into_iter().map(|listed| listed.id).collect();
            let Some(last) = ids.last() else { break };
            after = Some(last.clone());
            sessions += forget_each(dispatcher, ids).await?;
        }
    }
    // For example a session that waits for a second factor, which has no record.
    sessions += forget_each(dispatcher, context.registry.unstored(providers, of.1)).await?;
    // Again: a session of another provider may have been established meanwhile.
    let mut left = 0;
    for filter in filters(context, of).await? {
        left += count(dispatcher, &filter).await?;
    }
    Ok(ForgottenSessions { sessions, left })
}

async fn forget_each(dispatcher: &Arc<Dispatcher>, ids: Vec<SessionId>) -> Result<u64> {
    let forgotten = stream::iter(ids).map(|id| {
        let dispatcher = Arc::clone(dispatcher);
        async move { forget_one(&dispatcher, &id).await }
    });
    let mut forgotten = pin!(forgotten.buffer_unordered(ROWS_AT_ONCE));
    let mut count = 0;
    while let Some(was_there) = forgotten.next().await {
        count += u64::from(was_there?);
    }
    Ok(count)
}

/// Returns whether there was a session.
async fn forget_one(dispatcher: &Dispatcher, id: &SessionId) -> Result<bool> {
    let context = &dispatcher.context;
    if context.registry.provider(id.provider().as_str()).is_some() {
        return forget::forget(dispatcher, id).await;
    }
    // Of a provider that is not registered, nothing is in memory.
    let delete = context.await_store(context.store.apply(id, Statement::Delete)).await;
    Ok(matches!(delete.map_err(StoreError::into_error)?, Outcome::Done(_)))
}

/// Counts the records that the store has.
async fn count(dispatcher: &Dispatcher, filter: &RecordFilter) -> Result<u64> {
    let (mut after, mut count) = (None, 0);
    loop {
        let page = list::page(&dispatcher.context, filter, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = Some(last.id.clone());
        count += u64::try_from(page.len()).unwrap_or(u64::MAX);
    }
}
