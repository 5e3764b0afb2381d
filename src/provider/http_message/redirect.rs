//! Reading the redirect with which a browser comes back from a server.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use sha2::{Digest, Sha256};
use url::Url;

use crate::error::{Error, ErrorKind, Refusal};
use crate::provider::LoginRequest;
use crate::secret::Secret;

/// The parameters of a redirect. Each value is a [`Secret`], because one of them is a code or a
/// token. See the example of [`redirect_fields`].
pub struct RedirectFields(BTreeMap<String, Secret>);

impl RedirectFields {
    /// The value of a parameter; None if it is missing or empty (RFC 6749 section 3.1).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name).filter(|value| !value.expose_secret().is_empty())
    }

    /// Whether the redirect has this parameter, even without a value.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Checks that this is the response to `login` (RFC 6749 section 10.12). The comparison takes
    /// the same time for every state.
    ///
    /// # Errors
    ///
    /// `Refused` with [`LoginStateMismatch`](Refusal::LoginStateMismatch) if `state` is missing or
    /// differs.
    pub fn check_state(&self, login: &LoginRequest<'_>) -> Result<(), Error> {
        // Comparing hashes leaks nothing of the state through timing.
        let hash = |state: &Secret| Sha256::digest(state.expose_secret());
        if self.get("state").map(hash) == Some(hash(login.state())) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused(Refusal::LoginStateMismatch)))
    }

    /// Checks that this comes from a login, whichever.
    pub(in crate::provider) fn check_is_answer(&self) -> Result<(), Error> {
        let is_answer = ["state", "code", "error"].iter().any(|name| self.get(name).is_some());
        let other = || {
            Error::new(ErrorKind::InvalidInput).about(
                "the redirect has neither code, state nor error, so it does not come from a login; \
                 pass the URL that the browser came to",
            )
        };
        if is_answer { Ok(()) } else { Err(other()) }
    }
}

impl fmt::Debug for RedirectFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names are not shown: in a text that is not a redirect, a name may be the secret.
        f.debug_struct("RedirectFields").finish_non_exhaustive()
    }
}

/// Reads the parameters of a redirect (RFC 6749 sections 4.1.2 and 4.2.2). `redirect` is a URL, a
/// path with a query, a query with or without its `?`, or a fragment with its `#`. The parameters
/// of query and fragment are read together. A posted body (`response_mode=form_post`) is read as a
/// query.
///
/// ```
/// use session_warden::provider::http_message::{RedirectFields, redirect_fields};
///
/// let redirect = "https://app.example.com/callback?code=c-1&state=s-1";
/// let fields: RedirectFields = redirect_fields(redirect)?;
/// assert_eq!(fields.get("code").map(|code| code.expose_secret()), Some("c-1"));
/// assert!(!fields.contains("error"));
///
/// // A parameter may not be there twice.
/// assert!(redirect_fields("?code=c-1&code=c-2").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if a parameter is there twice (RFC 6749 section 3.1), or the text
/// is longer than 32 KiB.
pub fn redirect_fields(redirect: &str) -> Result<RedirectFields, Error> {
    let invalid = |words| Error::new(ErrorKind::InvalidInput).about(words);
    if redirect.len() > LONGEST {
        return Err(invalid(
            "the redirect has more than 32 KiB; pass the URL that the browser came to",
        ));
    }
    let mut fields = BTreeMap::new();
    for part in parts(redirect.trim()) {
        for (name, value) in url::form_urlencoded::parse(part.as_bytes()) {
            let Entry::Vacant(place) = fields.entry(name.into_owned()) else {
                return Err(invalid("the redirect has a parameter twice; begin the login again"));
            };
            place.insert(Secret::from(value.into_owned()));
        }
    }
    Ok(RedirectFields(fields))
}

/// Checks a URI to which browsers come back with the parameters `response`.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if it is no URL, has a fragment, has one of the parameters in its
/// query, or has any parameter twice.
pub(in crate::provider) fn check_redirect_uri(uri: &str, response: &[&str]) -> Result<(), Error> {
    let invalid = || Error::new(ErrorKind::InvalidInput).about("the redirect URI");
    let url = Url::parse(uri).map_err(|cause| invalid().with_source(cause))?;
    // RFC 6749 section 3.1.2.
    if url.fragment().is_some() {
        return Err(invalid().with_source("it has a fragment"));
    }
    // The parameters of its query come back with the response.
    let query = redirect_fields(uri).map_err(|cause| invalid().with_source(cause))?;
    if response.iter().any(|name| query.contains(name)) {
        return Err(invalid().with_source("its query has a parameter of the answer"));
    }
    Ok(())
}

