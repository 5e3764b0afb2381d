//! Logins by a browser, and the user info after them.

use serde_json::json;
use url::Url;

use super::*;

/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const REQUEST: &[(&str, &str)] = &[
    ("response_type", "code"),
    ("client_id", "app"),
    ("redirect_uri", "https://app.example/back?a=b"),
    ("scope", "openid"),
    ("state", "s 1"),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
];

impl Peer<'_> {
    /// Status of the login, and what the browser takes back where.
    async fn browse(&self, request: &[(&str, &str)]) -> (u16, Option<Url>) {
        let base = format!("{}/authorize", self.server.url());
        let url = Url::parse_with_params(&base, request).unwrap();
        let response = self.http.get(url.as_str()).send().await.unwrap();
        let location = response.headers().get("location");
        let back = location.map(|back| Url::parse(back.to_str().unwrap()).unwrap());
        (response.status().as_u16(), back)
    }

    async fn userinfo(&self, access_token: &str) -> Answer {
        let request = self.http.get(format!("{}/userinfo", self.server.url()));
        answer(request.bearer_auth(access_token)).await
    }
}

fn field(back: &Url, wanted: &str) -> Option<String> {
    back.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

/// [`REQUEST`] with another value; an empty one counts as missing.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let others = REQUEST.iter().filter(|(other, _)| *other != name);
    others.copied().chain([(name, value)]).collect()
}

#[tokio::test]
async fn a_browser_comes_back_with_a_code_that_serves_its_client_with_its_proof() {
    let builder = FakeAuthServer::builder().public_client("app").client("other", "s");
    let server = builder.start().await.unwrap();
    let peer = Peer::new(&server);
    let (status, back) = peer.browse(REQUEST).await;
    let back = back.unwrap();
    assert_eq!(status, 302);
    assert!(back.as_str().starts_with("https://app.example/back?a=b&code="), "{back}");
    assert_eq!(field(&back, "state").as_deref(), Some("s 1"));
    assert_eq!(field(&back, "iss"), Some(server.issuer()));

    let code = field(&back, "code").unwrap();
    let redeem = async |client: &[(&str, &str)], verifier| {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", "https://app.example/back?a=b"),
            ("code_verifier", verifier),
        ];
        peer.token(&[&form, client].concat()).await
    };
    let other = [("client_id", "other"), ("client_secret", "s")];
    assert_eq!(redeem(&other, VERIFIER).await, refusal(400, "invalid_grant"));
    let own = [("client_id", "app")];
    assert_eq!(redeem(&own, "wrong").await, refusal(400, "invalid_grant"));
    let issued = redeem(&own, VERIFIER).await;
    assert_eq!(issued.1["scope"], "openid");
    let tokens = Tokens::of(&issued);
    assert_eq!(peer.userinfo(&tokens.access).await, (200, json!({ "sub": "alice" })));
    assert_eq!(peer.userinfo(&tokens.refresh).await, refusal(401, "invalid_token"));
    let tally = |requests, granted, refused| Tally { requests, granted, refused };
    assert_eq!(server.counts().authorize, tally(1, 1, 0));
    assert_eq!(server.counts().userinfo, tally(2, 1, 1));
}

#[tokio::test]
async fn who_logs_in_and_who_does_not_is_the_tests_wish() {
    let builder = FakeAuthServer::builder().login(FakeLogin::deny("access_denied"));
    let server = builder.start().await.unwrap();
    let peer = Peer::new(&server);
    let (status, back) = peer.browse(REQUEST).await;
    let back = back.unwrap();
    assert_eq!((status, field(&back, "error").as_deref()), (302, Some("access_denied")));
    assert_eq!((field(&back, "state").as_deref(), field(&back, "code")), (Some("s 1"), None));
    assert_eq!(field(&back, "iss"), Some(server.issuer()));
    assert_eq!((server.count(Endpoint::Authorize), server.counts().authorize.refused), (1, 1));
    assert_eq!(server.counts().errors["access_denied"], 1);

    server.set_login(FakeLogin::approve("bob"));
    let code = field(&peer.browse(REQUEST).await.1.unwrap(), "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("client_id", "app"),
        ("redirect_uri", "https://app.example/back?a=b"),
        ("code_verifier", VERIFIER),
    ];
    let tokens = Tokens::of(&peer.token(&form).await);
    assert_eq!(peer.userinfo(&tokens.access).await.1["sub"], "bob");
}

#[tokio::test]
async fn a_wrong_request_goes_back_with_an_error_if_it_is_known_where() {
    let server = FakeAuthServer::builder().client("app", "s").start().await.unwrap();
    let peer = Peer::new(&server);
    for (request, error) in [
        (with("response_type", "token"), "unsupported_response_type"),
        (with("response_type", ""), "unsupported_response_type"),
        (with("code_challenge_method", "plain"), "invalid_request"),
        (with("code_challenge_method", ""), "invalid_request"),
        (with("code_challenge", ""), "invalid_request"),
    ] {
        let (status, back) = peer.browse(&request).await;
        let error_shown = field(&back.unwrap(), "error");
        assert_eq!((status, error_shown.as_deref()), (302, Some(error)), "{request:?}");
    }
    for (request, status) in [
        (with("client_id", "other"), 401),
        (with("client_id", ""), 400),
        (with("redirect_uri", ""), 400),
        (with("redirect_uri", "nowhere"), 400),
        ([REQUEST, &[("state", "twice")]].concat(), 400),
    ] {
        assert_eq!(peer.browse(&request).await, (status, None), "{request:?}");
    }
    let plain: Vec<_> = REQUEST[..5].to_vec();
    assert!(field(&peer.browse(&plain).await.1.unwrap(), "code").is_some());
}

#[tokio::test]
async fn the_metadata_name_what_a_login_needs() {
    let server = FakeAuthServer::start().await.unwrap();
    let url = format!("{}/.well-known/oauth-authorization-server", server.url());
    let (_, json) = answer(Peer::new(&server).http.get(url)).await;
    assert_eq!(json["authorization_endpoint"], format!("{}/authorize", server.url()));
    assert_eq!(json["userinfo_endpoint"], format!("{}/userinfo", server.url()));
    assert_eq!(json["introspection_endpoint"], format!("{}/introspect", server.url()));
    assert_eq!(json["authorization_response_iss_parameter_supported"], true);
}
