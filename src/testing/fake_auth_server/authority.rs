//! Grants and their tokens: the rules of the server, without any I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error_code::ErrorCode;
use super::fake_rotation::FakeRotation;
use crate::clock::BootTime;

mod authorization_code;
mod refresh_token;

pub(super) use authorization_code::{Code, Redemption, s256};

/// Grants, and their tokens.
pub(super) struct Authority {
    policy: Policy,
    /// Dead ones stay, so that an index is a name for ever.
    grants: Vec<Grant>,
    /// Live ones, and expired ones until their grant is refreshed.
    access: HashMap<Token, Access>,
    /// All there ever were: a used one must be known again.
    refresh: HashMap<Token, Refresh>,
    codes: HashMap<String, Code>,
    random: fastrand::Rng,
    pub(super) totals: Totals,
}

/// What the builder sets.
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) rotation: FakeRotation,
    pub(super) revoke_old_access_token: bool,
    pub(super) access_lifetime: Duration,
    pub(super) refresh_lifetime: Option<Duration>,
    pub(super) token_prefix: String,
}

/// How often the rules were applied.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) refreshes: u64,
    pub(super) grace_retries: u64,
    pub(super) reuses_detected: u64,
    pub(super) grants_revoked: u64,
}

pub(super) type Token = Arc<str>;

/// The tokens that answer a token request.
pub(super) struct Issued {
    pub(super) pair: TokenPair,
    pub(super) lifetime: Duration,
    pub(super) scope: Option<String>,
}

/// Tokens which were issued together.
#[derive(Clone)]
pub(super) struct TokenPair {
    pub(super) access: Token,
    pub(super) refresh: Option<Token>,
}

/// The user and the client of a grant.
pub(super) struct Holder {
    /// `None` if the client acts for itself.
    pub(super) user: Option<String>,
    pub(super) client: String,
    pub(super) scope: Option<String>,
}

/// What introspection shows.
pub(super) struct Description<'a> {
    pub(super) holder: &'a Holder,
    pub(super) expires: Option<BootTime>,
    pub(super) is_access: bool,
}

struct Grant {
    holder: Holder,
    revoked: bool,
    /// Its tokens in `Authority::access`.
    access: Vec<Token>,
}

struct Access {
    grant: usize,
    expires: BootTime,
}

struct Refresh {
    grant: usize,
    expires: Option<BootTime>,
    /// The newest access token that it was issued with or has brought.
    access: Token,
    standing: Standing,
}

enum Standing {
    /// May be used. -> `Used` with the first refresh, if the server rotates; -> `Superseded`.
    Current,
    /// Has been used, first at `at`; the last answer was `successor`.
    Used { at: BootTime, successor: TokenPair },
    /// A retry with its predecessor has brought another pair in its place.
    Superseded,
}

