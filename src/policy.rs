//! The bounds and timeouts that you can set, with their defaults and the reasons.
//!
//! [`Policy`] has those of a whole supervisor. [`RefreshPolicy`] and [`ProviderLimits`] have those
//! of one provider.

mod due;
mod fixed;
mod limits;
mod storage;
mod validation;

use std::time::Duration;

#[doc(hidden)]
pub use self::fixed::*;
pub use self::limits::ProviderLimits;
#[doc(hidden)]
pub use self::storage::*;

/// The bounds of one supervisor.
///
/// Start from the default, and change only the fields that you must change.
///
/// ```
/// use std::time::Duration;
/// use session_warden::policy::Policy;
///
/// let policy = Policy { call_timeout: Duration::from_secs(5), ..Policy::default() };
/// assert_eq!(policy.max_sessions, 4_000_000);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct Policy {
    /// The most sessions in memory. Calls for a further session get `Capacity`. Defaults to
    /// 4,000,000, some 8 GB of slots and tokens, because a backend has no more memory for this
    /// crate.
    pub max_sessions: usize,
    /// When more sessions than this are in memory, the crate removes idle ones from memory, the
    /// longest unused first, until their number is a [sixteenth](EVICTED_PART) below this bound. It
    /// removes only sessions that the store has in full; the next call for such a session loads its
    /// record. Defaults to 1,000,000, some 2 GB. More may stay, up to
    /// [`max_sessions`](Self::max_sessions), while exchanges run on them or the store lacks their
    /// tokens. A value above fifteen sixteenths of `max_sessions` counts as that much.
    pub max_resident: usize,
    /// The most sessions of one tenant in memory. Calls for a further session of this tenant get
    /// `Capacity`. Defaults to 1,000,000, a quarter of [`max_sessions`](Self::max_sessions), so
    /// that one tenant cannot take the memory of all others. If you have one tenant only, set both
    /// fields to the same value.
    pub max_sessions_per_tenant: usize,
    /// The most callers that wait for one session. A further caller gets `Capacity`. Defaults to
    /// 65,536 because a waiting caller costs about 1 KB, and a mailbox holds at most one message
    /// for each.
    pub max_waiters: usize,
    /// The most grants and revocations that are queued for one session. A further one gets
    /// `Capacity`. Defaults to 16 because each is exchanged on its own, and a user who signs in
    /// again and again gains nothing from a longer queue.
    pub max_queued_grants: usize,
    /// How long one call waits. After that, a call for a token gets the current token if that is
    /// still valid, else `RetryLater`; any other call gets `Deadline`. The exchange goes on, and
    /// its response counts. Defaults to 30 s because all but the slowest responses arrive sooner,
    /// and users wait no longer.
    pub call_timeout: Duration,
    /// How long an exchange may take until it has sent the last byte of its last request. This
    /// covers name lookup, connection, TLS and writing, with all repeats. Requests that the
    /// exchange needs first (discovery, for example) may take as long again. Defaults to 10 s
    /// because a connection to a server that is up takes no longer than 3 s, and an exchange that
    /// has sent no request loses nothing but this time.
    pub attempt_budget: Duration,
    /// How much of its [`attempt_budget`](Self::attempt_budget) an exchange must have left to
    /// repeat a request. If a server accepts a used refresh token for no longer than this, the
    /// crate treats it as a server that accepts no used token. Defaults to 5 s because sending the
    /// repeat takes time, and the server may queue it.
    pub min_repeat_time: Duration,
    /// How long the whole response may take, from when the last byte of the request was sent. After
    /// that the response counts as lost, and the outcome is ambiguous. The crate drops a provider's
    /// future this long after the end of its [`attempt_budget`](Self::attempt_budget). Defaults to
    /// 60 s because proxies in front of servers time out by then, and no less because on a server
    /// that rotates strictly a lost response costs the session.
    pub answer_timeout: Duration,
    /// How long callers wait for the store to save new credentials. After that the crate hands out
    /// the new token although it is not saved, and goes on saving. Defaults to 2 s because callers
    /// wait for a token that is valid already.
    pub save_timeout: Duration,
    /// How long the store may take to load or claim a record. After that the call gets `Store`.
    /// Defaults to 5 s because a database that fails over takes that long, and the crate has sent
    /// nothing to the server yet.
    pub store_timeout: Duration,
    /// How long a [`ProviderSource`](crate::provider::ProviderSource) and the function of
    /// [`renew_with`](crate::provider::Registration::renew_with) may take. Defaults to 5 s because
    /// each of them reads a row of a database while callers wait.
    pub source_timeout: Duration,
    /// How long a claim keeps other processes from sending a request for the session. The process
    /// that has the claim renews it while its request is open. Defaults to 20 s: 10 s until the
    /// request is sent, and a margin of 10 s.
    pub lease: Duration,
    /// How long other processes wait after the end of a [`lease`](Self::lease) before they take
    /// over the refresh of its holder, if the server rotates strictly. The holder may only be
    /// paused, and may still save the new token. Defaults to 45 s, so that lease and grace together
    /// are 5 s longer than [`answer_timeout`](Self::answer_timeout), and the holder can save each
    /// response that it may still get. The start refuses a policy in which they are shorter than
    /// that.
    pub takeover_grace: Duration,
    /// How long other processes wait after the end of a [`lease`](Self::lease) before they take over
    /// the refresh of its holder, if the server rotates strictly and the holder keeps a
    /// [`Journal`](crate::journal::Journal). The wait ends as soon as another process has replayed
    /// that journal. Without a journal, only [`takeover_grace`](Self::takeover_grace) counts; with
    /// one, the longer of the two. Defaults to 120 s because a program that was killed, or whose
    /// machine was started again, is usually running again by then.
    pub journal_hold: Duration,
    /// How long the user may take to give the second factor. Defaults to 10 min because vendors'
    /// challenges are valid for 10 to 15 min.
    pub challenge_ttl: Duration,
    /// How long a login through a browser may take. Defaults to 10 min because users look for
    /// passwords and phones, and a code is valid for no longer (RFC 6749 section 4.1.2).
    pub login_ttl: Duration,
    /// How long the record of a session stays in the store after the session has ended: it was lost, or
    /// it was closed and nothing is left to revoke. After that, a supervisor removes the record, as
    /// [`forget`](crate::Session::forget) does. Defaults to 90 days, so that a user who was away for a
    /// quarter still sees why the session ended. At least [1 h](ENDED_KEPT_AT_LEAST).
    pub keep_ended: Duration,
    /// Waiting times after failed exchanges. Defaults to 1 s doubling to 5 min, with full jitter.
    pub backoff: Backoff,
    /// Waiting times after failed saves. Defaults to 100 ms doubling to 10 s, with full jitter,
    /// because memory has the only copy of a rotated token until it is saved.
    pub save_backoff: Backoff,
    /// When a session whose actor keeps crashing is quarantined. See [`Restarts`].
    pub restarts: Restarts,
    /// How many events a slow subscriber may leave unread. Beyond that it misses the oldest events
    /// of the tenant that has the most, and gets the number of events that it missed. Defaults to
    /// 1,024 because no program may rely on events; the list has the state of every session.
    pub events: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_sessions: 4_000_000,
            max_resident: 1_000_000,
            max_sessions_per_tenant: 1_000_000,
            max_waiters: 65_536,
            max_queued_grants: 16,
            call_timeout: Duration::from_secs(30),
            attempt_budget: Duration::from_secs(10),
            min_repeat_time: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(60),
            save_timeout: Duration::from_secs(2),
            store_timeout: Duration::from_secs(5),
            source_timeout: Duration::from_secs(5),
            lease: Duration::from_secs(20),
            takeover_grace: Duration::from_secs(45),
            journal_hold: Duration::from_secs(120),
            challenge_ttl: Duration::from_secs(600),
            login_ttl: Duration::from_secs(600),
            keep_ended: Duration::from_secs(90 * 24 * 3600),
            backoff: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) },
            save_backoff: Backoff {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(10),
            },
            restarts: Restarts::default(),
            events: 1024,
        }
    }
}

