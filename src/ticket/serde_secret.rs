//! Serializes a secret in a ticket's payload: `#[serde(with = "crate::ticket::serde_secret")]`.
//!
//! [`Secret`] itself has no `Serialize`, so that nobody writes it into a text by accident. A ticket
//! is sealed, and its buffers are wiped.

use serde::{Deserialize, Deserializer, Serializer};

use crate::secret::Secret;

pub(crate) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    // The conversion wipes the `String`.
    String::deserialize(from).map(Secret::from)
}
