//! Pauses of providers and tenants, for all supervisors on a store.

use std::sync::Arc;
use std::time::Duration;

use super::Supervisor;
use crate::error::{Error, ErrorKind, Result};
use crate::key::PauseScope;
use crate::log::log_limited;
use crate::policy::{PAUSED_SCOPES, PAUSES_POLL};
use crate::session::context::Context;
use crate::session::paused_scopes::ReadNumber;
use crate::store::{Pauses, StoreError};

impl Supervisor {
    /// Pauses the sessions of a scope, in all processes on the store, until [`resume`](Self::resume).
    /// Returns false if the scope was paused already; with PostgreSQL also if the connection was lost
    /// after this call had written the pause and before the answer came. The store keeps the pause:
    /// it survives a restart. See the example of [`PauseScope`].
    ///
    /// While a session is paused:
    ///
    /// - A call for a token gets the session's token while it is valid. After that, it gets
    ///   `RetryLater`.
    /// - Nothing is sent to the authorization server for the session: no refresh, grant, revocation or
    ///   call. Calls that need one of these get `RetryLater`, with the
    ///   [`outcome`](Error::outcome) `NotSent`. A [`revoke`](crate::Session::revoke) closes the
    ///   session; the server learns of it after the resume.
    /// - Requests that are under way end, and their results are saved.
    ///
    /// In this process, the pause is in force as soon as this returns: nothing leaves after that. Other
    /// processes learn of it when they next read the store: with a file or PostgreSQL,
    /// [every second](crate::policy::PAUSES_POLL).
    ///
    /// # Errors
    ///
    /// `Store` if the pause may not be in the store; call this again. `Capacity` if
    /// [1,024](crate::policy::PAUSED_SCOPES) scopes are paused. `Misconfigured` if the store keeps no
    /// pauses.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn pause(&self, scope: &PauseScope) -> Result<bool> {
        let paused = self.paused().await?;
        if paused.len() >= PAUSED_SCOPES && !paused.contains(scope) {
            return Err(Error::new(ErrorKind::Capacity).about(
                "too many scopes are paused; pause a provider in the place of its tenants, or resume \
                 some of them",
            ));
        }
        self.set_paused(scope, true).await
    }

    /// Resumes the sessions of a scope, in all processes on the store. Returns false if the scope was
    /// not paused; with PostgreSQL also if the connection was lost after this call had written the
    /// resume and before the answer came. A session that another paused scope has too stays paused.
    ///
    /// Callers can refresh their sessions at once. The sessions that became due during the pause are
    /// refreshed one after the other, over [some time](crate::policy::RESUME_SPREAD).
    ///
    /// # Errors
    ///
    /// `Store` if the scope may still be paused; call this again. `Misconfigured` if the store keeps
    /// no pauses.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn resume(&self, scope: &PauseScope) -> Result<bool> {
        self.set_paused(scope, false).await
    }

    /// Returns the scopes that are paused, as the store has them.
    ///
    /// # Errors
    ///
    /// `Store` if they could not be read; `Misconfigured` if the store keeps no pauses.
    ///
    /// # Cancel safety
    ///
    /// May be dropped: it only reads.
    pub async fn paused(&self) -> Result<Vec<PauseScope>> {
        let context = &self.dispatcher.context;
        let pauses = context.await_store(context.store.pauses()).await;
        let pauses = pauses.map_err(StoreError::into_error)?.ok_or_else(keeps_none)?;
        Ok(pauses.scopes)
    }

    async fn set_paused(&self, scope: &PauseScope, paused: bool) -> Result<bool> {
        let context = &self.dispatcher.context;
        let set = context.await_store(context.store.set_paused(scope, paused)).await;
        let changed = set.map_err(StoreError::into_error)?.ok_or_else(keeps_none)?;
        // Read again: another process may have paused or resumed another scope meanwhile.
        let read = context.paused.begin_read();
        take_over(context, read, self.paused().await?);
        Ok(changed)
    }
}

fn keeps_none() -> Error {
    Error::new(ErrorKind::Misconfigured)
        .about("the store keeps no pauses; use a store that does, or add `Store::set_paused` to it")
}

/// Reads what is paused until shutdown. `next_in` is when the first read is due; `None` if the store
/// keeps no pauses.
pub(super) async fn run(context: Arc<Context>, mut next_in: Option<Duration>) {
    let closing = context.tasks.closing();
    while let Some(pause) = next_in {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = context.clock.sleep(pause) => next_in = read(&context).await,
        }
    }
}

/// Reads what is paused, and returns when to read it again; `None` if the store keeps no pauses. If
/// the store fails, what was paused stays so; before the first answer, every session counts as
/// paused.
pub(super) async fn read(context: &Arc<Context>) -> Option<Duration> {
    let read = context.paused.begin_read();
    match context.await_store(context.store.pauses()).await {
        Ok(Some(Pauses { scopes, next_in })) => {
            take_over(context, read, scopes);
            Some(next_in)
        }
        Ok(None) => {
            context.paused.set_not_kept();
            None
        }
        Err(error) => {
            log_limited!(
                context.log_limit(),
                warn,
                None,
                "could not read what the backend has paused",
                cause = %error
            );
            Some(PAUSES_POLL)
        }
    }
}

fn take_over(context: &Context, read: ReadNumber, scopes: Vec<PauseScope>) {
    if context.paused.set(read, scopes, context.now().boot) {
        // A token became due during the pause, and nothing could start. The next reader of the token
        // reports it again.
        context.registry.slots.each(|slot| slot.reset_due());
    }
}
