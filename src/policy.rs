//! Every bound and every waiting time, with its default and the reason for it.

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
    /// The most sessions resident in memory; the next one gets `Capacity`. Defaults to 4,000,000
    /// because that is some 8 GB of slots and tokens, more than a backend gives to this crate.
    pub max_sessions: usize,
    /// When more sessions than this are in memory, idle ones that the store has in full leave, the
    /// longest unused first, until a [sixteenth](EVICTED_PART) fewer than this are there. The next
    /// call for such a session reads its record. Defaults to 1,000,000, some 2 GB. More may stay, up
    /// to [`max_sessions`](Self::max_sessions), while exchanges run on them or the store lacks their
    /// tokens. Counts as fifteen sixteenths of `max_sessions` at most.
    pub max_resident: usize,
    /// The most sessions of one tenant in memory; the next one of this tenant gets `Capacity`.
    /// Defaults to 1,000,000, a quarter of [`max_sessions`](Self::max_sessions), so that no tenant
    /// takes the place of all others. With one tenant alone, set both alike.
    pub max_sessions_per_tenant: usize,
    /// The most callers that wait for one session; the next one gets `Capacity`. Defaults to
    /// 65,536 because a waiting caller costs about 1 KB, and a mailbox holds at most one message
    /// for each.
    pub max_waiters: usize,
    /// The most grants and revocations that queue for one session; the next one gets `Capacity`.
    /// Defaults to 16 because each is exchanged on its own, and a user who signs in again and
    /// again gains nothing from a longer queue.
    pub max_queued_grants: usize,
    /// How long one call waits. Then a call for a token gets the token in hand if that is still
    /// valid, else `RetryLater`; any other call gets `Deadline`. The exchange goes on, and its
    /// answer counts. Defaults to 30 s because all but the slowest answers come sooner, and users
    /// wait no longer.
    pub call_timeout: Duration,
    /// How long an exchange may take until it has sent the last byte of its last request: name
    /// lookup, connection, TLS and writing, with all repeats. What it must ask for first
    /// (discovery, for example) may take as long again. Defaults to 10 s because a server that is
    /// up is reached within [`CONNECT_TIMEOUT`](crate::transport::CONNECT_TIMEOUT), and a request
    /// that is not sent costs only this time.
    pub attempt_budget: Duration,
    /// An exchange sends no repeat with less than this left of its budget. A server's grace for
    /// used tokens that is not longer than this counts as none. Defaults to 5 s because a repeat
    /// needs time to be sent, and its server may queue it.
    pub min_repeat_time: Duration,
    /// How long the whole answer may take, from when the last byte of the request was sent. After
    /// that the answer counts as lost, and the outcome is ambiguous. The crate drops a provider's
    /// future this long after the end of its [`attempt_budget`](Self::attempt_budget). Defaults to
    /// 60 s because proxies in front of servers give up by then, and no less because on a server
    /// that rotates strictly a lost answer costs the session.
    pub answer_timeout: Duration,
    /// How long credentials may take to be saved before they are served all the same, as owed.
    /// Defaults to 2 s because callers wait, and the tokens are good.
    pub save_timeout: Duration,
    /// How long a store may take to load or claim before the call gets `Store`. Defaults to 5 s
    /// because a database that fails over takes that long, and nothing is at stake yet.
    pub store_timeout: Duration,
    /// How long a [`ProviderSource`](crate::provider::ProviderSource) may take, and whoever is
    /// asked for a grant by [`renew_with`](crate::provider::Registration::renew_with). Defaults to
    /// 5 s because that is a row of a database, and callers wait.
    pub source_timeout: Duration,
    /// How long a claim keeps other processes from a session, unless it is renewed. Defaults to 20
    /// s: 10 s until the request is sent, and [`SEND_MARGIN`].
    pub lease: Duration,
    /// How long after the end of its lease other processes leave a silent holder's refresh alone on
    /// a server that rotates strictly: a paused process may come back with the new token. Defaults
    /// to 45 s, so that lease and hold together are 5 s ([`SAVE_MARGIN`]) longer than
    /// [`answer_timeout`](Self::answer_timeout): an answer that can still come is waited for and
    /// saved. A policy with less than that is refused.
    pub takeover_grace: Duration,
    /// How long a second factor is waited for. Defaults to 10 min because vendors' challenges
    /// live for 10 to 15 min.
    pub challenge_ttl: Duration,
    /// How long a login through a browser may take. Defaults to 10 min because people look for
    /// passwords and phones, and a code lives for no longer (RFC 6749 section 4.1.2).
    pub login_ttl: Duration,
    /// Waiting times after failed exchanges. Defaults to 1 s doubling to 5 min, with full jitter.
    pub backoff: Backoff,
    /// Waiting times after failed saves. Defaults to 100 ms doubling to 10 s, with full jitter,
    /// because an owed save is the only copy of a rotated token.
    pub save_backoff: Backoff,
    /// When a session whose actor keeps dying is set aside. See [`Restarts`].
    pub restarts: Restarts,
    /// How many events a slow subscriber may leave unread before it misses some, which are counted:
    /// the oldest of the tenant that has the most. Defaults to 1,024 because events are hints and
    /// the list is the truth.
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
    /// With more sessions resident than this, some leave memory.
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
    /// The wait after failure number `tries` (1 is the first). `spread` in 0..=1 is the jitter's
    /// dice; at least a tenth of the step is waited, so that a zero cannot hammer a server.
    #[must_use]
    pub fn wait(&self, tries: u32, spread: f64) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let step = self.base.saturating_mul(doubled).min(self.cap);
        step.mul_f64(0.1 + 0.9 * part(spread))
    }
}

