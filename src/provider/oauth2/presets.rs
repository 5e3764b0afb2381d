//! Settings of well-known providers, each value with its public source.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::settings::OAuth2Settings;
use crate::error::{Error, ErrorKind, Result, quoted};

/// The settings of a well-known provider. The crate's source has one file for each preset, which
/// has a public source for each value.
///
/// A preset has no value without such a source. [`left_to_you`](Self::left_to_you) lists what you
/// have to find out for yourself, for example in the settings of your application at the provider.
/// Vendors change their servers: try each preset with your application before you rely on it.
///
/// ```
/// use session_warden::provider::oauth2::{OAuth2, Preset};
///
/// let preset = Preset::named("okta")?;
/// assert!(preset.variables().contains_key("domain"));
/// assert!(preset.sources()["rotation"].starts_with("https://github.com/okta/"));
/// let mut settings = preset
///     .variable("domain", "acme.okta.com")
///     .variable("authorization_server", "default")
///     .settings()?;
/// settings.client_id = "backend".to_owned();
/// settings.client_secret = Some("canary".into());
/// let client = OAuth2::from_settings(settings)?;
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Preset {
    document: Document,
    sources: BTreeMap<String, String>,
    given: BTreeMap<String, String>,
}

/// The content of a preset's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: String,
    /// What each variable in the values stands for.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// By the name of the field, with dots between the names of nested fields.
    settings: BTreeMap<String, Sourced>,
    left_to_you: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sourced {
    value: Value,
    source: String,
}

impl Preset {
    /// The names of all presets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILES.iter().map(|(name, _)| *name)
    }

    /// The preset of this name: `google`, for example.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if there is no such preset.
    pub fn named(name: &str) -> Result<Self> {
        let unknown = || {
            let names: Vec<_> = Self::names().collect();
            invalid(format!("there is no preset {}; there are {}", quoted(name), names.join(", ")))
        };
        let (_, text) = FILES.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?;
        let document: Document = serde_json::from_str(text).map_err(unreadable)?;
        let sources = document.settings.iter();
        let sources = sources.map(|(field, sourced)| (field.clone(), sourced.source.clone()));
        Ok(Self { sources: sources.collect(), document, given: BTreeMap::new() })
    }

    /// The provider's name, to show to people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.document.name
    }

    /// The variables in the settings, each with what it stands for.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.document.variables
    }

    /// The public source of each value, by the name of its field: `token_request.parameters`, for
    /// example.
    #[must_use]
    pub fn sources(&self) -> &BTreeMap<String, String> {
        &self.sources
    }

    /// What you must find out or check, because no public source says it or because it depends on
    /// your application. Each text begins with the name of a field if it is about one.
    #[must_use]
    pub fn left_to_you(&self) -> &[String] {
        &self.document.left_to_you
    }

    /// Gives a variable its value.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.given.insert(name.into(), value.into());
        self
    }

    /// The settings, without the client's id, its secret, the redirect URI and the scope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if a variable has no value or an empty one, if a value has
    /// characters other than letters, digits and `-._~:/`, or if the preset has no such variable.
    pub fn settings(&self) -> Result<OAuth2Settings> {
        self.check_variables()?;
        let mut root = Map::new();
        for (field, sourced) in &self.document.settings {
            insert(&mut root, field, self.filled(&sourced.value));
        }
        serde_json::from_value(Value::Object(root)).map_err(unreadable)
    }

    fn check_variables(&self) -> Result<()> {
        let known = &self.document.variables;
        if let Some(name) = known.keys().find(|name| !self.given.contains_key(*name)) {
            return Err(invalid(format!(
                "the preset needs a value for the variable {}; give it with `variable`",
                quoted(name)
            )));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/".contains(c);
        for (name, value) in &self.given {
            if !known.contains_key(name) {
                let words = format!("the preset has no variable {}; remove it", quoted(name));
                return Err(invalid(words));
            }
            if value.is_empty() || !value.chars().all(is_plain) {
                return Err(invalid(format!(
                    "the value of the variable {} is empty, or has a character that is no letter, \
                     no digit and none of -._~:/; correct it",
                    quoted(name)
                )));
            }
        }
        Ok(())
    }

    /// The value with the values of the variables in its texts.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let fill = |text: String, (name, given): (&String, &String)| {
                    text.replace(&format!("{{{name}}}"), given)
                };
                Value::String(self.given.iter().fold(text.clone(), fill))
            }
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => {
                let filled = |(name, value): (&String, &Value)| (name.clone(), self.filled(value));
                Value::Object(members.iter().map(filled).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }
}

