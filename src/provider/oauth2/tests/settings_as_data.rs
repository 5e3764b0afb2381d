//! Settings as operators write them: whole, wrong and damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "canary-s3cret";

/// Every field has a value that is not its default.
const TOML: &str = r#"
token_endpoint = "https://as.example/token"
issuer = "https://as.example"
client_id = "app"
client_secret = "canary-s3cret"
client_authentication = { header = { client_id = "x-id", client_secret = "x-secret" } }
client_id_parameter = "key"
client_secret_parameter = "secret"
request_body = "json"
scope = "read write"
scope_separator = ","
refresh_endpoint = "https://as.example/refresh"
revocation_endpoint = "https://as.example/revoke"
authorization_endpoint = "https://as.example/authorize"
pushed_authorization_request_endpoint = "https://as.example/par"
push_authorization_requests = true
device_authorization_endpoint = "https://as.example/device"
introspection_endpoint = "https://as.example/introspect"
userinfo_endpoint = "https://as.example/me"
redirect_uri = "https://app.example/cb"
require_issuer = true
rotation = { idempotent = 30 }
revocation_reach = "one_grant"
refresh_ends_access_tokens = true
client_credentials = true
refresh_lifetime = 86400

[token_request]
parameters = { audience = "https://api.example", resource = ["a", "b"] }
headers = { accept = "application/json" }
scope = true
code_parameter = "auth_code"
grant_types = { client_credentials = "account_credentials" }

[refresh_request]
parameters = { audience = "https://api.example" }
headers = { x-version = "2" }
scope = true

[authorization_request]
parameters = { access_type = "offline" }
pkce = "off"

[authorization_response]
code_parameter = "auth_code"
attributes = { realm = "realmId" }

[token_response]
under = "/data"
access_token = "/token"
refresh_token = "/refresh"
id_token = "/id"
token_type = "/type"
scope = "/rights"
expires_in = "/life"
expires_at = "/ends"
refresh_expires_in = "/long"
lifetime_unit = "milliseconds"
default_lifetime = 3600
attributes = { team = "/team/id" }

[[error_rules]]
status = 400
pointer = "/code"
value = 190
class = "invalid_grant"

[[token_dead_on]]
status = 401
pointer = "/code"
value = false
session = true

[session_host]
callback_parameter = "server"
response_member = "/host"
below = "example.com"
allowed = ["*.example.com"]

[due]
fraction = 0.5
at_least = 60
at_most = 600
"#;

fn whole() -> Value {
    let mut value: Value = toml::from_str(TOML).unwrap();
    // The same number in both formats.
    value["error_rules"][0]["value"] = json!(190);
    value
}

/// All that settings hold except the secret, whose presence is shown.
fn held_by(settings: &OAuth2Settings) -> (Value, bool) {
    (serde_json::to_value(settings).unwrap(), settings.client_secret.is_some())
}

#[test]
fn settings_are_the_same_from_toml_and_from_json_and_are_written_without_the_secret() {
    let toml: OAuth2Settings = toml::from_str(TOML).unwrap();
    let json: OAuth2Settings = serde_json::from_str(&whole().to_string()).unwrap();
    assert_eq!(held_by(&toml), held_by(&json));
    assert_eq!(toml.client_secret.as_ref().unwrap().expose_secret(), SECRET);
    assert_eq!(json.client_secret.as_ref().unwrap().expose_secret(), SECRET);
    let written = [toml::to_string(&toml).unwrap(), serde_json::to_string(&json).unwrap()];
    assert!(written.iter().all(|text| !text.contains("canary")), "{written:?}");
    assert!(!format!("{toml:?} {json:?}").contains("canary"));
    let read_back: OAuth2Settings = toml::from_str(&written[0]).unwrap();
    assert_eq!(held_by(&read_back), (held_by(&toml).0, false));
    let read_back: OAuth2Settings = serde_json::from_str(&written[1]).unwrap();
    assert_eq!(held_by(&read_back), (held_by(&toml).0, false));
    // No field of the row is lost on the way.
    let mut expected = whole();
    expected.as_object_mut().unwrap().remove("client_secret");
    expected["error_rules"][0]["value"] = json!(190.0);
    assert_eq!(held_by(&toml).0, expected);
    for settings in [toml, json] {
        let _ = OAuth2::from_settings(settings).unwrap();
    }
}