/// When a session whose actor keeps dying is set aside, so that the rest go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by users as a literal")]
pub struct Restarts {
    /// More abnormal ends than this within [`within`](Self::within) set a session aside.
    /// Defaults to 5 because an actor that dies that often dies of its session.
    pub intensity: u32,
    /// The period over which ends are counted. Defaults to 60 s.
    pub within: Duration,
    /// The wait before the actor of a session is started again. Defaults to 10 ms doubling to
    /// 1 s.
    pub backoff: Backoff,
    /// The wait before the supervisor actor is started again. Defaults to 10 ms doubling to 1 s.
    pub supervisor_backoff: Backoff,
    /// How long a session is set aside. Defaults to 1 min doubling to 1 h.
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
    /// Who notices that a token is due. Defaults to [`When::OnDemand`].
    pub when: When,
    /// The part of a token's life after which it is due. Defaults to 0.8, so that there is time
    /// to be in doubt before callers notice.
    pub fraction: f64,
    /// A token is due at least this long before its end. Defaults to 10 s because an exchange may
    /// take that long. Never more than half of the life, so that a short life does not loop.
    pub at_least: Duration,
    /// A token is due at most this long before its end. Defaults to 5 min.
    pub at_most: Duration,
    /// The part of the remaining life over which due times are spread. Defaults to 0.1, so that
    /// sessions established together are not refreshed together.
    pub jitter: f64,
    /// How long before a refresh token's end `RefreshExpiring` is reported; at most half of its
    /// life ahead. Defaults to 24 h, so that somebody awake sees it.
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
    /// servers give one to the loser of a race, and no session loses a race three times.
    pub count: u32,
    /// The least time from the first of these answers to the last. Defaults to 1 min because a
    /// server that is being deployed gives them for some seconds.
    pub span: Duration,
    /// How long the answers go on before a session is lost although no other session of its client
    /// succeeded meanwhile. Defaults to 24 h because the client or the server is then more likely
    /// at fault than the session.
    pub alone: Duration,
    /// The longest pause before a session that was lost in this way is tried again. Defaults to
    /// 24 h, so that all sessions are back within a day of a long outage.
    pub retry: Duration,
}

impl Default for UnclassifiedAnswers {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { count: 3, span: Duration::from_secs(60), alone: day, retry: day }
    }
}

/// A number of 0..=1; what is no number counts as 0.
fn part(number: f64) -> f64 {
    if number.is_nan() { 0.0 } else { number.clamp(0.0, 1.0) }
}

/// Who notices that a token is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// Callers: the first who asks for a due token starts its refresh. Nothing runs while idle,
    /// and on a server that rotates strictly each refresh is a small risk, so this is the default.
    OnDemand,
    /// The schedule, whether anybody asks or not: all sessions of the store that have a refresh
    /// token. Of several processes on one store, each refreshes its share.
    Proactive,
}

/// A token whose stated lifetime is shorter than this is taken to live this long: servers send 0,
/// negative or missing-unit values, and a token that was just issued must be used at least once. A
/// token that ended before its answer came lives this long from when the answer came. Defaults to 1
/// s, so that such a server is asked at most once a second for each session.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Longer stated lifetimes are cut to this. Defaults to 10 years because nothing that is granted
/// longer than that has an expiry that matters.
pub const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An exchange sends no request when less than this is left of its claim's
/// [`lease`](Policy::lease); where half of the lease is shorter, that counts instead. Defaults to
/// 10 s because a request reaches the server within that time, so that it is there before another
/// process can claim the session.
pub const SEND_MARGIN: Duration = Duration::from_secs(10);

