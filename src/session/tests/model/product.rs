//! The product's own parts that the model uses: a context and a client, which interpret records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::world::{Process, Time, Tok};
use crate::client::Client;
use crate::clock::{BootTime, Clock, Coarse, Now, Sleep};
use crate::policy::{Backoff, Policy, UnclassifiedAnswers};
use crate::provider::Rotation;
use crate::session::context::Context;
use crate::session::from_record::{self, Holds};
use crate::session::machine::{CredentialState, MachinePolicy, Settled, StepContext};
use crate::session::tests;
use crate::store::{Lease, Owner, Record, Stored};
use crate::token::{Access, Credentials, Tokens};

/// Time passes in steps of this.
pub(super) const TICK: Time = 10;
pub(super) const LEASE: Time = 20;
/// Shorter than the product's default, like all waits of the model. The order of the times is the
/// same.
pub(super) const HOLD: Time = 20;
pub(super) const BUDGET: Time = 10;
pub(super) const CALL: Time = 30;

/// Boot time at the model's beginning.
const START: Time = 1_000_000;

/// The clock of the process that acts now.
#[derive(Default)]
struct ModelClock {
    now: AtomicU64,
    offset: AtomicU64,
}

impl Clock for ModelClock {
    fn now(&self) -> Now {
        instant(self.now.load(Ordering::Relaxed), self.offset.load(Ordering::Relaxed))
    }

    fn coarse(&self) -> Coarse {
        let now = self.now();
        Coarse::new(now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap(), now.monotonic)
    }

    fn sleep(&self, _: Duration) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// The time that the clocks show at a time of the model, with the wall clock set ahead by `offset`.
pub(super) fn instant(now: Time, offset: Time) -> Now {
    let boot = Duration::from_secs(START + now);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + offset) + boot;
    Now::new(wall, BootTime::new(boot), boot)
}

/// A time of the model, from a boot time.
pub(super) fn time(at: BootTime) -> i64 {
    i64::try_from(at.since_boot().as_secs()).unwrap() - START.cast_signed()
}

pub(super) fn boot(at: Time) -> BootTime {
    instant(at, 0).boot
}

pub(super) struct Product {
    pub(super) context: Arc<Context>,
    client: Arc<Client>,
    clock: Arc<ModelClock>,
    credentials: Vec<Arc<Credentials>>,
}

impl Product {
    /// With tokens of a server that rotates strictly and names no end times.
    pub(super) fn new(hold: Time) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _here = runtime.enter();
        let clock = Arc::new(ModelClock::default());
        let seconds = Duration::from_secs;
        let policy = Policy {
            lease: seconds(LEASE),
            takeover_grace: seconds(hold),
            attempt_budget: seconds(BUDGET),
            call_timeout: seconds(CALL),
            backoff: Backoff { base: seconds(1), cap: seconds(300) },
            ..Policy::default()
        };
        let model_clock = Arc::<ModelClock>::clone(&clock);
        let (context, slot) =
            tests::core_and_slot(model_clock, Arc::new(tests::Nobody), (policy, Rotation::Strict));
        let client = slot.tenant_client.client().unwrap();
        let credentials = (0..64).map(|tok| Arc::new(credentials(tok, &client))).collect();
        Self { context, client, clock, credentials }
    }

    pub(super) fn credentials(&self, tok: Tok) -> Arc<Credentials> {
        Arc::clone(&self.credentials[usize::from(tok)])
    }

    /// Sets the clock and the owner to those of this process.
    fn set_clock(&mut self, process: &Process, now: Time) {
        self.clock.now.store(now, Ordering::Relaxed);
        self.clock.offset.store(process.offset, Ordering::Relaxed);
        Arc::get_mut(&mut self.context).unwrap().owner = Owner(process.owner);
    }

    /// Interprets a record for a process. Returns its version too.
    pub(super) fn found(
        &mut self,
        process: &Process,
        now: Time,
        stored: Option<Stored<Tok>>,
    ) -> (u64, Settled) {
        self.set_clock(process, now);
        let stored = stored.map(|Stored { record, now }| {
            let credentials = record.credentials.map(|tok| self.credentials(tok));
            let outbox = record.outbox.map(|tok| self.credentials(tok));
            Stored { record: Record::with(record, credentials, outbox), now }
        });
        from_record::found(&self.context, &self.client, stored)
    }

    /// The credentials that an answer brings.
    pub(super) fn held(
        &mut self,
        process: &Process,
        now: Time,
        (tok, counters): (Tok, (u64, u64)),
    ) -> CredentialState {
        self.set_clock(process, now);
        let now = self.clock.now();
        from_record::held(&self.client, self.credentials(tok), counters, now)
    }

    pub(super) fn holds(&self) -> Holds {
        from_record::holds(&self.context, Rotation::Strict)
    }

    pub(super) fn held_back(&self, found: &Stored<Tok>, lease: &Lease) -> Duration {
        from_record::held_back(&self.context, Rotation::Strict, found, lease)
    }

    pub(super) fn refresh_ends_access_tokens(&self) -> bool {
        self.client.provider.refresh_ends_access_tokens()
    }

    pub(super) fn step_context(&self, now: Time, offset: Time) -> StepContext {
        let policy = MachinePolicy {
            backoff: self.context.policy.backoff,
            challenge: self.context.policy.challenge_ttl,
            budget: self.context.policy.attempt_budget,
            ahead: false,
            unclassified: UnclassifiedAnswers::default(),
        };
        StepContext { now: instant(now, offset), jitter: 1.0, policy }
    }
}

fn credentials(tok: Tok, client: &Client) -> Credentials {
    let access = |text: String| Access { secret: text.into(), expires_at: None };
    let tokens = Tokens {
        access: Some(access(format!("a{tok}"))),
        refresh: Some(access(format!("{tok}"))),
        token_secret: None,
        attributes: "null".into(),
    };
    let bound_to = client.bound_to().to_owned();
    Credentials::new(tokens, bound_to, client.provider.client())
}

/// The model's number of these credentials.
pub(super) fn tok_of(credentials: &Credentials) -> Tok {
    let refresh = credentials.tokens().refresh.as_ref().unwrap();
    refresh.secret.expose_secret().parse().unwrap()
}

/// Wall minus boot time of a process.
pub(super) fn offset_of(now: Time, offset: Time) -> Duration {
    crate::session::slot::offset(instant(now, offset))
}
