//! Calls to the server that a backend makes for a session.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::oneshot;

use super::Session;
use super::api_call::{ApiCall, CallOf, panicked};
use super::context::Context;
use super::mark_lost;
use super::outcome::Invalidation;
use super::slot::Slot;
use crate::client::Client;
use crate::error::{Error, ErrorKind, ExchangeOutcome, LostReason, Result};
use crate::provider::{
    Credential, Effect, ExchangeError, FailureClass, HttpSender, Operation, Provider, Rejection,
    Signing, erased,
};
use crate::task::{CatchPanic, TaskGuard};
use crate::token::{Credentials, PermissionToken};

impl<P: Provider> Session<P> {
    /// Calls the server for this session with an [`Operation`] of the provider, for example to list
    /// tokens or to get the user's profile.
    ///
    /// If the call needs a permission token, this gets a token first. If the server rejects that
    /// token, this makes the call once more with another token. When this returns, the session has
    /// noted the call's effect, such as a deleted token.
    ///
    /// # Errors
    ///
    /// As [`permission_token`](Self::permission_token), if the call needs one; `NotEstablished`
    /// if there are no credentials. `Refused` with what the server refused; `RetryLater` with
    /// [`outcome`](Error::outcome), `Misconfigured`, `InvalidInput`, `Capacity`, `Deadline`,
    /// `ShuttingDown`.
    ///
    /// # Cancel safety
    ///
    /// If you drop the call after it was sent, it goes on, and the session still notes its effect.
    pub async fn call<O: Operation<P>>(&self, operation: O) -> Result<O::Output> {
        let slot = self.obtain()?;
        self.dispatcher.ensure_loaded(&slot).await?;
        let token = match operation.credential() {
            Credential::PermissionToken => Some(self.permission_token().await?),
            Credential::InRequest => None,
        };
        let client = self.client()?;
        let provider = client.typed::<P>().map_err(|error| error.of_session(&self.id))?;
        let context = &self.dispatcher.context;
        let Some(task_guard) = context.tasks.enter() else {
            return Err(context.tasks.refusal().of_session(&self.id));
        };
        let (session, slot_of_call) = (self.clone(), Arc::clone(&slot));
        let call = Call { session, slot: slot_of_call, client, provider, operation, task_guard };
        let (done, ended) = oneshot::channel();
        context.tasks.spawn(async move {
            let made = CatchPanic::new(Box::pin(call.make(token))).await;
            // The caller may have been dropped. The session has noted the effect anyway.
            drop(done.send(made.unwrap_or_else(|| Err(panicked()))));
        });
        // The channel is dropped without an outcome only with the runtime. The request may have
        // been sent.
        let lost = || Error::new(ErrorKind::ShuttingDown).with_outcome(ExchangeOutcome::Ambiguous);
        let made =
            self.dispatcher.waiting(&slot, async { ended.await.unwrap_or_else(|_| Err(lost())) });
        made.await.map_err(|error| error.of_session(&self.id))
    }
}

/// One call with its arguments.
struct Call<P: Provider, O> {
    session: Session<P>,
    slot: Arc<Slot>,
    client: Arc<Client>,
    provider: Arc<P>,
    operation: O,
    task_guard: TaskGuard,
}

impl<P: Provider, O: Operation<P>> Call<P, O> {
    async fn make(&self, mut token: Option<PermissionToken>) -> Result<O::Output> {
        let mut again = token.is_some();
        loop {
            let held = self.held()?;
            let (answer, context) = self.ask(token.as_ref(), &held.credentials).await?;
            let (parts, body) = answer.into_parts();
            let rejection = match &token {
                Some(_) => self.client.provider.rejection(&parts, &body),
                None => Rejection::None,
            };
            match (rejection, &token) {
                (Rejection::TokenDead, Some(used))
                    if again && self.session.invalidate(used) == Invalidation::Refresh =>
                {
                    again = false;
                    let dispatcher = &self.session.dispatcher;
                    let newer_than = used.generation();
                    token = Some(dispatcher.token_newer_than(&self.slot, newer_than, None).await?);
                }
                (Rejection::SessionDead, Some(used)) => {
                    let generation = used.generation();
                    self.end(generation, LostReason::Revoked);
                    return Err(Error::new(ErrorKind::SignInAgain(LostReason::Revoked)));
                }
                (rejection, _) => {
                    let generation = token.map_or(held.generation, |token| token.generation());
                    let dead = rejection == Rejection::TokenDead;
                    let answer = Response::from_parts(parts, body);
                    return self.read(context, &answer, generation, dead);
                }
            }
        }
    }

