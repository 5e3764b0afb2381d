//! Every bound and every timeout, with its default and the reason for the default.

mod due;
mod limits;
mod storage;
mod validation;

use std::time::Duration;

pub use self::limits::ProviderLimits;
pub use self::storage::*;

/// The bounds of one supervisor.
///
/// A plain value: take the default and change what you must.
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
    /// that one tenant cannot use all of it. If you have one tenant only, set both to the same
    /// value.
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
    /// How long an exchange may take until it has sent the last byte of its last request: name
    /// lookup, connection, TLS and writing, with all repeats. Requests that come before it
    /// (discovery, for example) may take as long again. Defaults to 10 s because a connection to a
    /// server that is up takes no longer than
    /// [`CONNECT_TIMEOUT`](crate::transport::CONNECT_TIMEOUT), and a request that is not sent costs
    /// only this time.
    pub attempt_budget: Duration,
    /// An exchange does not repeat a request when less than this is left of its budget, and a
    /// server's grace for used tokens that is not longer counts as no grace. Defaults to 5 s
    /// because the repeat needs time to be sent, and the server may queue it.
    pub min_repeat_time: Duration,
    /// How long the whole response may take, from when the last byte of the request was sent. After
    /// that the response counts as lost, and the outcome is ambiguous. The crate drops a provider's
    /// future this long after the end of its [`attempt_budget`](Self::attempt_budget). Defaults to
    /// 60 s because proxies in front of servers time out by then, and no less because on a server
    /// that rotates strictly a lost response costs the session.
    pub answer_timeout: Duration,
    /// How long the store may take to save new credentials. After that the crate hands out their
    /// token although they are unsaved, and goes on saving. Defaults to 2 s because callers wait,
    /// and the tokens are valid.
    pub save_timeout: Duration,
    /// How long the store may take to load or claim a record before the call gets `Store`. Defaults
    /// to 5 s because a database that fails over takes that long, and nothing was sent yet.
    pub store_timeout: Duration,
    /// How long a [`ProviderSource`](crate::provider::ProviderSource) and the function of
    /// [`renew_with`](crate::provider::Registration::renew_with) may take. Defaults to 5 s because
    /// either reads a row of a database, and callers wait.
    pub source_timeout: Duration,
    /// How long a claim keeps other processes from exchanging for the session, unless it is
    /// renewed. Defaults to 20 s: 10 s until the request is sent, and [`SEND_MARGIN`].
    pub lease: Duration,
    /// How long after the end of a lease other processes do not take over the holder's refresh, on
    /// a server that rotates strictly: the holder may only be paused, and come back with the new
    /// token. Defaults to 45 s, so that lease and grace together are 5 s ([`SAVE_MARGIN`]) longer
    /// than [`answer_timeout`](Self::answer_timeout): a response that can still arrive is waited
    /// for and saved. A policy with less than that is refused.
    pub takeover_grace: Duration,
    /// How long the user may take to give the second factor. Defaults to 10 min because vendors'
    /// challenges are valid for 10 to 15 min.
    pub challenge_ttl: Duration,
    /// How long a login through a browser may take. Defaults to 10 min because users look for
    /// passwords and phones, and a code is valid for no longer (RFC 6749 section 4.1.2).
    pub login_ttl: Duration,
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
            challenge_ttl: Duration::from_secs(600),
            login_ttl: Duration::from_secs(600),
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

/// A waiting time that doubles with each failure, up to a cap, with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users as a literal")]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub base: Duration,
    /// The longest wait after any.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after failure number `tries` (1 is the first). `spread` is the random number from
    /// 0 to 1 that the jitter uses. The wait is at least a tenth of the step, so that a zero cannot
    /// cause a burst of requests.
    #[must_use]
    pub fn wait(&self, tries: u32, spread: f64) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let step = self.base.saturating_mul(doubled).min(self.cap);
        step.mul_f64(0.1 + 0.9 * part(spread))
    }
}

/// When a session whose actor keeps crashing is quarantined, so that others are not affected.
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

