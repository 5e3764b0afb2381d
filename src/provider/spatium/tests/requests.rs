//! The requests.

use super::*;
use crate::key::SessionKey;
use crate::provider::ClientOperation as _;
use crate::provider::FailureClass;
use crate::provider::erased::Adapter;

/// A request as the service saw it.
struct Seen {
    line: String,
    head: String,
    id: Uuid,
    body: Value,
}

impl Seen {
    fn new(request: &str) -> Self {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(value("accept: "), "application/json");
        assert_eq!(value("content-type: "), "application/json");
        let id = Uuid::try_parse(value("request-id: ")).unwrap();
        assert_eq!(id.get_version_num(), 4);
        let body = serde_json::from_str(body).unwrap();
        let line = head.lines().next().unwrap().to_owned();
        Self { line, head: head.to_owned(), id, body }
    }
}

/// The request that establishes a session with this grant.
async fn granting(set: impl FnOnce(Spatium) -> Spatium, grant: impl Into<SpatiumGrant>) -> Seen {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let spatium = set(Spatium::new(&peer.url("/auth/v1/")).unwrap().permissions(["read"]));
    let (sender, body) =
        (bench.sender(), json!({ "data": { "permissionToken": "t" } }).to_string());
    let (issued, seen) =
        join(spatium.establish(&sender, grant.into()), peer.json(200, &body)).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    Seen::new(&seen)
}

fn factor(token: &str) -> SecurityToken {
    SecurityToken::new(token)
}

#[tokio::test]
async fn security_tokens_go_with_the_sessions_id_and_its_permissions() {
    let seen = granting(|spatium| spatium, factor("s1")).await;
    assert_eq!(seen.line, "POST /auth/v1/api/permission/issue-by-factors HTTP/1.1");
    let expected =
        json!({ "tokenId": "device", "permissions": ["read"], "securityTokens": ["s1"] });
    assert_eq!(seen.body, expected);
    assert!(!seen.head.contains("authorization:"), "{}", seen.head);
    let two = SecurityTokens::new(factor("s1")).and(factor("s2")).permissions(["secret", "x"]);
    let seen = granting(|spatium| spatium, two).await;
    assert_eq!(seen.body["securityTokens"], json!(["s1", "s2"]));
    assert_eq!(seen.body["permissions"], json!(["secret", "x"]));
}

#[tokio::test]
async fn a_key_goes_with_the_sessions_id_and_its_permissions() {
    let seen = granting(|spatium| spatium, MerchantKey::new("a+/=")).await;
    assert_eq!(seen.line, "POST /auth/v1/api/permission/issue-by-key HTTP/1.1");
    let expected = json!({ "tokenId": "device", "permissions": ["read"], "merchantKey": "a+/=" });
    assert_eq!(seen.body, expected);
}

#[tokio::test]
async fn credentials_are_two_requests_with_an_id_each() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let spatium = Spatium::new(&peer.url("")).unwrap();
    let sender = bench.sender();
    let server = async {
        let body = json!({ "data": { "securityToken": { "securityToken": "s1" } } }).to_string();
        let first = Seen::new(&peer.json(200, &body).await);
        let body = json!({ "data": { "permissionToken": "t" } }).to_string();
        (first, Seen::new(&peer.json(200, &body).await))
    };
    let grant = SpatiumCredentials::new("ada", "p\"w").permissions(["all"]);
    let (issued, (first, second)) = join(spatium.establish(&sender, grant.into()), server).await;
    assert!(matches!(issued.unwrap(), Issued::Tokens(_)));
    assert_eq!(first.line, "POST /api/security-factor/credentials HTTP/1.1");
    assert_eq!(first.body, json!({ "username": "ada", "password": "p\"w" }));
    assert_eq!(second.body["securityTokens"], json!(["s1"]));
    assert_eq!(second.body["permissions"], json!(["all"]));
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_refresh_sends_its_token_and_the_sessions_id_if_that_is_wanted() {
    for (set, expected) in [
        (false, json!({ "permissionRefreshToken": "r\"canary" })),
        (true, json!({ "permissionRefreshToken": "r\"canary", "tokenId": "device" })),
    ] {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let spatium = Spatium::new(&peer.url("")).unwrap().refresh_names_session(set);
        let (sender, held) = (bench.sender(), held());
        let body = json!({ "data": { "permissionToken": "t" } }).to_string();
        let (tokens, seen) = join(
            spatium.refresh(&sender, held.refresh_token().unwrap(), &held),
            peer.json(200, &body),
        )
        .await;
        assert_eq!(tokens.unwrap().attributes().permissions, ["read"]);
        let seen = Seen::new(&seen);
        assert_eq!(seen.line, "POST /api/permission/refresh HTTP/1.1");
        assert_eq!(seen.body, expected);
    }
}

