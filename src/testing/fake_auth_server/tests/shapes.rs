//! Servers that differ from the standard, and what they refuse.

use std::collections::BTreeMap;

use reqwest::RequestBuilder;
use serde_json::{Map, json};
use url::Url;

use super::*;
use crate::provider::oauth2::{
    ClientAuthentication, CredentialHeaders, GrantTypes, LifetimeUnit, Pkce, RequestBody,
};

/// They tell an escaped Basic header from one that is not.
const ID: &str = "a%2Bp p";
const SECRET: &str = "s%2Bc&r=t:";

const BODIES: [RequestBody; 3] = [RequestBody::Form, RequestBody::Json, RequestBody::Query];

type Pairs<'a> = Vec<(&'a str, &'a str)>;

fn methods() -> [ClientAuthentication; 6] {
    let headers = CredentialHeaders {
        client_id: "x-client-id".to_owned(),
        client_secret: "x-client-secret".to_owned(),
    };
    [
        ClientAuthentication::None,
        ClientAuthentication::Basic,
        ClientAuthentication::BasicUnescaped,
        ClientAuthentication::Post,
        ClientAuthentication::Query,
        ClientAuthentication::Header(headers),
    ]
}

async fn server_of(shape: FakeServerShape) -> FakeAuthServer {
    let builder = FakeAuthServer::builder().shape(shape).client(ID, SECRET).public_client("open");
    builder.start().await.unwrap()
}

