//! The bounds that no setting changes, each with the reason for its value.

use std::time::Duration;

/// The pause between two polls for a login on another device, if the server names none. Defaults to
/// 5 s, as RFC 8628 section 3.2 says.
pub const DEVICE_POLL: Duration = Duration::from_secs(5);

/// The shortest pause between two such polls, whatever the server says. Defaults to 1 s, because a
/// user does not notice a second.
pub const DEVICE_POLL_FLOOR: Duration = Duration::from_secs(1);

/// By how much that pause grows each time the server answers `slow_down`. Defaults to 5 s, as RFC 8628
/// section 3.5 says.
pub const DEVICE_SLOW_DOWN: Duration = Duration::from_secs(5);

/// While the server does not respond to polls, the pause doubles each time, up to this. Defaults to
/// 1 min: a server that is up again is asked soon, while the user still waits.
pub const DEVICE_POLL_CAP: Duration = Duration::from_secs(60);

/// The ticket of a login on another device is valid for no longer than this, even if the server's
/// code is. Defaults to 1 h, because servers give a user 5 to 30 min.
pub const DEVICE_LOGIN_TTL: Duration = Duration::from_secs(3600);

/// A token whose stated lifetime is shorter than this counts as valid for this long: servers send
/// 0, negative values or values in the wrong unit, and a new token must be used at least once. A
/// token that expired before its response arrived counts as valid for this long from the arrival.
/// Defaults to 1 s, so that such a server gets at most one request a second for each session.
pub const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Longer stated lifetimes are cut to this. Defaults to 10 years because an expiry that is further
/// away does not matter.
pub const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// An exchange sends no request when less than this is left of its claim's
/// `Policy::lease`, or less than half of the lease if that is shorter. Defaults to 10 s
/// because a request reaches the server within that time, before another process can claim the
/// session.
pub const SEND_MARGIN: Duration = Duration::from_secs(10);

/// `Policy::lease` and `Policy::takeover_grace` together are at least this much longer than
/// `Policy::answer_timeout`. Defaults to 5 s because the tokens of a response that arrives at the
/// last moment must be saved, which may take `Policy::store_timeout`.
pub const SAVE_MARGIN: Duration = Duration::from_secs(5);

/// A request that is open for longer than this is slow: it releases its permit to another exchange
/// of its provider, and counts against `ProviderLimits::slow_requests`. Defaults to 10 s because
/// a healthy server responds in 1 s, and a response that takes ten times as long may never arrive.
pub const SLOW_AFTER: Duration = Duration::from_secs(10);

/// The `retry_after` of `RetryLater` when nothing was sent because too many requests are slow.
/// Defaults to 1 s because a slow request may end at any moment, and another call costs no request.
pub const SLOW_RETRY: Duration = Duration::from_secs(1);

/// One pass over the sessions removes `Policy::max_resident` divided by this from memory.
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
/// because an actor may first load the record, for up to `Policy::store_timeout`.
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

/// After so many requests in a row without an answer of the server, the crate reports the server as
/// unreachable. Defaults to 3, because one or two lost connections are not an outage.
pub const UNANSWERED_IN_A_ROW: u32 = 3;

/// After so many refreshes in a row that the server rejected or answered in another way that is no
/// success, the crate reports that the server rejects refreshes. Defaults to 10, because fewer
/// sessions may have ended by themselves.
pub const REJECTED_IN_A_ROW: u32 = 10;

/// How much of a response's body the request middleware reads ahead, where a provider sees in it
/// whether the API accepted the token. Defaults to 16 KiB, because vendors put an error's code at
/// the beginning.
pub const BODY_PREFIX_BYTES: usize = 16 * 1024;

/// The longest body of a request that the request middleware keeps, so that it can send the request
/// once more. Defaults to 64 KiB: most bodies are smaller, and 1,000 requests at once keep 64 MiB.
pub const REPEATED_BODY_BYTES: usize = 64 * 1024;

/// How many redirects a request of a session follows. Defaults to 10, as browsers and HTTP clients
/// do.
pub const REDIRECTS: usize = 10;

/// How often the crate samples gauges for the feature `metrics`. Defaults to 5 s: programs that
/// collect metrics ask less often.
pub const METRICS_EVERY: Duration = Duration::from_secs(5);

/// How many log lines with one message the crate writes at once for one provider. Defaults to 5, so
/// that a reader sees several sessions of an outage and not all.
pub const LOG_BURST: u32 = 5;

/// After [`LOG_BURST`] lines with one message for one provider, the crate writes one such line in
/// this time, with the number of lines that it left out. Defaults to 1 min, because an outage that
/// goes on for an hour is then 65 lines, not one for each session.
pub const LOG_PAUSE: Duration = Duration::from_secs(60);

/// For how many messages and providers the crate counts log lines. Beyond that it begins to count
/// anew. Defaults to 4,096: 40 messages of 100 providers.
pub const LOG_KINDS: usize = 4096;

/// The pause between two counts of the sessions in the store, for
/// [`Supervisor::health`](crate::Supervisor::health) and for metrics. Defaults to 1 min, because a
/// count reads all records, and operators look at minutes.
pub const HEALTH_COUNT_EVERY: Duration = Duration::from_secs(60);

/// For how long such a count works before it pauses. It reads fewer records at once if they take
/// longer. Defaults to 10 ms, which callers do not notice.
pub const COUNT_SLICE: Duration = Duration::from_millis(10);

/// The shortest pause of such a count between two reads. Defaults to 10 ms, in which a store runs
/// the statements that callers wait for.
pub const COUNT_PAUSE: Duration = Duration::from_millis(10);

/// How many records such a count reads at once. Defaults to 1,024, some 500 KB without tokens.
pub const COUNT_PAGE: usize = 1024;

/// Of how many tenants with a client of their own the health has an entry, and a count of their
/// sessions. Defaults to 256, because people read it: some 150 KB as JSON.
pub const HEALTH_TENANTS: usize = 256;

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

/// The wait before metadata is read again after a failure, also of only one of its two documents.
/// Defaults to 1 min because the former endpoints stay in use.
pub const METADATA_RETRY: Duration = Duration::from_secs(60);

/// How long it may take to read metadata again, and to read the second document when the first can
/// be used. Defaults to 2 s because an exchange waits for it.
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

/// An attribute that `provider::oauth2` keeps of a redirect or of a token response has at most this
/// many bytes; a longer one is left out. Defaults to 1 KiB because ids, hosts and URLs are shorter,
/// and each session keeps its attributes.
pub const MAX_ATTRIBUTE_BYTES: usize = 1024;

/// How long the JWT is valid by which a client of `provider::oauth2` authenticates with
/// `private_key_jwt`, or which is the grant of a service account. Defaults to 1 min: each request
/// has a new one and arrives within seconds, and the rest is for clocks that differ.
pub const CLIENT_ASSERTION_LIFE: Duration = Duration::from_secs(60);

/// A server's description of an error is logged at the level `debug` up to this many characters.
/// Defaults to 256 because a server writes a sentence or two, and may send any text.
pub const DESCRIPTION_CHARACTERS: usize = 256;
