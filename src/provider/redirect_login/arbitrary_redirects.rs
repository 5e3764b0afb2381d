//! Redirects that strangers write: none of them causes a panic, and none is accepted except the
//! response to the login.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use url::Url;

use super::*;
use crate::provider::http_message::{RedirectFields, redirect_fields};
use crate::provider::ioffice::{self, IOffice};
use crate::provider::oauth2::{LoginOptions, OAuth2, TokenRequest};

const BACK: &str = "https://app.example/acme/cb?from=login";
const STATE: &str = "st-1&";
const ISSUER: &str = "https://as.example/realms/a";

type Read = dyn Fn(&str) -> Option<String>;

/// One dialect: its redirect when all goes well, and what it makes of any.
struct Dialect {
    good: String,
    /// The issuer that must be named if one is.
    issuer: Option<&'static str>,
    /// A response without an issuer's name has to say where the browser came to.
    has_place: bool,
    /// The code of an accepted redirect.
    read: Box<Read>,
}

fn login<T>(with: impl FnOnce(&LoginRequest<'_>) -> T) -> T {
    let (state, verifier) = (Secret::from(STATE), Secret::from("v"));
    with(&LoginRequest::new(&state, &verifier))
}

fn oauth2(issuer: Option<&'static str>) -> Dialect {
    let client = OAuth2::new("https://as.example/token", "app").unwrap();
    let client = client.redirect_uri(BACK).unwrap();
    let client = match issuer {
        Some(issuer) => client.issuer(issuer).unwrap(),
        None => client,
    };
    let read = move |redirect: &str| {
        let options = LoginOptions::new();
        let grant = login(|login| client.login_grant(redirect, login, &options)).ok()?;
        let names = TokenRequest::default();
        let fields = grant.fields(&names);
        let code = fields.iter().find(|(name, _)| *name == "code");
        Some(code.unwrap().1.to_owned())
    };
    let named = issuer.map_or("", |_| "&iss=https%3A%2F%2Fas.example%2Frealms%2Fa");
    let good = format!("{BACK}&code=c-1&state=st-1%26{named}");
    Dialect { good, issuer, has_place: true, read: Box::new(read) }
}

fn ioffice(set: impl Fn(IOffice) -> IOffice) -> Dialect {
    let client = set(IOffice::new("https://acme.example", "app", BACK).unwrap());
    let read =
        move |redirect: &str| match login(|login| client.login_grant(redirect, login, &())).ok()? {
            ioffice::IOfficeGrant::Code(code) => Some(code.code.expose_secret().to_owned()),
            ioffice::IOfficeGrant::Password(_) => panic!("a password"),
        };
    let good = format!("{BACK}#code=c-1&appCode=a&state=st-1%26");
    Dialect { good, issuer: None, has_place: false, read: Box::new(read) }
}

fn dialects() -> [Dialect; 3] {
    [oauth2(Some(ISSUER)), oauth2(None), ioffice(|client| client)]
}

fn text<'f>(fields: &'f RedirectFields, name: &str) -> Option<&'f str> {
    fields.get(name).map(Secret::expose_secret)
}

/// What must be true of a redirect that is accepted.
fn judge(dialect: &Dialect, redirect: &str) -> Result<(), TestCaseError> {
    let Some(code) = (dialect.read)(redirect) else { return Ok(()) };
    let fields = redirect_fields(redirect).unwrap();
    prop_assert_eq!(text(&fields, "state"), Some(STATE), "{}", redirect);
    prop_assert_eq!(text(&fields, "code"), Some(&*code), "{}", redirect);
    prop_assert_eq!(text(&fields, "error"), None);
    if !dialect.has_place {
        return Ok(());
    }
    match text(&fields, "iss") {
        Some(named) => prop_assert_eq!(Some(named), dialect.issuer, "{}", redirect),
        None => {
            let reached_redirect_uri = Url::parse(BACK).unwrap().join(redirect.trim()).unwrap();
            prop_assert_eq!(reached_redirect_uri.origin(), Url::parse(BACK).unwrap().origin());
            prop_assert_eq!(reached_redirect_uri.path(), "/acme/cb", "{}", redirect);
            prop_assert_eq!(text(&fields, "from"), Some("login"), "{}", redirect);
        }
    }
    Ok(())
}