/// [`Policy::lease`] and [`Policy::takeover_grace`] together are at least this much longer than
/// [`Policy::answer_timeout`]. Defaults to 5 s because the save of an answer that comes at the last
/// moment may take [`Policy::store_timeout`].
pub const SAVE_MARGIN: Duration = Duration::from_secs(5);

/// A request that is open for longer than this is slow: it gives its place to another exchange of
/// its provider, and counts against [`ProviderLimits::slow_requests`]. Defaults to 10 s because a
/// healthy server answers in 1 s, and an answer that takes ten times as long may never come.
pub const SLOW_AFTER: Duration = Duration::from_secs(10);

/// What `RetryLater` tells a caller to wait if nothing was sent because too many requests are slow.
/// Defaults to 1 s because slow requests end at any moment, and asking again costs no request.
pub const SLOW_RETRY: Duration = Duration::from_secs(1);

/// Which part of [`Policy::max_resident`] one pass over the sessions frees. Defaults to a sixteenth,
/// so that one pass makes room for many new sessions.
pub const EVICTED_PART: usize = 16;

/// The pause after sessions have left memory. Defaults to 250 ms, so that sessions that cannot leave
/// are not looked through all the time.
pub const EVICTION_PAUSE: Duration = Duration::from_millis(250);

/// How often a handle sends its message again when the actor that should answer died. Defaults to
/// 3 because messages are idempotent, and a supervisor that dies more often is in back-off.
pub const RESENDS: u32 = 3;

/// How long a handle waits for an actor to reply to its message, or to begin an exchange. Then it
/// sends the message again, or takes the start back and asks the session again. Defaults to 10 s
/// because an actor may first read the record, for up to [`Policy::store_timeout`].
pub const REPLY_WAIT: Duration = Duration::from_secs(10);

/// A caller whose awaited exchange brought no token asks the session again. This many times it asks
/// without a pause. Defaults to 3: an exchange may end between the caller's question and its
/// answer.
pub const ASKED_AGAIN_AT_ONCE: u32 = 3;

/// How long the caller pauses before it asks again, after [`ASKED_AGAIN_AT_ONCE`] times. Defaults
/// to 10 ms: longer than a step of the session, and too short for a caller to notice.
pub const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The crate paces a client's retries when this many of its sessions get the same unclassified
/// answer within [`FAULT_SPAN`]. Defaults to 5: fewer sessions may each be dead on their own.
pub const FAULT_SESSIONS: usize = 5;

/// The time within which [`FAULT_SESSIONS`] sessions must get the same answer, without a success in
/// between. Defaults to 1 min: refreshes that are further apart put no load on a server.
pub const FAULT_SPAN: Duration = Duration::from_secs(60);

/// While retries are paced, one goes out in this time. Defaults to 1 s, which notices within a
/// second that the server is well again, whatever the number of sessions.
pub const FAULT_PACE: Duration = Duration::from_secs(1);

/// So many different answers that name nobody are told apart for one client. Defaults to 8 because
/// a client meets one or two of them; the oldest is forgotten.
pub const FAULT_KINDS: usize = 8;

/// An API may reject a token that replaced a rejected one. For this long after the replacement,
/// such a rejection starts no refresh. Defaults to 10 s: a server needs time to spread a new token.
pub const DAMPING: Duration = Duration::from_secs(10);

/// The span doubles with each refresh that a rejection starts, up to this. Defaults to 10 min, at
/// which an API that rejects every token costs six refreshes an hour.
pub const DAMPING_CAP: Duration = Duration::from_secs(600);

/// The schedule looks at the clock at least this often, because timers stand still in a suspend
/// and deadlines do not. Defaults to 5 min because what it tells ahead, it tells hours ahead, and a
/// token that is due is noticed by its callers too.
pub const SCHEDULE_HEARTBEAT: Duration = Duration::from_secs(300);

/// How many sessions of one provider the schedule looks at at once. Defaults to 64, which keeps a
/// database busy that answers in milliseconds; a caller's statement waits behind no more than these.
pub const LOOKS_AT_ONCE: usize = 64;

/// How often at once the schedule may ask one [`ProviderSource`](crate::provider::ProviderSource).
/// Defaults to 16: sources are databases, and callers ask them too. Sessions whose tenant's provider
/// is known do not wait for sources that hang.
pub const DUE_SOURCES: usize = 16;

/// How many due records of one provider the schedule takes from the store at once. Defaults to
/// 4,096, some 500 KB: more than are looked at in a second.
pub const DUE_AT_ONCE: usize = 4096;

/// How many due sessions may wait for an exchange of one client, or for one source. Defaults to
/// 1,024, as many as a server that answers 100 times a second takes in 10 s; the store keeps the
/// others.
pub const DUE_WAITING: usize = 1024;

