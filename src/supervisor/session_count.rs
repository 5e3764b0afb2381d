//! Counts the sessions of the store in the background, page by page.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::reported_clients::ReportedClients;
use crate::clock::Now;
use crate::error::Result;
use crate::health::{CountedProvider, SessionCounts, StoreCount};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::measurements::StoredSessions;
use crate::policy::{COUNT_PAGE, COUNT_PAUSE, COUNT_SLICE, HEALTH_COUNT_EVERY, LIST_PAGE};
use crate::session::context::Context;
use crate::session::{SessionStatus, State, list};
use crate::store::{Listed, RecordFilter, StoreError};

/// Starts to count, once in each [`HEALTH_COUNT_EVERY`] until shutdown. Only the first call does
/// something. The counts are in [`Context::latest_count`].
pub(super) fn start(context: &Arc<Context>) {
    if !context.tasks.is_closing() && context.latest_count.start() {
        context.tasks.spawn_detached(run(Arc::clone(context)));
    }
}

async fn run(context: Arc<Context>) {
    let closing = context.tasks.closing();
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = count_again_and_again(&context) => {}
    }
}

async fn count_again_and_again(context: &Context) {
    loop {
        let counted = count(context).await;
        if let Ok(counted) = &counted {
            measure(context, counted);
        }
        context.latest_count.note(counted);
        context.clock.sleep(HEALTH_COUNT_EVERY).await;
    }
}

/// Records the sessions of each provider, in which those of its tenants are too.
fn measure(context: &Context, counted: &StoreCount) {
    for CountedProvider { provider, tenant, sessions } in &counted.providers {
        if tenant.is_none() {
            let SessionCounts { states, refresh_tokens_end: ends, .. } = sessions;
            context.measurements.sessions_counted(&StoredSessions {
                provider,
                states: &states.named(),
                refresh_tokens_ending: [ends.within_1_day, ends.within_7_days, ends.within_30_days],
            });
        }
    }
}

/// Counts all sessions. The first page is as long as that of a list. Between two pages it pauses for
/// at least as long as a page took, so that callers' statements get more than half of the store's
/// time.
async fn count(context: &Context) -> Result<StoreCount> {
    let mut tally = Tally::new(context);
    let (mut after, mut rows) = (None, LIST_PAGE);
    loop {
        let begun = context.now().monotonic;
        let Some(page) = page(context, after.as_ref(), rows).await? else {
            return Ok(tally.into_count(context.now()));
        };
        let is_full = page.len() >= rows;
        after = page.last().map(|listed| listed.id.clone());
        tally.add_page(page);
        let took = context.now().monotonic.saturating_sub(begun);
        rows = next_page_size(rows, took);
        if is_full {
            context.clock.sleep(took.max(COUNT_PAUSE)).await;
        }
    }
}

/// The page after `after`; `None` at the end.
async fn page(
    context: &Context,
    after: Option<&SessionId>,
    rows: usize,
) -> Result<Option<Vec<Listed>>> {
    let filter = RecordFilter::default();
    let page = context.await_store(context.store.list(&filter, after, rows)).await;
    let page = page.map_err(StoreError::into_error)?;
    Ok((!page.is_empty()).then_some(page))
}

/// A page that took longer than [`COUNT_SLICE`] is followed by a page of half its size; one that
/// took less than half of that, by a page of twice its size.
fn next_page_size(rows: usize, took: Duration) -> usize {
    if took > COUNT_SLICE {
        return (rows / 2).max(1);
    }
    let grows = took < COUNT_SLICE / 2;
    (if grows { rows * 2 } else { rows }).min(COUNT_PAGE)
}

/// A count that is not complete yet.
struct Tally<'c> {
    context: &'c Context,
    sessions: SessionCounts,
    providers: HashMap<ProviderName, ProviderTally>,
}