fn named(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Peer<'_> {
    /// A request that carries its fields in this way.
    fn carry(&self, body: RequestBody, path: &str, fields: Pairs<'_>) -> RequestBuilder {
        self.carry_with(body, path, fields, Vec::new())
    }

    fn carry_with<'a>(
        &self,
        body: RequestBody,
        path: &str,
        fields: Pairs<'a>,
        mut query: Pairs<'a>,
    ) -> RequestBuilder {
        let request = |query: Pairs<'_>| {
            let mut url = Url::parse(self.server.url()).unwrap().join(path).unwrap();
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            self.http.post(url)
        };
        match body {
            RequestBody::Form => request(query)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Serializer::new(String::new()).extend_pairs(fields).finish()),
            RequestBody::Json => request(query)
                .header(CONTENT_TYPE, "application/json")
                .body(json!(BTreeMap::from_iter(fields)).to_string()),
            RequestBody::Query => {
                query.extend(fields);
                request(query)
            }
        }
    }

    /// A login with a password, by a client that authenticates in this way.
    fn login_by(&self, body: RequestBody, method: &ClientAuthentication) -> RequestBuilder {
        let mut fields = vec![("grant_type", "password"), ("username", "ada"), ("password", "ok")];
        let credentials = [("client_id", ID), ("client_secret", SECRET)];
        let mut query = Vec::new();
        let mut headers = Vec::new();
        match method {
            ClientAuthentication::None => fields.push(("client_id", "open")),
            ClientAuthentication::Post => fields.extend(credentials),
            ClientAuthentication::Query => query.extend(credentials),
            ClientAuthentication::Basic => headers.push(basic(ID, SECRET)),
            ClientAuthentication::BasicUnescaped => {
                let pair = STANDARD.encode(format!("{ID}:{SECRET}"));
                headers.push((AUTHORIZATION, format!("Basic {pair}")));
            }
            ClientAuthentication::PrivateKeyJwt(_) => panic!("`methods` has no keys"),
            ClientAuthentication::Header(names) => {
                for (name, value) in [(&names.client_id, ID), (&names.client_secret, SECRET)] {
                    headers.push((name.parse().unwrap(), value.to_owned()));
                }
            }
        }
        let request = self.carry_with(body, "/token", fields, query);
        headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

/// Whether the credentials are in the same place by both methods.
fn same(body: RequestBody, one: &ClientAuthentication, other: &ClientAuthentication) -> bool {
    let in_fields = |method: &ClientAuthentication| {
        *method == ClientAuthentication::Post
            || *method == ClientAuthentication::Query && body == RequestBody::Query
    };
    one == other || in_fields(one) && in_fields(other)
}

#[tokio::test]
async fn a_client_is_served_only_with_the_body_and_the_authentication_of_the_shape() {
    for (request_body, method) in BODIES.into_iter().flat_map(|body| methods().map(|m| (body, m))) {
        let client_authentication = Some(method.clone());
        let shape =
            FakeServerShape { request_body, client_authentication, ..FakeServerShape::default() };
        let server = server_of(shape).await;
        let peer = Peer::new(&server);
        let mut granted = 0;
        for (body, other) in BODIES.into_iter().flat_map(|body| methods().map(|m| (body, m))) {
            let fits = body == request_body && same(body, &other, &method);
            let (status, json) = answer(peer.login_by(body, &other)).await;
            let case = format!("{request_body:?} {method:?} got {body:?} {other:?}: {json}");
            assert_eq!(status == 200, fits, "{case}");
            let code = json["error"].as_str();
            assert!(fits || matches!(code, Some("invalid_request" | "invalid_client")), "{case}");
            granted += u64::from(fits);
        }
        let counts = server.counts();
        assert_eq!((counts.password.granted, counts.token.granted), (granted, granted));
        assert_eq!(counts.errors.values().sum::<u64>(), 18 - granted);
    }
}

#[tokio::test]
async fn credentials_in_two_places_are_refused() {
    let client_authentication = Some(ClientAuthentication::Post);
    let shape = FakeServerShape { client_authentication, ..FakeServerShape::default() };
    let server = server_of(shape).await;
    let peer = Peer::new(&server);
    let (name, value) = basic(ID, SECRET);
    let login = || peer.login_by(RequestBody::Form, &ClientAuthentication::Post);
    assert_eq!(answer(login().header(name, value)).await, refusal(401, "invalid_client"));
    let fields = vec![("client_id", ID), ("client_secret", SECRET), ("grant_type", "password")];
    let in_query = peer.carry_with(RequestBody::Form, "/token", fields, vec![("client_id", ID)]);
    assert_eq!(answer(in_query).await, refusal(401, "invalid_client"));
    Tokens::of(&answer(login()).await);
}

/// A server that has its own word for everything in its requests.
fn own_words() -> FakeServerShape {
    FakeServerShape {
        client_authentication: Some(ClientAuthentication::Post),
        client_id_parameter: "app_key".to_owned(),
        client_secret_parameter: "app_secret".to_owned(),
        grant_types: GrantTypes {
            authorization_code: Some("code".to_owned()),
            refresh_token: Some("renew".to_owned()),
            ..GrantTypes::default()
        },
        code_parameter: "auth_code".to_owned(),
        token_parameters: named(&[("audience", "api")]),
        token_headers: named(&[("accept", "application/json")]),
        scope_in_token_request: Some(true),
        refresh_path: Some("/refresh".to_owned()),
        refresh_parameters: named(&[("type", "app")]),
        refresh_headers: named(&[("x-version", "2")]),
        scope_in_refresh: Some(false),
        scope_separator: ",".to_owned(),
        ..FakeServerShape::default()
    }
}

#[tokio::test]
async fn a_token_request_that_lacks_a_part_of_the_shape_is_refused_and_counted() {
    let server = server_of(own_words()).await;
    let peer = Peer::new(&server);
    let code = || server.authorization_code("ada", "app:/back", None);
    let send = async |path: &str, fields: Pairs<'_>, header: (&str, &str)| {
        let request = peer.carry(RequestBody::Form, path, fields);
        answer(request.header(header.0, header.1)).await
    };
    let accept = ("accept", "application/json");
    let first = code();
    let grant = vec![
        ("grant_type", "code"),
        ("app_key", ID),
        ("app_secret", SECRET),
        ("auth_code", &first),
        ("audience", "api"),
        ("scope", "read,write"),
        ("redirect_uri", "app:/back"),
    ];
    for lost in 0..grant.len() - 1 {
        let mut fields = grant.clone();
        fields.remove(lost);
        let (status, json) = send("/token", fields, accept).await;
        assert!(status >= 400, "without {:?}: {json}", grant[lost]);
    }
    let wrong = [("scope", "read write"), ("audience", "other"), ("grant_type", "refresh_token")];
    for (name, value) in wrong {
        let fields = grant.iter().map(|pair| if pair.0 == name { (name, value) } else { *pair });
        assert_eq!(send("/token", fields.collect(), accept).await.0, 400, "{name}={value}");
    }
    let invalid = refusal(400, "invalid_request");
    assert_eq!(send("/token", grant.clone(), ("accept", "text/html")).await, invalid);
    assert_eq!(send("/refresh", grant.clone(), accept).await, invalid);
    let (status, json) = send("/token", grant.clone(), accept).await;
    assert_eq!((status, &json["scope"]), (200, &json!("read,write")));

    let token = json["refresh_token"].as_str().unwrap();
    let mut refresh = vec![
        ("grant_type", "renew"),
        ("app_key", ID),
        ("app_secret", SECRET),
        ("refresh_token", token),
        ("type", "app"),
    ];
    let version = ("x-version", "2");
    assert_eq!(send("/token", refresh.clone(), version).await, invalid);
    assert_eq!(send("/refresh", refresh.clone(), accept).await, invalid);
    assert_eq!(send("/refresh", refresh[..4].to_vec(), version).await, invalid);
    refresh.push(("scope", "read"));
    assert_eq!(send("/refresh", refresh.clone(), version).await, invalid);
    refresh.pop();
    Tokens::of(&send("/refresh", refresh, version).await);
    let counts = server.counts();
    assert_eq!((counts.authorization_code.granted, counts.refreshes), (1, 1));
    assert_eq!(counts.token.refused, counts.errors.values().sum::<u64>());
}