/// When sessions of one provider are refreshed.
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
    /// may take that long. Never more than half of the lifetime, so that short lifetimes do not
    /// loop.
    pub at_least: Duration,
    /// A token is due at most this long before it expires. Defaults to 5 min.
    pub at_most: Duration,
    /// The part of the lifetime over which due times are spread. Defaults to 0.1, so that
    /// sessions established together are not refreshed together.
    pub jitter: f64,
    /// How long before a refresh token expires the event `RefreshExpiring` is published; at most
    /// half of its lifetime ahead. Defaults to 24 h, so that the event falls into working hours
    /// once.
    pub expiring: Duration,
    /// When unclassified answers lose a session. See [`UnclassifiedAnswers`].
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

/// When unclassified answers lose a session
/// ([`FailureClass::Unclassified`](crate::provider::FailureClass::Unclassified)).
///
/// The crate retries the refresh with a back-off. The session is lost, as
/// [`LostReason::Unclassified`](crate::error::LostReason::Unclassified), when all of this is true:
///
/// - it got [`count`](Self::count) unclassified answers since its last success, over at least
///   [`span`](Self::span); other failures between them do not count and do not reset the count;
/// - its access token has expired, or an API rejected it;
/// - another session of the same client succeeded after the first of these answers, or
///   [`alone`](Self::alone) has passed since then.
///
/// The loss is provisional: the tokens are kept, and a refresh that succeeds makes the session
/// active again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct UnclassifiedAnswers {
    /// How many unclassified answers since the last success lose a session. Defaults to 3: some
    /// servers send one to the request that loses a race, and no session loses a race three times.
    pub count: u32,
    /// The least time from the first of these answers to the last. Defaults to 1 min because a
    /// server sends them for some seconds while it is being deployed.
    pub span: Duration,
    /// How long the answers go on before a session is lost although no other session of its client
    /// succeeded in that time. Defaults to 24 h because the client or the server is then more
    /// likely at fault than the session.
    pub alone: Duration,
    /// The longest pause before the schedule tries a session again that was lost in this way.
    /// Defaults to 24 h, so that all sessions are active again within a day after a long outage.
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

/// Whether callers or the schedule start the refresh of a token that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// The first caller that asks for a due token starts its refresh. This is the default: idle
    /// sessions cause no requests, and on a server that rotates strictly each refresh is a small
    /// risk.
    OnDemand,
    /// The schedule refreshes every session of the store that has a refresh token, whether or not
    /// it is called. If several processes share a store, each refreshes its share.
    Proactive,
}

/// A token whose stated lifetime is shorter than this counts as valid for this long: servers send
/// 0, negative values or values in the wrong unit, and a new token must be used at least once. A
/// token that expired before its response arrived counts as valid for this long from the arrival.
/// Defaults to 1 s, so that such a server gets at most one request a second for each session.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Longer stated lifetimes are cut to this. Defaults to 10 years because an expiry that is further
/// away does not matter.
pub const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An exchange sends no request when less than this is left of its claim's
/// [`lease`](Policy::lease), or less than half of the lease if that is shorter. Defaults to 10 s
/// because a request reaches the server within that time, before another process can claim the
/// session.
pub const SEND_MARGIN: Duration = Duration::from_secs(10);

/// [`Policy::lease`] and [`Policy::takeover_grace`] together are at least this much longer than
/// [`Policy::answer_timeout`]. Defaults to 5 s because the tokens of a response that arrives at the
/// last moment must be saved, which may take [`Policy::store_timeout`].
pub const SAVE_MARGIN: Duration = Duration::from_secs(5);

/// A request that is open for longer than this is slow: it releases its permit to another exchange
/// of its provider, and counts against [`ProviderLimits::slow_requests`]. Defaults to 10 s because
/// a healthy server responds in 1 s, and a response that takes ten times as long may never arrive.
pub const SLOW_AFTER: Duration = Duration::from_secs(10);

/// The `retry_after` of `RetryLater` when nothing was sent because too many requests are slow.
/// Defaults to 1 s because a slow request may end at any moment, and another call costs no request.
pub const SLOW_RETRY: Duration = Duration::from_secs(1);

/// One pass over the sessions removes [`Policy::max_resident`] divided by this from memory.
/// Defaults to 16, so that one pass makes room for many new sessions.
pub const EVICTED_PART: usize = 16;

