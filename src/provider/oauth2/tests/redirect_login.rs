//! Logins through a browser.

use ErrorKind as Kind;

use super::*;
use crate::provider::{LoginRequest, RedirectLogin};

const CALLBACK: &str = "https://app.example/cb?x=1";
const MISMATCH: Kind = Kind::Refused(Refusal::LoginStateMismatch);

/// A client that can log in.
fn browsing() -> OAuth2 {
    let client = client().authorization_endpoint("https://as.example/authorize").unwrap();
    client.redirect_uri(CALLBACK).unwrap()
}

/// Calls `with` with a login of state `s-1&` and the verifier of RFC 7636 appendix B.
fn login<T>(with: impl FnOnce(&LoginRequest<'_>) -> T) -> T {
    let state = Secret::from("s-1&");
    let verifier = Secret::from("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    with(&LoginRequest::new(&state, &verifier))
}

fn login_url(client: &OAuth2, options: &LoginOptions) -> Result<Url> {
    login(|login| client.login_url(login, options))
}

fn login_grant(client: &OAuth2, redirect: &str) -> Result<Grant> {
    login(|login| client.login_grant(redirect, login, &LoginOptions::new()))
}

fn fields(url: &Url) -> Vec<(String, String)> {
    url.query_pairs().into_owned().collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const PLAIN: &[(&str, &str)] = &[
    ("response_type", "code"),
    ("client_id", "app"),
    ("redirect_uri", CALLBACK),
    ("state", "s-1&"),
    ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
    ("code_challenge_method", "S256"),
];

#[test]
fn a_login_asks_for_a_code_with_state_and_challenge_and_never_with_the_verifier() {
    let url = login_url(&browsing(), &LoginOptions::new()).unwrap();
    assert!(url.as_str().starts_with("https://as.example/authorize?response_type=code&"), "{url}");
    assert_eq!(fields(&url), owned(PLAIN));
    let secret = browsing().client_secret_basic("canary");
    assert_eq!(login_url(&secret, &LoginOptions::new()).unwrap(), url);
}

#[test]
fn a_login_has_its_options_before_those_of_the_provider_and_no_empty_parameter() {
    let client = browsing().scope("read");
    let all = LoginOptions::new()
        .scope("openid a+b")
        .prompt("consent")
        .login_hint("älice@example.com")
        .parameter("ui_locales", "fr")
        .parameter("ui_locales", "de")
        .parameter("access_type", "offline")
        .parameter("nothing", "");
    let read = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<LoginOptions>(&read).unwrap(), all);
    assert_eq!(serde_json::from_str::<LoginOptions>("{}").unwrap(), LoginOptions::default());
    let mut expected = PLAIN.to_vec();
    expected.insert(3, ("scope", "openid a+b"));
    expected.extend([("access_type", "offline"), ("login_hint", "älice@example.com")]);
    // The nonce of the scope `openid`, which neither verifier nor state can be read from.
    expected.push(("nonce", "mn3n6yhfSJ2euOH4CC2a3dUp0vmDAiYo2KigkChC0Dc"));
    expected.extend([("prompt", "consent"), ("ui_locales", "de")]);
    assert_eq!(fields(&login_url(&client, &all).unwrap()), owned(&expected));

    let general = fields(&login_url(&client, &LoginOptions::new()).unwrap());
    assert!(general.contains(&("scope".to_owned(), "read".to_owned())));
    let none = login_url(&client, &LoginOptions::new().scope("").prompt("")).unwrap();
    assert_eq!(fields(&none), owned(PLAIN));
}

#[test]
fn the_authorization_endpoints_own_query_is_kept_and_no_parameter_is_there_twice() {
    let at = |url: &str| client().authorization_endpoint(url).unwrap().redirect_uri(CALLBACK);
    let client = at("https://as.example/authorize?p=B2C_1%20a&prompt=login").unwrap();
    let url = login_url(&client, &LoginOptions::new()).unwrap();
    let kept = "https://as.example/authorize?p=B2C_1%20a&prompt=login&response_type=code&";
    assert!(url.as_str().starts_with(kept), "{url}");
    for options in
        [LoginOptions::new().prompt("none"), LoginOptions::new().parameter("p", "canary")]
    {
        assert_eq!(login_url(&client, &options).unwrap_err().kind(), Kind::Misconfigured);
    }
    let taken = at("https://as.example/authorize?client_id=other").unwrap();
    let error = login_url(&taken, &LoginOptions::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Misconfigured);
}

#[test]
fn what_the_login_sets_is_no_free_parameter() {
    let own = PLAIN.iter().map(|(name, _)| *name);
    let more = ["", "scope", "prompt", "login_hint", "client_secret", "code_verifier"];
    for name in own.chain(more).chain(["request", "request_uri"]) {
        let options = LoginOptions::new().parameter(name, "canary");
        let error = login_url(&browsing(), &options).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput, "{name}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn a_client_that_cannot_log_in_says_which_setting_is_missing() {
    let no_endpoint = client().redirect_uri(CALLBACK).unwrap();
    let no_uri = client().authorization_endpoint("https://as.example/a").unwrap();
    let undiscovered = OAuth2::discover("https://as.example", "app").unwrap();
    for (client, setting) in [
        (&no_endpoint, "authorization_endpoint"),
        (&undiscovered.redirect_uri(CALLBACK).unwrap(), "authorization_endpoint"),
        (&no_uri, "redirect_uri"),
    ] {
        let error = login_url(client, &LoginOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured);
        assert!(error.to_string().contains(setting), "{error}");
    }
    let error = login_grant(&no_uri, "/cb?code=c&state=s-1%26").unwrap_err();
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("redirect_uri"), "{error}");
}

#[test]
fn a_redirect_uri_has_no_fragment_and_nothing_of_an_answer() {
    for uri in [
        "https://app.example/cb",
        "com.example.app:/cb",
        "http://127.0.0.1:8080/cb",
        "https://app.example/cb?a=1&b",
    ] {
        client().redirect_uri(uri).map(drop).unwrap();
    }
    for uri in [
        "",
        "/cb",
        "app.example/cb",
        "https://app.example/cb#a",
        "https://app.example/cb#",
        "https://app.example/cb?state=",
        "https://app.example/cb?code=1",
        "https://app.example/cb?a=1&a=1",
    ] {
        let error = client().redirect_uri(uri).map(drop).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput, "{uri}");
    }
    for wrong in ["ftp://as.example/a", "as"] {
        client().authorization_endpoint(wrong).map(drop).unwrap_err();
    }
    for wrong in ["ftp://as.example/a", "https://as.example/a#b", "as"] {
        client().refresh_endpoint(wrong).map(drop).unwrap_err();
        client().introspection_endpoint(wrong).map(drop).unwrap_err();
        client().userinfo_endpoint(wrong).map(drop).unwrap_err();
    }
}

#[test]
fn the_answer_to_a_login_is_read_in_every_form_and_brings_verifier_and_redirect_uri() {
    let fields = "code=c%2F1&state=s-1%26&iss=https%3A%2F%2Fas.example&session_state=x";
    for redirect in [
        format!("{CALLBACK}&{fields}"),
        format!("/cb?{fields}"),
        format!("?{fields}"),
        fields.to_owned(),
        format!("#{fields}"),
    ] {
        let client = browsing().issuer("https://as.example").unwrap();
        let grant = login_grant(&client, &redirect).unwrap();
        assert!(!format!("{grant:?}").contains("c/1"));
        let expected = [
            ("grant_type", "authorization_code"),
            ("code", "c/1"),
            ("redirect_uri", CALLBACK),
            ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ];
        assert_eq!(grant.fields(&TokenRequest::default()), expected, "{redirect}");
        assert!(!grant.names_scope());
    }
}

#[test]
fn a_server_that_names_no_scope_means_the_one_of_the_login() {
    let asked = |client: OAuth2, options: LoginOptions| {
        let redirect = "/cb?x=1&code=c&state=s-1%26";
        let grant = login(|login| client.login_grant(redirect, login, &options));
        grant.unwrap().requested_scope(Some("of others")).map(str::to_owned)
    };
    let scope = LoginOptions::new().scope("own");
    assert_eq!(asked(browsing().scope("general"), scope).as_deref(), Some("own"));
    let general = asked(browsing().scope("general"), LoginOptions::new());
    assert_eq!(general.as_deref(), Some("general"));
    assert_eq!(asked(browsing(), LoginOptions::new()), None);
}

#[test]
fn every_answer_that_brings_no_code_says_why_and_shows_nothing_of_itself() {
    let refused = |reason| Kind::Refused(reason);
    for (redirect, kind) in [
        ("", Kind::InvalidInput),
        ("canary", Kind::InvalidInput),
        ("https://app.example/cb?x=1", Kind::InvalidInput),
        ("state=s-1%26", Kind::InvalidInput),
        ("state=s-1%26&code=", Kind::InvalidInput),
        ("state=s-1%26&code=canary&code=canary", Kind::InvalidInput),
        ("code=canary", MISMATCH),
        ("error=access_denied", MISMATCH),
        ("code=canary&state=canary", MISMATCH),
        // The state is checked before everything that an attacker may have written.
        ("error=server_error&state=canary", MISMATCH),
        ("error=access_denied&state=s-1%26", refused(Refusal::NotPermitted)),
        ("error=access_denied&state=s-1%26&code=canary", refused(Refusal::NotPermitted)),
        ("error=login_required&state=s-1%26", refused(Refusal::Other)),
        ("error=interaction_required&state=s-1%26", refused(Refusal::Other)),
        ("error=consent_required&state=s-1%26", refused(Refusal::Other)),
        ("error=account_selection_required&state=s-1%26", refused(Refusal::Other)),
        ("error=temporarily_unavailable&state=s-1%26", Kind::RetryLater),
        ("error=server_error&state=s-1%26", Kind::RetryLater),
        ("error=invalid_request&state=s-1%26", Kind::Misconfigured),
        ("error=unauthorized_client&state=s-1%26", Kind::Misconfigured),
        ("error=unsupported_response_type&state=s-1%26", Kind::Misconfigured),
        ("error=invalid_scope&state=s-1%26", Kind::Misconfigured),
        ("error=of_its_own&error_description=canary&state=s-1%26", Kind::Misconfigured),
    ] {
        let error = login_grant(&browsing(), &format!("{CALLBACK}&{redirect}")).unwrap_err();
        assert_eq!(error.kind(), kind, "{redirect}");
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("canary") && !shown.contains("s-1"), "{shown}");
        let code = redirect.strip_prefix("error=").and_then(|rest| rest.split_once('&'));
        let code = code.filter(|_| kind != MISMATCH).map(|(code, _)| code);
        assert_eq!(error.provider_code(), code, "{redirect}");
    }
}

