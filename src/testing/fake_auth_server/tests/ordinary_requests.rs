//! What each request gets when nothing is wrong with the server.

use serde_json::json;

use super::*;

const LOGIN: [(&str, &str); 3] =
    [("grant_type", "password"), ("username", "alice"), ("password", "ok")];

#[tokio::test]
async fn a_login_gives_tokens_that_open_the_resource_until_they_end() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock.clone()).start().await.unwrap();
    let peer = Peer::new(&server);
    let (status, json) = answer(peer.login_request()).await;
    assert_eq!((status, &json["token_type"]), (200, &json!("Bearer")));
    assert_eq!(json["expires_in"], 3600);
    let tokens = Tokens::of(&(status, json));
    assert!(tokens.access.len() >= 32 && tokens.refresh.len() >= 32);

    assert_eq!(peer.visit(&tokens.access).await, 200);
    assert_eq!(peer.visit(&tokens.refresh).await, 401);
    clock.advance(SECOND * 3599).await;
    assert_eq!(peer.visit(&tokens.access).await, 200);
    clock.advance(SECOND).await;
    assert_eq!(peer.visit(&tokens.access).await, 401);
    assert!(server.is_active(&tokens.refresh));
}

#[tokio::test]
async fn a_client_that_acts_for_itself_gets_no_refresh_token() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let (status, json) = peer.token(&[("grant_type", "client_credentials")]).await;
    assert_eq!((status, json.get("refresh_token")), (200, None));
    assert_eq!(peer.visit(json["access_token"].as_str().unwrap()).await, 200);
}

#[tokio::test]
async fn a_code_is_redeemed_once_and_only_with_its_proof_and_place() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    // The example of RFC 7636, appendix B.
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let redeem = async |code: &str, place: &str, verifier: &str| {
        let grant_type = ("grant_type", "authorization_code");
        let form = [("code", code), ("redirect_uri", place), ("code_verifier", verifier)];
        peer.token(&[&[grant_type], &form[..]].concat()).await
    };

    let code = server.authorization_code("alice", "app:/back", Some(challenge));
    for (place, verifier) in [("app:/else", verifier), ("app:/back", "wrong"), ("app:/back", "")] {
        assert_eq!(redeem(&code, place, verifier).await, refusal(400, "invalid_grant"));
    }
    let tokens = Tokens::of(&redeem(&code, "app:/back", verifier).await);
    assert_eq!(peer.introspect(&tokens.access).await["username"], "alice");
    assert_eq!(redeem(&code, "app:/back", verifier).await, refusal(400, "invalid_grant"));
    assert!(!server.is_active(&tokens.access) && !server.is_active(&tokens.refresh));

    let plain = server.authorization_code("alice", "app:/back", None);
    assert_eq!(redeem(&plain, "app:/back", verifier).await, refusal(400, "invalid_grant"));
    Tokens::of(&redeem(&plain, "app:/back", "").await);
}

#[tokio::test]
async fn clients_prove_who_they_are_in_one_way() {
    let builder = FakeAuthServer::builder().client("a:p p", "s%c&r=t").public_client("open");
    let server = builder.start().await.unwrap();
    let peer = Peer::new(&server);
    let by_header = |id, secret| {
        let (name, value) = basic(id, secret);
        peer.login_request().header(name, value)
    };
    let by_body = |more: &[(&str, &str)]| peer.post("/token", &[&LOGIN, more].concat());

    let good = [
        by_header("a:p p", "s%c&r=t"),
        by_body(&[("client_id", "a:p p"), ("client_secret", "s%c&r=t")]),
        by_body(&[("client_id", "open")]),
        by_header("open", ""),
    ];
    for request in good {
        Tokens::of(&answer(request).await);
    }
    let bad = [
        by_header("a:p p", "wrong"),
        by_header("unknown", "s"),
        by_body(&[("client_id", "a:p p")]),
        by_body(&[("client_id", "open"), ("client_secret", "s")]),
        by_body(&[]),
        peer.login_request().header(AUTHORIZATION, "Basic ?"),
    ];
    for request in bad {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], r#"Basic realm="fake""#);
        assert_eq!(response.bytes().await.unwrap(), r#"{"error":"invalid_client"}"#);
    }
    let (name, value) = basic("a:p p", "s%c&r=t");
    let both = by_body(&[("client_secret", "s%c&r=t")]).header(name, value);
    assert_eq!(answer(both).await, refusal(400, "invalid_request"));
    assert_eq!(server.counts().errors["invalid_client"], 6);
}

