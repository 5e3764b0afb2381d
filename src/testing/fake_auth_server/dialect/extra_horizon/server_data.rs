//! What the server keeps beside grants and tokens.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::values::id_of;
use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::Token;

/// What is kept beside grants and tokens.
#[derive(Default)]
pub(in super::super::super) struct ExtraHorizonServer {
    pub(super) tokens: Vec<OAuth1Token>,
    pub(super) records: Vec<TokenRecord>,
    pub(super) sso: HashMap<String, Sso>,
    /// The right code of each user with a second factor.
    pub(super) factors: HashMap<String, String>,
    pub(super) challenges: HashMap<String, Challenge>,
    pub(super) attempts: HashMap<String, Attempts>,
    /// The requests that were signed before: consumer, token, timestamp and nonce.
    pub(super) seen: HashSet<[String; 4]>,
    /// How many ids were given.
    made: u64,
}

/// An oAuth1 token.
pub(super) struct OAuth1Token {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) consumer: String,
    pub(super) token: String,
    pub(super) secret: String,
    pub(super) created: SystemTime,
    pub(super) last_used: SystemTime,
}

/// A single-use token.
pub(super) struct Sso {
    pub(super) user: String,
    pub(super) expires: BootTime,
}

/// A login that waits for its second factor.
pub(super) struct Challenge {
    pub(super) user: String,
    pub(super) client: String,
    pub(super) expires: BootTime,
    pub(super) failures: u32,
    /// Before this time every other attempt is refused.
    pub(super) not_before: BootTime,
}

/// Logins that failed.
#[derive(Default)]
pub(super) struct Attempts {
    pub(super) failures: u32,
    pub(super) frozen_until: Option<BootTime>,
}

/// What the server keeps about an oAuth2 access or refresh token, to list and delete it.
pub(super) struct TokenRecord {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) client: String,
    pub(super) token: Token,
    pub(super) is_access: bool,
    /// The record of the refresh token that an access token came with.
    pub(super) refresh: Option<String>,
    pub(super) expires: Option<BootTime>,
    pub(super) created: SystemTime,
}

impl ExtraHorizonServer {
    /// 24 hexadecimal characters that were not given before.
    pub(super) fn new_id(&mut self) -> String {
        self.made += 1;
        id_of(&format!("record {}", self.made))
    }
}
