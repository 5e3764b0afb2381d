//! What is said to the server in an exchange.

use std::sync::Arc;
use std::time::Duration;

use super::{Exchange, lost};
use crate::clock::{Now, within};
use crate::error::{Error, ErrorKind, ExchangeOutcome, LostReason};
use crate::log::log_session;
use crate::provider::client::Client;
use crate::provider::erased::ErasedIssued;
use crate::provider::gate::Exchanged;
use crate::provider::{ExchangeError, FailureClass, Wire};
use crate::session::machine::{Class, Failure, Input};
use crate::session::message::Granted;
use crate::session::slot::Parcel;
use crate::store::Intent;
use crate::task::Foreign;
use crate::token::Credentials;

/// What came of a conversation.
type Answer = Result<ErasedIssued, ExchangeError>;

impl Exchange {
    /// Sends what the exchange is for, and says when. A client that the server calls invalid is
    /// looked for once more at its source, before the failure counts.
    pub(super) async fn converse(
        &self,
        claimed_at: Now,
        grant: Option<Parcel>,
        held: Option<Arc<Credentials>>,
    ) -> (Answer, Now) {
        let is_grant = grant.is_some();
        let said = self.say(&self.client, claimed_at, grant, held.clone()).await;
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
        let said = self.say(&client, claimed_at, grant, held).await;
        self.report(&client, said.0.as_ref().map(|_| ()));
        said
    }

    /// A grant from whoever was registered for sessions that are lost.
    pub(super) async fn asked_for(&self, reason: LostReason) -> Result<Parcel, Failure> {
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
        claimed_at: Now,
        grant: Option<Parcel>,
        held: Option<Arc<Credentials>>,
    ) -> (Answer, Now) {
        let Self { core, slot, .. } = self;
        let wire = client.wire(&*core.clock, Some(slot.id()), &core.policy);
        let wire = wire.stepping(self.steps.clone());
        let late = core.now().boot.since(claimed_at.boot);
        let answer = if late > core.policy.lease.saturating_sub(core.policy.exchange_budget) {
            // The send guard: with this little of the lease left, another process may take over
            // while our request is out.
            Err(ExchangeError::new(FailureClass::NotSent)
                .with_source(Error::new(ErrorKind::Store).about("the claim took too long")))
        } else {
            self.guard.sends(core.now());
            let is_own = grant.is_none() || self.exchanged == Exchanged::Own;
            let known = held.clone().filter(|held| is_own && client.issued(held));
            of_the_same(client, known, self.drive(client, &wire, grant, held).await)
        };
        (answer, wire.sent())
    }

    /// Discovery and the like. Whatever goes wrong here, no credentials were at stake.
    pub(super) async fn prepare(&self, client: &Client) -> Result<(), Failure> {
        let Self { core, slot, .. } = self;
        let wire = client.wire(&*core.clock, Some(slot.id()), &core.policy);
        let prepared = Foreign::new(client.provider.prepare(&wire));
        let prepared = within(&*core.clock, core.policy.exchange_budget, prepared).await;
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

    /// Awaits the provider. It is dropped only when it has run for so long that no transport of
    /// ours can be what it waits for.
    async fn drive(
        &self,
        client: &Client,
        wire: &Wire<'_>,
        grant: Option<Parcel>,
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
        let mut exchange = Foreign::new(Box::pin(exchange));
        let policy = &self.core.policy;
        let overdue = policy.exchange_budget.saturating_add(policy.overdue_after);
        let clock = &*self.core.clock;
        let ended = match within(clock, overdue, &mut exchange).await {
            Some(ended) => Some(ended),
            None => {
                self.overdue();
                within(clock, policy.exchange_cut.saturating_sub(overdue), exchange).await
            }
        };
        match ended {
            Some(Some(answer)) => answer,
            Some(None) => Err(lost("the provider panicked")),
            None => Err(lost("the provider's future did not end")),
        }
    }

    /// Lets the waiters and the caller of a grant go. The exchange goes on, and nobody starts
    /// another beside it.
    fn overdue(&self) {
        let Self { core, slot, guard, .. } = self;
        log_session!(warn, slot.id(), "the provider's future is overdue");
        core.apply(slot, Input::Overdue);
        guard.answer::<Granted>(Err(lost("the provider does not answer").into_error()));
        guard.land(self.landing());
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