#[tokio::test]
async fn requests_that_lack_something_get_the_code_of_the_standard() {
    let server = FakeAuthServer::builder().user("alice", "pw").start().await.unwrap();
    let peer = Peer::new(&server);
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "invalid_request"),
        (&[("grant_type", "")], "invalid_request"),
        (&[("grant_type", "magic")], "unsupported_grant_type"),
        (&[("grant_type", "password")], "invalid_request"),
        (&LOGIN, "invalid_grant"),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x")], "invalid_grant"),
        (&[("grant_type", "authorization_code")], "invalid_request"),
        (&[("grant_type", "authorization_code"), ("code", "x")], "invalid_grant"),
        (&[("grant_type", "client_credentials"), ("x", "1"), ("x", "2")], "invalid_request"),
    ];
    for (form, code) in cases {
        assert_eq!(peer.token(form).await, refusal(400, code), "{form:?}");
    }
    let json = [(CONTENT_TYPE, "application/json".parse().unwrap())];
    let json = peer.post("/token", &LOGIN).headers(json.into_iter().collect());
    assert_eq!(answer(json).await, refusal(400, "invalid_request"));
    assert_eq!(answer(peer.post("/revoke", &[])).await, refusal(400, "invalid_request"));
    assert_eq!(answer(peer.post("/introspect", &[])).await, refusal(400, "invalid_request"));
    let get = peer.http.get(format!("{}/token", server.url()));
    assert_eq!(get.send().await.unwrap().status(), 405);
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_its_grant_and_an_access_token_itself_alone() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let tokens = peer.login().await;
    let revoke = async |token, client| {
        answer(peer.post("/revoke", &[("token", token), ("client_id", client)])).await
    };
    assert_eq!(revoke("unknown", "").await, (200, json!({})));
    assert_eq!(revoke(&tokens.access, "x").await, refusal(400, "unauthorized_client"));
    assert_eq!(revoke(&tokens.access, "").await, (200, json!({})));
    assert!(!server.is_active(&tokens.access) && server.is_active(&tokens.refresh));

    let tokens = Tokens::of(&peer.refresh(&tokens.refresh).await);
    assert_eq!(revoke(&tokens.refresh, "").await, (200, json!({})));
    assert!(!server.is_active(&tokens.access) && !server.is_active(&tokens.refresh));
    assert_eq!(revoke(&tokens.refresh, "").await, (200, json!({})));
    assert_eq!((server.grants_revoked(), server.live_grants()), (1, 0));
}

#[tokio::test]
async fn introspection_tells_what_a_live_token_is() {
    let clock = ManualClock::new();
    let server = FakeAuthServer::builder().clock(clock).start().await.unwrap();
    let peer = Peer::new(&server);
    let form = [("client_id", "app"), ("scope", "read write")];
    let tokens = Tokens::of(&peer.token(&[&LOGIN, &form[..]].concat()).await);
    let expected = json!({
        "active": true, "client_id": "app", "username": "alice", "scope": "read write",
        "token_type": "Bearer", "exp": ManualClock::START_WALL.as_secs() + 3600,
    });
    assert_eq!(peer.introspect(&tokens.access).await, expected);
    let refresh = peer.introspect(&tokens.refresh).await;
    assert_eq!((&refresh["active"], refresh.get("exp")), (&json!(true), None));
    assert_eq!(peer.introspect("unknown").await, json!({ "active": false }));
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_and_not_widen_it() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    let tokens = Tokens::of(&peer.token(&[&LOGIN[..], &[("scope", "a b")]].concat()).await);
    let refresh = async |scope| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", &tokens.refresh)];
        peer.token(&[&form[..], &[("scope", scope)]].concat()).await
    };
    assert_eq!(refresh("a c").await, refusal(400, "invalid_scope"));
    assert_eq!(refresh("b").await.1["scope"], "b");
}

#[tokio::test]
async fn the_metadata_name_the_endpoints_and_the_issuer() {
    let read = async |server: &FakeAuthServer| {
        let url = format!("{}/.well-known/oauth-authorization-server", server.url());
        answer(Peer::new(server).http.get(url)).await
    };
    let server = FakeAuthServer::start().await.unwrap();
    let (status, json) = read(&server).await;
    assert_eq!((status, &json["issuer"]), (200, &json!(server.url())));
    assert_eq!(json["token_endpoint"], format!("{}/token", server.url()));
    assert_eq!(server.count(Endpoint::Discovery), 1);

    let liar = FakeAuthServer::builder().issuer("https://else.example").start().await.unwrap();
    assert_eq!(read(&liar).await.1["issuer"], "https://else.example");
    assert_eq!(liar.issuer(), "https://else.example");
}

#[tokio::test]
async fn expires_in_says_what_the_test_wants() {
    let server = FakeAuthServer::start().await.unwrap();
    let peer = Peer::new(&server);
    for text in ["0", "-1", "299.999", "\"3600\"", "1e400", "null", "99999999999999999999"] {
        server.set_expires_in(ExpiresIn::json(text));
        let body = peer.login_request().send().await.unwrap().text().await.unwrap();
        assert!(body.ends_with(&format!(",\"expires_in\":{text}}}")), "{body}");
    }
    server.set_expires_in(ExpiresIn::Missing);
    assert_eq!(answer(peer.login_request()).await.1.get("expires_in"), None);
    server.set_expires_in(ExpiresIn::Honest);
    assert_eq!(answer(peer.login_request()).await.1["expires_in"], 3600);
}

#[tokio::test]
async fn tokens_carry_the_prefix_and_are_never_the_same() {
    let server = FakeAuthServer::builder().token_prefix("canary-").start().await.unwrap();
    let peer = Peer::new(&server);
    let (first, second) = (peer.login().await, peer.login().await);
    let code = server.authorization_code("alice", "app:/back", None);
    let all = [&first.access, &first.refresh, &second.access, &second.refresh, &code];
    assert!(all.iter().all(|token| token.starts_with("canary-")), "{all:?}");
    assert_eq!(std::collections::HashSet::from(all).len(), all.len());
    assert!(!format!("{server:?}").contains("canary"));
}