/// Inserts the value of a field into the object of its group.
fn insert(object: &mut Map<String, Value>, field: &str, value: Value) {
    let Some((group, rest)) = field.split_once('.') else {
        object.insert(field.to_owned(), value);
        return;
    };
    let group = object.entry(group).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(group) = group {
        insert(group, rest, value);
    }
}

fn invalid(words: String) -> Error {
    Error::new(ErrorKind::InvalidInput).about(words)
}

/// A test reads all files, so this does not happen in a release.
fn unreadable(cause: serde_json::Error) -> Error {
    invalid("the file of the preset cannot be read".to_owned()).with_source(cause)
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("presets/", $name, ".json")))),*]
    };
}

/// The names of the presets, and their files.
const FILES: &[(&str, &str)] = files![
    "atlassian",
    "auth0",
    "cognito",
    "dropbox",
    "github_app",
    "github_oauth_app",
    "gitlab",
    "google",
    "hubspot",
    "keycloak",
    "linkedin",
    "microsoft_entra",
    "okta",
    "ory_hydra",
    "quickbooks",
    "salesforce",
    "shopify",
    "slack",
    "x",
    "xero",
    "zoom",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oauth2::OAuth2;

    fn filled(name: &str) -> Preset {
        let preset = Preset::named(name).unwrap();
        let variables: Vec<_> = preset.variables().keys().cloned().collect();
        variables.into_iter().fold(preset, |preset, name| preset.variable(name, "a.example"))
    }

    #[test]
    fn every_preset_makes_a_client_and_every_value_has_a_public_source() {
        for name in Preset::names() {
            let preset = filled(name);
            let mut settings = preset.settings().unwrap_or_else(|error| panic!("{name}: {error}"));
            "c".clone_into(&mut settings.client_id);
            settings.client_secret = Some("s".into());
            let client = OAuth2::from_settings(settings.clone());
            client.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(preset.sources().values().all(|source| source.starts_with("https://")));
            assert!(!preset.left_to_you().is_empty() && !preset.title().is_empty(), "{name}");
            let text = serde_json::to_string(&settings).unwrap();
            for variable in preset.variables().keys() {
                assert!(!text.contains(&format!("{{{variable}}}")), "{name}: {variable}");
            }
        }
    }

    #[test]
    fn a_preset_has_no_setting_that_belongs_to_your_application() {
        for name in Preset::names() {
            for field in ["client_id", "client_secret", "redirect_uri", "scope"] {
                assert!(!filled(name).sources().contains_key(field), "{name} {field}");
            }
        }
    }

    #[test]
    fn a_missing_unknown_or_unfit_variable_is_refused_by_name() {
        let told = |preset: Preset| preset.settings().unwrap_err().to_string();
        let okta = || Preset::named("okta").unwrap();
        assert!(told(okta()).contains("\"authorization_server\""));
        assert!(told(filled("okta").variable("realm", "a")).contains("no variable \"realm\""));
        for unfit in ["", "a b", "evil.example#", "evil.example?", "u@evil.example", "%2e"] {
            let text = told(filled("okta").variable("domain", unfit));
            assert!(text.contains("the variable \"domain\""), "{text}");
        }
        assert!(Preset::named("nobody").unwrap_err().to_string().contains("google, hubspot"));
    }

    #[test]
    fn nested_fields_and_variables_arrive_in_the_settings() {
        let entra = Preset::named("microsoft_entra").unwrap().variable("tenant", "contoso.example");
        let settings = entra.settings().unwrap();
        let url = settings.token_endpoint.unwrap();
        assert!(url.contains("/contoso.example/"), "{url}");
        let google = filled("google").settings().unwrap();
        assert_eq!(google.authorization_request.parameters["access_type"], "offline");
    }
}