/// Whether the browser came to the redirect URI `uri` with `redirect`: None if `redirect` does not
/// say where it came to, because it is a query, a fragment or a form.
///
/// A URL is compared without query and fragment, a path alone. The parameters in the query of `uri`
/// must be in `fields` too (RFC 6749 section 3.1.2).
pub(in crate::provider) fn reached_redirect_uri(
    uri: &str,
    redirect: &str,
    fields: &RedirectFields,
) -> Option<bool> {
    let place = redirect.trim().split(['?', '#']).next().unwrap_or_default();
    let own = Url::parse(uri).ok()?;
    let is_whole =
        place.find([':', '/', '=', '&']).is_some_and(|at| place.split_at(at).1.starts_with(':'));
    // URL parsers accept these and correct them, each in its own way.
    let mended = place.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\')
        || is_whole && own.has_host() && !place.contains("://");
    if mended {
        return Some(false);
    }
    let place = match (is_whole, place.starts_with('/')) {
        (true, _) => Url::parse(place).ok(),
        (false, true) => own.join(place).ok(),
        (false, false) => return None,
    };
    let bare = |mut url: Url| {
        url.set_query(None);
        url.set_fragment(None);
        url
    };
    let is_there = |name: &str, value: &str| match fields.0.get(name) {
        Some(found) => found.expose_secret() == value,
        None => false,
    };
    let kept = own.query_pairs().all(|(name, value)| is_there(&name, &value));
    Some(kept && place.map(bare) == Some(bare(own)))
}

/// Twice the length that common servers and browsers accept.
const LONGEST: usize = 32 * 1024;

