//! JWTs as grants: what is sent, and the settings of service accounts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::*;
use crate::provider::test_bench::START;

fn key() -> String {
    KeyPair::generate().unwrap().serialize_pem()
}

fn grant() -> JwtBearer {
    JwtBearer::new(JwtAssertion::new(SigningAlgorithm::Es256), key()).unwrap()
}

fn part(jwt: &str, at: usize) -> Value {
    let part = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(at).unwrap()).unwrap();
    serde_json::from_slice(&part).unwrap()
}

/// The fields that the grant sends, with its JWT apart.
async fn sent(
    set: impl FnOnce(OAuth2) -> OAuth2,
    grant: JwtBearer,
) -> (Vec<(String, String)>, String, String) {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = set(OAuth2::new(&peer.url("/token"), "app").unwrap());
    let sender = bench.sender();
    let (issued, request) =
        join(client.establish(&sender, grant.into()), peer.json(200, GOOD)).await;
    issued.map(drop).unwrap();
    let mut fields = Seen::new(&request).fields;
    let at = fields.iter().position(|(name, _)| name == "assertion").unwrap();
    let (_, jwt) = fields.remove(at);
    (fields, jwt, peer.url("/token"))
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const TYPE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");

#[tokio::test]
async fn the_jwt_speaks_for_the_client_at_this_server_for_a_minute() {
    let (fields, jwt, endpoint) = sent(|client| client, grant()).await;
    assert_eq!(fields, owned(&[TYPE]), "the JWT says who sends it");
    assert_eq!(part(&jwt, 0), json!({ "alg": "ES256", "typ": "JWT" }));
    let mut claims = part(&jwt, 1);
    assert_eq!(claims["jti"].take().as_str().unwrap().len(), 36);
    let issued = START.as_secs();
    let expected = json!({ "iss": "app", "sub": "app", "aud": endpoint, "jti": null,
        "iat": issued, "exp": issued + 60 });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn the_settings_say_what_the_jwt_says_and_the_client_may_authenticate_too() {
    let assertion = JwtAssertion {
        kid: Some("k-1".to_owned()),
        issuer: Some("svc@example.com".to_owned()),
        audience: Some("https://as.example".to_owned()),
        claims: json!({ "scope": "drive", "jti": null }).as_object().unwrap().clone(),
        ..JwtAssertion::new(SigningAlgorithm::Es256)
    };
    let grant = JwtBearer::new(assertion, key()).unwrap().scope("a b").subject("ada");
    let set = |client: OAuth2| client.scope("usual").client_secret_post("s");
    let (fields, jwt, _) = sent(set, grant).await;
    let client = [("client_id", "app"), ("client_secret", "s")];
    assert_eq!(fields, owned(&[&[TYPE, ("scope", "a b")], &client[..]].concat()));
    assert_eq!(part(&jwt, 0)["kid"], "k-1");
    let claims = part(&jwt, 1);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("svc@example.com"), &json!("ada")));
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!("https://as.example"), &json!("drive")));
    assert_eq!(claims.get("jti"), None);
}

#[tokio::test]
async fn each_grant_has_a_jwt_of_its_own_and_none_is_shown() {
    let grant = grant();
    let (_, first, _) = sent(|client| client, grant.clone()).await;
    let (_, second, _) = sent(|client| client, grant.clone()).await;
    assert_ne!(part(&first, 1)["jti"], part(&second, 1)["jti"]);
    assert!(!format!("{grant:?} {:?}", Grant::from(grant.clone())).contains("BEGIN"));
}

fn of_settings(more: Value) -> Result<OAuth2> {
    let mut all = json!({ "token_endpoint": TOKEN_ENDPOINT, "client_id": "app" });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    OAuth2::from_settings(serde_json::from_str(&all.to_string()).unwrap())
}

#[test]
fn settings_make_a_service_account_or_say_which_field_is_wrong() {
    let (own, jwt) = (key(), json!({ "algorithm": "ES256", "subject": "ada" }));
    for good in [
        json!({ "jwt_bearer": jwt, "jwt_bearer_key": own }),
        json!({ "jwt_bearer": jwt, "client_key": own }),
    ] {
        let client = of_settings(good).unwrap();
        assert!(matches!(client.renewal_grant(None), Some(Grant::JwtBearer(_))));
    }
    for (wrong, named) in [
        (json!({ "jwt_bearer": jwt }), "`jwt_bearer_key`"),
        (json!({ "jwt_bearer_key": own }), "`jwt_bearer`"),
        (json!({ "jwt_bearer": jwt, "jwt_bearer_key": "canary" }), "`jwt_bearer`"),
        (json!({ "jwt_bearer": { "algorithm": "RS256" }, "jwt_bearer_key": own }), "`algorithm`"),
        (
            json!({ "jwt_bearer": jwt, "jwt_bearer_key": own, "client_credentials": true }),
            "`client_credentials`",
        ),
    ] {
        let refused = of_settings(wrong.clone()).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains(named), "{wrong}: {refused}");
        assert!(!format!("{refused:?} {refused}").contains("canary"));
    }
    let settings = json!({ "token_endpoint": TOKEN_ENDPOINT, "client_id": "app",
        "jwt_bearer": jwt, "jwt_bearer_key": "canary" });
    let settings: OAuth2Settings = serde_json::from_value(settings).unwrap();
    let written = serde_json::to_value(&settings).unwrap();
    assert_eq!(written["jwt_bearer"], jwt);
    assert!(!written.to_string().contains("canary"));
}
