//! Tokens in exchange for other tokens: what is sent, and what is made of the responses.

use super::*;

async fn exchanged(
    grant: TokenExchange,
    status: u16,
    body: &str,
) -> (Exchanged<Tokens<Attributes>>, Seen) {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token"), "app").unwrap();
    let client = client.client_secret_basic("s").scope("usual");
    let sender = bench.sender();
    let issued = client.establish(&sender, grant.into());
    let (issued, request) = join(issued, peer.json(status, body)).await;
    let issued = issued.map(|issued| {
        let Issued::Tokens(tokens) = issued;
        tokens
    });
    (issued, Seen::new(&request))
}

fn grant() -> TokenExchange {
    TokenExchange::new("canary-subject", TokenType::AccessToken)
}

const TYPE: (&str, &str) = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

#[tokio::test]
async fn an_exchange_has_each_parameter_that_was_set_and_the_type_of_its_token_is_kept() {
    let body = format!(
        r#"{{"access_token":"a","token_type":"Bearer","expires_in":60,
        "issued_token_type":"{ACCESS}"}}"#
    );
    let (issued, seen) = exchanged(grant(), 200, &body).await;
    let subject = [("subject_token", "canary-subject"), ("subject_token_type", ACCESS)];
    seen.assert_fields(&[TYPE, subject[0], subject[1], ("scope", "usual")]);
    let attributes = issued.unwrap().attributes;
    assert_eq!(attributes.issued_token_type.as_deref(), Some(ACCESS));
    assert_eq!(attributes.scope.as_deref(), Some("usual"));
    let stored = serde_json::to_string(&attributes).unwrap();
    assert!(!stored.contains("canary"), "{stored}");
    assert_eq!(serde_json::from_str::<Attributes>(&stored).unwrap(), attributes);

    let all = TokenExchange::new("s", TokenType::IdToken)
        .actor_token("a+b", TokenType::Other("urn:example:device".to_owned()))
        .requested_token_type(TokenType::Jwt)
        .resource("https://one.example")
        .resource("https://two.example")
        .audience("orders")
        .audience("stock")
        .scope("a b");
    let (issued, seen) = exchanged(all, 200, GOOD).await;
    seen.assert_fields(&[
        TYPE,
        ("subject_token", "s"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("actor_token", "a+b"),
        ("actor_token_type", "urn:example:device"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("resource", "https://one.example"),
        ("resource", "https://two.example"),
        ("audience", "orders"),
        ("audience", "stock"),
        ("scope", "a b"),
    ]);
    assert_eq!(issued.unwrap().attributes.issued_token_type, None);
}

#[tokio::test]
async fn a_token_that_the_server_does_not_accept_is_refused_and_shown_nowhere() {
    for (status, code, class) in [
        (400, "invalid_request", Refused(Refusal::Other)),
        (400, "invalid_grant", Refused(Refusal::GrantExpired)),
        (400, "invalid_target", Unclassified),
        (400, "unsupported_grant_type", Unclassified),
        (401, "invalid_client", InvalidClient),
        (503, "invalid_request", Ambiguous),
    ] {
        let (failed, _) = exchanged(grant(), status, &refusing(code)).await;
        let failed = failed.map(drop).unwrap_err();
        assert_eq!(failed.class(), class, "{code}");
        assert!(!shown(&failed).contains("canary"), "{failed:?}");
        assert_eq!(failed.into_error().provider_code(), Some(code));
    }
    assert!(!format!("{:?} {:?}", grant(), Grant::from(grant())).contains("canary"));
}

#[test]
fn a_refresh_keeps_the_type_of_the_token() {
    let known = Attributes { issued_token_type: Some(ACCESS.to_owned()), ..Attributes::default() };
    let merged = client().merge_attributes(&known, Attributes::default()).unwrap();
    assert_eq!(merged.issued_token_type.as_deref(), Some(ACCESS));
}

#[test]
fn each_type_of_token_has_its_uri() {
    use TokenType::{AccessToken, IdToken, Jwt, RefreshToken, Saml1, Saml2};
    let names = [
        (AccessToken, "access_token"),
        (RefreshToken, "refresh_token"),
        (IdToken, "id_token"),
        (Saml1, "saml1"),
        (Saml2, "saml2"),
        (Jwt, "jwt"),
    ];
    for (kind, name) in names {
        assert_eq!(kind.uri(), format!("urn:ietf:params:oauth:token-type:{name}"));
    }
}
