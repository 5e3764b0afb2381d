//! The forms in which serde reads and writes values of settings.

/// Whether a value is its type's default, which is not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A secret, which is read and never written.
pub(super) mod optional_secret {
    use std::fmt;

    use serde::Deserializer;
    use serde::de::{Error, Visitor};

    use crate::secret::Secret;

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        from.deserialize_any(SecretVisitor)
    }

    struct SecretVisitor;

    /// Serde's own errors quote the value, so each other type has its error here.
    impl Visitor<'_> for SecretVisitor {
        type Value = Option<Secret>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(Secret::from(text)))
        }

        fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
            Ok(Some(Secret::from(text)))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Err(no_text())
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(no_text())
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(no_text())
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(no_text())
        }
    }

    fn no_text<E: Error>() -> E {
        E::custom("the secret is not a text; put it in quotes")
    }
}
