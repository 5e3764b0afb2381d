//! Events: what happened to sessions.
//!
//! Do not rely on events for anything that you must not miss: query
//! [`list`](crate::supervisor::Sessions::list) or [`status`](crate::session::Session::status). A
//! subscriber that reads too slowly misses events, and [`EventKind::Missed`] says how many. The
//! crate drops the oldest events of the tenant with the most unread events, so that no tenant's
//! events push out another tenant's.

mod event_json;
mod kind_text;
mod log_line;
mod queue;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use parking_lot::Mutex;
use serde::Serialize;

use self::log_line::{Chain, Concerned};
use self::queue::Queue;
use crate::error::{Error, LostReason};
use crate::key::{ProviderName, SessionId, Tenant};
use crate::log::LogLimit;
use crate::measurements::{Measurements, PublishedEvent, Unmeasured};

/// Something that happened to a session, a provider or the supervisor. It holds no secret.
///
/// As JSON, an event has these members: `name`, `at` (RFC 3339), `provider`, `tenant`, `token_id`,
/// `epoch`, `cause` with `text`, `status` and `code`, and those of its kind. Durations are in
/// seconds.
///
/// ```
/// use session_warden::event::{AffectedProvider, Event, EventKind};
///
/// /// Sends an event to a message queue.
/// fn send(event: &Event, queue: &mut Vec<(String, String)>) -> serde_json::Result<()> {
///     queue.push((event.kind.name().to_owned(), serde_json::to_string(event)?));
///     Ok(())
/// }
///
/// /// What an operator on call reads; `None` if nobody must wake up.
/// fn page(event: &Event) -> Option<String> {
///     let affected: &AffectedProvider = match &event.kind {
///         EventKind::ProviderUnreachable(affected) | EventKind::ProviderRejecting(affected) => {
///             affected
///         }
///         _ => return None,
///     };
///     Some(format!("{event}; this affects {} sessions", affected.sessions))
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The session, if the event concerns one session.
    pub session: Option<SessionId>,
    /// The time of the event, by the wall clock; 1970-01-01 for [`EventKind::Missed`].
    pub at: SystemTime,
    /// The session's epoch at that time; 0 if the event concerns no session.
    pub epoch: u64,
    /// What happened.
    pub kind: EventKind,
    /// The failure that led to the event. `Some` for [`EventKind::InDoubt`],
    /// [`EventKind::BackingOff`], [`EventKind::ProviderUnreachable`],
    /// [`EventKind::ProviderThrottled`] and [`EventKind::ProviderRejecting`], and for
    /// [`EventKind::Lost`] if a failed refresh of this process lost the session. [`Error::status`]
    /// and [`Error::provider_code`] give the status and the code of the server's answer, if there
    /// was one.
    pub cause: Option<Error>,
}

impl Event {
    pub(crate) fn of_session(id: &SessionId, at: SystemTime, epoch: u64, kind: EventKind) -> Self {
        Self { session: Some(id.clone()), at, epoch, kind, cause: None }
    }

    pub(crate) fn of_none(at: SystemTime, kind: EventKind) -> Self {
        Self { session: None, at, epoch: 0, kind, cause: None }
    }

    /// The tenant that the event concerns; `None` if it concerns all.
    fn tenant(&self) -> Option<&Tenant> {
        match (&self.session, &self.kind) {
            (Some(session), _) => Some(session.key().tenant()),
            (None, EventKind::ProviderUnresolved { tenant, .. }) => Some(tenant),
            (None, kind) => log_line::affected(kind)?.tenant.as_ref(),
        }
    }

    pub(crate) fn caused_by(self, cause: Option<Error>) -> Self {
        Self { cause, ..self }
    }
}

/// Writes whom the event concerns, what happened, and why.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Concerned { provider, tenant, .. } = Concerned::by(self);
        let affected = log_line::affected(&self.kind);
        // Not the tenant of the session whose request showed that the server fails.
        let tenant = affected.map_or(tenant, |affected| affected.tenant.as_ref());
        match (self.session.as_ref().filter(|_| affected.is_none()), provider, tenant) {
            (Some(session), ..) => write!(f, "{session}: ")?,
            (None, Some(provider), Some(tenant)) => {
                write!(f, "{}/{}: ", provider.as_str(), tenant.as_str())?;
            }
            (None, Some(provider), None) => write!(f, "{}: ", provider.as_str())?,
            (None, None, _) => {}
        }
        write!(f, "{}", self.kind)?;
        match &self.cause {
            Some(cause) => write!(f, ": {}", Chain(cause)),
            None => Ok(()),
        }
    }
}

