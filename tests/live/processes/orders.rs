//! The orders to a process and its replies: one line of JSON each.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use session_warden::key::SessionId;
use session_warden::policy::{Backoff, Policy, SAVE_MARGIN};
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::store::{Phase, Record};
use session_warden::testing::{CrashPoint, Fate};
use sha2::{Digest, Sha256};

use super::database::Database;

/// The name under which a server's client is registered.
pub const PROVIDER: &str = "server";

/// The tenant of all sessions.
pub const TENANT: &str = "tenant";

/// For how long servers that have a grace accept a spent refresh token again.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long an exchange may take, see [`policy`].
pub const BUDGET: Duration = Duration::from_secs(2);

/// How long a claim holds, see [`policy`].
pub const LEASE: Duration = Duration::from_secs(3);

/// The grace before a silent holder is taken over, see [`policy`].
pub const HOLD: Duration = Duration::from_secs(4);

/// The waits of a [`policy`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Waits {
    pub budget: Duration,
    pub lease: Duration,
    pub hold: Duration,
}

/// Which a test can afford, and a machine keeps that builds beside it.
pub const USUAL: Waits = Waits { budget: BUDGET, lease: LEASE, hold: HOLD };

pub fn policy(waits: Waits) -> Policy {
    // As short as the other times, so that a token is saved within the hold once the store is back.
    let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) };
    Policy {
        attempt_budget: waits.budget,
        min_repeat_time: Duration::from_millis(200),
        lease: waits.lease,
        takeover_grace: waits.hold,
        answer_timeout: waits.lease + waits.hold - SAVE_MARGIN,
        backoff,
        save_backoff: backoff,
        ..Policy::default()
    }
}

/// In nanoseconds since the machine was started, the same in all its processes.
pub fn boot_now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Distinguishes a secret from others; never the secret.
pub fn hash(secret: &str) -> String {
    let hash = Sha256::digest(secret);
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The key ring of the store.
pub fn keys() -> KeyRing {
    KeyRing::new(1, MasterKey::from([1; 32]))
}

/// The setup of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub database: Database,
    pub issuer: String,
    /// An API that responds with 200 only to a valid access token.
    pub api: String,
    pub rotation: Rotates,
    pub scope: String,
    /// Whether a refresh ends the former access token at once.
    pub refresh_ends_access_tokens: bool,
    pub waits: Waits,
    /// The folder of its journal; none without it.
    pub journal: Option<PathBuf>,
    /// How long others wait for a journal.
    pub journal_hold: Duration,
    /// The most bytes of a file that it may write, until the test allows more.
    pub most_file_bytes: Option<u64>,
    /// Where everything is logged; nowhere without it.
    pub logs: Option<PathBuf>,
}

/// As [`Rotation`], with a grace of [`GRACE`] where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotates {
    Strict,
    Idempotent,
    Fork,
}

impl Rotates {
    pub fn rotation(self) -> Rotation {
        match self {
            Self::Strict => Rotation::Strict,
            Self::Idempotent => Rotation::Idempotent(GRACE),
            Self::Fork => Rotation::Fork(GRACE),
        }
    }
}

/// Orders run at once, however long those before them take.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    pub what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum What {
    /// An operation on the session of this key: `tenant/token id`, or a token id of [`TENANT`].
    Do(Operation, String),
    /// Finishes a login on another device of the session of this key, with its ticket.
    Finish {
        key: String,
        ticket: String,
    },
    /// `CrashPoints::arm`, in words.
    Arm {
        point: String,
        fate: String,
    },
    Quit,
}

impl What {
    pub fn arm(point: CrashPoint, fate: Fate) -> Self {
        Self::Arm { point: format!("{point:?}"), fate: format!("{fate:?}") }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    Establish,
    /// `permission_token`.
    Token,
    /// `permission_token`, and the API with it.
    Use,
    Refresh,
    /// `invalidate` of the token that this process handed out last, if it did, then
    /// `permission_token`.
    Invalidate,
    Revoke,
    Status,
}

/// How an order ended, and between which nanoseconds of the machine's boot time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub order: u64,
    pub pid: u32,
    pub start: u64,
    pub end: u64,
    pub operation: Option<Operation>,
    pub key: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Token(Handed),
    Failed {
        kind: String,
        retry_after_ms: Option<u64>,
        /// For the reader of a failure.
        why: String,
    },
    Status {
        state: String,
        epoch: u64,
        generation: u64,
        saved: bool,
    },
    /// An order that gives nothing.
    Done,
    /// When each statement on the store ran: the answer to [`What::Quit`].
    Took(Took),
}

impl Outcome {
    /// The kind of error, if it is one.
    pub fn failure(&self) -> Option<&str> {
        if let Self::Failed { kind, .. } = self { Some(kind) } else { None }
    }

    /// Whether only a grant helps.
    pub fn wants_a_grant(&self) -> bool {
        let says = |kind: &str| kind == "NotEstablished" || kind.starts_with("SignInAgain");
        self.failure().is_some_and(says)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    pub reads: Vec<Span>,
    pub writes: Vec<Span>,
}

/// Between two of these nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub from: u64,
    pub until: u64,
}

impl Span {
    pub fn length(self) -> Duration {
        Duration::from_nanos(self.until.saturating_sub(self.from))
    }
}

/// A statement of a process on the store, or a record that it read, between which nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deed {
    pub pid: u32,
    pub start: u64,
    pub end: u64,
    pub key: String,
    pub what: Did,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Did {
    /// A claim for a refresh was granted on this generation.
    Claimed {
        base: u64,
        fence: u64,
    },
    /// New credentials were stored; `token` is the hash of the access token.
    Stored {
        epoch: u64,
        generation: u64,
        token: String,
        grant: bool,
        fence: u64,
    },
    /// New credentials were not stored, because they are not the session's any more.
    Superseded {
        fence: u64,
    },
    /// A record was there.
    Saw(Seen),
    Closed {
        generation: u64,
    },
    /// The claim ended without credentials.
    Ended {
        fence: u64,
        in_doubt: bool,
    },
    /// It reported that it hands out the token of unsaved credentials.
    Owes,
}

/// A record, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub epoch: u64,
    pub generation: u64,
    pub fence: u64,
    /// Whether it is claimed.
    pub claimed: bool,
    pub lost: bool,
    pub token: Option<String>,
}

impl Seen {
    pub fn of(record: &Record) -> Self {
        let access = record.credentials.as_ref().and_then(|held| held.tokens().access_token());
        Self {
            epoch: record.epoch,
            generation: record.generation,
            fence: record.fence,
            claimed: record.lease.is_some(),
            lost: record.phase == Phase::Lost,
            token: access.map(|access| hash(access.expose_secret())),
        }
    }
}

/// The name of a session in the history.
pub fn name_of(id: &SessionId) -> String {
    format!("{}/{}", id.key().tenant().as_str(), id.key().token_id())
}

/// A token that was handed out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    pub epoch: u64,
    pub generation: u64,
    /// Distinguishes it from others; never the token.
    pub hash: String,
    /// The API's response to it, if there was a request.
    pub works: Option<bool>,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, generation, hash, works } = self;
        write!(f, "token {epoch}.{generation} {hash} works: {works:?}")
    }
}
