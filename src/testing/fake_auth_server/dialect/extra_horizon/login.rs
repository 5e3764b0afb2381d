//! Passwords and second factors, which both dialects share.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Attempts, Challenge, METHOD, MFA_LIFE, fault, new_secret};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::shared::State;

/// Why a login is refused: a number, with what else the body has.
pub(super) struct Denied {
    pub(super) number: u16,
    more: Option<(&'static str, Value)>,
}

impl Denied {
    pub(super) fn of(number: u16) -> Self {
        Self { number, more: None }
    }

    /// Members beside those of the error.
    pub(super) fn add_to(self, json: &mut Map<String, Value>) {
        json.extend(self.more.map(|(name, value)| (name.to_owned(), value)));
    }

    pub(super) fn fault(self) -> Map<String, Value> {
        let mut json = fault(self.number);
        self.add_to(&mut json);
        json
    }
}

impl State {
    /// The user of this password, if no second factor is asked for.
    pub(super) fn exh_login(
        &mut self,
        (user, password): (&str, &str),
        client: &str,
        now: BootTime,
    ) -> Result<String, Denied> {
        let right = self.registry.is_password(user, password);
        let site = &mut self.sites.extra_horizon;
        site.attempts.entry(user.to_owned()).or_default().judge(right, now)?;
        if !site.factors.contains_key(user) {
            return Ok(user.to_owned());
        }
        let token = new_secret();
        let challenge = Challenge {
            user: user.to_owned(),
            client: client.to_owned(),
            expires: now.after(MFA_LIFE),
            failures: 0,
            not_before: now,
        };
        site.challenges.insert(token.clone(), challenge);
        let method =
            json!({ "id": METHOD, "type": "totp", "name": "Phone app", "tags": ["selected"] });
        let millis = u64::try_from(MFA_LIFE.as_millis()).unwrap_or(u64::MAX);
        let mfa = json!({ "token": token, "tokenExpiresIn": millis, "methods": [method] });
        Err(Denied { number: 129, more: Some(("mfa", mfa)) })
    }

    /// The user of this second factor. A token serves until it has led to a login, or is over.
    pub(super) fn exh_second_factor(
        &mut self,
        (token, method, code): (&str, &str, &str),
        client: &str,
        now: BootTime,
    ) -> Result<String, Denied> {
        let site = &mut self.sites.extra_horizon;
        let challenge = site.challenges.get_mut(token);
        let live =
            |challenge: &&mut Challenge| now < challenge.expires && challenge.client == client;
        let challenge = challenge.filter(live).ok_or(Denied::of(131))?;
        if method != METHOD {
            return Err(Denied::of(16));
        }
        let left = challenge.not_before.since(now);
        if !left.is_zero() {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            return Err(Denied { number: 134, more: Some(("remainingDelay", millis.into())) });
        }
        if site.factors.get(&challenge.user).is_none_or(|right| right != code) {
            let delay = Duration::from_secs(1 << challenge.failures.min(10));
            challenge.failures += 1;
            challenge.not_before = now.after(delay);
            return Err(Denied::of(130));
        }
        let user = challenge.user.clone();
        site.challenges.remove(token);
        Ok(user)
    }
}

impl Attempts {
    /// Every tenth failure freezes for 60 s, and fifty lock.
    fn judge(&mut self, right: bool, now: BootTime) -> Result<(), Denied> {
        if self.failures >= 50 {
            return Err(Denied::of(213));
        }
        if self.frozen_until.is_some_and(|until| now < until) {
            return Err(Denied::of(212));
        }
        if right {
            *self = Self::default();
            return Ok(());
        }
        self.failures += 1;
        if self.failures.is_multiple_of(10) {
            self.frozen_until = Some(now.after(Duration::from_secs(60)));
        }
        Err(Denied::of(106))
    }
}