/// The kinds of events. See the examples of [`Event`] and [`Events`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A grant established the session, perhaps without the user, or tokens were adopted.
    Established,
    /// The session has new tokens.
    Refreshed,
    /// The refresh token expires soon, and no refresh has replaced it. If several processes share a
    /// store, only one of them publishes this event, at most once for each refresh token. If that
    /// process crashes after it has saved this and before it publishes the event, no process
    /// publishes it. The list shows the expiry in every case.
    RefreshExpiring {
        /// How long the refresh token is still valid.
        left: Duration,
    },
    /// The session is lost: the user must sign in again. If the refresh token expired, only one of
    /// several processes publishes this event, as for `RefreshExpiring`.
    Lost(LostReason),
    /// The response to a refresh was lost; the server may have used up the refresh token.
    InDoubt,
    /// A refresh failed, and the session is kept. Published for the first failure after a success,
    /// unless the session is in doubt, the client is rejected, or retries are paced. The crate
    /// retries with a backoff.
    BackingOff {
        /// How long the crate waits before it tries again.
        retry_after: Duration,
    },
    /// New tokens could not be saved. They are served from memory and saved later.
    Unsaved,
    /// The unsaved tokens are saved.
    Saved,
    /// A supervisor revoked the session.
    Revoked,
    /// This process deleted the session's record.
    Forgotten,
    /// New tokens came too late: another process had closed, established or forgotten the session
    /// meanwhile. This process drops the new tokens. They stay valid at the server until they
    /// expire, because the process did not revoke them or the revocation failed. It does not revoke
    /// them if that could also revoke newer tokens
    /// ([`reach_of_revocation`](crate::provider::Provider::reach_of_revocation)).
    TokensSuperseded,
    /// The session's actor crashed, and the crate started it again.
    ActorRestarted,
    /// The supervisor actor crashed, and the crate started it again.
    SupervisorRestarted,
    /// The session's actor crashed too often. The session is in quarantine for a while.
    Quarantined {
        /// How long the quarantine lasts.
        pause: Duration,
    },
    /// The provider's server cannot be reached: several requests in a row got no answer or a server
    /// error (5xx), or the transport refused the server's certificate. Published once, until
    /// another of these four events.
    ProviderUnreachable(AffectedProvider),
    /// The provider's server said that it gets too many requests (429). Published once, until
    /// another of these four events.
    ProviderThrottled(AffectedProvider),
    /// The provider's server rejects the client, or the refreshes of many sessions in a row.
    /// Published once, until another of these four events.
    ProviderRejecting(AffectedProvider),
    /// The provider's server works again, after one or several of the three events before.
    ProviderRecovered {
        /// The provider, with its sessions now.
        provider: AffectedProvider,
        /// How long the server did not work.
        after: Duration,
    },
    /// The store has sessions of a provider that is not registered. They are kept. The supervisor
    /// checks for them when it starts.
    ProviderUnknown(ProviderName),
    /// The provider's source does not know the session's tenant, or the source failed. Published
    /// once for a tenant until the source answers.
    ProviderUnresolved {
        /// The provider's name.
        provider: ProviderName,
        /// The tenant whose provider is missing.
        tenant: Tenant,
    },
    /// A stored session was issued by another authority, or to another client, than those in the
    /// provider's current settings. The crate keeps the session, and does not send its tokens.
    IssuerMismatch,
    /// The store went back to an earlier state, because its database failed over or because somebody
    /// restored a backup. This process has written again what it wrote in the last 5 minutes. Each
    /// process publishes this once for each failover.
    StoreFailedOver {
        /// How many records this process has written again.
        restored: u64,
        /// How many records of other processes have lost newer credentials that no running process
        /// has, as far as this process knows. The refresh tokens in them may be spent.
        lost: u64,
    },
    /// This subscriber was too slow and missed this many events.
    Missed(u64),
}

/// The provider of an event, and how many sessions it concerns. See the example of [`Event`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AffectedProvider {
    /// The provider's name.
    pub provider: ProviderName,
    /// The tenant whose client it concerns, if each tenant has its own.
    pub tenant: Option<Tenant>,
    /// How many sessions of this client are in memory.
    pub sessions: usize,
}