/// The pause between two such passes. Defaults to 250 ms, so that sessions that cannot leave memory
/// are not checked all the time.
pub const EVICTION_PAUSE: Duration = Duration::from_millis(250);

/// How often a handle sends its message again when the actor crashed before it replied. Defaults to
/// 3 because messages are idempotent, and a supervisor that crashes more often is in back-off.
pub const RESENDS: u32 = 3;

/// How long a handle waits for an actor to reply to its message, or to begin an exchange. Then it
/// sends the message again, or withdraws the start and asks the session again. Defaults to 10 s
/// because an actor may first load the record, for up to [`Policy::store_timeout`].
pub const REPLY_WAIT: Duration = Duration::from_secs(10);

/// How often a caller asks the session again without a pause after the exchange that it waited for
/// brought no token. Defaults to 3: an exchange may end between the caller's request and the
/// session's reply.
pub const ASKED_AGAIN_AT_ONCE: u32 = 3;

/// How long a caller pauses before each further request after [`ASKED_AGAIN_AT_ONCE`]. Defaults to
/// 10 ms: longer than a step of the session, and too short to notice.
pub const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The crate paces a client's retries when this many of its sessions get the same unclassified
/// answer within [`FAULT_SPAN`]. Defaults to 5: fewer sessions may each be dead on their own.
pub const FAULT_SESSIONS: usize = 5;

/// The time within which [`FAULT_SESSIONS`] sessions must get the same answer, without a success in
/// between. Defaults to 1 min: refreshes that are further apart put no load on a server.
pub const FAULT_SPAN: Duration = Duration::from_secs(60);

/// While retries are paced, the crate starts one in this time. Defaults to 1 s, so that it notices
/// within a second that the server works again, however many sessions there are.
pub const FAULT_PACE: Duration = Duration::from_secs(1);

/// How many different unclassified answers the crate counts separately for one client. At the bound
/// it forgets the oldest. Defaults to 8 because a client gets one or two different ones.
pub const FAULT_KINDS: usize = 8;

/// An API may reject a token that replaced a rejected one. For this long after the replacement,
/// such a rejection starts no refresh. Defaults to 10 s: a server needs time to spread a new token.
pub const DAMPING: Duration = Duration::from_secs(10);

/// [`DAMPING`] doubles with each refresh that a rejection starts, up to this. Defaults to 10 min,
/// so that an API that rejects every token costs six refreshes an hour.
pub const DAMPING_CAP: Duration = Duration::from_secs(600);

/// The schedule reads the clock at least this often, because timers stand still while the machine
/// is suspended and deadlines do not. Defaults to 5 min because it announces expiries hours ahead,
/// and callers also notice that a token is due.
pub const SCHEDULE_HEARTBEAT: Duration = Duration::from_secs(300);

/// How many sessions of one provider the schedule checks at the same time. Defaults to 64, which
/// keeps a database busy that responds in milliseconds, and delays a caller by no more than these.
pub const CHECKS_AT_ONCE: usize = 64;

/// How many requests the schedule may have open at one
/// [`ProviderSource`](crate::provider::ProviderSource). Defaults to 16: sources are databases, and
/// callers use them too. Sessions whose tenant's provider is known do not wait for a slow source.
pub const DUE_SOURCES: usize = 16;

/// How many due records of one provider the schedule takes from the store at once. Defaults to
/// 4,096, some 500 KB: more than it checks in a second.
pub const DUE_AT_ONCE: usize = 4096;

/// How many due sessions may wait for an exchange of one client, or for one source. Defaults to
/// 1,024, as many as a server handles in 10 s that responds 100 times a second; the store keeps the
/// others.
pub const DUE_WAITING: usize = 1024;

/// For how many sessions of one provider the schedule remembers that a check failed, and until when
/// it pauses. Defaults to 65,536, some 8 MB; it checks further ones again as soon as the store
/// returns them again.
pub const DUE_FAILED: usize = 65_536;

/// The pause before the schedule reads due records again that it skipped because too many sessions
/// waited. Defaults to 250 ms, in which a client begins at most [`DUE_WAITING`] exchanges.
pub const DUE_REFILL: Duration = Duration::from_millis(250);

