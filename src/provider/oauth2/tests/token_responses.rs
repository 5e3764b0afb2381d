//! How token responses are read.

use std::time::SystemTime;

use super::*;

/// The tokens of a refresh of a token with the scope `held`.
fn refreshed(bench: &Bench, client: &OAuth2, body: &str) -> Tokens<Attributes> {
    let response = response(200, &[], body);
    let held = Attributes { scope: Some("held".to_owned()), ..Attributes::default() };
    client.tokens(&bench.sender(), &response, held, Rejected).unwrap()
}

#[test]
fn an_answer_without_a_scope_means_the_one_that_was_asked_for() {
    let bench = Bench::new();
    let scope = |body| refreshed(&bench, &client(), body).attributes().scope.clone();
    assert_eq!(scope(r#"{"access_token":"a"}"#).as_deref(), Some("held"));
    assert_eq!(scope(r#"{"access_token":"a","scope":""}"#).as_deref(), Some("held"));
    assert_eq!(scope(r#"{"access_token":"a","scope":"less"}"#).as_deref(), Some("less"));
}

#[test]
fn the_end_of_a_refresh_token_is_the_servers_word_or_the_clients_setting() {
    let bench = Bench::new();
    let ends = |client: &OAuth2, more: &str| -> Option<SystemTime> {
        let body = format!(r#"{{"access_token":"a","refresh_token":"r"{more}}}"#);
        refreshed(&bench, client, &body).refresh_expires_at()
    };
    let (plain, set) = (client(), client().refresh_lifetime(Duration::from_secs(90)));
    assert_eq!(ends(&plain, ""), None);
    assert_eq!(ends(&set, ""), Some(Bench::at(90)));
    for (more, seconds) in [
        (r#","refresh_expires_in":30"#, 30),
        (r#","refresh_token_expires_in":"40""#, 40),
        (r#","refresh_expires_in":30,"refresh_token_expires_in":40"#, 40),
    ] {
        assert_eq!(ends(&plain, more), Some(Bench::at(seconds)), "{more}");
        assert_eq!(ends(&set, more), Some(Bench::at(seconds)), "{more}");
    }
    assert_eq!(ends(&plain, r#","refresh_expires_in":0"#), None, "an offline token");
    let kept = refreshed(&bench, &set, r#"{"access_token":"a"}"#);
    assert!(kept.refresh_token().is_none() && kept.refresh_expires_at().is_none());
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
const TEXT: (&str, &str) = ("content-type", "text/plain");

/// The tokens in a 200.
fn read(bench: &Bench, header: (&str, &str), body: &str) -> Result<Tokens<Attributes>> {
    let response = response(200, &[header], body);
    let read = client().tokens(&bench.sender(), &response, Attributes::default(), Rejected);
    read.map_err(ExchangeError::into_error)
}

fn texts(tokens: &Tokens<Attributes>) -> (&str, Option<&str>) {
    let access = tokens.access_token().unwrap().expose_secret();
    (access, tokens.refresh_token().map(Secret::expose_secret))
}

#[test]
fn a_form_is_read_as_an_object_is() {
    let bench = Bench::new();
    let body = "access_token=a%2B1&expires_in=60&refresh_token=r%3D%C3%A9&scope=read+write&\
                refresh_token_expires_in=90&token_type=bearer\r\n";
    for header in [FORM, TEXT] {
        let tokens = read(&bench, header, body).unwrap();
        assert_eq!(texts(&tokens), ("a+1", Some("r=é")));
        assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)));
        assert_eq!(tokens.refresh_expires_at(), Some(Bench::at(90)));
        assert_eq!(tokens.attributes().scope.as_deref(), Some("read write"));
    }
    let plain = read(&bench, TEXT, "access_token=a1&expires=5183999&refresh_token=").unwrap();
    assert_eq!((texts(&plain), plain.access_expires_at()), (("a1", None), None));
    let last = read(&bench, FORM, "access_token=a1&access_token=a2").unwrap();
    assert_eq!(texts(&last), ("a2", None));
    // JSON is read with any content type.
    for header in [FORM, TEXT, ("content-type", "text/html")] {
        let tokens = read(&bench, header, "\u{feff} {\"access_token\":\"a1\"}").unwrap();
        assert_eq!(texts(&tokens), ("a1", None));
    }
}

#[test]
fn of_a_member_that_is_there_twice_the_last_counts() {
    let bench = Bench::new();
    let body = r#"{"access_token":7,"access_token":"a1","access_token":"a2","refresh_token":"r1",
        "refresh_token":"r2","expires_in":1,"expires_in":60,"token_type":"mac","token_type":"x"}"#;
    let tokens = read(&bench, FORM, body).unwrap();
    assert_eq!(texts(&tokens), ("a2", Some("r2")));
    assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)));
}

#[test]
fn an_end_as_a_time_of_day_counts_where_no_lifetime_is_said() {
    let bench = Bench::new();
    for (said, seconds) in [
        ("1800000060", Some(60)),
        ("\"1800000060\"", Some(60)),
        ("1800000060000", Some(60)),
        ("\"1800000060000\"", Some(60)),
        ("\"2027-01-15T08:01:00Z\"", Some(60)),
        ("\" 2027-01-15T09:01:00.000+01:00 \"", Some(60)),
        ("1000", Some(1)),
        ("0", None),
        ("-5", None),
        ("1e300", None),
        ("\"soon\"", None),
        ("null", None),
        ("[1800000060]", None),
    ] {
        let body = format!(r#"{{"access_token":"a","expires_at":{said}}}"#);
        let tokens = read(&bench, FORM, &body).unwrap();
        assert_eq!(tokens.access_expires_at(), seconds.map(Bench::at), "{said}");
        let both = format!(r#"{{"access_token":"a","expires_at":{said},"expires_in":"30"}}"#);
        let tokens = read(&bench, FORM, &both).unwrap();
        assert_eq!(tokens.access_expires_at(), Some(Bench::at(30)), "{said}");
    }
    let form = read(&bench, FORM, "access_token=a&expires_at=2027-01-15T08%3A01%3A00Z").unwrap();
    assert_eq!(form.access_expires_at(), Some(Bench::at(60)));
}

#[test]
fn every_token_type_is_served_as_bearer_but_those_that_are_refused_by_name() {
    let bench = Bench::new();
    let body = |kind: &str| format!(r#"{{"access_token":"canary","token_type":"{kind}"}}"#);
    for kind in ["", "BEARER", "BearerToken", "Something", "bearer ", "macaroon", "canary"] {
        assert_eq!(texts(&read(&bench, FORM, &body(kind)).unwrap()), ("canary", None), "{kind}");
    }
    for (kind, name) in
        [("DPoP", "DPoP"), ("dpop", "DPoP"), (" MAC ", "mac"), ("N_A", "N_A"), ("n_a", "N_A")]
    {
        let text = read(&bench, FORM, &body(kind)).unwrap_err().to_string();
        assert!(text.contains(&format!(" that has the token_type {name}, ")), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

/// The class of an unusable response, and the refresh token that it has with its end.
fn kept(
    client: &OAuth2,
    members: &str,
    invalid_grant: FailureClass,
) -> (FailureClass, Option<(String, Option<SystemTime>)>) {
    let bench = Bench::new();
    let response = response(200, &[], format!("{{{members}}}"));
    let mut failed = client
        .tokens(&bench.sender(), &response, Attributes::default(), invalid_grant)
        .unwrap_err();
    assert!(!format!("{failed:?}").contains("canary"), "{failed:?}");
    let class = failed.class();
    let token = failed.take_refresh_token();
    (class, token.map(|token| (token.secret.expose_secret().to_owned(), token.expires_at)))
}

#[test]
fn a_refresh_whose_access_token_is_refused_still_gives_its_refresh_token() {
    let (plain, set) = (client(), client().refresh_lifetime(Duration::from_secs(90)));
    for members in [
        r#""access_token":"a","token_type":"DPoP""#,
        r#""access_token":"can ary""#,
        r#""access_token":7"#,
        r#""token_type":"bearer""#,
    ] {
        let with = |more: &str| format!(r#"{members},"refresh_token":"canary"{more}"#);
        let token = |seconds: Option<u64>| Some(("canary".to_owned(), seconds.map(Bench::at)));
        let misconfigured = FailureClass::Misconfigured;
        assert_eq!(kept(&plain, &with(""), Rejected), (misconfigured, token(None)), "{members}");
        assert_eq!(kept(&set, &with(""), Rejected), (misconfigured, token(Some(90))));
        let stated = with(r#","refresh_expires_in":30"#);
        assert_eq!(kept(&set, &stated, Rejected), (misconfigured, token(Some(30))));
        let refused = Refused(Refusal::WrongCredentials);
        assert_eq!(kept(&set, &with(""), refused), (Ambiguous, None), "{members}");
    }
}

#[test]
fn a_refresh_with_no_other_fault_than_its_token_type_leaves_no_doubt() {
    let dpop = r#""access_token":"canary","token_type":"DPoP""#;
    for (members, class) in [
        (dpop.to_owned(), FailureClass::Misconfigured),
        (format!(r#"{dpop},"refresh_token":"""#), FailureClass::Misconfigured),
        (format!(r#"{dpop},"refresh_token":["canary"]"#), Ambiguous),
        (r#""token_type":"DPoP""#.to_owned(), Ambiguous),
        (r#""access_token":"can ary""#.to_owned(), Ambiguous),
    ] {
        assert_eq!(kept(&client(), &members, Rejected), (class, None), "{members}");
    }
}

/// A token response with an ID token for this subject.
pub(super) fn for_subject(sub: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":{sub}}}"#));
    format!(r#"{{"access_token":"at","id_token":"e30.{claims}.sig"}}"#)
}

async fn said_of(held: &Tokens<Attributes>, body: &str) -> Attributes {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token"), "app").unwrap();
    let sender = bench.sender();
    let (tokens, _) =
        join(client.refresh(&sender, held.refresh_token().unwrap(), held), peer.json(200, body))
            .await;
    tokens.unwrap().attributes().clone()
}

#[tokio::test]
async fn a_refresh_whose_id_token_names_another_subject_does_not_go_on_with_the_session() {
    let ada = Attributes { subject: Some("ada".to_owned()), ..Attributes::default() };
    let (client, held) = (client(), Tokens::new(ada.clone()).with_refresh_token("rt", None));
    let other = said_of(&held, &for_subject("\"eve\"")).await;
    assert_eq!(client.merge_attributes(&ada, other).unwrap_err(), IdentityChanged::new("subject"));
    for silent in [for_subject("\"ada\""), for_subject("7"), for_subject("\"\""), GOOD.to_owned()] {
        let issued = said_of(&held, &silent).await;
        let went_on = client.merge_attributes(&ada, issued).unwrap();
        assert_eq!(went_on.subject.as_deref(), Some("ada"), "{silent}");
    }
    let first = said_of(&held, &for_subject("\"eve\"")).await;
    let learnt = client.merge_attributes(&Attributes::default(), first).unwrap();
    assert_eq!(learnt.subject.as_deref(), Some("eve"));
}

#[tokio::test]
async fn what_an_id_token_says_beyond_reason_is_not_kept() {
    let held = Tokens::new(Attributes::default()).with_refresh_token("rt", None);
    let long = format!("\"{}\"", "x".repeat(256));
    assert_eq!(said_of(&held, &for_subject(&long)).await.subject, None);
    assert_eq!(serde_json::to_string(&Attributes::default()).unwrap(), r#"{"scope":null}"#);
}
