//! Reading one value of a response, at a JSON pointer.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{self, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use super::form;
use super::json_pointer::JsonPointer;
use super::read_json::{unusable_json, without_byte_order_mark};
use super::whole_message::HttpResponse;
use crate::provider::Exchanged;

/// The value at `pointer`, which begins at `under`; None if there is none. In a form, it is the
/// field with the name of the pointer, if the pointer has one name; then `under` does not count.
///
/// # Errors
///
/// As [`json_object`](super::json_object) for a body that is neither a form nor JSON.
pub(in crate::provider) fn member_at<T: DeserializeOwned>(
    response: &HttpResponse,
    under: Option<&JsonPointer>,
    pointer: &JsonPointer,
) -> Exchanged<Option<T>> {
    if let Some(fields) = form::fields_of(response) {
        let [name] = pointer.names() else { return Ok(None) };
        let Some((_, text)) = fields.filter(|(field, _)| **field == *name).last() else {
            return Ok(None);
        };
        return Ok(T::deserialize(StrDeserializer::<value::Error>::new(&text)).ok());
    }
    let under = under.map_or(&[][..], JsonPointer::names);
    let names: Vec<_> = under.iter().chain(pointer.names()).map(String::as_str).collect();
    value_at(response.body(), &names).map_err(|fault| unusable_json(response, &fault))
}

/// The value at the end of these names in a JSON body; None if there is none. If a member is there
/// twice, the last one counts.
pub(in crate::provider) fn value_at<'b, T: Deserialize<'b>>(
    body: &'b [u8],
    names: &[&str],
) -> serde_json::Result<Option<T>> {
    let mut from = serde_json::Deserializer::from_slice(without_byte_order_mark(body));
    let found = ValueAt { names, value: PhantomData }.deserialize(&mut from)?;
    from.end()?;
    Ok(found)
}

/// Reads only the value at the end of the names, so that no other text is copied.
struct ValueAt<'n, T> {
    names: &'n [&'n str],
    value: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ValueAt<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
        match self.names {
            [] => T::deserialize(from).map(Some),
            [_, ..] => from.deserialize_any(self),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ValueAt<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        let Some((first, rest)) = self.names.split_first() else { return Ok(None) };
        while let Some(is_it) = members.next_key_seed(IsName(first))? {
            if is_it {
                found = members.next_value_seed(Self { names: rest, ..self })?;
            } else {
                let IgnoredAny = members.next_value()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        let mut found = None;
        let Some((first, rest)) = self.names.split_first() else { return Ok(None) };
        let wanted = index(first);
        for at in 0.. {
            if wanted == Some(at) {
                match items.next_element_seed(Self { names: rest, ..self })? {
                    Some(value) => found = value,
                    None => break,
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }
}

/// RFC 6901 section 4: digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let is_index = !name.starts_with('+') && (name == "0" || !name.starts_with('0'));
    is_index.then(|| name.parse().ok())?
}

/// Compares a name without copying it.
struct IsName<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use proptest::sample::{Index, select};
    use serde_json::{Value, json};

    use super::*;

    fn at(body: &str, pointer: &str) -> Option<Value> {
        let response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
        member_at(&response, None, &JsonPointer::new(pointer).unwrap()).unwrap()
    }

    #[test]
    fn a_pointer_leads_through_objects_and_lists() {
        let body = "\u{feff}{\"a/b\": {\"~\": [1, {\"c\": [null, \"x\"]}]}, \"\": 2, \"01\": 3}";
        for (pointer, expected) in [
            ("/a~1b/~0/1/c/1", Some(json!("x"))),
            ("/a~1b/~0/1/c/0", Some(Value::Null)),
            ("/a~1b/~0/0", Some(json!(1))),
            ("/", Some(json!(2))),
            ("/01", Some(json!(3))),
            ("/a~1b/~0/01", None),
            ("/a~1b/~0/+1", None),
            ("/a~1b/~0/-", None),
            ("/a~1b/~0/2", None),
            ("/a~1b/~0/0/c", None),
            ("/A~1b", None),
        ] {
            assert_eq!(at(body, pointer), expected, "{pointer}");
        }
        assert_eq!(at("[[7]]", "/0/0"), Some(json!(7)));
        assert_eq!(at("[7]", ""), Some(json!([7])));
    }

    #[test]
    fn of_members_with_one_name_the_last_counts_even_if_it_leads_nowhere() {
        assert_eq!(at(r#"{"a":{"b":1},"a":{"b":2}}"#, "/a/b"), Some(json!(2)));
        assert_eq!(at(r#"{"a":{"b":1},"a":{}}"#, "/a/b"), None);
        assert_eq!(at(r#"{"a":{"b":1},"a":"x"}"#, "/a/b"), None);
    }

    #[test]
    fn in_a_form_a_pointer_with_one_name_is_a_field() {
        let form = Response::builder().header("content-type", "text/plain");
        let form = form.body(Bytes::from_static(b"team=x+y&a=1&team=z%26")).unwrap();
        let under = JsonPointer::new("/data").unwrap();
        let at = |pointer: &str| {
            let pointer = JsonPointer::new(pointer).unwrap();
            member_at::<Value>(&form, Some(&under), &pointer).unwrap()
        };
        assert_eq!(at("/team"), Some(json!("z&")));
        assert_eq!((at("/data/team"), at(""), at("/b")), (None, None, None));
    }

    const NAMES: &[&str] = &["", "a", "b", "0", "1", "a/b", "~", "é"];

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let name = select(NAMES).prop_map(str::to_owned);
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                btree_map(name, inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    fn pointer() -> impl Strategy<Value = JsonPointer> {
        vec(select(NAMES), 0..5).prop_map(|names| {
            let escaped = names.iter().map(|name| name.replace('~', "~0").replace('/', "~1"));
            let text: String = escaped.map(|name| format!("/{name}")).collect();
            JsonPointer::new(&text).unwrap()
        })
    }

    #[test]
    fn a_pointer_finds_what_it_finds_in_a_value_and_no_bytes_panic() {
        let config =
            ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        let damage = any::<Option<(Index, u8)>>();
        proptest!(config, |(value in json(), under in pointer(), pointer in pointer(), damage in damage)| {
            let mut body = value.to_string().into_bytes();
            if let Some((place, byte)) = damage {
                let place = place.index(body.len());
                body[place] = byte;
            }
            let response = Response::new(Bytes::from(body.clone()));
            let found = member_at::<Value>(&response, Some(&under), &pointer);
            // What is left of a changed body may still be JSON.
            match serde_json::from_slice::<Value>(without_byte_order_mark(&body)) {
                Ok(value) => {
                    let expected = value.pointer(&format!("{under}{pointer}")).cloned();
                    prop_assert_eq!(found.unwrap(), expected);
                }
                // Text beside the way is not checked.
                Err(_) => drop(found),
            }
        });
    }
}
