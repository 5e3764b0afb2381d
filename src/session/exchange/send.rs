//! The requests of an exchange to the server.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::Exchange;
use super::claim::Claimed;
use super::failure::lost;
use crate::client::Client;
use crate::client::admission::ExchangeKind;
use crate::clock::{Now, timeout};
use crate::error::{Error, ErrorKind, ExchangeOutcome, LostReason};
use crate::log::log_session;
use crate::policy::LEASE_RENEWAL;
use crate::provider::erased::ErasedIssued;
use crate::provider::{ExchangeError, FailureClass, HttpSender};
use crate::session::machine::{Class, Failure, Input};
use crate::session::slot::{ErasedValue, Renewal};
use crate::store::{ClaimId, Intent, Outcome, Renew, Statement};
use crate::task::CatchPanic;
use crate::token::Credentials;

/// The provider's result for one attempt.
type ProviderResult = Result<ErasedIssued, ExchangeError>;

impl Exchange {
    /// Sends the request of this exchange, and returns the time when it left; if nothing left, when
    /// the attempt began. If the server rejects the client, the exchange asks the source for another
    /// client, and sends a refresh or a renewal once more with that. It does not send a caller's
    /// grant again.
    pub(super) async fn send(
        &self,
        claimed: &mut Claimed,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> (ProviderResult, Now) {
        let is_grant = grant.is_some();
        let attempted = self.attempt(&self.client, claimed, grant, held.clone()).await;
        let instead = match &attempted.0 {
            Err(failed) if failed.names_client() => {
                // Ask the source before the failure is reported: a report of an invalid client
                // stops all sessions of this client, although only its secret may have changed.
                let context = &self.context;
                self.slot
                    .tenant_client
                    .replacement_for(&self.client, &*context.clock, &context.policy)
                    .await
            }
            Ok(_) | Err(_) => None,
        };
        let Some(client) = instead else {
            self.report(&self.client, attempted.0.as_ref().map(|_| ()));
            return attempted;
        };
        let again = match (is_grant, self.kind, &held) {
            (false, _, Some(held)) => client.issued(held).then_some(None),
            (true, ExchangeKind::Own, held) => client.provider.renewal(held.as_deref()).map(Some),
            (false, _, None) | (true, ExchangeKind::Grant, _) => None,
        };
        let Some(grant) = again else { return (attempted.0.map_err(unprocessed), attempted.1) };
        if self.ready_again(&client).await.is_err() {
            return (attempted.0.map_err(unprocessed), attempted.1);
        }
        let attempted = self.attempt(&client, claimed, grant, held).await;
        // Only this attempt is reported: the client of the first one is no longer in use.
        self.report(&client, attempted.0.as_ref().map(|_| ()));
        attempted
    }

    /// Prepares a second attempt, unless the backend has paused the session since the first one.
    async fn ready_again(&self, client: &Client) -> Result<(), Failure> {
        self.unless_paused()?;
        self.prepare(client).await?;
        // The provider may have taken long to prepare.
        self.unless_paused()
    }

    /// A grant that needs no user: from the provider, or from the application's `renew_with`.
    pub(super) async fn own_grant(&self) -> Result<ErasedValue, Failure> {
        match self.slot.renewal(&self.client) {
            Some(Renewal::Grant(grant)) => Ok(grant),
            Some(Renewal::AskFor(reason)) => self.asked_for(reason).await,
            None => Err(Failure {
                class: Class::Harmless,
                error: Error::new(ErrorKind::NotEstablished).with_outcome(ExchangeOutcome::NotSent),
                wait: Duration::ZERO,
            }),
        }
    }

    /// A grant from the application's `renew_with`, for a session that is lost.
    async fn asked_for(&self, reason: LostReason) -> Result<ErasedValue, Failure> {
        let Self { context, slot, .. } = self;
        let failed = |error: Error| Failure {
            class: Class::Harmless,
            error: error.with_outcome(ExchangeOutcome::NotSent),
            wait: Duration::ZERO,
        };
        let lost = || failed(Error::new(ErrorKind::SignInAgain(reason)));
        let Some(grants) = &self.client.renew_with else { return Err(lost()) };
        let asked = async { grants(slot.id().key().clone(), reason).await };
        let asked = CatchPanic::new(Box::pin(asked));
        match timeout(&*context.clock, context.policy.source_timeout, asked).await {
            Some(Some(grant)) => grant.ok_or_else(lost),
            Some(None) | None => Err(failed(
                Error::new(ErrorKind::RetryLater)
                    .about("the application's `renew_with` gave no grant"),
            )),
        }
    }

    fn report(&self, client: &Client, result: Result<(), &ExchangeError>) {
        self.context.report(client, Some(self.slot.id()), self.kind, result);
    }

    async fn attempt(
        &self,
        client: &Client,
        claimed: &mut Claimed,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> (ProviderResult, Now) {
        let Self { context, slot, .. } = self;
        let sender = client.sender(&context.clock, Some(slot.id()), &context.policy);
        // The send guard: if less of the lease is left, another process may take over while the
        // request is under way, and both would send the same refresh token.
        let lease_ends = claimed.at.boot.after(context.policy.lease);
        let until = lease_ends.before(context.policy.send_margin());
        let sender = sender.stepping(self.steps.clone()).sending_until(until);
        let answer = if context.now().boot > until {
            Err(ExchangeError::new(FailureClass::NotSent).with_source(
                Error::new(ErrorKind::Store).about("the store took too long to record the claim"),
            ))
        } else {
            // Note the time before the request can leave: if the task is dropped from here on, the
            // server may have spent the token, and the guard must not report `NotSent`.
            self.guard.sends(context.now());
            self.observation.attempt();
            let is_own = grant.is_none() || self.kind == ExchangeKind::Own;
            let known = held.clone().filter(|held| is_own && client.issued(held));
            let answer = self.run_provider(client, &sender, grant, held);
            of_the_same(client, known, self.while_open(claimed, answer).await)
        };
        (answer, sender.sent())
    }

    /// Lets the provider prepare, which fetches the server's metadata, for example. It sends no
    /// credentials, so every failure here is `NotSent` or `Misconfigured`.
    pub(super) async fn prepare(&self, client: &Client) -> Result<(), Failure> {
        let Self { context, slot, .. } = self;
        let sender = client.sender(&context.clock, Some(slot.id()), &context.policy);
        let prepared = CatchPanic::new(client.provider.prepare(&sender));
        let prepared = timeout(&*context.clock, context.policy.attempt_budget, prepared).await;
        let failed = match prepared {
            Some(Some(Ok(()))) => return Ok(()),
            Some(Some(Err(failed))) if failed.class() == FailureClass::Misconfigured => failed,
            Some(Some(Err(failed))) => {
                let wait = failed.retry_after();
                ExchangeError::new(FailureClass::NotSent).with_retry_after(wait).with_source(failed)
            }
            Some(None) | None => ExchangeError::new(FailureClass::NotSent)
                .with_source("the provider did not prepare the exchange"),
        };
        let id = Some(self.slot.id());
        self.context.report(client, id, self.kind, Err(&failed));
        Err(self.failure(Intent::Refresh, failed, None))
    }

    /// Awaits the response to a request, and renews the claim meanwhile: a slow server must not
    /// make this process look like a dead holder.
    async fn while_open(
        &self,
        claimed: &mut Claimed,
        answer: impl Future<Output = ProviderResult>,
    ) -> ProviderResult {
        let Claimed { at, attempt, permit, .. } = claimed;
        let clock = &*self.context.clock;
        let answer = async {
            match permit {
                Some(permit) => permit.while_open(clock, answer).await,
                None => answer.await,
            }
        };
        tokio::select! {
            // The response first: it must not wait for the poll of a renewal.
            biased;
            answer = answer => answer,
            never = self.renew(attempt.claim, at) => match never {},
        }
    }

    /// Renews a claim at intervals. If another process has taken it over, the exchange goes on: its
    /// response counts if the store accepts the commit.
    async fn renew(&self, claim: ClaimId, at: &mut Now) -> Infallible {
        let Self { context, slot, .. } = self;
        let lease = context.policy.lease;
        loop {
            context.clock.sleep(LEASE_RENEWAL.min(lease / 4)).await;
            // Before the statement: the store counts the lease from a later moment, so this
            // process never believes in a lease that is already over.
            let now = context.now();
            let renewed = context.store.apply(slot.id(), Statement::Renew(Renew { claim, lease }));
            match self.stored(renewed).await {
                Ok(Outcome::Done(done)) => {
                    *at = now;
                    context.apply(slot, Input::Wrote { version: done.version });
                }
                Ok(_) => {
                    log_session!(
                        context.log_limit(),
                        warn,
                        slot.id(),
                        "another process took over the session's claim"
                    )
                }
                Err(failed) => {
                    log_session!(
                        context.log_limit(),
                        warn,
                        slot.id(),
                        "could not renew a claim",
                        cause = ?failed.error
                    );
                }
            }
        }
    }

    /// Awaits the provider's exchange.
    async fn run_provider(
        &self,
        client: &Client,
        sender: &HttpSender<'_>,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> ProviderResult {
        let provider = &*client.provider;
        let exchange = async {
            match (grant, &held) {
                (Some(grant), _) => provider.establish(sender, grant).await,
                (None, Some(held)) => {
                    provider.refresh(sender, held).await.map(ErasedIssued::Tokens)
                }
                (None, None) => Err(ExchangeError::new(FailureClass::NotSent)),
            }
        };
        let exchange = CatchPanic::new(Box::pin(exchange));
        let policy = &self.context.policy;
        // Longer than any request of the crate's transport can take: to drop a request that waits
        // for its response would lose a rotated refresh token.
        let longest = policy.attempt_budget.saturating_add(policy.answer_timeout);
        match timeout(&*self.context.clock, longest, exchange).await {
            Some(Some(answer)) => answer,
            Some(None) => Err(lost("the provider's code panicked")),
            None => Err(lost("the provider's future did not end")),
        }
    }
}

/// Lets the provider check that new tokens continue the session of `known`, for the same user.
fn of_the_same(
    client: &Client,
    known: Option<Arc<Credentials>>,
    answer: ProviderResult,
) -> ProviderResult {
    match (answer?, known) {
        (ErasedIssued::Tokens(issued), Some(known)) => {
            client.provider.continued(&known, issued).map(ErasedIssued::Tokens)
        }
        (issued, _) => Ok(issued),
    }
}

/// The error of a request whose client the server called invalid: the server did not process the
/// grant, and a new client has replaced the refused one.
fn unprocessed(failed: ExchangeError) -> ExchangeError {
    ExchangeError::new(FailureClass::NotProcessed).with_source(failed)
}
