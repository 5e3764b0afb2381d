//! The strings and numbers in a JSON body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::SHORTEST_MASKED;

/// Gives each string and each longer number of the body to `take`, with the name of its member. An
/// item of a list has the name of the list.
pub(super) fn each(body: &[u8], take: &mut dyn FnMut(&str, &str)) -> serde_json::Result<()> {
    let mut from = serde_json::Deserializer::from_slice(body);
    Texts { name: "", take }.deserialize(&mut from)?;
    from.end()
}

struct Texts<'t> {
    name: &'t str,
    take: &'t mut dyn FnMut(&str, &str),
}

impl Texts<'_> {
    /// A short number is no secret.
    fn number(self, digits: &str) {
        if digits.len() >= SHORTEST_MASKED {
            (self.take)(self.name, digits);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        (self.take)(self.name, text);
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.number(&number.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.number(&number.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.number(&number.to_string());
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Texts { name: self.name, take: &mut *self.take })?.is_some() {
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'_, str>>()? {
            members.next_value_seed(Texts { name: &name, take: &mut *self.take })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_and_every_longer_number_is_given_with_the_name_of_its_member() {
        let mut found = Vec::new();
        let body = br#"{"a":"x\n","b":["y",{"c":-777}],"d":null,"e":true,"f":1.25,"g":999}"#;
        each(body, &mut |name, text| found.push(format!("{name}={text}"))).unwrap();
        assert_eq!(found, ["a=x\n", "b=y", "c=-777", "f=1.25"]);
        each(b"{\"a\":1}x", &mut |_, _| {}).unwrap_err();
    }
}