/// A client of the server at `peer`, before discovery.
fn discovering(peer: &Peer) -> OAuth2 {
    OAuth2::discover(&peer.url(""), "app").unwrap().redirect_uri(CALLBACK).unwrap()
}

/// Lets the client discover that server, whose metadata has these members too.
async fn discover(client: &OAuth2, peer: &Peer, more: &str) {
    let issuer = peer.url("");
    let metadata = format!(r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/t"{more}}}"#);
    let bench = Bench::new();
    peer.json_then_404(200, &metadata, client.prepare(&bench.sender())).await.unwrap();
}

#[tokio::test]
async fn the_metadata_says_where_to_log_in_unless_it_is_set() {
    let peer = Peer::start().await;
    let metadata = r#","authorization_endpoint":"https://as.example/a?b=c""#;
    let client = discovering(&peer);
    discover(&client, &peer, metadata).await;
    let url = login_url(&client, &LoginOptions::new()).unwrap();
    assert!(url.as_str().starts_with("https://as.example/a?b=c&response_type=code&"), "{url}");
    let set = client.authorization_endpoint("https://other.example/").unwrap();
    let url = login_url(&set, &LoginOptions::new()).unwrap();
    assert_eq!(url.host_str(), Some("other.example"));

    for unusable in ["\"http://as.example/a\"", "\"https://as.example/a#b\"", "\"\"", "null"] {
        let client = discovering(&peer);
        discover(&client, &peer, &format!(r#","authorization_endpoint":{unusable}"#)).await;
        let error = login_url(&client, &LoginOptions::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Misconfigured, "{unusable}");
    }
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused_and_so_is_a_missing_name_where_it_is_promised() {
    let peer = Peer::start().await;
    let promise = r#","authorization_response_iss_parameter_supported":true"#;
    let (quiet, naming) = (discovering(&peer), discovering(&peer));
    discover(&quiet, &peer, "").await;
    discover(&naming, &peer, promise).await;
    let unknown = discovering(&peer);
    let response = |issuer: &str| format!("code=canary&state=s-1%26&iss={issuer}");
    let right = peer.url("");
    for client in [&quiet, &naming, &unknown] {
        login_grant(client, &response(&right)).map(drop).unwrap();
        for wrong in [format!("{right}/"), "https://other.example".to_owned()] {
            let error = login_grant(client, &response(&wrong)).unwrap_err();
            assert_eq!(error.kind(), MISMATCH, "{wrong}");
            let denied = response(&wrong).replace("code=canary", "error=access_denied");
            let denied = login_grant(client, &denied).unwrap_err();
            assert_eq!((denied.kind(), denied.provider_code()), (MISMATCH, Some("access_denied")));
            assert!(denied.to_string().contains("names another server"), "{denied}");
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
    for silent in ["", "&iss="] {
        let silent = format!("{CALLBACK}&code=canary&state=s-1%26{silent}");
        login_grant(&quiet, &silent).map(drop).unwrap();
        assert_eq!(login_grant(&naming, &silent).unwrap_err().kind(), MISMATCH);
    }
}

#[tokio::test]
async fn a_name_whose_promise_was_not_known_yet_is_missed_before_the_code_is_sent() {
    let peer = Peer::start().await;
    let promise = r#","authorization_response_iss_parameter_supported":true"#;
    for (metadata, sent) in [(promise, false), ("", true)] {
        let client = discovering(&peer);
        let redirect = format!("{CALLBACK}&code=canary&state=s-1%26");
        let grant = login_grant(&client, &redirect).unwrap();
        discover(&client, &peer, metadata).await;
        let bench = Bench::new();
        let sender = bench.sender();
        if sent {
            join(client.establish(&sender, grant), peer.json(200, GOOD)).await.0.map(drop).unwrap();
        } else {
            let failed = client.establish(&sender, grant).await.unwrap_err();
            assert_eq!(failed.class(), Refused(Refusal::LoginStateMismatch));
        }
    }
}

/// A client with a token endpoint of its own for each tenant.
fn named(issuer: &str) -> OAuth2 {
    browsing().issuer(issuer).unwrap()
}

#[test]
fn a_client_without_discovery_compares_the_issuer_too_and_refuses_a_name_that_it_cannot_compare() {
    let response = |iss: &str| format!("{CALLBACK}&code=canary&state=s-1%26&iss={iss}");
    let right = response("https%3A%2F%2Fas.example");
    login_grant(&named("https://as.example"), &right).map(drop).unwrap();
    for other in ["https://as.example/", "https://other.example"] {
        let error = login_grant(&named(other), &right).unwrap_err();
        assert_eq!(error.kind(), MISMATCH, "{other}");
    }
    let error = login_grant(&browsing(), &right).unwrap_err();
    assert_eq!(error.kind(), Kind::Misconfigured);
    assert!(error.to_string().contains("OAuth2::issuer"), "{error}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[test]
fn an_answer_without_an_issuer_is_taken_only_where_the_browser_came_to_the_redirect_uri() {
    let response = "code=canary&state=s-1%26";
    let clients = [browsing(), named("https://as.example")];
    for client in &clients {
        for here in [format!("{CALLBACK}&{response}"), format!("/cb?x=1&{response}")] {
            login_grant(client, &here).map(drop).unwrap();
        }
        for elsewhere in
            [format!("https://app.example/bolt/cb?x=1&{response}"), format!("/cb?{response}")]
        {
            let error = login_grant(client, &elsewhere).unwrap_err();
            assert_eq!(error.kind(), MISMATCH, "{elsewhere}");
        }
        let error = login_grant(client, response).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput);
        assert!(error.to_string().contains("whole URL"), "{error}");
    }
    for client in clients {
        let error = login_grant(&client.require_issuer(), &format!("{CALLBACK}&{response}"));
        assert_eq!(error.unwrap_err().kind(), MISMATCH);
    }
}

#[test]
fn the_code_of_an_error_whose_server_did_not_name_itself_is_shown_and_decides_nothing() {
    let client = named("https://as.example");
    let required = client.clone().require_issuer();
    let denied = "error=access_denied&error_description=canary&state=s-1%26";
    let there = format!("{CALLBACK}&{denied}");
    let elsewhere = format!("/cb?{denied}");
    for (client, redirect) in [(&required, &there), (&required, &elsewhere), (&client, &elsewhere)]
    {
        let error = login_grant(client, redirect).unwrap_err();
        assert_eq!((error.kind(), error.provider_code()), (MISMATCH, Some("access_denied")));
        assert_eq!(
            error.to_string(),
            "the grant was refused: the response to the login reports an error, but the server did \
             not name itself in it, so its error code is shown (`Error::provider_code`) but not \
             trusted; begin the login again"
        );
        assert!(!format!("{error:?}").contains("canary"));
        // With another state, the response belongs to another login, and its code is not shown.
        let error = login_grant(client, &redirect.replace("s-1", "s-2")).unwrap_err();
        assert_eq!((error.kind(), error.provider_code()), (MISMATCH, None));
    }
    // Here nothing shows that another server sent the response, so its code decides.
    let error = login_grant(&client, &there).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused(Refusal::NotPermitted));

    // These texts say what to change, and the code is there too.
    let unnamed = login_grant(&client, denied).unwrap_err();
    assert_eq!(
        (unnamed.kind(), unnamed.provider_code()),
        (Kind::InvalidInput, Some("access_denied"))
    );
    assert!(unnamed.to_string().contains("whole URL"), "{unnamed}");
    let response = format!("{there}&iss=https%3A%2F%2Fas.example");
    let unset = login_grant(&browsing(), &response).unwrap_err();
    assert_eq!((unset.kind(), unset.provider_code()), (Kind::Misconfigured, Some("access_denied")));
    assert!(unset.to_string().contains("OAuth2::issuer"), "{unset}");

    let wild = format!("error=%1b%5b31mx%22y{}&state=s-1%26", "z".repeat(100));
    let error = login_grant(&required, &format!("{CALLBACK}&{wild}")).unwrap_err();
    let shown = format!("31mxy{}", "z".repeat(59));
    assert_eq!(error.provider_code(), Some(shown.as_str()));
}

#[test]
fn an_issuer_is_a_url_and_the_one_of_the_metadata() {
    for wrong in ["as.example", "ftp://as.example", "https://as.example?a"] {
        assert_eq!(browsing().issuer(wrong).map(drop).unwrap_err().kind(), Kind::InvalidInput);
    }
    let discovered = OAuth2::discover("https://as.example", "app").unwrap();
    discovered.clone().issuer("https://as.example").map(drop).unwrap();
    let error = discovered.issuer("https://other.example").map(drop).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidInput);
}
