//! What the handle, the connections and the waiting tests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::authority::{Authority, Holder, Redemption};
use super::browser::FakeLogin;
use super::counts::{Counts, Endpoint, Presented};
use super::fault::{Fault, Faults};
use super::registry::Registry;
use super::reply::{ExpiresIn, Refusal, Reply, members, metadata};
use super::request::{Call, Form};
use crate::clock::{Clock, Now};

/// The shared cell, and the bells that ring when something in it has changed.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Rings at every change.
    changed: watch::Sender<()>,
    /// Turns true once. Apart from `changed`, for which every connection would wake at every
    /// change.
    stopping: watch::Sender<bool>,
    pub(super) clock: Arc<dyn Clock>,
}

/// The whole state of the server.
pub(super) struct State {
    pub(super) authority: Authority,
    pub(super) registry: Registry,
    pub(super) login: FakeLogin,
    pub(super) faults: Faults,
    pub(super) presented: Presented,
    pub(super) counts: Counts,
    pub(super) expires_in: ExpiresIn,
    pub(super) url: String,
    pub(super) issuer: String,
    /// Requests that wait for a release.
    pub(super) held: usize,
    /// How often held requests have been released.
    pub(super) releases: u64,
}

impl Shared {
    pub(super) fn new(state: State, clock: Arc<dyn Clock>) -> Self {
        let (changed, stopping) = (watch::Sender::new(()), watch::Sender::new(false));
        Self { state: Mutex::new(state), changed, stopping, clock }
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    pub(super) fn update<T>(&self, update: impl FnOnce(&mut State) -> T) -> T {
        let result = update(&mut self.lock());
        // After the lock is released, so that the woken do not run into it.
        self.changed.send_replace(());
        result
    }

    /// Waits for the predicate and not for a change, which may have come before or mean nothing.
    pub(super) async fn wait_until(&self, predicate: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !self.read(&predicate) {
            // The sender is a part of `self`, so this never fails.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts the request, and says what shall happen to it.
    pub(super) fn arrive(&self, call: &Call) -> Option<Fault> {
        self.update(|state| {
            state.counts.add(call.endpoint, |tally| tally.requests += 1);
            if let Some(token) = call.refresh_token()
                && state.presented.add(token) == 2
            {
                state.counts.presented_twice += 1;
            }
            state.faults.next(call.endpoint)
        })
    }

    pub(super) fn process(&self, call: &Call) -> Reply {
        let now = self.clock.now();
        self.update(|state| {
            let result = state.process(call, now);
            let refused = match &result {
                Ok(reply) => reply.refused().map(str::to_owned),
                Err(refusal) => Some(refusal.code().to_owned()),
            };
            match refused {
                None => state.counts.add(call.endpoint, |tally| tally.granted += 1),
                Some(code) => {
                    state.counts.add(call.endpoint, |tally| tally.refused += 1);
                    *state.counts.errors.entry(code).or_default() += 1;
                }
            }
            result.unwrap_or_else(Reply::from)
        })
    }

    /// Waits for the next release.
    pub(super) async fn hold(&self) {
        let releases = self.update(|state| {
            state.held += 1;
            state.releases
        });
        let _held = Held(self);
        tokio::select! {
            () = self.wait_until(|state| state.releases > releases) => {}
            () = self.stopping() => {}
        }
    }

    /// Sleeps on the server's clock. One who stops the server does not wait for that.
    pub(super) async fn sleep(&self, duration: Duration) {
        tokio::select! {
            () = self.clock.sleep(duration) => {}
            () = self.stopping() => {}
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits for [`stop`](Self::stop).
    pub(super) async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender is a part of `self`, so this never fails.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The counts, with those that are kept elsewhere.
    pub(super) fn counts(&self) -> Counts {
        let totals = self.authority.totals;
        Counts {
            refreshes: totals.refreshes,
            grace_retries: totals.grace_retries,
            reuses_detected: totals.reuses_detected,
            grants_revoked: totals.grants_revoked,
            ..self.counts.clone()
        }
    }

    fn process(&mut self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        match call.endpoint {
            Endpoint::Token
            | Endpoint::Password
            | Endpoint::ClientCredentials
            | Endpoint::AuthorizationCode
            | Endpoint::RefreshToken => self.token(call, now),
            Endpoint::Revoke => self.revoke(call),
            Endpoint::Introspect => self.introspect(call, now),
            Endpoint::Resource => self.resource(call, now),
            Endpoint::Authorize => self.authorize(call),
            Endpoint::UserInfo => self.userinfo(call, now),
            Endpoint::Discovery => Ok(metadata(&self.url, &self.issuer)),
        }
    }

    fn token(&mut self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let form = call.form()?;
        form.required("grant_type")?;
        let client = self.registry.authenticate(call.credentials()?)?;
        let scope = form.value("scope");
        let now = now.boot;
        let issued = match call.endpoint {
            Endpoint::Password => {
                let user = Some(self.user(form)?);
                let scope = scope.map(str::to_owned);
                self.authority.grant(Holder { user, client, scope }, now)
            }
            Endpoint::ClientCredentials => {
                let scope = scope.map(str::to_owned);
                self.authority.grant(Holder { user: None, client, scope }, now)
            }
            Endpoint::AuthorizationCode => {
                let redemption = Redemption {
                    code: form.required("code")?,
                    client: &client,
                    redirect_uri: form.value("redirect_uri"),
                    verifier: form.value("code_verifier"),
                    scope,
                };
                self.authority.redeem(&redemption, now)?
            }
            Endpoint::RefreshToken => {
                self.authority.refresh(form.required("refresh_token")?, &client, scope, now)?
            }
            Endpoint::Token
            | Endpoint::Revoke
            | Endpoint::Introspect
            | Endpoint::Resource
            | Endpoint::Authorize
            | Endpoint::UserInfo
            | Endpoint::Discovery => return Err(Refusal::UnsupportedGrantType),
        };
        Ok(Reply::tokens(issued, &self.expires_in))
    }

    fn user(&self, form: &Form) -> Result<String, Refusal> {
        let (name, password) = (form.required("username")?, form.required("password")?);
        if !self.registry.is_password(name, password) {
            return Err(Refusal::InvalidGrant);
        }
        Ok(name.to_owned())
    }

    fn revoke(&mut self, call: &Call) -> Result<Reply, Refusal> {
        let token = call.form()?.required("token")?;
        let client = self.registry.authenticate(call.credentials()?)?;
        self.authority.revoke(token, &client)?;
        Ok(Reply::ok(members([])))
    }

    fn introspect(&self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let token = call.form()?.required("token")?;
        self.registry.authenticate(call.credentials()?)?;
        let Some(description) = self.authority.describe(token, now.boot) else {
            return Ok(Reply::ok(members([("active", false.into())])));
        };
        let holder = description.holder;
        let mut json =
            members([("active", true.into()), ("client_id", holder.client.as_str().into())]);
        if let Some(user) = &holder.user {
            json.insert("username".to_owned(), user.as_str().into());
        }
        if let Some(scope) = &holder.scope {
            json.insert("scope".to_owned(), scope.as_str().into());
        }
        if let Some(expires) = description.expires {
            let wall = now.wall_at(expires).duration_since(std::time::UNIX_EPOCH);
            json.insert("exp".to_owned(), wall.unwrap_or_default().as_secs().into());
        }
        if description.is_access {
            json.insert("token_type".to_owned(), "Bearer".into());
        }
        Ok(Reply::ok(json))
    }

    fn resource(&self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let user = self.bearer(call, now)?.user.as_deref();
        Ok(Reply::ok(members([("user", user.map_or(serde_json::Value::Null, Into::into))])))
    }

    /// Whose live access token it is.
    pub(super) fn bearer(&self, call: &Call, now: Now) -> Result<&Holder, Refusal> {
        let token = call.bearer().ok_or(Refusal::InvalidToken)?;
        let description = self.authority.describe(token, now.boot);
        let description =
            description.filter(|found| found.is_access).ok_or(Refusal::InvalidToken)?;
        Ok(description.holder)
    }
}

/// One request that is held; no longer when it goes, be it because its connection has gone.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.update(|state| state.held -= 1);
    }
}
