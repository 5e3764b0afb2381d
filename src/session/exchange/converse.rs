//! What is said to the server in an exchange.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::turn::Turn;
use super::{Exchange, lost};
use crate::clock::{Now, within};
use crate::error::{Error, ErrorKind, ExchangeOutcome, LostReason};
use crate::log::log_session;
use crate::policy::LEASE_RENEWAL;
use crate::provider::client::Client;
use crate::provider::erased::ErasedIssued;
use crate::provider::gate::Exchanged;
use crate::provider::{ExchangeError, FailureClass, HttpSender};
use crate::session::machine::{Class, Failure, Input};
use crate::session::slot::{ErasedValue, Renewal};
use crate::store::{ClaimId, Intent, Outcome, Renew, Statement};
use crate::task::Foreign;
use crate::token::Credentials;

/// What came of a conversation.
type Answer = Result<ErasedIssued, ExchangeError>;

impl Exchange {
    /// Sends what the exchange is for, and says when. A client that the server calls invalid is
    /// looked for once more at its source, before the failure counts.
    pub(super) async fn converse(
        &self,
        turn: &mut Turn,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> (Answer, Now) {
        let is_grant = grant.is_some();
        let said = self.say(&self.client, turn, grant, held.clone()).await;
        let instead = match &said.0 {
            Err(failed) if failed.names_client() => {
                let core = &self.core;
                self.slot.site.instead_of(&self.client, &*core.clock, &core.policy).await
            }
            Ok(_) | Err(_) => None,
        };
        let Some(client) = instead else {
            self.report(&self.client, said.0.as_ref().map(|_| ()));
            return said;
        };
        let again = match (is_grant, self.exchanged, &held) {
            (false, _, Some(held)) => client.issued(held).then_some(None),
            (true, Exchanged::Own, held) => client.provider.renewal(held.as_deref()).map(Some),
            (false, _, None) | (true, Exchanged::Grant, _) => None,
        };
        let Some(grant) = again else { return (said.0.map_err(unprocessed), said.1) };
        if self.prepare(&client).await.is_err() {
            return (said.0.map_err(unprocessed), said.1);
        }
        let said = self.say(&client, turn, grant, held).await;
        self.report(&client, said.0.as_ref().map(|_| ()));
        said
    }

    /// The session's own grant: the provider's, or one from whoever was registered for sessions
    /// that are lost.
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

    /// A grant from whoever was registered for sessions that are lost.
    async fn asked_for(&self, reason: LostReason) -> Result<ErasedValue, Failure> {
        let Self { core, slot, .. } = self;
        let failed = |error: Error| Failure {
            class: Class::Harmless,
            error: error.with_outcome(ExchangeOutcome::NotSent),
            wait: Duration::ZERO,
        };
        let lost = || failed(Error::new(ErrorKind::SignInAgain(reason)));
        let Some(grants) = &self.client.renew_with else { return Err(lost()) };
        let asked = async { grants(slot.id().key().clone(), reason).await };
        let asked = Foreign::new(Box::pin(asked));
        match within(&*core.clock, core.policy.source_wait, asked).await {
            Some(Some(grant)) => grant.ok_or_else(lost),
            Some(None) | None => Err(failed(
                Error::new(ErrorKind::RetryLater).about("nobody gave a grant for the renewal"),
            )),
        }
    }

    fn report(&self, client: &Client, result: Result<(), &ExchangeError>) {
        self.core.report(client, Some(self.slot.id()), self.exchanged, result);
    }

    async fn say(
        &self,
        client: &Client,
        turn: &mut Turn,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> (Answer, Now) {
        let Self { core, slot, .. } = self;
        let wire = client.wire(&core.clock, Some(slot.id()), &core.policy);
        // The send guard: with less of the lease left, another process may take over while our
        // request is on its way.
        let lease_ends = turn.at.boot.after(core.policy.lease);
        let until = lease_ends.before(core.policy.send_margin());
        let wire = wire.stepping(self.steps.clone()).sending_until(until);
        let answer = if core.now().boot > until {
            Err(ExchangeError::new(FailureClass::NotSent)
                .with_source(Error::new(ErrorKind::Store).about("the claim took too long")))
        } else {
            self.guard.sends(core.now());
            let is_own = grant.is_none() || self.exchanged == Exchanged::Own;
            let known = held.clone().filter(|held| is_own && client.issued(held));
            let answer = self.drive(client, &wire, grant, held);
            of_the_same(client, known, self.while_open(turn, answer).await)
        };
        (answer, wire.sent())
    }

    /// Discovery and the like. Whatever goes wrong here, no credentials were at stake.
    pub(super) async fn prepare(&self, client: &Client) -> Result<(), Failure> {
        let Self { core, slot, .. } = self;
        let wire = client.wire(&core.clock, Some(slot.id()), &core.policy);
        let prepared = Foreign::new(client.provider.prepare(&wire));
        let prepared = within(&*core.clock, core.policy.attempt_budget, prepared).await;
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
        self.core.report(client, id, self.exchanged, Err(&failed));
        Err(self.failure(Intent::Refresh, failed, None))
    }

    /// Awaits the answer to a request that is open, and renews the claim meanwhile: a server that
    /// is slow is no holder that fell silent.
    async fn while_open(&self, turn: &mut Turn, answer: impl Future<Output = Answer>) -> Answer {
        let Turn { at, attempt, permit } = turn;
        let clock = &*self.core.clock;
        let answer = async {
            match permit {
                Some(permit) => permit.while_open(clock, answer).await,
                None => answer.await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            never = self.renew(attempt.claim, at) => match never {},
        }
    }

    /// Renews a claim now and then. One that another process took over is not had back; what the
    /// answer brings is taken all the same.
    async fn renew(&self, claim: ClaimId, at: &mut Now) -> Infallible {
        let Self { core, slot, .. } = self;
        let lease = core.policy.lease;
        loop {
            core.clock.sleep(LEASE_RENEWAL.min(lease / 4)).await;
            let now = core.now();
            let renewed = core.store.apply(slot.id(), Statement::Renew(Renew { claim, lease }));
            match self.stored(renewed).await {
                Ok(Outcome::Done(done)) => {
                    *at = now;
                    core.apply(slot, Input::Wrote { version: done.version });
                }
                Ok(_) => log_session!(warn, slot.id(), "another process took the claim over"),
                Err(failed) => {
                    log_session!(warn, slot.id(), error = ?failed.error, "a claim is not renewed");
                }
            }
        }
    }

    /// Awaits the provider. It is dropped only when it has run for so long that no transport of
    /// ours can be what it waits for.
    async fn drive(
        &self,
        client: &Client,
        wire: &HttpSender<'_>,
        grant: Option<ErasedValue>,
        held: Option<Arc<Credentials>>,
    ) -> Answer {
        let provider = &*client.provider;
        let exchange = async {
            match (grant, &held) {
                (Some(grant), _) => provider.establish(wire, grant).await,
                (None, Some(held)) => provider.refresh(wire, held).await.map(ErasedIssued::Tokens),
                (None, None) => Err(ExchangeError::new(FailureClass::NotSent)),
            }
        };
        let exchange = Foreign::new(Box::pin(exchange));
        let policy = &self.core.policy;
        let longest = policy.attempt_budget.saturating_add(policy.answer_timeout);
        match within(&*self.core.clock, longest, exchange).await {
            Some(Some(answer)) => answer,
            Some(None) => Err(lost("the provider panicked")),
            None => Err(lost("the provider's future did not end")),
        }
    }
}

/// An answer that goes on with the session that is `known`, if it is for the same user.
fn of_the_same(client: &Client, known: Option<Arc<Credentials>>, answer: Answer) -> Answer {
    match (answer?, known) {
        (ErasedIssued::Tokens(issued), Some(known)) => {
            client.provider.continued(&known, issued).map(ErasedIssued::Tokens)
        }
        (issued, _) => Ok(issued),
    }
}

/// A client that was called invalid had no grant of its looked at, and is not in use any more.
fn unprocessed(failed: ExchangeError) -> ExchangeError {
    ExchangeError::new(FailureClass::NotProcessed).with_source(failed)
}