#[tokio::test]
async fn paths_and_names_are_those_that_are_configured() {
    let set = |spatium: Spatium| {
        let spatium = spatium.token_id_field("id").permissions_field("rights");
        let spatium = spatium.security_tokens_field("factors").merchant_key_field("key");
        let spatium = spatium.establish_path("/e").unwrap().issue_by_key_path("/k").unwrap();
        spatium.token_ids(TokenIds::UuidV5)
    };
    let seen = granting(set, factor("s1")).await;
    assert_eq!(seen.line, "POST /auth/v1/e HTTP/1.1");
    let id = TokenIds::UuidV5.of(&SessionKey::new("tenant", "device").unwrap());
    assert_eq!(seen.body, json!({ "id": id, "rights": ["read"], "factors": ["s1"] }));
    let seen = granting(set, MerchantKey::new("k1")).await;
    assert_eq!((&*seen.line, &seen.body["key"]), ("POST /auth/v1/k HTTP/1.1", &json!("k1")));

    let (bench, peer) = (Bench::new(), Peer::start().await);
    let spatium = Spatium::new(&peer.url("")).unwrap().refresh_token_field("token");
    let spatium = spatium.refresh_path("/r").unwrap().credentials_path("/c").unwrap();
    let (sender, held) = (bench.sender(), held());
    let body = json!({ "data": { "permissionToken": "t" } }).to_string();
    let (_, seen) =
        join(spatium.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, &body))
            .await;
    let seen = Seen::new(&seen);
    assert_eq!((&*seen.line, seen.body), ("POST /r HTTP/1.1", json!({ "token": "r\"canary" })));
    let (asked, _) = CredentialsFactor::new("ada", "pw").request(&spatium).unwrap();
    assert_eq!(asked.uri().path(), "/c");
}

#[test]
fn a_uuid_of_a_session_is_always_the_same_and_no_two_sessions_share_one() {
    let id = |tenant: &str, token_id: &str| {
        TokenIds::UuidV5.of(&SessionKey::new(tenant, token_id).unwrap())
    };
    // The server stores it, so it must never change.
    assert_eq!(id("tenant", "device"), "b89ee082-8c8a-5dc0-a92c-5bb685d32c54");
    assert_eq!(Uuid::try_parse(&id("tenant", "device")).unwrap().get_version_num(), 5);
    let others = [("tenant", "device2"), ("tenant2", "device"), ("tenantd", "evice")];
    for (tenant, token_id) in others {
        assert_ne!(id(tenant, token_id), id("tenant", "device"));
    }
    let verbatim = TokenIds::Verbatim.of(&SessionKey::new("tenant", "device").unwrap());
    assert_eq!(verbatim, "device");
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_sent() {
    let bench = Bench::new();
    let none: SecurityTokens = [].into_iter().collect();
    let failed = spatium().establish(&bench.sender(), none.into()).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
    assert_eq!(failed.into_error().kind(), ErrorKind::InvalidInput);
    let held = Tokens::new(SpatiumAttributes::default()).with_access_token("a", None);
    let adapter = Adapter::new(spatium());
    let failed = adapter.refresh_typed(&bench.sender(), held).await.unwrap_err();
    assert_eq!(failed.class(), FailureClass::NotSent);
}

#[test]
fn urls_paths_and_statuses_that_cannot_be_are_refused() {
    for url in ["cloud.example", "ftp://cloud.example", "https://cloud.example/?a=b", ""] {
        assert_eq!(Spatium::new(url).unwrap_err().kind(), ErrorKind::InvalidInput, "{url}");
    }
    for path in ["", "api", "/a?b", "/a#b", "/a b", "//é", "/a\\b"] {
        assert_eq!(spatium().refresh_path(path).unwrap_err().kind(), ErrorKind::InvalidInput);
        spatium().establish_path(path).unwrap_err();
        spatium().credentials_path(path).unwrap_err();
        spatium().issue_by_key_path(path).unwrap_err();
    }
    for status in [0, 200, 302, 408, 425, 429, 500, 503, 1000] {
        let refused = spatium().terminal_statuses([400, status]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{status}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let spatium = spatium().merchant_key(MerchantKey::new("canary"));
    let grants: [SpatiumGrant; 3] = [
        factor("canary").into(),
        SpatiumCredentials::new("ada", "canary").into(),
        MerchantKey::new("canary").into(),
    ];
    let factor = CredentialsFactor::new("ada", "canary");
    assert!(!format!("{spatium:?} {grants:?} {factor:?}").contains("canary"));
}
