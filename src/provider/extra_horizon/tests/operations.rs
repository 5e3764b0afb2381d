//! Requests of grants and operations, and the responses to operations.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join;
use http::{Request, header};
use serde_json::{Value, json};

use super::*;
use crate::provider::{Effect, Issued, Operation, Provider, Revoked, Rotation};
use crate::token::Tokens;
use crate::transport::peer::Peer;

const TOKENS: &str = r#"{"access_token":"a","refresh_token":"r","token":"t","tokenSecret":"s"}"#;

/// Head and JSON body of what is sent for a grant.
async fn grant_request<P: Provider>(
    client: impl FnOnce(&str) -> P,
    grant: impl Into<P::Grant>,
) -> (String, Value) {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (client, sender) = (client(&peer.url("")), bench.sender());
    let (issued, seen) =
        join(client.establish(&sender, grant.into()), peer.json(200, TOKENS)).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

fn one(host: &str) -> ExtraHorizonOAuth1 {
    ExtraHorizonOAuth1::new(host, "ck", "cs").unwrap()
}

fn public(host: &str) -> ExtraHorizonOAuth2 {
    ExtraHorizonOAuth2::public(host, "app").unwrap()
}

#[tokio::test]
async fn an_oauth1_password_is_json_that_the_consumer_alone_signs() {
    let (head, body) = grant_request(one, ExtraHorizonPassword::new("ada@x.io", "p\"é")).await;
    assert!(head.starts_with("POST /auth/v2/oauth1/tokens HTTP/1.1"), "{head}");
    assert!(head.contains("authorization: OAuth oauth_consumer_key=\"ck\", "), "{head}");
    assert!(!head.contains("oauth_token=") && !head.contains("oauth_body_hash"), "{head}");
    assert_eq!(body, json!({"email": "ada@x.io", "password": "p\"é"}));
    let (head, body) = grant_request(one, SsoToken::new("sso")).await;
    assert!(head.starts_with("POST /auth/v2/oauth1/ssoTokens/consume HTTP/1.1"), "{head}");
    assert_eq!(body, json!({"ssoToken": "sso"}));
}

#[tokio::test]
async fn an_oauth2_grant_is_json_in_snake_case_with_the_clients_name() {
    let (head, body) = grant_request(public, ExtraHorizonPassword::new("ada@x.io", "pw")).await;
    assert!(head.starts_with("POST /auth/v2/oauth2/tokens HTTP/1.1"), "{head}");
    assert!(!head.contains("authorization:"), "{head}");
    let password = json!({"client_id": "app", "grant_type": "password", "username": "ada@x.io",
        "password": "pw"});
    assert_eq!(body, password);
    let (_, body) = grant_request(public, ExtraHorizonCode::new("c")).await;
    let bare = json!({"client_id": "app", "grant_type": "authorization_code", "code": "c"});
    assert_eq!(body, bare);
    let code = ExtraHorizonCode::new("c").redirect_uri("https://a/cb").code_verifier("v");
    let (_, body) = grant_request(public, code).await;
    let full = json!({"client_id": "app", "grant_type": "authorization_code", "code": "c",
        "redirect_uri": "https://a/cb", "code_verifier": "v"});
    assert_eq!(body, full);
    let (head, body) = grant_request(public, OidcLogin::new("goo/gle", "c")).await;
    assert!(head.starts_with("POST /auth/v2/oidc/providers/goo%2Fgle/oAuth2Login "), "{head}");
    assert_eq!(body, json!({"client_id": "app", "authorizationCode": "c"}));
}

#[tokio::test]
async fn a_confidential_client_says_its_secret_in_header_and_body() {
    let client = |host: &str| ExtraHorizonOAuth2::confidential(host, "app", "s:é").unwrap();
    let (head, body) = grant_request(client, ExtraHorizonPassword::new("u", "p")).await;
    let pair = STANDARD.encode("app:s:é");
    assert!(head.contains(&format!("authorization: Basic {pair}")), "{head}");
    assert_eq!((&body["client_id"], &body["client_secret"]), (&json!("app"), &json!("s:é")));
    assert_eq!(client(HOST).refresh_token_rotation(), Rotation::Static);
    assert_eq!(oauth2().refresh_token_rotation(), Rotation::Strict);
    assert_eq!(oauth1().refresh_token_rotation(), Rotation::Static);
    assert!(!format!("{:?}", client(HOST)).contains("s:é"));
}

fn held() -> Tokens<ExtraHorizonAttributes> {
    let attributes = ExtraHorizonAttributes::new("user").token_id("own/1");
    Tokens::new(attributes)
        .with_access_token("acc", None)
        .with_refresh_token("ref", None)
        .with_token_secret("sec")
}

#[tokio::test]
async fn a_refresh_without_a_refresh_token_in_its_answer_keeps_what_is_known() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (client, sender, held) = (public(&peer.url("")), bench.sender(), held());
    let bare = r#"{"access_token":"new","application_id":"app-2"}"#;
    let (tokens, seen) =
        join(client.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, bare))
            .await;
    let tokens = tokens.unwrap();
    assert!(tokens.refresh_token().is_none());
    assert_eq!(tokens.attributes().user_id.as_deref(), Some("user"));
    assert_eq!(tokens.attributes().application_id.as_deref(), Some("app-2"));
    let body: Value = serde_json::from_str(seen.split_once("\r\n\r\n").unwrap().1).unwrap();
    let sent = json!({"client_id": "app", "grant_type": "refresh_token", "refresh_token": "ref"});
    assert_eq!(body, sent);
}