/// How many sessions of one provider that were looked at in vain are remembered, each with its
/// pause. Defaults to 65,536, some 8 MB; those beyond are looked at again when the store names them
/// again.
pub const DUE_FAILED: usize = 65_536;

/// The pause before records are read again that were passed over because too many sessions waited.
/// Defaults to 250 ms, in which a client begins at most [`DUE_WAITING`] exchanges.
pub const DUE_REFILL: Duration = Duration::from_millis(250);

/// The supervisors on one store have an order for each due session: each waits this much longer than
/// the one before it. Defaults to 5 s, because a look by a live supervisor takes less.
pub const DUE_RANK: Duration = Duration::from_secs(5);

/// How many records are read from the store at once for a list. Defaults to 256, some 250 KB with
/// their tokens.
pub const LIST_PAGE: usize = 256;

/// A list ends when its page could not be read this often in a row. Defaults to 3: a reader that
/// goes on after a failure gets through a short one, and does not read a dead store for ever.
pub const LIST_FAILURES: u32 = 3;

/// How many rows of an import, or sessions of a tenant that is forgotten, are worked on at once.
/// Defaults to 64, which keeps a database busy that answers in milliseconds, and is all that is in
/// memory of an import.
pub const ROWS_AT_ONCE: usize = 64;

/// How many refused rows an import names. Those beyond are counted. Defaults to 1,000 because
/// somebody reads them.
pub const NAMED_REFUSALS: usize = 1000;

/// An import stops when the store failed for this many rows in a row. Defaults to 128, twice what
/// is worked on at once: less could be one short failure.
pub const IMPORT_FAILURES: u32 = 128;

/// How many sessions' actor deaths are remembered at once. Defaults to 10,000 because a process
/// in which more actors die in a minute has another problem than one session.
pub const REMEMBERED_DEATHS: usize = 10_000;

/// So many tenants' providers are kept although no session uses them. Defaults to 1,024 because
/// one costs about 1 KB, and asking for it again a row of a database.
pub const IDLE_TENANT_CLIENTS: usize = 1_024;

/// How many tenants' providers are asked for at once when all are reloaded. Defaults to 8 because
/// their source is a database, which others use too.
pub const TENANT_CLIENTS_AT_ONCE: usize = 8;

/// How far wall and monotonic time may move against each other before a token's age is looked at
/// anew. Defaults to 2 s: clock discipline moves by less, suspends and clock steps by more.
pub const DRIFT: Duration = Duration::from_secs(2);

/// Longer texts of key rings are refused. Defaults to 64 KiB because a ring has two or three keys
/// of 50 bytes each, and comments.
pub const MAX_KEY_RING_BYTES: usize = 64 * 1024;

/// How long a [`KeySource`](crate::seal::KeySource) may take. Defaults to 10 s because a key
/// service answers in well under a second, and a start that waits longer should say why.
pub const KEY_SOURCE_WAIT: Duration = Duration::from_secs(10);

/// A server's metadata is read again when it is older. Defaults to 1 h: servers move that rarely.
pub const METADATA_AGE: Duration = Duration::from_secs(3600);

/// The wait after a reading that failed. Defaults to 1 min because the former endpoints serve on.
pub const METADATA_RETRY: Duration = Duration::from_secs(60);

/// How long a second reading may take. Defaults to 2 s because an exchange waits for it.
pub const METADATA_WAIT: Duration = Duration::from_secs(2);

/// Longer tickets are refused. Defaults to 16 KiB because most servers take no longer header, and
/// a ticket goes through a cookie or a form. The tickets of this crate's own logins have some 500
/// bytes. See [`MAX_COOKIE_BYTES`].
pub const MAX_TICKET_BYTES: usize = 16 * 1024;

/// Longer tickets are not for a cookie:
/// [`Ticket::fits_cookie`](crate::ticket::Ticket::fits_cookie). Defaults to 3,840 because browsers
/// keep 4,096 bytes with the cookie's name and attributes (RFC 6265 section 6.1), and 256 are
/// enough for these.
pub const MAX_COOKIE_BYTES: usize = 3840;

/// How many used tickets are remembered until they expire. At the bound, the tenant with the most
/// of them loses its oldest. Defaults to 65,536 because at 10 min a ticket that is 109 logins a
/// second, in some 16 MB.
pub const SPENT_TICKETS: usize = 65_536;

/// How many of these are one tenant's at one provider; at the bound its oldest is forgotten.
/// Defaults to 1,024, a login every 0.6 s, so that 64 tenants find room. A ticket that was
/// forgotten could be used again, but the server takes its code once.
pub const SPENT_TICKETS_PER_TENANT: usize = 1024;

#[cfg(test)]
mod tests;
