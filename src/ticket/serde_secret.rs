//! How a payload carries a secret: `#[serde(with = "crate::ticket::serde_secret")]` on a field of it.
//!
//! [`Secret`] itself has no `Serialize`, so that it gets into no text by accident. A ticket is
//! sealed, and its buffers are wiped.

use serde::{Deserialize, Deserializer, Serializer};

use crate::secret::Secret;

pub(crate) fn serialize<S: Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose_secret())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    // Wiped when it becomes a secret.
    String::deserialize(from).map(Secret::from)
}
