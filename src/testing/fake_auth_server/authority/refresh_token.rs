//! What the server does with a refresh token that a client presents.

use std::sync::Arc;

use super::{Authority, Issued, Refresh, Standing, Token, TokenPair};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_rotation::FakeRotation;

impl Authority {
    /// New tokens for a refresh token, of the scope that is asked for.
    pub(in super::super) fn refresh(
        &mut self,
        presented: &str,
        client: &str,
        scope: Option<&str>,
        now: BootTime,
    ) -> Result<Issued, ErrorCode> {
        let (token, refresh) =
            self.refresh.get_key_value(presented).ok_or(ErrorCode::InvalidGrant)?;
        let grant = self.grants.get(refresh.grant).ok_or(ErrorCode::InvalidGrant)?;
        if grant.revoked
            || grant.holder.client != client
            || refresh.expires.is_some_and(|expires| expires <= now)
        {
            return Err(ErrorCode::InvalidGrant);
        }
        let granted = grant.holder.scope.as_deref();
        if scope.is_some_and(|scope| !is_within(scope, granted)) {
            return Err(ErrorCode::InvalidScope);
        }
        let scope = scope.or(granted).map(str::to_owned);
        let token = Arc::clone(token);
        let pair = match self.decide(refresh, now) {
            Decision::Renew => self.renew(&token, now),
            Decision::Rotate => self.rotate(&token, now),
            Decision::Repeat(pair) => {
                self.totals.grace_retries += 1;
                pair
            }
            Decision::Fork { superseded } => self.fork(&token, superseded, now),
            Decision::Stale => return Err(ErrorCode::InvalidGrant),
            Decision::Reuse(grant) => {
                self.totals.reuses_detected += 1;
                self.end_grant(grant);
                return Err(ErrorCode::InvalidGrant);
            }
        };
        let expires = self.access.get(&pair.access).map(|access| access.expires);
        let lifetime = expires.map_or_else(Default::default, |expires| expires.since(now));
        Ok(Issued { pair, lifetime, scope })
    }

    fn decide(&self, refresh: &Refresh, now: BootTime) -> Decision {
        let rotation = self.policy.rotation;
        let (at, successor) = match &refresh.standing {
            Standing::Current if rotation == FakeRotation::None => return Decision::Renew,
            Standing::Current => return Decision::Rotate,
            Standing::Superseded => return Decision::Stale,
            Standing::Used { at, successor } => (*at, successor),
        };
        let age = now.since(at);
        match rotation {
            FakeRotation::Idempotent(grace) if age < grace && self.is_unused(successor) => {
                Decision::Repeat(successor.clone())
            }
            FakeRotation::NewestOnly(grace) if age < grace && self.is_unused(successor) => {
                Decision::Fork { superseded: Some(successor.clone()) }
            }
            FakeRotation::Fork(grace) if age < grace => Decision::Fork { superseded: None },
            FakeRotation::None
            | FakeRotation::Strict
            | FakeRotation::Idempotent(_)
            | FakeRotation::NewestOnly(_)
            | FakeRotation::Fork(_) => Decision::Reuse(refresh.grant),
        }
    }

    /// A new access token; the refresh token stays, and none is in the answer.
    fn renew(&mut self, token: &Token, now: BootTime) -> TokenPair {
        self.totals.refreshes += 1;
        let grant = self.retire_access(token);
        let access = self.issue_access(grant, now);
        if let Some(refresh) = self.refresh.get_mut(token) {
            refresh.access = Arc::clone(&access);
        }
        TokenPair { access, refresh: None }
    }

    fn rotate(&mut self, token: &Token, now: BootTime) -> TokenPair {
        self.totals.refreshes += 1;
        let grant = self.retire_access(token);
        let pair = self.issue_pair(grant, true, now);
        if let Some(refresh) = self.refresh.get_mut(token) {
            refresh.standing = Standing::Used { at: now, successor: pair.clone() };
        }
        pair
    }

    fn fork(&mut self, token: &Token, superseded: Option<TokenPair>, now: BootTime) -> TokenPair {
        self.totals.grace_retries += 1;
        if let Some(pair) = superseded {
            self.access.remove(&pair.access);
            let sibling = pair.refresh.and_then(|token| self.refresh.get_mut(&token));
            if let Some(sibling) = sibling {
                sibling.standing = Standing::Superseded;
            }
        }
        let grant = self.grant_of(token);
        let pair = self.issue_pair(grant, true, now);
        if let Some(Refresh { standing: Standing::Used { successor, .. }, .. }) =
            self.refresh.get_mut(token)
        {
            *successor = pair.clone();
        }
        pair
    }

    /// Ends the access token that goes with a refresh token, if that is the policy. Gives the
    /// grant.
    fn retire_access(&mut self, token: &Token) -> usize {
        if self.policy.revoke_old_access_token
            && let Some(refresh) = self.refresh.get(token)
        {
            self.access.remove(&refresh.access);
        }
        self.grant_of(token)
    }

    fn grant_of(&self, token: &Token) -> usize {
        // Without a grant there is no token; the index of no grant then leads to nothing.
        self.refresh.get(token).map_or(usize::MAX, |refresh| refresh.grant)
    }

    fn is_unused(&self, pair: &TokenPair) -> bool {
        let refresh = pair.refresh.as_ref().and_then(|token| self.refresh.get(token));
        refresh.is_some_and(|refresh| matches!(refresh.standing, Standing::Current))
    }
}

enum Decision {
    /// The server does not rotate.
    Renew,
    /// First use.
    Rotate,
    /// Again what was answered first.
    Repeat(TokenPair),
    /// Another pair beside that which was answered first, or in its place.
    Fork { superseded: Option<TokenPair> },
    /// Refused, and nothing else happens.
    Stale,
    /// Refused, and the grant ends.
    Reuse(usize),
}

fn is_within(scope: &str, granted: Option<&str>) -> bool {
    let granted = granted.unwrap_or_default();
    scope.split(' ').all(|wanted| granted.split(' ').any(|has| has == wanted))
}