impl Authority {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            grants: Vec::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            codes: HashMap::new(),
            random: fastrand::Rng::new(),
            totals: Totals::default(),
        }
    }

    pub(super) fn set_access_lifetime(&mut self, lifetime: Duration) {
        self.policy.access_lifetime = lifetime;
    }

    /// A new grant; a client which acts for itself gets no refresh token (RFC 6749 section 4.4.3).
    pub(super) fn grant(&mut self, holder: Holder, now: BootTime) -> Issued {
        self.new_grant(holder, now).1
    }

    /// Ends the grant of a refresh token, or an access token alone (RFC 7009).
    pub(super) fn revoke(&mut self, token: &str, client: &str) -> Result<(), ErrorCode> {
        let refresh = self.refresh.get(token).map(|refresh| refresh.grant);
        let access = self.access.get(token).map(|access| access.grant);
        let Some(grant) = refresh.or(access) else { return Ok(()) };
        if self.grants.get(grant).is_some_and(|grant| grant.holder.client != client) {
            return Err(ErrorCode::UnauthorizedClient);
        }
        if refresh.is_some() {
            self.end_grant(grant);
        } else {
            self.access.remove(token);
        }
        Ok(())
    }

    /// What a live token stands for.
    pub(super) fn describe(&self, token: &str, now: BootTime) -> Option<Description<'_>> {
        if let Some(access) = self.access.get(token).filter(|access| now < access.expires) {
            let holder = &self.grants.get(access.grant)?.holder;
            return Some(Description { holder, expires: Some(access.expires), is_access: true });
        }
        let refresh = self.refresh.get(token).filter(|refresh| self.is_current(refresh, now))?;
        let holder = &self.grants.get(refresh.grant)?.holder;
        Some(Description { holder, expires: refresh.expires, is_access: false })
    }

    /// Whether there is such an access token, live or expired.
    pub(super) fn knows_access(&self, token: &str) -> bool {
        self.access.contains_key(token)
    }

    /// Whether it is a refresh token whose time is over.
    pub(super) fn is_expired_refresh(&self, token: &str, now: BootTime) -> bool {
        let expires = self.refresh.get(token).and_then(|refresh| refresh.expires);
        expires.is_some_and(|expires| now >= expires)
    }

    /// Ends a refresh token alone.
    pub(super) fn forget_refresh(&mut self, token: &str) {
        self.refresh.remove(token);
    }

    /// Runs `call` while the server rotates like this.
    pub(super) fn rotating<T>(
        &mut self,
        rotation: FakeRotation,
        call: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let usual = std::mem::replace(&mut self.policy.rotation, rotation);
        let result = call(self);
        self.policy.rotation = usual;
        result
    }

    /// Ends the grants which this picks.
    pub(super) fn end_grants(&mut self, ends: impl Fn(&Holder) -> bool) {
        for grant in 0..self.grants.len() {
            if self.grants.get(grant).is_some_and(|grant| ends(&grant.holder)) {
                self.end_grant(grant);
            }
        }
    }

    /// Access tokens die, and their grants live on.
    pub(super) fn end_access_tokens(&mut self) {
        self.access.clear();
        self.grants.iter_mut().for_each(|grant| grant.access.clear());
    }

    /// How many grants have a token that still serves.
    pub(super) fn live_grants(&self, now: BootTime) -> usize {
        let access = self.access.values().filter(|access| now < access.expires);
        let refresh = self.refresh.values().filter(|refresh| self.is_current(refresh, now));
        let mut live: HashSet<usize> = access.map(|access| access.grant).collect();
        live.extend(refresh.map(|refresh| refresh.grant));
        live.len()
    }

    /// A new grant, and the name by which [`end_grant`](Self::end_grant) ends it.
    pub(super) fn new_grant(&mut self, holder: Holder, now: BootTime) -> (usize, Issued) {
        let scope = holder.scope.clone();
        let with_refresh = holder.user.is_some();
        let grant = self.grants.len();
        self.grants.push(Grant { holder, revoked: false, access: Vec::new() });
        let pair = self.issue_pair(grant, with_refresh, now);
        (grant, Issued { pair, lifetime: self.policy.access_lifetime, scope })
    }

    fn issue_pair(&mut self, grant: usize, with_refresh: bool, now: BootTime) -> TokenPair {
        let access = self.issue_access(grant, now);
        let refresh = with_refresh.then(|| {
            let token = self.new_token();
            let record = Refresh {
                grant,
                expires: self.policy.refresh_lifetime.map(|lifetime| now.after(lifetime)),
                access: Arc::clone(&access),
                standing: Standing::Current,
            };
            self.refresh.insert(Arc::clone(&token), record);
            token
        });
        TokenPair { access, refresh }
    }

    fn issue_access(&mut self, grant: usize, now: BootTime) -> Token {
        let token = self.new_token();
        let expires = now.after(self.policy.access_lifetime);
        self.access.insert(Arc::clone(&token), Access { grant, expires });
        if let Some(grant) = self.grants.get_mut(grant) {
            // Dropped here, because no event tells when they expire.
            let all = &mut self.access;
            grant.access.retain(|old| {
                let live = all.get(old).is_some_and(|access| now < access.expires);
                if !live {
                    all.remove(old);
                }
                live
            });
            grant.access.push(Arc::clone(&token));
        }
        token
    }

    pub(super) fn end_grant(&mut self, grant: usize) {
        let Some(grant) = self.grants.get_mut(grant).filter(|grant| !grant.revoked) else {
            return;
        };
        grant.revoked = true;
        for token in std::mem::take(&mut grant.access) {
            self.access.remove(&token);
        }
        self.totals.grants_revoked += 1;
    }

    fn is_current(&self, refresh: &Refresh, now: BootTime) -> bool {
        let grant_lives = self.grants.get(refresh.grant).is_some_and(|grant| !grant.revoked);
        let unexpired = refresh.expires.is_none_or(|expires| now < expires);
        grant_lives && unexpired && matches!(refresh.standing, Standing::Current)
    }

    /// Whether a refresh token was good until its time was over.
    pub(super) fn is_expired(&self, refresh_token: &str, now: BootTime) -> bool {
        self.refresh.get(refresh_token).is_some_and(|refresh| {
            let grant_lives = self.grants.get(refresh.grant).is_some_and(|grant| !grant.revoked);
            grant_lives && refresh.expires.is_some_and(|expires| expires <= now)
        })
    }

    /// Whether an access token was good until its time was over.
    pub(super) fn is_expired_access(&self, token: &str, now: BootTime) -> bool {
        self.access.get(token).is_some_and(|access| access.expires <= now)
    }

    /// The newest access token of a refresh token, if both serve.
    pub(super) fn current_access(&self, refresh_token: &str, now: BootTime) -> Option<Token> {
        let refresh = self.refresh.get(refresh_token)?;
        let access = self.access.get(&refresh.access).filter(|access| now < access.expires);
        access.filter(|_| self.is_current(refresh, now)).map(|_| Arc::clone(&refresh.access))
    }

    /// Ends the grant of a refresh token, whose access tokens serve on.
    pub(super) fn end_refresh(&mut self, refresh_token: &str) {
        let Some(refresh) = self.refresh.get(refresh_token) else { return };
        if let Some(grant) = self.grants.get_mut(refresh.grant).filter(|grant| !grant.revoked) {
            grant.revoked = true;
            self.totals.grants_revoked += 1;
        }
    }

    pub(super) fn new_token(&mut self) -> Token {
        let mut text = self.policy.token_prefix.clone();
        text.extend(std::iter::repeat_with(|| self.random.alphanumeric()).take(TOKEN_CHARS));
        text.into()
    }
}

/// 43 as in 256 bits of base64, though these are alphanumeric.
const TOKEN_CHARS: usize = 43;
