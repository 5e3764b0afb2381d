//! Which clients and users there are.

use std::collections::HashMap;

use super::reply::Refusal;
use super::request::Credentials;

/// Everybody who may ask. An empty half lets everybody in.
#[derive(Clone, Default)]
pub(super) struct Registry {
    /// Without a secret: a public client.
    clients: HashMap<String, Option<String>>,
    users: HashMap<String, String>,
}

impl Registry {
    pub(super) fn set_client(&mut self, id: &str, secret: Option<&str>) {
        self.clients.insert(id.to_owned(), secret.map(str::to_owned));
    }

    pub(super) fn set_user(&mut self, name: &str, password: &str) {
        self.users.insert(name.to_owned(), password.to_owned());
    }

    /// Whether there is such a client, whoever says so.
    pub(super) fn knows(&self, client: &str) -> bool {
        self.clients.is_empty() || self.clients.contains_key(client)
    }

    /// A client's secret, where clients are named; outer `None` if there is no such client.
    pub(super) fn secret_of(&self, client: &str) -> Option<Option<&str>> {
        self.clients.get(client).map(Option::as_deref)
    }

    /// Whether clients are named.
    pub(super) fn names_clients(&self) -> bool {
        !self.clients.is_empty()
    }

    /// The id of the client, if it is who it says.
    pub(super) fn authenticate(&self, credentials: Credentials) -> Result<String, Refusal> {
        let known = self.clients.get(&credentials.id);
        // A secret that a public client sends is refused too: its owner believes in a check
        // which does not take place.
        if self.clients.is_empty() || known == Some(&credentials.secret) {
            return Ok(credentials.id);
        }
        Err(Refusal::InvalidClient)
    }

    pub(super) fn is_password(&self, name: &str, password: &str) -> bool {
        if self.users.is_empty() {
            return password == ANYBODYS_PASSWORD;
        }
        self.users.get(name).is_some_and(|expected| expected == password)
    }
}

/// Of all users, as long as none is named.
const ANYBODYS_PASSWORD: &str = "ok";
