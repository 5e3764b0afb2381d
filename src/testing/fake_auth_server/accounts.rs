//! The clients and users that the server knows.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use super::client_assertion::{Claims, PublicKey};
use super::error_code::ErrorCode;
use super::incoming_request::ClientAuth;

/// The clients and the users. Where none is named, the server accepts all.
#[derive(Clone, Default)]
pub(super) struct Accounts {
    /// Without a secret: a public client.
    clients: HashMap<String, Option<String>>,
    /// The keys of those clients that authenticate by assertions alone.
    keys: HashMap<String, PublicKey>,
    /// The ids of the assertions that were used.
    used_assertions: HashSet<String>,
    users: HashMap<String, String>,
}

impl Accounts {
    pub(super) fn set_client(&mut self, id: &str, secret: Option<&str>) {
        self.clients.insert(id.to_owned(), secret.map(str::to_owned));
    }

    pub(super) fn set_client_key(&mut self, id: &str, key: PublicKey) {
        self.set_client(id, None);
        self.keys.insert(id.to_owned(), key);
    }

    pub(super) fn set_user(&mut self, name: &str, password: &str) {
        self.users.insert(name.to_owned(), password.to_owned());
    }

    /// Whether the server accepts this client; the secret is not checked.
    pub(super) fn knows(&self, client: &str) -> bool {
        self.clients.is_empty() || self.clients.contains_key(client)
    }

    /// The secret of a named client; the outer `None` if no such client is named.
    pub(super) fn secret_of(&self, client: &str) -> Option<Option<&str>> {
        self.clients.get(client).map(Option::as_deref)
    }

    /// Whether clients are named.
    pub(super) fn names_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// The id of the client, if its secret is right.
    pub(super) fn authenticate(&self, client: ClientAuth) -> Result<String, ErrorCode> {
        if self.keys.contains_key(&client.id) {
            return Err(ErrorCode::InvalidClient);
        }
        let known = self.clients.get(&client.id);
        // A public client that sends a secret is refused too: its owner relies on a check that
        // the server does not make.
        if self.clients.is_empty() || known == Some(&client.secret) {
            return Ok(client.id);
        }
        Err(ErrorCode::InvalidClient)
    }

    /// The id of the client whose assertion this is, if it is right and was not used before.
    /// `client_id` is what the request says beside it.
    pub(super) fn authenticate_by_assertion(
        &mut self,
        assertion: &str,
        client_id: Option<&str>,
        audiences: &[&str],
        now: SystemTime,
    ) -> Result<String, ErrorCode> {
        let claims = Claims::read(assertion).ok_or(ErrorCode::InvalidClient)?;
        let is_own = claims.is_of_issuer() && client_id.is_none_or(|id| id == claims.iss);
        let accepted = self.accept_assertion(assertion, audiences, now);
        accepted.filter(|_| is_own).ok_or(ErrorCode::InvalidClient)
    }

    /// The issuer of an assertion that is a grant (RFC 7523 section 2.1), or by which a client
    /// authenticates, if it is right and was not used before.
    pub(super) fn accept_assertion(
        &mut self,
        assertion: &str,
        audiences: &[&str],
        now: SystemTime,
    ) -> Option<String> {
        let claims = Claims::read(assertion)?;
        let key = self.keys.get(&claims.iss);
        let is_right = key.is_some_and(|key| key.has_signed(assertion))
            && claims.are_valid(audiences, now)
            && self.used_assertions.insert(claims.jti);
        is_right.then_some(claims.iss)
    }

    pub(super) fn is_password(&self, name: &str, password: &str) -> bool {
        let is_anybodys = self.users.is_empty() && password == ANYBODYS_PASSWORD;
        is_anybodys || self.users.get(name).is_some_and(|expected| expected == password)
    }
}

/// The password of every user, as long as no user is named.
const ANYBODYS_PASSWORD: &str = "ok";
