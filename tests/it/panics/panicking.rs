//! A provider each of whose methods can panic.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use http::{request, response};
use parking_lot::Mutex;
use session_warden::Error;
use session_warden::provider::{
    ExchangeError, HttpSender, Issued, Provider, Rejection, RevocationReach, Revoked, Rotation,
    Signing, UnattendedGrant,
};
use session_warden::secret::Secret;
use session_warden::token::{Placement, Tokens};
use url::Url;

use crate::support::LIFE;

/// One for each method of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Method {
    Authority,
    Client,
    Rotation,
    RevocationReach,
    Placement,
    Prepare,
    Establish,
    Refresh,
    Revoke,
    Renewal,
    Authorize,
    Rejection,
}

impl Method {
    /// Those that are asked when the provider is registered, and not again.
    pub(super) const OF_REGISTRATION: [Self; 5] =
        [Self::Authority, Self::Client, Self::Rotation, Self::RevocationReach, Self::Placement];

    pub(super) const OF_SESSIONS: [Self; 7] = [
        Self::Prepare,
        Self::Establish,
        Self::Refresh,
        Self::Revoke,
        Self::Renewal,
        Self::Authorize,
        Self::Rejection,
    ];
}

/// How often something panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Often {
    Once,
    Always,
}

impl Often {
    pub(super) const BOTH: [Self; 2] = [Self::Once, Self::Always];
}

/// Where a method panics that gives a future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Call,
    Future,
}

#[derive(Clone, Default)]
pub(super) struct Plan(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    panics: HashMap<Method, (Often, Place)>,
    calls: HashMap<Method, u64>,
    panicked: u64,
    issued: u64,
}

impl Plan {
    pub(super) fn panics(&self, method: Method, often: Often, place: Place) {
        self.0.lock().panics.insert(method, (often, place));
    }

    pub(super) fn stop(&self) {
        self.0.lock().panics.clear();
    }

    pub(super) fn calls(&self, method: Method) -> u64 {
        self.0.lock().calls.get(&method).copied().unwrap_or_default()
    }

    /// How many panics there were.
    pub(super) fn panicked(&self) -> u64 {
        self.0.lock().panicked
    }

    fn at(&self, method: Method, place: Place) {
        let mut state = self.0.lock();
        if place == Place::Call {
            *state.calls.entry(method).or_default() += 1;
        }
        let planned = state.panics.get(&method).copied();
        let Some((often, _)) = planned.filter(|(_, planned)| *planned == place) else { return };
        if often == Often::Once {
            state.panics.remove(&method);
        }
        state.panicked += 1;
        drop(state);
        panic!("{method:?} panics");
    }
}

pub(super) struct Panicky {
    plan: Plan,
    authority: Url,
}

impl Panicky {
    pub(super) fn new(plan: &Plan) -> Self {
        let authority = Url::parse("https://panicky.invalid/").unwrap();
        Self { plan: plan.clone(), authority }
    }

    fn issue(&self, sender: &HttpSender<'_>) -> Tokens<()> {
        let mut state = self.plan.0.lock();
        state.issued += 1;
        let number = state.issued;
        let end = sender.expires_in(LIFE.as_secs_f64());
        Tokens::new(())
            .with_access_token(format!("access-{number}"), Some(end))
            .with_refresh_token(format!("refresh-{number}"), None)
    }

    fn answer<T: Send>(
        &self,
        method: Method,
        answer: impl Fn() -> T + Send,
    ) -> impl Future<Output = Result<T, ExchangeError>> + Send {
        self.plan.at(method, Place::Call);
        async move {
            self.plan.at(method, Place::Future);
            Ok(answer())
        }
    }
}

impl UnattendedGrant<Panicky> for () {}

impl Provider for Panicky {
    type Grant = ();
    type Challenge = Infallible;
    type Attributes = ();

    fn authority_url(&self) -> &Url {
        self.plan.at(Method::Authority, Place::Call);
        &self.authority
    }

    fn client_id(&self) -> &'static str {
        self.plan.at(Method::Client, Place::Call);
        "client"
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.plan.at(Method::Rotation, Place::Call);
        Rotation::Static
    }

    fn reach_of_revocation(&self) -> RevocationReach {
        self.plan.at(Method::RevocationReach, Place::Call);
        RevocationReach::OneGrant
    }

    fn placement(&self) -> Option<Placement> {
        self.plan.at(Method::Placement, Place::Call);
        Some(Placement::bearer())
    }

    fn prepare(
        &self,
        _: &HttpSender<'_>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + Send {
        self.answer(Method::Prepare, || ())
    }

    fn establish(
        &self,
        sender: &HttpSender<'_>,
        (): (),
    ) -> impl Future<Output = Result<Issued<Self>, ExchangeError>> + Send {
        self.answer(Method::Establish, || Issued::Tokens(self.issue(sender)))
    }

    fn refresh(
        &self,
        sender: &HttpSender<'_>,
        _: &Secret,
        _: &Tokens<()>,
    ) -> impl Future<Output = Result<Tokens<()>, ExchangeError>> + Send {
        self.answer(Method::Refresh, || self.issue(sender))
    }

    fn revoke(
        &self,
        _: &HttpSender<'_>,
        _: &Tokens<()>,
    ) -> impl Future<Output = Result<Revoked, ExchangeError>> + Send {
        self.answer(Method::Revoke, || Revoked::AtServer)
    }

    fn renewal_grant(&self, _: Option<&Tokens<()>>) -> Option<()> {
        self.plan.at(Method::Renewal, Place::Call);
        Some(())
    }

    fn authorize(&self, signing: &Signing<'_>, request: &mut request::Parts) -> Result<(), Error> {
        self.plan.at(Method::Authorize, Place::Call);
        signing.put_header(request)
    }

    fn rejection(&self, response: &response::Parts, _: &[u8]) -> Rejection {
        self.plan.at(Method::Rejection, Place::Call);
        if response.status == 401 { Rejection::TokenDead } else { Rejection::None }
    }
}
