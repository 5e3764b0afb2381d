//! Passwords and second factors, which both dialects share.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::server_data::{Attempts, Challenge, ExtraHorizonServer};
use super::service_error::error_json;
use super::values::new_secret;
use crate::clock::BootTime;
use crate::testing::fake_auth_server::dialect::RequestContext;

/// The error of a login: a number, and what else the body has.
pub(super) struct LoginError {
    pub(super) number: u16,
    more: Option<(&'static str, Value)>,
}

impl LoginError {
    pub(super) fn of(number: u16) -> Self {
        Self { number, more: None }
    }

    /// Members beside those of the error.
    pub(super) fn add_to(self, json: &mut Map<String, Value>) {
        json.extend(self.more.map(|(name, value)| (name.to_owned(), value)));
    }

    pub(super) fn json(self) -> Map<String, Value> {
        let mut json = error_json(self.number);
        self.add_to(&mut json);
        json
    }
}

impl ExtraHorizonServer {
    /// The user of this password, if the server asks for no second factor.
    pub(super) fn login(
        &mut self,
        (user, password): (&str, &str),
        client: &str,
        context: &RequestContext<'_>,
    ) -> Result<String, LoginError> {
        let now = context.now.boot;
        let right = context.server.accounts.is_password(user, password);
        self.attempts.entry(user.to_owned()).or_default().judge(right, now)?;
        if !self.factors.contains_key(user) {
            return Ok(user.to_owned());
        }
        let token = new_secret();
        self.challenges.insert(token.clone(), Challenge::new(user, client, now));
        let method =
            json!({ "id": METHOD, "type": "totp", "name": "Phone app", "tags": ["selected"] });
        let millis = u64::try_from(MFA_LIFE.as_millis()).unwrap_or(u64::MAX);
        let mfa = json!({ "token": token, "tokenExpiresIn": millis, "methods": [method] });
        Err(LoginError { number: 129, more: Some(("mfa", mfa)) })
    }

    /// The user of this second factor. A token serves until it has led to a login or has expired.
    pub(super) fn second_factor(
        &mut self,
        (token, method, code): (&str, &str, &str),
        client: &str,
        now: BootTime,
    ) -> Result<String, LoginError> {
        let challenge = self.challenges.get_mut(token);
        let challenge = challenge.filter(|challenge| challenge.is_open(client, now));
        let challenge = challenge.ok_or(LoginError::of(131))?;
        if method != METHOD {
            return Err(LoginError::of(16));
        }
        let left = challenge.not_before.since(now);
        if !left.is_zero() {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            return Err(LoginError { number: 134, more: Some(("remainingDelay", millis.into())) });
        }
        if self.factors.get(&challenge.user).is_none_or(|right| right != code) {
            challenge.fail(now);
            return Err(LoginError::of(130));
        }
        let user = challenge.user.clone();
        self.challenges.remove(token);
        Ok(user)
    }
}

impl Challenge {
    fn new(user: &str, client: &str, now: BootTime) -> Self {
        let (user, client) = (user.to_owned(), client.to_owned());
        Self { user, client, expires: now.after(MFA_LIFE), failures: 0, not_before: now }
    }

    /// Whether this client can still answer it.
    fn is_open(&self, client: &str, now: BootTime) -> bool {
        now < self.expires && self.client == client
    }

    /// Doubles the wait with each failure.
    fn fail(&mut self, now: BootTime) {
        self.not_before = now.after(Duration::from_secs(1 << self.failures.min(10)));
        self.failures += 1;
    }
}

impl Attempts {
    /// Every tenth failure freezes for 60 s, and fifty lock.
    fn judge(&mut self, right: bool, now: BootTime) -> Result<(), LoginError> {
        if self.failures >= 50 {
            return Err(LoginError::of(213));
        }
        if self.frozen_until.is_some_and(|until| now < until) {
            return Err(LoginError::of(212));
        }
        if right {
            *self = Self::default();
            return Ok(());
        }
        self.failures += 1;
        if self.failures.is_multiple_of(10) {
            self.frozen_until = Some(now.after(Duration::from_secs(60)));
        }
        Err(LoginError::of(106))
    }
}

/// How long a login waits for its second factor. The vendor does not publish it; this is between the
/// values of its samples.
const MFA_LIFE: Duration = Duration::from_secs(600);

/// The id of every user's method.
const METHOD: &str = "5ec0ndfac70r5ec0ndfac70r";