/// The parameters with which the browser comes back.
async fn login(peer: &Peer<'_>, path: &str, more: &[(&str, &str)]) -> (u16, Map<String, Value>) {
    let usual = [("response_type", "code"), ("client_id", "open"), ("redirect_uri", "app:/back")];
    let base = format!("{}{path}", peer.server.url());
    let url = Url::parse_with_params(&base, usual.iter().chain(more)).unwrap();
    let response = peer.http.get(url.as_str()).send().await.unwrap();
    let back = response.headers().get("location").map(|back| back.to_str().unwrap().to_owned());
    let back = back.map(|back| Url::parse(&back).unwrap());
    let fields = back.iter().flat_map(Url::query_pairs);
    let fields = fields.map(|(name, value)| (name.into_owned(), value.as_ref().into()));
    (response.status().as_u16(), fields.collect())
}

#[tokio::test]
async fn an_authorization_request_has_the_parameters_and_the_challenge_of_the_shape() {
    let s256: &[_] = &[("code_challenge", "x"), ("code_challenge_method", "S256")];
    let plain: &[_] = &[("code_challenge", "x"), ("code_challenge_method", "plain")];
    let methods = [(Some(Pkce::Off), 0), (Some(Pkce::S256), 1), (Some(Pkce::Plain), 2)];
    for (pkce, fitting) in methods {
        let authorization_parameters = named(&[("access_type", "offline")]);
        let server = server_of(FakeServerShape {
            pkce,
            authorization_parameters,
            ..FakeServerShape::default()
        });
        let server = server.await;
        let peer = Peer::new(&server);
        for (index, challenge) in [&[], s256, plain].into_iter().enumerate() {
            let (_, back) = login(&peer, "/authorize", challenge).await;
            assert_eq!(back["error"], "invalid_request", "the parameter is missing");
            let (_, back) =
                login(&peer, "/authorize", &[challenge, &[("access_type", "offline")]].concat())
                    .await;
            assert_eq!(back.contains_key("code"), index == fitting, "{pkce:?} {challenge:?}");
        }
        assert_eq!(server.counts().authorize.refused, 5);
    }
}

