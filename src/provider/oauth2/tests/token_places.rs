//! Token responses whose members are not where the standard has them.

use std::time::SystemTime;

use super::*;

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn pointer(text: &str) -> JsonPointer {
    JsonPointer::new(text).unwrap()
}

fn with(places: TokenResponse) -> OAuth2 {
    client().token_response(places).unwrap()
}

fn read(client: &OAuth2, header: (&str, &str), body: &str) -> Exchanged<Tokens<Attributes>> {
    let bench = Bench::new();
    let response = response(200, &[header], body);
    client.tokens(&bench.sender(), &response, Attributes::default(), Rejected)
}

fn json(client: &OAuth2, body: &str) -> Tokens<Attributes> {
    read(client, ("content-type", "application/json"), body).unwrap()
}

fn access(tokens: &Tokens<Attributes>) -> &str {
    tokens.access_token().unwrap().expose_secret()
}

fn ends(tokens: &Tokens<Attributes>) -> [Option<SystemTime>; 2] {
    [tokens.access_expires_at(), tokens.refresh_expires_at()]
}

const NESTED: &str = r#"{"access_token":"wrong","ok":true,"list":[0,{"access_token":"a1",
    "refresh_token":"r1","expires_in":60,"scope":["read","write"],"token_type":"user"}]}"#;

#[test]
fn all_members_are_read_from_the_object_that_has_them() {
    let client = with(TokenResponse { under: Some(pointer("/list/1")), ..Default::default() });
    let tokens = json(&client, NESTED);
    assert_eq!(access(&tokens), "a1");
    assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "r1");
    assert_eq!(ends(&tokens), [Some(Bench::at(60)), None]);
    assert_eq!(tokens.attributes().scope.as_deref(), Some("read write"));
    let body = r#"{"access_token":"canary","list":[0,{"refresh_token":""}]}"#;
    let failed = read(&client, FORM, body).unwrap_err();
    assert_eq!(failed.class(), Ambiguous);
    assert!(!shown(&failed).contains("canary"));
}

#[test]
fn each_member_has_its_own_place() {
    let places = TokenResponse {
        under: Some(pointer("/d")),
        access_token: Some(pointer("/t/0")),
        refresh_token: Some(pointer("/t/1")),
        id_token: Some(pointer("/t/2")),
        token_type: Some(pointer("/kind")),
        scope: Some(pointer("/rights")),
        expires_in: Some(pointer("/life")),
        refresh_expires_in: Some(pointer("/long")),
        ..TokenResponse::default()
    };
    let client = with(places);
    // The usual members are others here, and none of them counts.
    let usual = r#""access_token":7,"refresh_token":7,"id_token":7,"token_type":"mac","scope":"x",
        "expires_in":1,"refresh_token_expires_in":1,"refresh_expires_in":1"#;
    let id = token_responses::for_subject("\"ada\"");
    let id: serde_json::Value = serde_json::from_str(&id).unwrap();
    let body = |kind: &str| {
        format!(
            r#"{{"d":{{{usual},"t":["a1","r1",{}],"kind":"{kind}","rights":"read","life":"60",
                "long":90}}}}"#,
            id["id_token"]
        )
    };
    let tokens = json(&client, &body("bearer"));
    assert_eq!(access(&tokens), "a1");
    assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "r1");
    assert_eq!(ends(&tokens), [Some(Bench::at(60)), Some(Bench::at(90))]);
    assert_eq!(tokens.attributes().scope.as_deref(), Some("read"));
    assert_eq!(tokens.attributes().subject.as_deref(), Some("ada"));
    let refused = read(&client, FORM, &body("DPoP")).unwrap_err();
    assert_eq!(refused.class(), Ambiguous);
}