impl Policy {
    /// When more sessions than this are in memory, the crate removes some.
    pub(crate) fn resident(&self) -> usize {
        self.max_resident.min(self.max_sessions - self.max_sessions / EVICTED_PART)
    }

    /// How much of a claim's lease must be left when a request is sent.
    pub(crate) fn send_margin(&self) -> Duration {
        SEND_MARGIN.min(self.lease / 2)
    }
}

/// A waiting time that doubles with each failure, up to a cap. A random part of it is used
/// (jitter), so that many sessions do not retry at the same moment.
///
/// ```
/// use std::time::Duration;
/// use session_warden::policy::Backoff;
///
/// let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(300) };
/// // After the fourth failure: from 0.8 s to 8 s, as the random number decides.
/// assert_eq!(backoff.wait(4, 0.0), Duration::from_millis(800));
/// assert_eq!(backoff.wait(4, 1.0), Duration::from_secs(8));
/// // After the twentieth failure: at most the cap.
/// assert_eq!(backoff.wait(20, 1.0), Duration::from_secs(300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users as a literal")]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any number of failures.
    pub cap: Duration,
}

impl Backoff {
    /// Returns the wait after failure number `tries`, where 1 is the first failure. `spread` is the
    /// random number from 0 to 1 that the jitter uses. The wait is at least a tenth of the doubled
    /// time, so that a `spread` of zero cannot cause a burst of requests.
    #[must_use]
    pub fn wait(&self, tries: u32, spread: f64) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let step = self.base.saturating_mul(doubled).min(self.cap);
        step.mul_f64(0.1 + 0.9 * part(spread))
    }
}