/// Something that a stranger does to a redirect.
#[derive(Clone, Debug)]
enum Change {
    Cut(Index, Index),
    Insert(Index, &'static str),
    Swap(&'static str, &'static str),
    Replace(Index, char),
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = [
        "&",
        "=",
        "?",
        "#",
        "%",
        "%26",
        "%00",
        "/",
        "//",
        "..",
        "@",
        ":",
        " ",
        "\r\n",
        "é",
        "&code=x",
        "&state=st-1%26",
        "&state=",
        "&iss=https://evil.example",
        "&error=access_denied",
        "&from=x",
    ];
    let swaps = [
        ("state=", "State="),
        ("st-1%26", "st-1"),
        ("st-1%26", "ST-1%26"),
        ("st-1%26", "%73t-1%26"),
        ("realms%2Fa", "realms%2Fb"),
        ("acme", "bolt"),
        ("app.example", "evil.example"),
        ("https://", "http://"),
        ("https://app.example", ""),
        ("https://app.example/acme/cb?", ""),
        ("#", "?"),
        ("?", "#"),
    ];
    prop_oneof![
        any::<(Index, Index)>().prop_map(|(from, to)| Change::Cut(from, to)),
        (any::<Index>(), select(pieces.to_vec())).prop_map(|(at, piece)| Change::Insert(at, piece)),
        select(swaps.to_vec()).prop_map(|(from, to)| Change::Swap(from, to)),
        any::<(Index, char)>().prop_map(|(at, with)| Change::Replace(at, with)),
    ]
}

fn changed(good: &str, changes: &[Change]) -> String {
    let mut text: Vec<char> = good.chars().collect();
    for change in changes {
        let place = |index: &Index| index.index(text.len() + 1);
        match change {
            Change::Cut(from, to) => {
                let (from, to) = (place(from), place(to));
                text.drain(from.min(to)..from.max(to));
            }
            Change::Insert(at, piece) => {
                let at = place(at);
                text.splice(at..at, piece.chars());
            }
            Change::Swap(from, to) => {
                let all: String = text.iter().collect();
                text = all.replacen(from, to, 1).chars().collect();
            }
            Change::Replace(at, with) => {
                let at = place(at);
                if let Some(character) = text.get_mut(at) {
                    *character = *with;
                }
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn every_dialect_accepts_its_own_good_redirect() {
    for dialect in dialects() {
        assert_eq!((dialect.read)(&dialect.good).as_deref(), Some("c-1"), "{}", dialect.good);
    }
}

#[test]
fn no_text_that_a_stranger_writes_panics_or_is_taken_for_the_answer() {
    let dialects = dialects();
    let wild = prop_oneof![
        any::<String>(),
        "(https://app.example/acme/cb)?[?#&]?((code|state|iss|error|from)=[a-z%/:0-9-]{0,9}&){0,5}",
    ];
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(redirect in wild)| {
        for dialect in &dialects {
            judge(dialect, &redirect)?;
        }
    });
}

#[test]
fn a_changed_redirect_is_accepted_only_with_the_logins_own_state_issuer_and_place() {
    let dialects = dialects();
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() };
    proptest!(config, |(changes in vec(change(), 1..5))| {
        for dialect in &dialects {
            judge(dialect, &changed(&dialect.good, &changes))?;
        }
    });
}

#[test]
fn options_that_a_ticket_brought_back_change_no_check() {
    let client = OAuth2::new("https://as.example/token", "app").unwrap();
    let client = client.redirect_uri(BACK).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..Default::default() };
    proptest!(config, |(name: String, value: String)| {
        let options = LoginOptions::new().parameter(name, value.clone()).scope(value);
        let without_state = format!("{BACK}&code=c-1");
        let read = login(|login| client.login_grant(&without_state, login, &options));
        prop_assert!(read.is_err());
    });
}