#[tokio::test]
async fn a_code_with_a_plain_challenge_is_redeemed_with_its_verifier() {
    let shape = FakeServerShape { pkce: Some(Pkce::Plain), ..FakeServerShape::default() };
    let server = server_of(shape).await;
    let peer = Peer::new(&server);
    let (_, back) = login(&peer, "/authorize", &[("code_challenge", "plain text")]).await;
    let redeem = async |verifier| {
        peer.token(&[
            ("grant_type", "authorization_code"),
            ("client_id", "open"),
            ("redirect_uri", "app:/back"),
            ("code", back["code"].as_str().unwrap()),
            ("code_verifier", verifier),
        ])
        .await
    };
    assert_eq!(redeem("another").await, refusal(400, "invalid_grant"));
    Tokens::of(&redeem("plain text").await);
}

#[tokio::test]
async fn the_page_takes_no_parameters_and_the_callback_has_those_of_the_shape() {
    let server = server_of(FakeServerShape {
        authorization_page: true,
        callback_code_parameter: "auth_code".to_owned(),
        callback_issuer: false,
        callback_parameters: named(&[("company", "7")]),
        ..FakeServerShape::default()
    });
    let server = server.await;
    let peer = Peer::new(&server);
    assert_eq!(login(&peer, "/login", &[]).await.0, 400);
    let page = peer.http.get(format!("{}/login", server.url())).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let (_, mut back) = login(&peer, "/authorize", &[]).await;
    assert!(back.remove("auth_code").is_some());
    assert_eq!(back, json!({ "company": "7" }).as_object().unwrap().clone());
    server.set_shape(FakeServerShape::default());
    assert_eq!(login(&peer, "/login", &[]).await.0, 404);
    assert!(login(&peer, "/authorize", &[]).await.1.contains_key("iss"));
}

#[tokio::test]
async fn a_token_response_is_laid_out_as_the_shape_says() {
    let members = json!({ "user": { "id": "U-1" }, "ok": true, "team": "T" });
    let usual = FakeServerShape {
        response_members: members.as_object().unwrap().clone(),
        lifetime_unit: LifetimeUnit::Milliseconds,
        ..FakeServerShape::default()
    };
    let nested = FakeServerShape { response_under: Some("user".to_owned()), ..usual.clone() };
    let form = FakeServerShape {
        form_response: true,
        lifetime_unit: LifetimeUnit::Minutes,
        ..usual.clone()
    };
    let server = FakeAuthServer::builder().shape(usual).start().await.unwrap();
    let peer = Peer::new(&server);
    let (_, json) = answer(peer.login_request()).await;
    assert_eq!((&json["user"]["id"], &json["expires_in"]), (&json!("U-1"), &json!(3_600_000)));
    assert!(json["access_token"].is_string() && json["ok"] == true);

    server.set_shape(nested);
    let (_, json) = answer(peer.login_request()).await;
    assert_eq!((&json["user"]["id"], &json["team"]), (&json!("U-1"), &json!("T")));
    assert_eq!(json["user"]["expires_in"], 3_600_000);
    assert!(json["user"]["access_token"].is_string() && json.get("access_token").is_none());

    server.set_shape(form);
    let response = peer.login_request().send().await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/x-www-form-urlencoded");
    let text = response.text().await.unwrap();
    let fields: BTreeMap<_, _> = url::form_urlencoded::parse(text.as_bytes()).collect();
    assert_eq!((&*fields["expires_in"], &*fields["ok"], &*fields["team"]), ("60", "true", "T"));
    assert!(server.is_active(&fields["access_token"]) && !fields.contains_key("user"));
}