/// When a session whose actor keeps crashing is quarantined, so that the other sessions are not
/// affected.
///
/// ```
/// use std::time::Duration;
/// use session_warden::policy::{Backoff, Policy, Restarts};
///
/// // Quarantine after 3 crashes within a minute, for 5 min, then 10 min, and so on up to 2 h.
/// let quarantine = Backoff { base: Duration::from_secs(300), cap: Duration::from_secs(7200) };
/// let restarts = Restarts { intensity: 3, quarantine, ..Restarts::default() };
/// let policy = Policy { restarts, ..Policy::default() };
/// assert_eq!(policy.restarts.within, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users as a literal")]
pub struct Restarts {
    /// If the actor of a session crashes more often than this within [`within`](Self::within), the
    /// session is quarantined. Defaults to 5 because after so many crashes the session itself is
    /// the likely cause.
    pub intensity: u32,
    /// The period over which crashes are counted. Defaults to 60 s.
    pub within: Duration,
    /// The wait before the actor of a session is started again. Defaults to 10 ms doubling to
    /// 1 s.
    pub backoff: Backoff,
    /// The wait before the supervisor actor is started again. Defaults to 10 ms doubling to 1 s.
    pub supervisor_backoff: Backoff,
    /// How long a session is quarantined. Defaults to 1 min doubling to 1 h.
    pub quarantine: Backoff,
}

impl Default for Restarts {
    fn default() -> Self {
        let quick = Backoff { base: Duration::from_millis(10), cap: Duration::from_secs(1) };
        Self {
            intensity: 5,
            within: Duration::from_secs(60),
            backoff: quick,
            supervisor_backoff: quick,
            quarantine: Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(3600) },
        }
    }
}

