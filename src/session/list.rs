//! The list of sessions. It shows the state in memory of a session if there is one, and otherwise
//! the store's record.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream;

use super::context::Context;
use super::dispatch::Dispatcher;
use super::status::{self, SessionStatus, State};
use crate::error::Result;
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::{LIST_FAILURES, LIST_PAGE};
use crate::store::{self, Listed, StoreError};

/// Which sessions a [list](crate::Supervisor::list) has. The default is all sessions.
///
/// ```
/// use futures_util::StreamExt;
/// use session_warden::key::Tenant;
/// use session_warden::session::{Filter, State};
/// use session_warden::{Error, Supervisor};
///
/// /// Writes to each user of a customer that has to sign in again.
/// async fn remind(supervisor: &Supervisor, customer: &str) -> Result<(), Error> {
///     let filter = Filter::tenant(Tenant::new(customer)?).state(State::Lost);
///     let mut lost = std::pin::pin!(supervisor.list(filter));
///     while let Some(status) = lost.next().await {
///         println!("write to {}", status?.id.key().token_id());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    tenant: Option<Tenant>,
    provider: Option<ProviderName>,
    state: Option<State>,
}

impl Filter {
    /// Only sessions of this tenant.
    #[must_use]
    pub fn tenant(tenant: Tenant) -> Self {
        Self { tenant: Some(tenant), ..Self::default() }
    }

    /// Only sessions of this provider, whether it is registered or not.
    #[must_use]
    pub fn provider(mut self, provider: ProviderName) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Only sessions that are in this state at the moment when the list reads them.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Whether the filter excludes all sessions of this provider.
    pub(crate) fn excludes(&self, provider: &ProviderName) -> bool {
        self.provider.as_ref().is_some_and(|only| only != provider)
    }

    /// The filter for records. Leaves the state out, because a record may be older than memory.
    fn of_records(&self) -> store::RecordFilter {
        let Self { tenant, provider, .. } = self.clone();
        store::RecordFilter { provider, tenant, phase: None }
    }
}

/// The sessions that pass the filter, in the order of their ids.
pub(crate) fn list(
    dispatcher: Arc<Dispatcher>,
    filter: Filter,
) -> impl Stream<Item = Result<SessionStatus>> + Send + 'static {
    let records = filter.of_records();
    let reader =
        Reader { dispatcher, filter, records, after: None, page: VecDeque::new(), failed: 0 };
    stream::unfold(Some(reader), |reader| async move { reader?.next().await })
}

/// One page of records after `after`.
pub(crate) async fn page(
    context: &Context,
    filter: &store::RecordFilter,
    after: Option<&SessionId>,
) -> Result<Vec<Listed>> {
    let page = context.store.list(filter, after, LIST_PAGE);
    context.await_store(page).await.map_err(StoreError::into_error)
}

/// A position in the list. Changes before or after it do not move it.
struct Reader {
    dispatcher: Arc<Dispatcher>,
    filter: Filter,
    records: store::RecordFilter,
    after: Option<SessionId>,
    page: VecDeque<Listed>,
    /// The number of failed tries to read the next page.
    failed: u32,
}

impl Reader {
    /// The next session, and the reader for the rest, if there may be more.
    async fn next(mut self) -> Option<(Result<SessionStatus>, Option<Self>)> {
        loop {
            while let Some(listed) = self.page.pop_front() {
                if let Some(status) = self.status_of(listed) {
                    return Some((Ok(status), Some(self)));
                }
            }
            match self.next_page().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(failed) => {
                    let ends = self.failed >= LIST_FAILURES || self.is_closing();
                    return Some((Err(failed), (!ends).then_some(self)));
                }
            }
        }
    }

    /// Reads the next page; false at the end.
    async fn next_page(&mut self) -> Result<bool> {
        let context = &self.dispatcher.context;
        if self.is_closing() {
            return Err(context.tasks.refusal());
        }
        if self.failed > 0 {
            context
                .clock
                .sleep(context.policy.save_backoff.wait(self.failed, fastrand::f64()))
                .await;
        }
        match page(context, &self.records, self.after.as_ref()).await {
            Ok(page) => {
                self.failed = 0;
                self.after = page.last().map(|listed| listed.id.clone());
                self.page = page.into();
                Ok(!self.page.is_empty())
            }
            Err(failed) => {
                self.failed += 1;
                Err(failed)
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.dispatcher.context.tasks.is_closing()
    }

    /// The status of a listed session, if it passes the filter: that in memory, unless another
    /// process has written a newer record.
    fn status_of(&self, listed: Listed) -> Option<SessionStatus> {
        let now = self.dispatcher.context.now();
        let counters = listed.stored.record.counters();
        let slot = self.dispatcher.find(&listed.id);
        let live = slot.and_then(|slot| status::status(&slot, now));
        let live = live.filter(|live| (live.epoch, live.generation) >= counters);
        let status = live.or_else(|| status::of_record(listed, now))?;
        let passes = self.filter.state.is_none_or(|state| state == status.state);
        // `Vacant` is a first grant that has failed since the page was read.
        (passes && status.state != State::Vacant).then_some(status)
    }
}