    async fn ask(
        &self,
        token: Option<&PermissionToken>,
        held: &Credentials,
    ) -> Result<(Response<Bytes>, O::RequestInfo)> {
        if !self.client.issued(held) {
            return Err(Error::new(ErrorKind::Misconfigured).about(
                "the session's tokens were issued by another server or to another client than the \
                 provider now has; restore the former URL and client id, or establish the session \
                 again",
            ));
        }
        let (tenant_client, of) = (&self.slot.tenant_client, CallOf::Session(self.slot.id()));
        let mut call = ApiCall::begin(self.context(), tenant_client, &self.client, of).await?;
        let (request, read_with) = self.request(token, held)?;
        Ok((call.send(request).await?, read_with))
    }

    fn request(
        &self,
        token: Option<&PermissionToken>,
        held: &Credentials,
    ) -> Result<(Request<Bytes>, O::RequestInfo)> {
        let tokens = erased::typed::<P>(held).map_err(ExchangeError::into_error)?;
        let (request, context) = self.operation.request(&self.provider, &tokens)?;
        let (mut parts, body) = request.into_parts();
        if let Some(token) = token {
            // The secret of this token, not the present one: there may have been a refresh since.
            let secret = self.slot.with_state(|state| state.token_secret(token.generation()));
            let signing = Signing::new(token, secret.as_ref(), self.context().now().wall);
            self.client.provider.authorize(&signing, &mut parts)?;
        }
        Ok((Request::from_parts(parts, body), context))
    }

    /// Reads the response, and applies the call's effect to the session. If `dead`, the server has
    /// rejected the access token: it has not processed the call then.
    fn read(
        &self,
        context: O::RequestInfo,
        answer: &Response<Bytes>,
        generation: u64,
        dead: bool,
    ) -> Result<O::Output> {
        let read = self.operation.response(&self.sender(), context, answer);
        let (output, effect) = read.map_err(|failed| {
            let unclassified = failed.class() == FailureClass::Unclassified;
            self.failed(if dead && unclassified {
                ExchangeError::new(FailureClass::NotProcessed).with_source(failed)
            } else {
                failed
            })
        })?;
        let (context, slot) = (self.context(), &self.slot);
        match effect {
            Effect::None => {}
            Effect::AccessTokenDead => context.reject(slot, generation),
            Effect::RefreshTokenDead => {
                self.end(generation, LostReason::TokensDeleted);
            }
            Effect::SessionDead => {
                context.reject(slot, generation);
                self.end(generation, LostReason::SessionDeleted);
            }
        }
        Ok(output)
    }

    /// Ends the session. Uses this call's task guard, so that it also works during a shutdown that
    /// waits for this call.
    fn end(&self, generation: u64, reason: LostReason) {
        mark_lost::end(
            self.context(),
            &self.slot,
            generation,
            reason,
            Some(self.task_guard.clone()),
        );
    }

    fn failed(&self, failed: ExchangeError) -> Error {
        self.context().failed_call(
            &self.slot.tenant_client,
            &self.client,
            Some(self.slot.id()),
            failed,
        )
    }

    fn held(&self) -> Result<Sent> {
        self.slot
            .with_state(|state| {
                let settled = state.settled.as_ref()?;
                let credentials = Arc::clone(settled.credentials()?);
                Some(Sent { credentials, generation: settled.counters().1 })
            })
            .ok_or_else(|| Error::new(ErrorKind::NotEstablished))
    }

    fn sender(&self) -> HttpSender<'_> {
        let context = self.context();
        self.client.sender(&context.clock, Some(self.slot.id()), &context.policy)
    }

    fn context(&self) -> &Arc<Context> {
        &self.session.dispatcher.context
    }
}

/// The credentials that a call is made with.
struct Sent {
    credentials: Arc<Credentials>,
    generation: u64,
}