/// When the sessions of one provider are refreshed.
///
/// ```
/// use std::time::Duration;
/// use session_warden::policy::{RefreshPolicy, UnclassifiedAnswers, When};
/// use session_warden::provider::{Registration, oauth2::OAuth2};
///
/// let refresh = RefreshPolicy {
///     when: When::Proactive, // also sessions that nobody calls
///     unclassified: UnclassifiedAnswers { count: 5, ..UnclassifiedAnswers::default() },
///     ..RefreshPolicy::default()
/// };
/// // A token that is valid for an hour is due 5 min ahead, without jitter.
/// let due = refresh.due_after(Duration::from_secs(3600), 0.0);
/// assert_eq!(due, Duration::from_secs(55 * 60));
///
/// let acme = OAuth2::new("https://login.example.com/token", "my-backend")?;
/// let registration = Registration::new(acme).refresh(refresh);
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct RefreshPolicy {
    /// Whether callers or the schedule start the refresh of a token that is due. Defaults to
    /// [`When::OnDemand`].
    pub when: When,
    /// The part of a token's lifetime after which it is due. Defaults to 0.8, so that a session can
    /// be in doubt and recover before its token expires.
    pub fraction: f64,
    /// A token is due at least this long before it expires. Defaults to 10 s because an exchange
    /// may take that long. The crate uses at most half of the token's lifetime, so that a token
    /// with a short lifetime is not due as soon as it arrives.
    pub at_least: Duration,
    /// A token is due at most this long before it expires. Defaults to 5 min.
    pub at_most: Duration,
    /// The part of the lifetime over which due times are spread at random. Defaults to 0.1, so that
    /// sessions which were established together are not refreshed together.
    pub jitter: f64,
    /// How long before a refresh token expires the crate publishes the event `RefreshExpiring`. The
    /// crate uses at most half of the refresh token's lifetime. Defaults to 24 h, so that the time
    /// between event and expiry has working hours in it.
    pub expiring: Duration,
    /// When a session is lost because the server keeps answering in a way that the crate does not
    /// know. See [`UnclassifiedAnswers`].
    pub unclassified: UnclassifiedAnswers,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            when: When::OnDemand,
            fraction: 0.8,
            at_least: Duration::from_secs(10),
            at_most: Duration::from_secs(300),
            jitter: 0.1,
            expiring: Duration::from_secs(24 * 3600),
            unclassified: UnclassifiedAnswers::default(),
        }
    }
}

/// When a session is lost because the server answers its refreshes with responses that the crate
/// does not know
/// ([`FailureClass::Unclassified`](crate::provider::FailureClass::Unclassified)).
///
/// The crate retries the refresh with a back-off. The session is lost, as
/// [`LostReason::Unclassified`](crate::error::LostReason::Unclassified), when all of these
/// conditions hold:
///
/// - Since its last success the session got [`count`](Self::count) unclassified answers, over at
///   least [`span`](Self::span). Other failures between them do not count and do not reset the
///   count.
/// - The session's access token has expired, or an API rejected it.
/// - Another session of the same client succeeded after the first of these answers, or the time
///   [`alone`](Self::alone) has passed since the first of them.
///
/// The loss is provisional: the crate keeps the tokens, and a refresh that succeeds makes the
/// session active again. See the example of [`RefreshPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct UnclassifiedAnswers {
    /// How many unclassified answers since the last success lose a session. Defaults to 3: some
    /// servers send one to the request that loses a race, and no session loses a race three times.
    pub count: u32,
    /// The least time from the first of these answers to the last. Defaults to 1 min because a
    /// server sends them for some seconds while it is being deployed.
    pub span: Duration,
    /// How long the answers must go on until a session is lost although no other session of its
    /// client has succeeded since the first of them. Defaults to 24 h because in that case the
    /// client or the server is more likely at fault than the session.
    pub alone: Duration,
    /// The longest pause until the schedule tries again to refresh a session that was lost in this
    /// way. Defaults to 24 h, so that all sessions are active again within a day after a long
    /// outage.
    pub retry: Duration,
}

impl Default for UnclassifiedAnswers {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { count: 3, span: Duration::from_secs(60), alone: day, retry: day }
    }
}

/// The number, cut to 0..=1; `NaN` counts as 0.
fn part(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, 1.0) }
}

/// Whether callers or the schedule start the refresh of a token that is due. See the example of
/// [`RefreshPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// The first caller that asks for a due token starts its refresh. This is the default, because
    /// idle sessions then cause no requests, and because on a server that rotates strictly each
    /// refresh is a small risk.
    OnDemand,
    /// The schedule refreshes every session of the store that has a refresh token, also those that
    /// nobody calls. If several processes share a store, each of them refreshes its share.
    Proactive,
}

#[cfg(test)]
mod tests;
