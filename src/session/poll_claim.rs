//! The claim of a process on a login for which it polls.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::context::Context;
use crate::error::{Error, Result};
use crate::key::SessionId;
use crate::log::log_session;
use crate::policy::{CLAIM_POLL_CAP, LEASE_RENEWAL};
use crate::store::{ClaimId, LoginClaim, LoginId, LoginOutcome};
use crate::ticket::TicketFault;

/// A claim in the store, which is renewed while this process waits and polls. Its end is written when
/// it is dropped, so that another call with the ticket need not wait for the end of the lease.
pub(super) struct PollClaim {
    context: Arc<Context>,
    session: SessionId,
    claim: LoginClaim,
    /// Whether the store may have the claim.
    written: bool,
}

impl PollClaim {
    pub(super) fn new(
        context: Arc<Context>,
        session: SessionId,
        login: LoginId,
        interval: Duration,
    ) -> Self {
        let lease = context.policy.lease;
        let claim = LoginClaim { login, claim: ClaimId::random(), lease, interval };
        Self { context, session, claim, written: false }
    }

    /// The pause between two polls.
    pub(super) fn interval(&self) -> Duration {
        self.claim.interval
    }

    /// Makes the pause between two polls longer, for as long as the login lasts. The next renewal tells
    /// the store.
    pub(super) fn slow_down(&mut self, by: Duration) {
        self.claim.interval = self.claim.interval.saturating_add(by);
    }

    /// Waits until no other process polls, and then for `pause`, so that two polls of two processes
    /// are also apart. Returns early if `is_over`. Fails if the login expires before that.
    pub(super) async fn wait_for_turn(
        &mut self,
        pause: Duration,
        expires_at: SystemTime,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        let mut until = None;
        while !is_over() {
            let Some(wait) = self.renew().await else {
                // After the renewal: what the store knew of the pause may be longer.
                let now = self.context.now().boot;
                let pause = pause.max(self.claim.interval);
                let left = until.get_or_insert_with(|| now.after(pause)).since(now);
                if left.is_zero() {
                    return Ok(());
                }
                self.sleep(left.min(self.renewal()), expires_at).await?;
                continue;
            };
            until = None;
            self.sleep(wait, expires_at).await?;
        }
        Ok(())
    }

    /// Renews the claim until `poll` ends.
    pub(super) async fn keep_during<T>(&mut self, poll: impl Future<Output = T>) -> T {
        tokio::select! {
            // The poll first: its result must not wait for a renewal.
            biased;
            polled = poll => polled,
            never = self.keep() => match never {},
        }
    }

    async fn keep(&mut self) -> Infallible {
        loop {
            self.context.clock.sleep(self.renewal()).await;
            // If another process has claimed the login, the poll under way still counts.
            self.renew().await;
        }
    }

    fn renewal(&self) -> Duration {
        LEASE_RENEWAL.min(self.claim.lease / 4)
    }

    /// Claims the login or renews the claim. If it does not hold, when to ask again.
    async fn renew(&mut self) -> Option<Duration> {
        let Self { context, session, claim, written } = self;
        *written = true;
        match context.await_store(context.store.claim_login(claim)).await {
            Ok(Some(LoginOutcome::Claimed { interval })) => {
                claim.interval = interval;
                None
            }
            Ok(Some(LoginOutcome::Held { left })) => Some(left.min(CLAIM_POLL_CAP)),
            // The store keeps no such claims.
            Ok(None) => None,
            Err(failed) => {
                log_session!(
                    context.log_limit(),
                    warn,
                    session,
                    "could not claim a login that is polled",
                    cause = ?failed
                );
                // Nobody polls without a claim.
                Some(LEASE_RENEWAL)
            }
        }
    }

    /// Fails at the time when the login expires, and when a shutdown begins.
    async fn sleep(&self, duration: Duration, expires_at: SystemTime) -> Result<()> {
        let Self { context, .. } = self;
        let left = expires_at.duration_since(context.now().wall).unwrap_or_default();
        let closing = context.tasks.closing();
        tokio::select! {
            biased;
            () = closing.cancelled() => Err::<(), Error>(context.tasks.refusal()),
            () = context.clock.sleep(duration.min(left)) => {
                if duration < left { Ok(()) } else { Err(TicketFault::Expired.into()) }
            }
        }
    }
}

impl Drop for PollClaim {
    fn drop(&mut self) {
        if !self.written {
            return;
        }
        let end = LoginClaim { lease: Duration::ZERO, ..self.claim.clone() };
        let context = Arc::clone(&self.context);
        let end_claim = async move {
            // If it fails, the claim ends with its lease.
            drop(context.await_store(context.store.claim_login(&end)).await);
        };
        self.context.tasks.spawn(end_claim);
    }
}
