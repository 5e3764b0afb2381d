//! Many sessions at once: list, import, forget.

use std::pin::pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream::{self, StreamExt};

use super::{Sessions, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{SessionId, SessionKey, Tenant};
use crate::policy::{IMPORT_FAILURES, NAMED_REFUSALS, ROWS_AT_ONCE};
use crate::provider::Provider;
use crate::session::{Adopted, Filter, SessionStatus, forget, list};
use crate::store;
use crate::token::Tokens;

impl Supervisor {
    /// Lists the sessions that pass `filter`, in the order of their ids: all that the store has,
    /// whether in memory or not, and also those of providers that are not registered. A session in
    /// memory is shown as it is; another one, as its record says.
    ///
    /// The list is read in [pages](crate::policy::LIST_PAGE). Changes meanwhile do not disturb it:
    /// no session appears twice, and a session that exists all the time appears once. A session
    /// that was never established appears only while its first grant is exchanged.
    ///
    /// If a page cannot be read, the stream yields one `Store` error and reads the page again when
    /// the next item is asked for; after 3 such errors in a row the
    /// list ends. After a shutdown the stream yields one `ShuttingDown`.
    pub fn list(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<SessionStatus>> + Send + 'static + use<> {
        list::list(Arc::clone(&self.dispatcher), filter)
    }
}

impl<P: Provider> Sessions<P> {
    /// As [`Supervisor::list`], but only of this provider. A filter for another provider lists
    /// nothing.
    pub fn list(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<SessionStatus>> + Send + 'static + use<P> {
        let name = self.provider.name.clone();
        let excluded = filter.excludes(&name);
        let listed = list::list(Arc::clone(&self.dispatcher), filter.provider(name));
        listed.take_while(move |_| std::future::ready(!excluded))
    }

    /// Makes sessions from tokens that the backend already has, one for each row, as
    /// [`adopt`](crate::Session::adopt) does with
    /// [`Adopt::IfVacant`](crate::session::Adopt::IfVacant): a session that exists or existed is
    /// left alone. So an import can run again, in part or as a whole, while the backend works, and
    /// replaces nothing newer.
    ///
    /// [Several rows](crate::policy::ROWS_AT_ONCE) are imported at once, and imported sessions do
    /// not stay in memory. An import publishes no events; the report tells the result of each row.
    /// A row that cannot be saved is refused with `Store` and is not kept.
    ///
    /// # Errors
    ///
    /// `Store` if the store failed for 128 rows in a row, and `ShuttingDown`. Rows
    /// that were imported before stay.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: imported rows stay, and rows that have begun still end.
    pub async fn import(
        &self,
        rows: impl Stream<Item = (SessionKey, Tokens<P::Attributes>)> + Send,
    ) -> Result<ImportReport> {
        let imported = rows.map(|(key, tokens)| {
            let session = self.session(key.clone());
            async move { (key, session.import(tokens).await) }
        });
        let mut imported = pin!(imported.buffer_unordered(ROWS_AT_ONCE));
        let mut report = ImportReport::default();
        let mut failures = 0;
        while let Some((key, outcome)) = imported.next().await {
            let failed = outcome.as_ref().err().map(Error::kind);
            failures = if failed == Some(ErrorKind::Store) { failures + 1 } else { 0 };
            match outcome {
                Err(error)
                    if failures >= IMPORT_FAILURES || failed == Some(ErrorKind::ShuttingDown) =>
                {
                    return Err(error);
                }
                outcome => report.count(key, outcome),
            }
        }
        Ok(report)
    }

    /// [Forgets](crate::Session::forget) all sessions of a tenant at this provider, in memory or
    /// not, and returns how many there were. They are not revoked at the server.
    ///
    /// A session that is established meanwhile may stay, so stop sign-ins first.
    ///
    /// # Errors
    ///
    /// As [`forget`](crate::Session::forget), for the first session that could not be forgotten.
    /// The sessions before it are forgotten; call this again for the rest.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: forgotten sessions stay forgotten, and those that have begun
    /// still end.
    pub async fn forget_tenant(&self, tenant: &Tenant) -> Result<u64> {
        let (context, provider) = (&self.dispatcher.context, &self.provider.name);
        let filter = store::RecordFilter {
            provider: Some(provider.clone()),
            tenant: Some(tenant.clone()),
            phase: None,
        };
        let (mut after, mut count) = (None, 0);
        loop {
            let page = list::page(context, &filter, after.as_ref()).await?;
            let ids: Vec<_> = page.into_iter().map(|listed| listed.id).collect();
            let Some(last) = ids.last() else { break };
            after = Some(last.clone());
            count += self.forget_all(ids).await?;
        }
        // For example a session that waits for a second factor, which has no record.
        let unstored = context.registry.unstored(provider, tenant);
        Ok(count + self.forget_all(unstored).await?)
    }

    async fn forget_all(&self, ids: Vec<SessionId>) -> Result<u64> {
        let forgotten = stream::iter(ids).map(|id| {
            let dispatcher = Arc::clone(&self.dispatcher);
            async move { forget::forget(&dispatcher, &id).await }
        });
        let mut forgotten = pin!(forgotten.buffer_unordered(ROWS_AT_ONCE));
        let mut count = 0;
        while let Some(was_there) = forgotten.next().await {
            count += u64::from(was_there?);
        }
        Ok(count)
    }
}

/// The results of an import.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Rows that became a session.
    pub adopted: u64,
    /// Rows whose session exists or existed already.
    pub already_there: u64,
    /// Rows that became no session, with the error: the first 1,000. Rows whose error
    /// [is transient](Error::is_transient) can be imported again.
    pub refused: Vec<(SessionKey, Error)>,
    /// How many more rows were refused.
    pub refused_beyond: u64,
}

impl ImportReport {
    fn count(&mut self, key: SessionKey, outcome: Result<Adopted>) {
        match outcome {
            Ok(Adopted::Yes) => self.adopted += 1,
            Ok(Adopted::AlreadyThere) => self.already_there += 1,
            Err(error) if self.refused.len() < NAMED_REFUSALS => self.refused.push((key, error)),
            Err(_) => self.refused_beyond += 1,
        }
    }
}