#[test]
fn an_error_names_the_field_in_both_formats_and_never_shows_the_secret() {
    for (toml, json, field) in [
        ("client_secret = 12345", r#"{"client_secret":12345}"#, "`client_secret`: "),
        ("client_secret = [\"canary\"]", r#"{"client_secret":["canary"]}"#, "`client_secret`: "),
        (
            "client_secret = \"canary\"\nclient_ids = 1",
            r#"{"client_secret":"canary","client_ids":1}"#,
            "`client_ids`: ",
        ),
        (
            "client_secret = \"canary\"\n[token_request]\nheader = {}",
            r#"{"client_secret":"canary","token_request":{"header":{}}}"#,
            "`token_request.header`: ",
        ),
        (
            "client_secret = \"canary\"\n[[error_rules]]\nstatus = \"x\"",
            r#"{"client_secret":"canary","error_rules":[{"status":"x"}]}"#,
            "`error_rules[0].status`: ",
        ),
        (
            "client_secret = \"canary\"\n[token_response]\nunder = \"data\"",
            r#"{"client_secret":"canary","token_response":{"under":"data"}}"#,
            "`token_response.under`: ",
        ),
    ] {
        let toml = toml::from_str::<OAuth2Settings>(toml).unwrap_err();
        let json = serde_json::from_str::<OAuth2Settings>(json).unwrap_err();
        for text in [toml.to_string(), json.to_string()] {
            assert!(text.starts_with(field), "{field} {text}");
        }
        let shown = format!("{toml:?} {toml} {json:?} {json}");
        assert!(!shown.contains("canary") && !shown.contains("12345"), "{shown}");
    }
}

#[test]
fn the_message_of_an_error_has_no_secret_of_the_same_line() {
    #[derive(Debug, serde::Deserialize)]
    struct Tenants {
        #[expect(dead_code, reason = "the row is wrong")]
        acme: OAuth2Settings,
    }
    for row in [
        "acme = { client_secret = \"canary\", client_ids = 1 }",
        "acme = { client_secret = \"canary\", require_issuer = \"x\" }",
        "acme = { client_secret = 12345 }",
    ] {
        let error = toml::from_str::<Tenants>(row).unwrap_err();
        let message = error.message();
        assert!(message.starts_with("`client_") || message.starts_with("`require_"), "{message}");
        assert!(!message.contains("canary") && !message.contains("12345"), "{message}");
    }
}

/// One change of the settings, at a place below the root.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Rename(String),
    Remove,
}

fn change() -> impl Strategy<Value = (Vec<Index>, Change)> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        // Numbers that are read back as they were written.
        any::<i32>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
        select(vec!["", "/", "none", "https://a.example", "\u{1b}[31m"]).prop_map(Value::from),
        Just(json!([])),
        Just(json!({"a": [1, {}]})),
    ];
    let change = prop_oneof![
        4 => value.prop_map(Change::Replace),
        1 => any::<String>().prop_map(Change::Rename),
        1 => Just(Change::Remove),
    ];
    (vec(any::<Index>(), 1..4), change)
}

fn changed(value: &mut Value, path: &[Index], change: &Change) {
    let Some((first, rest)) = path.split_first() else { return };
    match value {
        Value::Object(members) if !members.is_empty() => {
            let name = members.keys().nth(first.index(members.len())).unwrap().clone();
            let inner = members.get_mut(&name).unwrap();
            let is_leaf = !matches!(inner, Value::Object(_) | Value::Array(_));
            if !rest.is_empty() && !is_leaf {
                return changed(inner, rest, change);
            }
            let old = members.remove(&name).unwrap();
            match change {
                Change::Replace(new) => members.insert(name, new.clone()),
                Change::Rename(new) => members.insert(new.clone(), old),
                Change::Remove => None,
            };
        }
        Value::Array(items) if !items.is_empty() => {
            let at = first.index(items.len());
            match change {
                _ if !rest.is_empty() => changed(&mut items[at], rest, change),
                Change::Replace(new) => items[at] = new.clone(),
                Change::Rename(_) | Change::Remove => drop(items.remove(at)),
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {}
    }
}

/// What is true of all settings, however wrong they are.
fn judge(read: Result<OAuth2Settings, String>) -> Result<(), TestCaseError> {
    let settings = match read {
        Ok(settings) => settings,
        Err(text) => {
            prop_assert!(text.starts_with('`') && !text.contains(SECRET), "{}", text);
            return Ok(());
        }
    };
    let written = serde_json::to_string(&settings).unwrap();
    let shown = format!("{settings:?} {written}");
    prop_assert!(!shown.contains(SECRET), "{}", shown);
    let read_back: OAuth2Settings = serde_json::from_str(&written).unwrap();
    prop_assert_eq!(held_by(&read_back).0, held_by(&settings).0);
    if let Err(refused) = OAuth2::from_settings(settings) {
        let shown = format!("{refused:?} {refused}");
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }
    Ok(())
}

#[test]
fn changed_settings_are_read_or_refused_with_the_name_of_a_field() {
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(changes in vec(change(), 1..3))| {
        let mut value = whole();
        for (path, change) in &changes {
            changed(&mut value, path, change);
        }
        let text = value.to_string();
        judge(serde_json::from_str(&text).map_err(|error| error.to_string()))?;
        // TOML has no null and no numbers above those of i64.
        if let Ok(text) = toml::to_string(&value) {
            judge(toml::from_str(&text).map_err(|error| error.to_string()))?;
        }
    });
}

#[test]
fn cut_and_damaged_json_is_refused_without_the_secret() {
    let whole = whole().to_string();
    let config = ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(cut: Option<Index>, place: Index, byte in any::<u8>())| {
        let mut text = whole.clone().into_bytes();
        match cut {
            Some(cut) => text.truncate(cut.index(text.len())),
            None => {
                let place = place.index(text.len());
                text[place] = byte;
            }
        }
        match serde_json::from_slice::<OAuth2Settings>(&text) {
            Ok(settings) => drop(serde_json::to_string(&settings).unwrap()),
            Err(error) => {
                let shown = format!("{error:?} {error}");
                prop_assert!(!shown.contains(SECRET), "{}", shown);
            }
        }
    });
}
