//! Reads due records from the store.

use std::sync::Arc;

use super::wait_queue_of;
use crate::client::provider_entry::ProviderEntry;
use crate::event::{Event, EventKind};
use crate::key::SessionId;
use crate::log::log_limited;
use crate::policy::{DUE_PAGE, DUE_POLL, DUE_REFILL, DUE_WITHIN};
use crate::session::context::Context;
use crate::session::schedule::Schedule;
use crate::store::{Due, DuePage, RecordFilter, StoreError};

/// How a sweep ended.
enum Swept {
    All,
    /// Some records were passed over: after this one, or, if `None`, from the first one on.
    PassedOver(Option<Due>),
    Failed,
}

/// What happened to the records of a page.
#[derive(Default)]
struct Read {
    taken: bool,
    passed_over: bool,
}

/// Reads a provider's due records again and again, from the first to the last, until shutdown.
///
/// A record whose wait queue is full is passed over, so that it does not hold up the others. While
/// there are such records, they are read again sooner than the rest.
pub(crate) async fn poll(context: Arc<Context>, provider: Arc<ProviderEntry>) {
    let poller = Poller { context: &context, provider: &provider };
    let closing = context.tasks.closing();
    let (mut whole_at, mut passed_over) = (context.now().boot, None);
    loop {
        let now = context.now().boot;
        let whole = now >= whole_at;
        // Before the sweep, so that no resume is missed.
        let resumed = context.paused.resumed();
        if whole {
            (whole_at, passed_over) = (now.after(DUE_POLL), None);
        }
        let pause = match poller.sweep(passed_over.take(), whole).await {
            Swept::All if !poller.left_any() => whole_at.since(context.now().boot),
            Swept::All => whole_at.since(context.now().boot).min(DUE_REFILL),
            Swept::PassedOver(after) => {
                passed_over = after;
                whole_at.since(context.now().boot).min(DUE_REFILL)
            }
            Swept::Failed => {
                whole_at = now;
                context.policy.store_timeout
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            // At once: the times that sessions get after a resume count from the resume, so in a late
            // sweep many of them would lie in the past, and these sessions would come together.
            () = resumed => whole_at = context.now().boot,
            () = context.clock.sleep(pause) => {}
        }
    }
}

struct Poller<'a> {
    context: &'a Context,
    provider: &'a ProviderEntry,
}

impl Poller<'_> {
    /// Reads the records after `after`: all of them if `whole`, otherwise until a page has no
    /// record that could be taken.
    async fn sweep(&self, mut after: Option<Due>, whole: bool) -> Swept {
        let mut passed_over = None;
        if self.context.paused.has_provider(&self.provider.name) {
            return Swept::All;
        }
        loop {
            let page = match self.page(after.as_ref()).await {
                Ok(page) => page,
                Err(error) => {
                    log_limited!(
                        self.context.log_limit(),
                        warn,
                        Some(&self.provider.name),
                        "could not read the records that are due",
                        cause = %error
                    );
                    return Swept::Failed;
                }
            };
            let Some(read) = self.take(&page).await else { return Swept::All };
            if read.passed_over && passed_over.is_none() {
                passed_over = Some(after);
            }
            let ends = page.due.len() < DUE_PAGE || (!whole && !read.taken);
            if ends {
                return passed_over.map_or(Swept::All, Swept::PassedOver);
            }
            after = page.due.last().cloned();
        }
    }

    /// Whether sessions were taken and then left to the store again, because their wait queue was
    /// full.
    fn left_any(&self) -> bool {
        self.context
            .registry
            .schedule(&self.provider.name)
            .is_some_and(Schedule::take_left_to_store)
    }

    async fn page(&self, after: Option<&Due>) -> Result<DuePage, StoreError> {
        let page = self.context.store.due(&self.provider.name, DUE_WITHIN, after, DUE_PAGE);
        self.context.await_store(page).await
    }

    /// Puts the records of a page into the schedule, and waits while the schedule is full. Returns
    /// `None` if a shutdown begins meanwhile.
    async fn take(&self, page: &DuePage) -> Option<Read> {
        self.context.registry.ranks.set(&page.holders);
        let schedule = self.context.registry.schedule(&self.provider.name)?;
        let (now, closing) = (self.context.now().boot, self.context.tasks.closing());
        let mut read = Read::default();
        for Due { at, id } in &page.due {
            if self.context.paused.has(id) {
                continue;
            }
            if !schedule.has_room(&wait_queue_of(self.provider, id)) {
                read.passed_over = true;
                continue;
            }
            read.taken = true;
            let left = at.duration_since(page.now.wall).unwrap_or_default();
            let at = now.after(left).after(self.context.registry.ranks.delay(id));
            let at = self.context.paused.resumed_at(id).map_or(at, |resumed| at.max(resumed));
            loop {
                let room = schedule.room.notified();
                if schedule.offer(id, at) {
                    break;
                }
                tokio::select! {
                    biased;
                    () = closing.cancelled() => return None,
                    () = room => {}
                }
            }
        }
        Some(read)
    }
}

/// Publishes each provider of the store that is not registered, because no schedule checks its
/// sessions.
pub(crate) async fn report_unknown(context: Arc<Context>) {
    let (all, mut after) = (RecordFilter::default(), None);
    while !context.tasks.is_closing() {
        let first = context.store.list(&all, after.as_ref(), 1);
        let listed = match context.await_store(first).await {
            Ok(listed) => listed,
            Err(error) => {
                log_limited!(
                    context.log_limit(),
                    warn,
                    None,
                    "could not read the names of the providers of the store's sessions",
                    cause = %error
                );
                return;
            }
        };
        let Some(listed) = listed.first() else { return };
        let provider = listed.id.provider();
        if context.registry.provider(provider.as_str()).is_none() {
            let kind = EventKind::ProviderUnknown(provider.clone());
            context.events.publish(Event::of_none(context.now().wall, kind));
        }
        after = Some(SessionId::ceiling(provider));
    }
}