/// The supervisors on one store have an order for each due session: each waits this much longer
/// than the one before it. Defaults to 5 s, because a check by a supervisor that runs takes less.
pub const DUE_RANK: Duration = Duration::from_secs(5);

/// How many records are read from the store at once for a list. Defaults to 256, some 250 KB with
/// their tokens.
pub const LIST_PAGE: usize = 256;

/// A list ends when its page could not be read this often in a row. Defaults to 3: a list survives
/// a short failure of the store, and does not go on for ever if the store stays down.
pub const LIST_FAILURES: u32 = 3;

/// How many rows of an import, or sessions of a tenant that is forgotten, are processed at the same
/// time, and held in memory. Defaults to 64, which keeps a database busy that responds in
/// milliseconds.
pub const ROWS_AT_ONCE: usize = 64;

/// How many refused rows an import names. It only counts further ones. Defaults to 1,000 because
/// they are for people to read.
pub const NAMED_REFUSALS: usize = 1000;

/// An import stops when the store failed for this many rows in a row. Defaults to 128, twice the
/// rows that are processed at the same time: fewer could be one short failure.
pub const IMPORT_FAILURES: u32 = 128;

/// For how many sessions the supervisor remembers that their actors crashed. Defaults to 10,000
/// because if more actors crash in a minute, the cause is not one session.
pub const REMEMBERED_DEATHS: usize = 10_000;

/// How many tenant clients are kept although no session uses them. Defaults to 1,024 because one
/// costs about 1 KB, and to make it again its source reads a row of a database.
pub const IDLE_TENANT_CLIENTS: usize = 1_024;

/// How many tenant clients are made at the same time when all are reloaded. Defaults to 8 because
/// their source is a database, which others use too.
pub const TENANT_CLIENTS_AT_ONCE: usize = 8;

/// How far wall and monotonic time may move against each other before the crate computes the age of
/// a token anew. Defaults to 2 s: clock discipline moves by less, suspends and clock steps by more.
pub const DRIFT: Duration = Duration::from_secs(2);

/// A longer text of a key ring is refused. Defaults to 64 KiB because a ring has two or three keys
/// of 50 bytes each, and comments.
pub const MAX_KEY_RING_BYTES: usize = 64 * 1024;

/// How long a [`KeySource`](crate::seal::KeySource) may take. Defaults to 10 s because a key
/// service responds in well under a second, and a start that takes longer should fail with a
/// reason.
pub const KEY_SOURCE_WAIT: Duration = Duration::from_secs(10);

/// A server's metadata is read again when it is older. Defaults to 1 h: servers move that rarely.
pub const METADATA_AGE: Duration = Duration::from_secs(3600);

/// The wait before metadata is read again after a failure. Defaults to 1 min because the former
/// endpoints stay in use.
pub const METADATA_RETRY: Duration = Duration::from_secs(60);

/// How long it may take to read metadata again. Defaults to 2 s because an exchange waits for it.
pub const METADATA_WAIT: Duration = Duration::from_secs(2);

/// A longer ticket is refused. Defaults to 16 KiB because most servers accept no longer header, and
/// a ticket travels in a cookie or a form. The tickets of this crate's own logins have some 500
/// bytes. See [`MAX_COOKIE_BYTES`].
pub const MAX_TICKET_BYTES: usize = 16 * 1024;

/// A longer ticket does not fit a cookie, which
/// [`Ticket::fits_cookie`](crate::ticket::Ticket::fits_cookie) checks. Defaults to 3,840 because
/// browsers keep 4,096 bytes with the cookie's name and attributes (RFC 6265 section 6.1), and 256
/// are enough for these.
pub const MAX_COOKIE_BYTES: usize = 3840;

/// How many used tickets a process remembers until they expire. At the bound it forgets the oldest
/// one of the tenant that has the most. Defaults to 65,536, some 16 MB: 109 logins a second with
/// tickets that are valid for 10 min.
pub const USED_TICKETS: usize = 65_536;

/// How many of these may be one tenant's at one provider. At the bound the process forgets the
/// oldest one. Defaults to 1,024, a login every 0.6 s, so that 64 tenants find room. A forgotten
/// ticket could be used again, but the server accepts its code only once.
pub const USED_TICKETS_PER_TENANT: usize = 1024;

#[cfg(test)]
mod tests;