#[derive(Default)]
struct ProviderTally {
    sessions: SessionCounts,
    tenants: HashMap<Tenant, SessionCounts>,
}

impl<'c> Tally<'c> {
    fn new(context: &'c Context) -> Self {
        let names = context.registry.providers().map(|entry| entry.name.clone());
        let mut providers: HashMap<_, _> =
            names.map(|name| (name, ProviderTally::default())).collect();
        for client in ReportedClients::of(&context.registry).clients {
            let owner = &client.owner;
            if let (Some(provider), Some(tenant)) = (providers.get_mut(&owner.name), &owner.tenant)
            {
                provider.tenants.insert(tenant.clone(), SessionCounts::default());
            }
        }
        Self { context, sessions: SessionCounts::default(), providers }
    }

    fn add_page(&mut self, page: Vec<Listed>) {
        let now = self.context.now();
        for listed in page {
            let slot = self.context.registry.find(&listed.id);
            let status = list::present_status(slot.as_ref(), listed, now);
            if let Some(slot) = slot {
                self.context.let_go(slot);
            }
            if let Some(status) = status {
                self.add(&status, now);
            }
        }
    }

    fn add(&mut self, status: &SessionStatus, now: Now) {
        add(&mut self.sessions, status, now);
        let Some(provider) = self.providers.get_mut(status.id.provider()) else { return };
        add(&mut provider.sessions, status, now);
        if let Some(tenant) = provider.tenants.get_mut(status.id.key().tenant()) {
            add(tenant, status, now);
        }
    }

    fn into_count(self, at: Now) -> StoreCount {
        let mut providers = Vec::new();
        for (provider, ProviderTally { sessions, tenants }) in self.providers {
            for (tenant, sessions) in tenants {
                let (provider, tenant) = (provider.clone(), Some(tenant));
                providers.push(CountedProvider { provider, tenant, sessions });
            }
            providers.push(CountedProvider { provider, tenant: None, sessions });
        }
        providers.sort_unstable_by(|one, other| {
            (&one.provider, &one.tenant).cmp(&(&other.provider, &other.tenant))
        });
        StoreCount { at, sessions: self.sessions, providers }
    }
}

/// Counts one session.
fn add(counts: &mut SessionCounts, status: &SessionStatus, now: Now) {
    counts.total += 1;
    counts.unsaved += u64::from(!status.saved);
    let states = &mut counts.states;
    let (count, is_over) = match status.state {
        State::Establishing => (&mut states.establishing, false),
        State::Challenged => (&mut states.challenged, false),
        State::Active => (&mut states.active, false),
        State::Refreshing => (&mut states.refreshing, false),
        State::InDoubt => (&mut states.in_doubt, false),
        State::Lost => (&mut states.lost, true),
        // The store lists no session that was never established.
        State::Closed | State::Vacant => (&mut states.closed, true),
    };
    *count += 1;
    if let Some(reason) = status.lost {
        *counts.lost.of(reason) += 1;
    }
    if is_over {
        return;
    }
    counts.backing_off += u64::from(status.retry_at.is_some());
    let Some(ends) = status.refresh_expires_at else { return };
    let left = ends.duration_since(now.wall).unwrap_or_default();
    let ends = &mut counts.refresh_tokens_end;
    let within = |days| u64::from(left <= days * DAY);
    ends.within_1_day += within(1);
    ends.within_7_days += within(7);
    ends.within_30_days += within(30);
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_page_halves_the_next_one_and_a_fast_one_doubles_it_up_to_the_bound() {
        assert_eq!(next_page_size(64, COUNT_SLICE * 2), 32);
        assert_eq!(next_page_size(1, COUNT_SLICE * 2), 1);
        assert_eq!(next_page_size(64, COUNT_SLICE), 64);
        assert_eq!(next_page_size(64, Duration::ZERO), 128);
        assert_eq!(next_page_size(COUNT_PAGE, Duration::ZERO), COUNT_PAGE);
    }
}
