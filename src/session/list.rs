//! The list of sessions. It shows the state in memory of a session if there is one, and otherwise
//! the store's record.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use futures_core::Stream;
use futures_util::stream;

use super::context::Context;
use super::dispatch::Dispatcher;
use super::slot::Slot;
use super::status::{self, SessionStatus, State};
use crate::clock::Now;
use crate::error::{LostReason, Result};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::policy::{LIST_FAILURES, LIST_PAGE};
use crate::store::{self, Listed, StoreError};

/// Which sessions a [list](crate::Supervisor::list) has. The default is all sessions.
///
/// ```
/// use std::time::SystemTime;
///
/// use futures_util::StreamExt;
/// use session_warden::error::LostReason;
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
///
/// /// Counts the active sessions whose users must sign in again before `time`.
/// async fn ending(supervisor: &Supervisor, time: SystemTime) -> usize {
///     let filter = Filter::default().state(State::Active).refresh_expires_before(time);
///     supervisor.list(filter).count().await
/// }
///
/// /// Counts the sessions that a server rejected.
/// async fn rejected(supervisor: &Supervisor) -> usize {
///     supervisor.list(Filter::default().lost(LostReason::Rejected)).count().await
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    tenant: Option<Tenant>,
    provider: Option<ProviderName>,
    state: Option<State>,
    refresh_expires_before: Option<SystemTime>,
    lost: Option<LostReason>,
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

    /// Only sessions whose refresh token is known to expire before this time, by the wall clock.
    /// This has lost sessions too; add [`state`](Self::state) if you want other sessions only.
    #[must_use]
    pub fn refresh_expires_before(mut self, time: SystemTime) -> Self {
        self.refresh_expires_before = Some(time);
        self
    }

    /// Only sessions that are lost for this reason.
    #[must_use]
    pub fn lost(mut self, reason: LostReason) -> Self {
        self.lost = Some(reason);
        self
    }

    /// Whether the filter excludes all sessions of this provider.
    pub(crate) fn excludes(&self, provider: &ProviderName) -> bool {
        self.provider.as_ref().is_some_and(|only| only != provider)
    }

    /// Whether the filter lets a session with this status pass.
    fn passes(&self, status: &SessionStatus) -> bool {
        let ends = status.refresh_expires_at;
        self.state.is_none_or(|state| state == status.state)
            && self.lost.is_none_or(|reason| status.lost == Some(reason))
            && self.refresh_expires_before.is_none_or(|time| ends.is_some_and(|ends| ends < time))
    }

    /// The filter for records. It has only what never changes, because a record may be older than
    /// memory.
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

/// The status of a listed session: that in memory, unless another process has written a newer
/// record. `None` if the session was never established.
pub(crate) fn present_status(
    slot: Option<&Arc<Slot>>,
    listed: Listed,
    now: Now,
) -> Option<SessionStatus> {
    let counters = listed.stored.record.counters();
    let live = slot.and_then(|slot| status::status(slot, now));
    let live = live.filter(|live| (live.epoch, live.generation) >= counters);
    let status = live.or_else(|| status::of_record(listed, now))?;
    // `Vacant` is a first grant that has failed since the page was read.
    (status.state != State::Vacant).then_some(status)
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

    /// The status of a listed session, if it passes the filter.
    fn status_of(&self, listed: Listed) -> Option<SessionStatus> {
        let context = &self.dispatcher.context;
        let slot = self.dispatcher.find(&listed.id);
        let status = present_status(slot.as_deref(), listed, context.now());
        status.filter(|status| self.filter.passes(status))
    }
}
