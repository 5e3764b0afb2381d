//! Requests, and what is refused before it is sent.

use http::Request;

use super::*;
use crate::error::ErrorKind;
use crate::provider::erased::Adapter;
use crate::provider::{Credential, Operation};

#[tokio::test]
async fn a_password_buys_a_code_and_the_code_tokens() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, client) = (bench.sender(), at(&peer));
    let server = async {
        let first = peer.json(200, r#"{"code":"c-1"}"#).await;
        (first, peer.json(200, GOOD).await)
    };
    let grant = IOfficePassword::new("ada@example.com", "p w").into();
    let (issued, (first, second)) = join(client.establish(&sender, grant), server).await;
    Seen::new(&first).check(
        "POST /external/api/oauth2/auth",
        &[
            ("x-auth-username", "ada@example.com"),
            ("x-auth-password", "p w"),
            ("x-client-id", "app"),
        ],
    );
    Seen::new(&second).check(
        "POST /external/api/oauth2/token",
        &[
            ("x-grant-type", "authorization_code"),
            ("x-redirect-uri", CALLBACK),
            ("x-client-id", "app"),
            ("x-scope", "email"),
            ("x-auth-code", "c-1"),
        ],
    );
    let Issued::Tokens(tokens) = issued.unwrap();
    assert_eq!(tokens.access_expires_at(), Some(Bench::at(60)));
    assert_eq!(tokens.attributes().scope.as_deref(), Some("email"));
}

#[tokio::test]
async fn a_refresh_repeats_the_scope_that_the_session_began_with_and_keeps_the_attributes() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, held) = (bench.sender(), held());
    let client = at(&peer).scope("new").unwrap();
    let name = HeaderName::from_static("x-client-secret");
    let client = client.client_secret_header(name, "s-1").unwrap();
    let (tokens, seen) =
        join(client.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, GOOD))
            .await;
    Seen::new(&seen).check(
        "POST /external/api/oauth2/token",
        &[
            ("x-grant-type", "refresh_token"),
            ("x-redirect-uri", CALLBACK),
            ("x-client-id", "app"),
            ("x-scope", "old"),
            ("x-refresh-token", "rt/+="),
            ("x-client-secret", "s-1"),
        ],
    );
    assert_eq!(tokens.unwrap().attributes(), held.attributes());
    let adopted = Tokens::new(IOfficeAttributes::default()).with_refresh_token("rt", None);
    let (_, seen) = join(
        client.refresh(&sender, adopted.refresh_token().unwrap(), &adopted),
        peer.json(200, GOOD),
    )
    .await;
    assert!(Seen::new(&seen).headers.contains(&("x-scope".to_owned(), "new".to_owned())));
}

#[tokio::test]
async fn both_tokens_are_revoked_and_one_that_the_server_does_not_know_is_done() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, held) = (bench.sender(), held());
    for (method, client) in [("GET", at(&peer)), ("POST", at(&peer).revoke_method(Method::POST))] {
        let server = async {
            let first = peer.json(400, r#"{"error":"gone","errorDescription":"canary"}"#).await;
            (first, peer.json(204, "").await)
        };
        let (revoked, (first, second)) = join(client.revoke(&sender, &held), server).await;
        assert_eq!(revoked.unwrap(), Revoked::AtServer);
        for (seen, token) in [(first, "rt/+="), (second, "at/+=")] {
            let line = format!("{method} /external/api/oauth2/revoke HTTP/1.1\r\n");
            assert!(seen.starts_with(&line), "{seen}");
            assert!(seen.contains(&format!("x-token: {token}\r\n")), "{seen}");
        }
    }
    let nothing = Tokens::new(IOfficeAttributes::default());
    let revoked = client().revoke(&sender, &nothing).await.unwrap();
    assert_eq!(revoked, Revoked::NotSupported);
}