#[tokio::test]
async fn revoking_deletes_the_token_by_its_id_where_that_is_known() {
    let gone = [
        (200, r#"{"affectedRecords":1}"#),
        (200, "{}"),
        (401, r#"{"code":108}"#),
        (404, r#"{"code":16}"#),
    ];
    for (status, body) in gone {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let (client, sender, held) = (one(&peer.url("")), bench.sender(), held());
        let (revoked, seen) = join(client.revoke(&sender, &held), peer.json(status, body)).await;
        assert_eq!(revoked.unwrap(), Revoked::AtServer, "{status} {body}");
        assert!(seen.starts_with("DELETE /auth/v2/oauth1/tokens/own%2F1 HTTP/1.1"), "{seen}");
        assert!(seen.contains("oauth_token=\"acc\""), "{seen}");
    }
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (client, sender, held) = (one(&peer.url("")), bench.sender(), held());
    let (failed, _) = join(client.revoke(&sender, &held), peer.json(500, "{}")).await;
    assert_eq!(failed.unwrap_err().class(), Ambiguous);
    let unknown = Tokens::new(ExtraHorizonAttributes::new("user"))
        .with_access_token("a", None)
        .with_token_secret("s");
    assert_eq!(client.revoke(&sender, &unknown).await.unwrap(), Revoked::NotSupported);
    assert_eq!(oauth2().revoke(&sender, &held).await.unwrap(), Revoked::NotSupported);
    // Signed, and at another path than that of the token.
    let elsewhere = Tokens::new(ExtraHorizonAttributes::new("user").token_id(".."))
        .with_access_token("acc", None);
    let elsewhere = elsewhere.with_token_secret("sec");
    assert_eq!(client.revoke(&sender, &elsewhere).await.unwrap(), Revoked::NotSupported);
}

#[test]
fn a_record_id_that_would_lead_to_another_path_is_refused_before_it_is_signed() {
    for id in ["", ".", ".."] {
        let deleting = [
            Operation::<ExtraHorizonOAuth1>::request(&DeleteToken::new(id), &one(HOST), &held()),
            Operation::<ExtraHorizonOAuth2>::request(&DeleteToken::new(id), &public(HOST), &held()),
            DeleteRefreshToken::new(id).request(&public(HOST), &held()),
        ];
        for request in deleting {
            assert_eq!(request.unwrap_err().kind(), ErrorKind::InvalidInput, "{id:?}");
        }
    }
    let request =
        Operation::<ExtraHorizonOAuth1>::request(&DeleteToken::new("../.."), &one(HOST), &held());
    assert_eq!(request.unwrap().0.uri().path(), "/auth/v2/oauth1/tokens/..%2F..");
}

#[tokio::test]
async fn the_name_of_an_openid_provider_stays_in_its_place_too() {
    let bench = Bench::new();
    let grant = OidcLogin::new("..", "code").into();
    let failed = public(HOST).establish(&bench.sender(), grant).await.unwrap_err();
    assert_eq!(failed.into_error().kind(), ErrorKind::InvalidInput);
}

fn line(request: &Request<Bytes>) -> String {
    format!("{} {}", request.method(), request.uri())
}

#[test]
fn a_filter_is_the_query_and_an_id_stays_in_its_place() {
    let base = "https://api.dev.acme.extrahorizon.io/auth/v2";
    let filter = "?eq(name,a b)&limit(5)";
    let request =
        Operation::<ExtraHorizonOAuth1>::request(&ListTokens::new(), &oauth1(), &held()).unwrap().0;
    assert_eq!(line(&request), format!("GET {base}/oauth1/tokens"));
    let list = ListTokens::new().filter(filter);
    let request = Operation::<ExtraHorizonOAuth2>::request(&list, &oauth2(), &held()).unwrap().0;
    assert_eq!(line(&request), format!("GET {base}/oauth2/tokens?eq(name,a%20b)&limit(5)"));
    let request = ListRefreshTokens::new().filter("x").request(&oauth2(), &held()).unwrap().0;
    assert_eq!(line(&request), format!("GET {base}/oauth2/refreshTokens?x"));
    let request = DeleteRefreshToken::new("../x").request(&oauth2(), &held()).unwrap().0;
    assert_eq!(line(&request), format!("DELETE {base}/oauth2/refreshTokens/..%2Fx"));
    let request = GenerateSsoToken.request(&oauth1(), &held()).unwrap().0;
    assert_eq!(line(&request), format!("POST {base}/oauth1/ssoTokens/generate"));
    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json");
    let empty = Operation::<ExtraHorizonOAuth1>::request(&DeleteToken::new(""), &oauth1(), &held());
    assert_eq!(empty.unwrap_err().kind(), ErrorKind::InvalidInput);
}

fn outcome<P: Provider<Attributes = ExtraHorizonAttributes>, O: Operation<P>>(
    operation: &O,
    provider: &P,
    (status, body): (u16, &str),
) -> Result<(O::Output, Effect), ExchangeError> {
    let (_, context) = operation.request(provider, &held()).unwrap();
    operation.response(&Bench::new().sender(), context, &response(status, body))
}

#[test]
fn a_list_says_which_token_is_the_sessions_own_and_keeps_no_token() {
    let body = r#"{"query":"{}","page":{"total":2,"offset":0,"limit":20},"data":[
        {"id":"own/1","userId":"u","token":"canary","tokenSecret":"canary",
         "creationTimestamp":"2027-01-15T08:00:01.000Z"},{"id":"b","applicationId":"a"},{"x":1}]}"#;
    let (page, effect) =
        outcome::<ExtraHorizonOAuth1, _>(&ListTokens::new(), &oauth1(), (200, body)).unwrap();
    assert_eq!((effect, page.total, page.offset), (Effect::None, Some(2), Some(0)));
    assert!(!format!("{page:?}").contains("canary"));
    let own: Vec<_> = page.records.iter().map(|record| (&*record.id, record.is_own)).collect();
    assert_eq!(own, [("own/1", true), ("b", false)]);
    assert_eq!(page.records[0].created_at, Some(Bench::at(1)));
    let body = r#"{"data":[{"id":"1","accessToken":"acc","refreshTokenId":"r1",
        "expiryTimestamp":"2027-01-15T08:05:00.000Z"},{"id":"own/1","accessToken":"canary"}]}"#;
    let (page, _) =
        outcome::<ExtraHorizonOAuth2, _>(&ListTokens::new(), &oauth2(), (200, body)).unwrap();
    let [first, second] = page.records.as_slice() else { panic!("{page:?}") };
    assert!(first.is_own && !second.is_own && !format!("{page:?}").contains("canary"));
    assert_eq!(first.expires_at, Some(Bench::at(300)));
    let lost =
        outcome::<ExtraHorizonOAuth2, _>(&ListTokens::new(), &oauth2(), (200, "{}")).unwrap_err();
    assert_eq!(lost.class(), Ambiguous);
    let refused =
        outcome::<ExtraHorizonOAuth2, _>(&ListTokens::new(), &oauth2(), (401, r#"{"code":10}"#));
    assert_eq!(refused.unwrap_err().class(), Refused(crate::error::Refusal::NotPermitted));
}

#[test]
fn deleting_ones_own_token_is_known_by_its_id_or_its_record() {
    let done = (200, r#"{"affectedRecords":1}"#);
    let none = (200, r#"{"affectedRecords":0}"#);
    let unknown = (404, r#"{"code":16}"#);
    for (id, response, expected) in [
        ("own/1", done, (1, Effect::SessionDead)),
        ("own/1", none, (0, Effect::None)),
        ("own/1", unknown, (0, Effect::None)),
        ("other", done, (1, Effect::None)),
    ] {
        let deleted =
            outcome::<ExtraHorizonOAuth1, _>(&DeleteToken::new(id), &oauth1(), response).unwrap();
        assert_eq!(deleted, expected, "{id}");
    }
    let list = r#"{"data":[{"id":"1","accessToken":"acc","refreshTokenId":"r1"},
        {"id":"2","accessToken":"old","refreshTokenId":"r2"},{"id":"3"}]}"#;
    let (page, _) =
        outcome::<ExtraHorizonOAuth2, _>(&ListTokens::new(), &oauth2(), (200, list)).unwrap();
    let effects = [Effect::AccessTokenDead, Effect::None, Effect::None];
    for (record, effect) in page.records.iter().zip(effects) {
        let deleted =
            outcome::<ExtraHorizonOAuth2, _>(&DeleteToken::of(record), &oauth2(), done).unwrap();
        assert_eq!(deleted, (1, effect), "{record:?}");
    }
    let refresh = |at: usize| DeleteRefreshToken::of(&page.records[at]);
    let (_, own) = outcome(&refresh(0).unwrap(), &oauth2(), done).unwrap();
    let (_, other) = outcome(&refresh(1).unwrap(), &oauth2(), done).unwrap();
    assert_eq!((own, other), (Effect::RefreshTokenDead, Effect::None));
    assert!(refresh(2).is_none());
    let lost = outcome::<ExtraHorizonOAuth1, _>(&DeleteToken::new("x"), &oauth1(), (200, "{}"))
        .unwrap_err();
    assert_eq!(lost.class(), Ambiguous);
}

#[test]
fn an_sso_token_is_a_grant_of_which_debug_shows_nothing() {
    let body = r#"{"id":"1","ssoToken":"canary","userId":"u","createdByApplicationId":"a",
        "expiryTimestamp":"2027-01-15T08:05:00.000Z"}"#;
    let (sso, effect) = outcome(&GenerateSsoToken, &oauth1(), (200, body)).unwrap();
    assert_eq!((effect, sso.token().expose_secret()), (Effect::None, "canary"));
    assert_eq!((sso.id(), sso.user_id()), (Some("1"), Some("u")));
    assert_eq!(sso.expires_at(), Some(Bench::at(300)));
    assert!(
        !format!("{sso:?} {:?}", ExtraHorizonOAuth1Grant::from(sso.clone())).contains("canary")
    );
    assert_eq!(outcome(&GenerateSsoToken, &oauth1(), (200, "{}")).unwrap_err().class(), Ambiguous);
}
