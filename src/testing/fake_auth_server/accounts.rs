//! The clients and users that the server knows.

use std::collections::HashMap;

use super::error_code::ErrorCode;
use super::incoming_request::ClientAuth;

/// The clients and the users. Where none is named, the server accepts all.
#[derive(Clone, Default)]
pub(super) struct Accounts {
    /// Without a secret: a public client.
    clients: HashMap<String, Option<String>>,
    users: HashMap<String, String>,
}

impl Accounts {
    pub(super) fn set_client(&mut self, id: &str, secret: Option<&str>) {
        self.clients.insert(id.to_owned(), secret.map(str::to_owned));
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
        let known = self.clients.get(&client.id);
        // A public client that sends a secret is refused too: its owner relies on a check that
        // the server does not make.
        if self.clients.is_empty() || known == Some(&client.secret) {
            return Ok(client.id);
        }
        Err(ErrorCode::InvalidClient)
    }

    pub(super) fn is_password(&self, name: &str, password: &str) -> bool {
        let is_anybodys = self.users.is_empty() && password == ANYBODYS_PASSWORD;
        is_anybodys || self.users.get(name).is_some_and(|expected| expected == password)
    }
}

/// The password of every user, as long as no user is named.
const ANYBODYS_PASSWORD: &str = "ok";
