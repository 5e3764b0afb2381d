//! What a process is told, and what it answers: one line of JSON each.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_warden::policy::{Backoff, Policy};
use session_warden::provider::Rotation;
use session_warden::seal::{KeyRing, MasterKey};
use session_warden::testing::{CrashPoint, Fate};

/// The name under which a server's client is registered.
pub const PROVIDER: &str = "server";

/// Whose all sessions are.
pub const TENANT: &str = "tenant";

/// For how long servers that have a grace take a spent refresh token again.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long an exchange may take, see [`policy`].
pub const BUDGET: Duration = Duration::from_secs(2);

/// How long a claim holds, see [`policy`].
pub const LEASE: Duration = Duration::from_secs(3);

/// How long a silent holder is waited for, see [`policy`].
pub const HOLD: Duration = Duration::from_secs(4);

/// With waits that a test can afford, and that a machine keeps which builds beside it.
pub fn policy() -> Policy {
    Policy {
        exchange_budget: BUDGET,
        repeat_floor: Duration::from_millis(200),
        lease: LEASE,
        hold: HOLD,
        backoff: Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) },
        ..Policy::default()
    }
}

/// What the file is sealed with.
pub fn keys() -> KeyRing {
    KeyRing::new(1, MasterKey::from([1; 32]))
}

/// What a process works on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    pub database: PathBuf,
    pub issuer: String,
    /// An API that answers 200 to a live access token alone.
    pub api: String,
    pub rotation: Rotates,
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
    /// An operation on the session of this key.
    Do(Operation, String),
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
    /// `invalidate` of the token that this process handed out last, then `permission_token`.
    Invalidate,
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
        /// For who reads it.
        why: String,
    },
    Status {
        state: String,
        epoch: u64,
        generation: u64,
        saved: bool,
    },
    /// An order that is no operation.
    Done,
}

/// A token that was handed out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    pub epoch: u64,
    pub generation: u64,
    /// Tells it from others; never the token.
    pub hash: String,
    /// What the API said of it, if it was asked.
    pub works: Option<bool>,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, generation, hash, works } = self;
        write!(f, "token {epoch}.{generation} {hash} works: {works:?}")
    }
}