#[test]
fn the_time_when_a_token_expires_may_have_another_place() {
    let client = with(TokenResponse { expires_at: Some(pointer("/ends")), ..Default::default() });
    let tokens = json(&client, r#"{"access_token":"a","expires_at":1,"ends":1800000060000}"#);
    assert_eq!(ends(&tokens), [Some(Bench::at(60)), None]);
}

#[test]
fn in_a_form_a_pointer_of_one_name_is_the_field_of_that_name() {
    let client = with(TokenResponse {
        under: Some(pointer("/d")),
        access_token: Some(pointer("/token")),
        refresh_token: Some(pointer("/t/1")),
        attributes: [("team".to_owned(), pointer("/team"))].into(),
        ..TokenResponse::default()
    });
    let body = "token=no&access_token=x&expires_in=60&team=a+b&token=a%2B1&refresh_token=r";
    let tokens = read(&client, FORM, body).unwrap();
    assert_eq!(access(&tokens), "a+1");
    assert!(tokens.refresh_token().is_none());
    assert_eq!(ends(&tokens), [Some(Bench::at(60)), None]);
    assert_eq!(tokens.attributes().more["team"], "a b");
}

#[test]
fn both_lifetimes_have_the_unit_of_the_settings_and_a_time_of_day_has_its_own() {
    for (unit, number) in [
        (LifetimeUnit::Seconds, "120"),
        (LifetimeUnit::Milliseconds, "120000"),
        (LifetimeUnit::Minutes, "2"),
    ] {
        let client = with(TokenResponse { lifetime_unit: unit, ..TokenResponse::default() });
        for name in ["refresh_expires_in", "refresh_token_expires_in"] {
            let body = format!(
                r#"{{"access_token":"a","refresh_token":"r","expires_in":{number},"{name}":{number}}}"#
            );
            assert_eq!(ends(&json(&client, &body)), [Some(Bench::at(120)); 2], "{unit:?}");
        }
        let at = json(&client, r#"{"access_token":"a","expires_at":1800000060}"#);
        assert_eq!(ends(&at), [Some(Bench::at(60)), None]);
    }
}

#[test]
fn the_usual_lifetime_counts_where_the_response_names_no_end() {
    let lifetime = Some(Duration::from_secs(90));
    let client = with(TokenResponse {
        default_lifetime: lifetime,
        lifetime_unit: LifetimeUnit::Minutes,
        ..TokenResponse::default()
    });
    for (more, seconds) in [
        ("", 90),
        (r#","expires_in":null"#, 90),
        (r#","expires_in":1"#, 60),
        (r#","expires_at":1800000030"#, 30),
    ] {
        let tokens = json(&client, &format!(r#"{{"access_token":"a"{more}}}"#));
        assert_eq!(ends(&tokens), [Some(Bench::at(seconds)), None], "{more}");
    }
}

#[test]
fn texts_numbers_and_booleans_are_kept_as_attributes_and_others_are_left_out() {
    let names = ["text", "id", "share", "yes", "none", "list", "object", "missing", "long", "most"];
    let attributes = names.map(|name| (format!("own_{name}"), pointer(&format!("/m/{name}"))));
    let client = with(TokenResponse { attributes: attributes.into(), ..TokenResponse::default() });
    let (long, most) = ("x".repeat(1025), "x".repeat(1024));
    let body = format!(
        r#"{{"access_token":"a","m":{{"text":"https://a.example","id":9341453152112347,
            "share":1.5,"yes":true,"none":null,"list":[1],"object":{{}},"long":"{long}",
            "most":"{most}"}}}}"#
    );
    let kept = json(&client, &body).attributes().more.clone();
    let expected = [
        ("own_text", "https://a.example"),
        ("own_id", "9341453152112347"),
        ("own_share", "1.5"),
        ("own_yes", "true"),
        ("own_most", &most),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(kept, expected.into());
}

#[test]
fn attributes_of_the_redirect_and_of_earlier_responses_stay() {
    let client = with(TokenResponse {
        attributes: [("team".to_owned(), pointer("/team"))].into(),
        ..TokenResponse::default()
    });
    let more = |pairs: &[(&str, &str)]| Attributes {
        more: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Attributes::default()
    };
    let known = more(&[("realm", "7"), ("team", "old")]);
    let bench = Bench::new();
    let response = response(200, &[], r#"{"access_token":"a","team":"new"}"#);
    let expected = more(&[("realm", "7"), ("team", "new")]);
    let tokens = client.tokens(&bench.sender(), &response, known.clone(), WRONG_PASSWORD).unwrap();
    assert_eq!(tokens.attributes(), &expected);
    let issued = json(&client, r#"{"access_token":"a","team":"new"}"#).attributes().clone();
    assert_eq!(client.merge_attributes(&known, issued).unwrap(), expected);
    let silent = json(&client, r#"{"access_token":"a"}"#).attributes().clone();
    assert_eq!(client.merge_attributes(&expected, silent).unwrap(), expected);
}

const WRONG_PASSWORD: FailureClass = Refused(Refusal::WrongCredentials);

#[test]
fn a_scope_is_a_text_or_a_list_with_the_separator_of_the_settings() {
    let scope = |client: &OAuth2, scope: &str| {
        let body = format!(r#"{{"access_token":"a","scope":{scope}}}"#);
        json(client, &body).attributes().scope.clone()
    };
    let (plain, comma) = (client(), client().scope_separator(","));
    assert_eq!(scope(&plain, r#"["read","write"]"#).as_deref(), Some("read write"));
    assert_eq!(scope(&plain, r#"["read",7,["x"],"write"]"#).as_deref(), Some("read write"));
    assert_eq!(scope(&plain, "[]"), None);
    assert_eq!(scope(&plain, "\"read,write\"").as_deref(), Some("read,write"));
    assert_eq!(scope(&comma, "\"read,write\"").as_deref(), Some("read write"));
    assert_eq!(scope(&comma, "\"read, write\"").as_deref(), Some("read write"));
    assert_eq!(scope(&comma, r#"["read","write"]"#).as_deref(), Some("read write"));
    let form = read(&comma, FORM, "access_token=a&scope=read%2Cwrite").unwrap();
    assert_eq!(form.attributes().scope.as_deref(), Some("read write"));
}

#[test]
fn no_token_can_be_an_attribute_or_the_host() {
    let set = |access: Option<&str>, attribute: &str| TokenResponse {
        under: Some(pointer("/d")),
        access_token: access.map(pointer),
        attributes: [("x".to_owned(), pointer(attribute))].into(),
        ..TokenResponse::default()
    };
    for (access, attribute) in [
        (None, "/d/access_token"),
        (None, "/access_token"),
        (None, "/other/refresh_token"),
        (None, "/id_token"),
        (Some("/t/0"), "/d/t/0"),
        // A form has it there.
        (Some("/t"), "/t"),
    ] {
        let refused = client().token_response(set(access, attribute)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{attribute}");
        let host = SessionHost {
            response_member: Some(pointer(attribute)),
            allowed: vec!["a.example".to_owned()],
            ..SessionHost::default()
        };
        let places = TokenResponse { attributes: [].into(), ..set(access, attribute) };
        let refused = with(places.clone()).session_host(host.clone()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{attribute}");
        if access.is_some() {
            let refused = client().session_host(host).unwrap().token_response(places).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{attribute}");
        }
    }
    let _ = client().token_response(set(Some("/t"), "/d/team")).unwrap();
}