#[tokio::test]
async fn what_no_header_carries_as_it_is_is_refused_before_anything_is_sent() {
    let (bench, client) = (Bench::new(), client());
    let odd = [
        "",
        " canary",
        "canary ",
        "can\nary",
        "can\r\nx-scope: y",
        "can\0ary",
        "\tcanary",
        "canary\u{7f}",
        "canary€",
    ];
    let passwords = odd.map(|text| IOfficePassword::new("ada", text).into());
    let names = odd.map(|text| IOfficePassword::new(text, "canary").into());
    let codes = ["", "can ary ", "can\nary", "canaryé"].map(|text| IOfficeCode::new(text).into());
    let scoped: [IOfficeGrant; 1] = [IOfficeCode::new("c").scope("can\nary").into()];
    let grants = passwords.into_iter().chain(names).chain(codes).chain(scoped);
    for grant in grants {
        let failed = client.establish(&bench.sender(), grant).await.unwrap_err();
        assert_eq!(failed.class(), FailureClass::NotSent);
        assert!(!shown(&failed).contains("canary"));
        assert_eq!(failed.into_error().kind(), ErrorKind::InvalidInput);
    }
    for refresh in [None, Some("can\nary")] {
        let held = Tokens::new(IOfficeAttributes::default());
        let held = refresh.map_or(held.clone(), |token| held.with_refresh_token(token, None));
        let adapter = Adapter::new(client.clone());
        let failed = adapter.refresh_typed(&bench.sender(), held).await.unwrap_err();
        assert_eq!(failed.into_error().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_password_that_is_not_ascii_goes_as_a_browser_sends_it_or_as_utf8() {
    let grant = IOfficePassword::new("jörg", "pässword");
    let header = |client: IOffice, name: &str| {
        let request = client.code_request(&grant).unwrap();
        let value = request.headers()[name].clone();
        assert!(value.is_sensitive());
        value.as_bytes().to_vec()
    };
    assert_eq!(header(client(), "x-auth-password"), b"p\xe4ssword");
    assert_eq!(header(client(), "x-auth-username"), b"j\xf6rg");
    assert_eq!(header(client().utf8_credentials(), "x-auth-password"), "pässword".as_bytes());
    let euro = IOfficePassword::new("ada", "5€");
    client().code_request(&euro).unwrap_err();
    client().utf8_credentials().code_request(&euro).unwrap();
}

#[test]
fn settings_that_cannot_serve_are_refused_where_they_are_made() {
    for site in [
        "acme.example",
        "ftp://acme.example",
        "https://acme.example/?tenant=1",
        "https://acme.example/#x",
        "https://user@acme.example",
    ] {
        let error = IOffice::new(site, "app", CALLBACK).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{site}");
    }
    for (id, uri) in [
        ("", CALLBACK),
        ("a\nb", CALLBACK),
        ("ä", CALLBACK),
        ("app", "callback"),
        ("app", "https://app.example/#f"),
        ("app", "https://app.example/?code=1"),
        ("app", "https://app.example/?appCode=1"),
        ("app", "https://app.example/é"),
        ("app", "https://app.example/\n"),
    ] {
        let error = IOffice::new("https://acme.example", id, uri).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{id} {uri}");
    }
    for scope in ["", " email", "a\tb", "é"] {
        assert_eq!(client().scope(scope).unwrap_err().kind(), ErrorKind::InvalidInput);
        let name = HeaderName::from_static("x-client-secret");
        client().client_secret_header(name, scope).unwrap_err();
    }
}

#[test]
fn a_site_may_be_below_a_path_and_is_the_authority_with_it() {
    let client = client();
    assert_eq!(client.authority_url().as_str(), "https://acme.example/office");
    let request = client.token_request(("refresh_token", "x-refresh-token"), &"t".into(), "s");
    let uri = request.unwrap().uri().to_string();
    assert_eq!(uri, "https://acme.example/office/external/api/oauth2/token");
}

#[test]
fn nothing_secret_is_shown() {
    let name = HeaderName::from_static("x-client-secret");
    let client = client().client_secret_header(name, "canary").unwrap();
    let grants: [IOfficeGrant; 2] = [
        IOfficePassword::new("canary", "canary").into(),
        IOfficeCode::new("canary").app_code("a").into(),
    ];
    let request = client.code_request(&IOfficePassword::new("canary", "canary")).unwrap();
    let token = client.token_request(("x", "x-auth-code"), &"canary".into(), "s").unwrap();
    let about = client.request_with_token(Method::GET, "revoke", &"canary".into()).unwrap();
    let shown = format!("{client:?} {grants:?} {request:?} {token:?} {about:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

fn authorized(client: &IOffice, token: &str, uri: &str) -> Result<Request<()>> {
    let access = crate::token::Access { secret: token.into(), expires_at: None };
    let placement = client.placement();
    let token = crate::token::PermissionToken::new(&access, placement.as_ref(), (1, 1));
    assert_eq!(token.header().is_some(), placement.is_some());
    let (mut parts, ()) = Request::get(uri).body(()).unwrap().into_parts();
    let signing = Signing::new(&token, None, Bench::at(0));
    client.authorize(&signing, &mut parts)?;
    Ok(Request::from_parts(parts, ()))
}

#[test]
fn a_token_goes_in_the_vendors_header() {
    let request = authorized(&client(), "at-1", "https://acme.example/me").unwrap();
    let value = &request.headers()["x-access-token"];
    assert_eq!((value.to_str().unwrap(), value.is_sensitive()), ("at-1", true));
    assert_eq!(request.uri(), "https://acme.example/me");
}

#[test]
fn a_token_in_the_query_is_escaped_and_takes_the_place_of_another() {
    let client = client().token_in_query();
    assert_eq!(client.placement(), None);
    for (before, after) in [
        ("https://acme.example", "https://acme.example/?access_token=a%2F%2B%26"),
        ("https://acme.example/me?", "https://acme.example/me?access_token=a%2F%2B%26"),
        ("/me?a=%20&b", "/me?a=%20&b&access_token=a%2F%2B%26"),
        ("/me?access_token=old&a=1", "/me?a=1&access_token=a%2F%2B%26"),
        ("/me?a=1&access%5Ftoken=old", "/me?a=1&access_token=a%2F%2B%26"),
    ] {
        let request = authorized(&client, "a/+&", before).unwrap();
        assert_eq!(request.uri(), after, "{before}");
        assert!(request.headers().is_empty());
    }
    let error = authorized(&client, "t", "acme.example:443").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_statuses_of_a_dead_token_are_a_setting() {
    let judged = |client: &IOffice, status: u16| {
        let response = Response::builder().status(status).body(()).unwrap();
        client.rejection(&response.into_parts().0, b"")
    };
    let default = client();
    assert_eq!(judged(&default, 401), Rejection::TokenDead);
    assert_eq!(judged(&default, 403), Rejection::TokenDead);
    for status in [200, 400, 404, 429, 500] {
        assert_eq!(judged(&default, status), Rejection::None, "{status}");
    }
    let only = client().token_dead_on([StatusCode::UNAUTHORIZED]);
    assert_eq!(judged(&only, 401), Rejection::TokenDead);
    assert_eq!(judged(&only, 403), Rejection::OtherReason);
    let only = client().token_dead_on([StatusCode::FORBIDDEN]);
    assert_eq!(judged(&only, 401), Rejection::OtherReason);
}

#[test]
fn operations_are_about_the_access_token_alone() {
    let (client, held) = (client().revoke_method(Method::DELETE), held());
    let info = TokenInfo.request(&client, &held).unwrap().0;
    let revoke = IOfficeRevokeAccessToken.request(&client, &held).unwrap().0;
    assert_eq!(Operation::<IOffice>::credential(&TokenInfo), Credential::InRequest);
    assert_eq!(Operation::<IOffice>::credential(&IOfficeRevokeAccessToken), Credential::InRequest);
    for (request, method, name) in [(info, "GET", "tokeninfo"), (revoke, "DELETE", "revoke")] {
        assert_eq!(request.method(), method);
        assert!(request.uri().path().ends_with(&format!("/oauth2/{name}")));
        assert_eq!(request.headers()["x-token"], "at/+=");
        assert_eq!(request.headers().len(), 1);
    }
    let none = Tokens::new(IOfficeAttributes::default()).with_refresh_token("rt", None);
    assert_eq!(TokenInfo.request(&client, &none).unwrap_err().kind(), ErrorKind::InvalidInput);
}