/// A subscription to all events: a [`Stream`] that ends when the supervisor shuts down.
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::event::{Event, EventKind, Events};
/// use session_warden::provider::FailureClass;
/// use session_warden::testing::{Reply, ScriptedProvider};
/// use session_warden::{SessionKey, Supervisor};
/// use tokio_stream::StreamExt;
///
/// /// Returns the devices whose users must sign in again.
/// async fn lost_devices(mut events: Events) -> Vec<String> {
///     let mut devices = Vec::new();
///     while let Some(Event { session, kind, .. }) = events.next().await {
///         match (kind, session) {
///             (EventKind::Lost(_), Some(id)) => devices.push(id.key().token_id().to_owned()),
///             (EventKind::Missed(count), _) => println!("{count} events missed: read the list"),
///             _ => {}
///         }
///     }
///     devices
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let provider: ScriptedProvider = ScriptedProvider::new();
/// let script = provider.script();
/// let supervisor = Supervisor::builder().provider("acme", provider).start().await?;
/// let lost = tokio::spawn(lost_devices(supervisor.subscribe()));
///
/// let sessions = supervisor.sessions::<ScriptedProvider>("acme")?;
/// let session = sessions.session(SessionKey::new("tenant", "device-17")?);
/// let _ = session.establish(()).await?;
/// script.refresh(Reply::Fail(FailureClass::Rejected));
/// assert!(session.refresh().await.is_err());
///
/// supervisor.shutdown(Duration::from_secs(1)).await;
/// assert_eq!(lost.await.expect("the task ends"), ["device-17"]);
/// # Ok(())
/// # }
/// ```
pub struct Events(Arc<Queue>);

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Publishes all events, to subscribers and to the log.
pub(crate) struct Publisher {
    /// How many events a subscriber may leave unread.
    most: usize,
    log_limit: Arc<LogLimit>,
    measurements: Arc<dyn Measurements>,
    /// `None` once the publisher is closed.
    subscribers: Mutex<Option<Vec<Weak<Queue>>>>,
}

impl Publisher {
    pub(crate) fn new(most: usize, log_limit: Arc<LogLimit>) -> Self {
        let (measurements, subscribers) = (Arc::new(Unmeasured), Mutex::new(Some(Vec::new())));
        Self { most, log_limit, measurements, subscribers }
    }

    /// Counts the events.
    pub(crate) fn measured(mut self, measurements: Arc<dyn Measurements>) -> Self {
        self.measurements = measurements;
        self
    }

    pub(crate) fn publish(&self, event: Event) {
        log_line::log(&self.log_limit, &event);
        self.measurements.event_published(&PublishedEvent {
            provider: log_line::registered_provider(&event),
            tenant: event.tenant(),
            name: event.kind.name(),
        });
        if let Some(subscribers) = &mut *self.subscribers.lock() {
            subscribers.retain(|subscriber| {
                let queue = subscriber.upgrade();
                queue.is_some_and(|queue| {
                    queue.push(event.clone());
                    true
                })
            });
        }
    }

    /// Makes a new subscription. It has already ended if the publisher is closed.
    pub(crate) fn subscribe(&self) -> Events {
        let mut subscribers = self.subscribers.lock();
        let queue = Arc::new(Queue::new(self.most, subscribers.is_none()));
        if let Some(subscribers) = &mut *subscribers {
            subscribers.push(Arc::downgrade(&queue));
        }
        Events(queue)
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        let subscribers = self.subscribers.lock().take().unwrap_or_default();
        for queue in subscribers.iter().filter_map(Weak::upgrade) {
            queue.close();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;
    use crate::clock::SystemClock;

    fn publisher() -> Publisher {
        Publisher::new(4, Arc::new(LogLimit::new(Arc::new(SystemClock::new()))))
    }

    fn revoked() -> Event {
        Event::of_none(SystemTime::UNIX_EPOCH, EventKind::Revoked)
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_many_events_it_missed() {
        let publisher = publisher();
        let mut events = publisher.subscribe();
        for _ in 0..7 {
            publisher.publish(revoked());
        }
        assert_eq!(events.next().await.unwrap().kind, EventKind::Missed(3));
        for _ in 0..4 {
            assert_eq!(events.next().await.unwrap().kind, EventKind::Revoked);
        }
    }

    #[tokio::test]
    async fn a_closed_publisher_ends_old_and_new_subscriptions() {
        let publisher = publisher();
        let mut old = publisher.subscribe();
        publisher.publish(revoked());
        publisher.close();
        publisher.publish(revoked());
        assert_eq!(old.next().await.unwrap().kind, EventKind::Revoked);
        assert!(old.next().await.is_none());
        assert!(publisher.subscribe().next().await.is_none());
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken_and_a_dropped_one_is_forgotten() {
        let publisher = publisher();
        let (mut events, gone) = (publisher.subscribe(), publisher.subscribe());
        drop(gone);
        let publishes = async { publisher.publish(revoked()) };
        let (next, ()) = tokio::join!(events.next(), publishes);
        assert_eq!(next.unwrap().kind, EventKind::Revoked);
        assert_eq!(publisher.subscribers.lock().as_ref().unwrap().len(), 1);
        let closes = async { drop(publisher) };
        assert!(tokio::join!(events.next(), closes).0.is_none());
    }
}