/// Query and fragment.
fn parts(redirect: &str) -> [&str; 2] {
    let (before, fragment) = redirect.split_once('#').unwrap_or((redirect, ""));
    // A query begins with a name, and that ends with `=` or `&`. In a value, a colon, a slash and
    // a question mark may stand as they are (RFC 3986 section 3.4).
    let query = match before.find([':', '/', '?', '=', '&']).map(|at| before.split_at(at).1) {
        Some(rest) if rest.starts_with(['=', '&']) => before,
        Some(rest) => rest.split_once('?').map_or("", |(_, query)| query),
        None => "",
    };
    [query, fragment]
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use proptest::prelude::*;

    use super::*;

    fn read(redirect: &str) -> Vec<(String, String)> {
        let fields = redirect_fields(redirect).unwrap().0.into_iter();
        fields.map(|(name, value)| (name, value.expose_secret().to_owned())).collect()
    }

    #[test]
    fn a_redirect_is_a_url_a_path_a_query_or_a_fragment() {
        let query = "code=a%2Fb+c&state=s://x?y=1";
        let expected = [("code", "a/b c"), ("state", "s://x?y=1")].map(owned);
        for redirect in [
            format!("https://app.example/cb?{query}"),
            format!("https://app.example?{query}#"),
            format!("com.example.app:/cb?{query}"),
            format!("com.example.app:?{query}"),
            format!("/cb?{query}"),
            format!("cb?{query}"),
            format!("?{query}"),
            query.to_owned(),
            format!(" {query}\r\n"),
            format!("#{query}"),
            format!("https://app.example/cb#{query}"),
            format!("https://app.example/cb?#{query}"),
            format!("&{query}&"),
        ] {
            assert_eq!(read(&redirect), expected, "{redirect}");
        }
    }

    #[test]
    fn query_and_fragment_are_taken_together() {
        let both = read("https://app.example/cb?code=c&state=s#_=_&more=1");
        assert_eq!(both, [("_", "_"), ("code", "c"), ("more", "1"), ("state", "s")].map(owned));
        assert_eq!(read("code=c#state=s"), [("code", "c"), ("state", "s")].map(owned));
    }

    #[test]
    fn a_text_without_parameters_has_none() {
        for text in ["", " ", "?", "#", "https://app.example/cb", "/", "canary", "a:b=c"] {
            assert_eq!(read(text), [], "{text}");
        }
        let empty = redirect_fields("code=&state").unwrap();
        assert!(empty.get("code").is_none() && empty.get("state").is_none());
    }

    #[test]
    fn a_parameter_that_is_there_twice_and_a_text_without_end_are_refused() {
        let long = format!("code={}", "canary".repeat(6000));
        for redirect in [
            "code=canary&code=canary",
            "code=canary&code=other",
            "?state=&state=canary",
            "/cb?code=canary#code=canary",
            "c%6Fde=canary&code=canary",
            &long,
        ] {
            let error = redirect_fields(redirect).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{redirect}");
            assert!(!format!("{error:?} {error}").contains("canary") && error.source().is_none());
        }
    }

    fn came(uri: &str, redirect: &str) -> Option<bool> {
        reached_redirect_uri(uri, redirect, &redirect_fields(redirect).unwrap())
    }

    #[test]
    fn a_redirect_that_says_where_it_came_to_came_to_its_own_uri_or_to_another() {
        let uri = "https://app.example/acme/cb?from=login";
        for here in [
            "https://app.example/acme/cb?from=login&code=c",
            "https://APP.example:443/acme/./cb?code=c&from=login#_=_",
            " /acme/cb?from=login&code=c",
        ] {
            assert_eq!(came(uri, here), Some(true), "{here}");
        }
        for elsewhere in [
            "https://app.example/bolt/cb?from=login&code=c",
            "https://app.example/acme/cb/?from=login&code=c",
            "https://other.example/acme/cb?from=login&code=c",
            "https://app.example:8443/acme/cb?from=login&code=c",
            "http://app.example/acme/cb?from=login&code=c",
            "https://u@app.example/acme/cb?from=login&code=c",
            "https://app.example/acme/cb?from=other&code=c",
            "https://app.example/acme/cb?code=c",
            "https://?from=login",
            "https:/app.example/acme/cb?from=login",
            "https:\t//app.example/acme/cb?from=login",
            "https:\\\\app.example/acme/cb?from=login",
            "/acme\\cb?from=login",
            "https://app.example/acme/cb ?from=login",
            "/bolt/cb?from=login",
            "//app.example.evil/acme/cb?from=login",
            "//?from=login",
        ] {
            assert_eq!(came(uri, elsewhere), Some(false), "{elsewhere}");
        }
        for nowhere in ["", "?from=login", "from=login&a=/b:c", "#from=login", "cb?from=login"] {
            assert_eq!(came(uri, nowhere), None, "{nowhere}");
        }
        assert_eq!(came("com.example.app:/cb", "com.example.app:/cb?code=c"), Some(true));
        assert_eq!(came("com.example.app:/cb", "com.example.other:/cb?code=c"), Some(false));
    }

    #[test]
    fn nothing_of_a_redirect_is_shown() {
        let fields = redirect_fields("canary&code=canary").unwrap();
        assert!(!format!("{fields:?}").contains("canary"));
    }

    #[test]
    fn only_the_very_state_of_the_login_is_taken() {
        let (state, verifier) = (Secret::from("state-1"), Secret::from("v"));
        let login = LoginRequest::new(&state, &verifier);
        redirect_fields("code=c&state=state-1").unwrap().check_state(&login).unwrap();
        for other in ["code=c", "state=", "state=state-", "state=state-11", "state=STATE-1"] {
            let refused = redirect_fields(other).unwrap().check_state(&login).unwrap_err();
            let mismatch = ErrorKind::Refused(Refusal::LoginStateMismatch);
            assert_eq!(refused.kind(), mismatch, "{other}");
        }
        let empty = Secret::from("");
        let login = LoginRequest::new(&empty, &verifier);
        redirect_fields("code=c&state=").unwrap().check_state(&login).unwrap_err();
    }

    fn owned((name, value): (&str, &str)) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn no_text_panics_and_what_is_written_is_read() {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        let wild = prop_oneof![any::<String>(), "[a-c:/?#=&%+ é]{0,40}"];
        proptest!(config.clone(), |(text in wild)| {
            let _ = redirect_fields(&text).map(|fields| fields.get("a").cloned());
        });
        let lead = proptest::sample::select(&["", "?", "#", "/?", "https://app.example/cb?"][..]);
        proptest!(config, |(code: String, state: String, lead in lead)| {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            let query = query.append_pair("code", &code).append_pair("state", &state).finish();
            let fields = redirect_fields(&format!("{lead}{query}")).unwrap();
            let text = |name| fields.get(name).map_or("", Secret::expose_secret);
            prop_assert_eq!((text("code"), text("state")), (&*code, &*state));
        });
    }
}
