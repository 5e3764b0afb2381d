//! The responses of the token endpoint.

use bytes::Bytes;
use http::Response;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Headers = &'static [(&'static str, &'static str)];

/// The classes of `invalid_grant`: for each grant, and for a refresh token.
fn invalid_grants() -> Vec<FailureClass> {
    let grants: [Grant; 3] = [
        Password::new("user", "canary").into(),
        AuthorizationCode::new("canary").into(),
        ClientCredentials::new().into(),
    ];
    let mut invalid_grants: Vec<_> = grants.iter().map(Grant::invalid_grant_class).collect();
    invalid_grants.push(Rejected);
    invalid_grants
}

/// Checks the failure that a response means, for each class of `invalid_grant`. [`Rejected`] in
/// `expected` stands for that class. No error shows the body.
pub(super) fn check(bench: &Bench, response: &Response<Bytes>, expected: FailureClass) {
    check_each(
        bench,
        response,
        |invalid_grant| if expected == Rejected { invalid_grant } else { expected },
    );
}

fn check_each(
    bench: &Bench,
    response: &Response<Bytes>,
    expected: impl Fn(FailureClass) -> FailureClass,
) {
    let client = client();
    let sender = bench.sender();
    for invalid_grant in invalid_grants() {
        let failed =
            client.tokens(&sender, response, Attributes::default(), invalid_grant).unwrap_err();
        assert_eq!(failed.class(), expected(invalid_grant), "{invalid_grant:?} {response:?}");
        assert_eq!(failed.status(), Some(response.status().as_u16()));
        let error = failed.into_error();
        assert_eq!(error.status(), Some(response.status().as_u16()));
        let shown = format!("{error:?} {error:#?} {error}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

/// The failure that each code means with a status below 500 that says nothing itself.
const CODES: &[(&str, FailureClass)] = &[
    ("invalid_grant", Rejected),
    ("bad_refresh_token", Rejected),
    ("bad_verification_code", Rejected),
    ("access_denied", Refused(Refusal::NotPermitted)),
    ("interaction_required", Refused(Refusal::Other)),
    ("login_required", Refused(Refusal::Other)),
    ("consent_required", Refused(Refusal::Other)),
    ("account_selection_required", Refused(Refusal::Other)),
    ("invalid_request", Unclassified),
    ("invalid_client", InvalidClient),
    ("incorrect_client_credentials", InvalidClient),
    ("unauthorized_client", Unclassified),
    ("invalid_scope", Unclassified),
    ("invalid_target", Unclassified),
    ("unsupported_grant_type", Unclassified),
    ("use_dpop_nonce", Unclassified),
    ("invalid_dpop_proof", Unclassified),
    ("temporarily_unavailable", NotProcessed),
    ("slow_down", NotProcessed),
    ("server_error", NotProcessed),
    ("something_else", Unclassified),
];

/// The failure that a known code means.
fn check_code(bench: &Bench, response: &Response<Bytes>, code: &str, expected: FailureClass) {
    check_each(bench, response, |invalid_grant| match code {
        // The server must ask the user.
        _ if code.ends_with("_required") && invalid_grant == Rejected => Rejected,
        "invalid_request" if invalid_grant == WRONG_PASSWORD => invalid_grant,
        _ if expected == Rejected => invalid_grant,
        _ => expected,
    });
}

const WRONG_PASSWORD: FailureClass = Refused(Refusal::WrongCredentials);

#[test]
fn a_code_means_the_same_below_500_whatever_the_status() {
    let bench = Bench::new();
    for (code, expected) in CODES {
        for status in [200, 201, 400, 401, 403, 404, 409, 422] {
            check_code(&bench, &response(status, &[], refusing(code)), code, *expected);
        }
    }
}

#[test]
fn a_code_may_be_in_a_form_or_be_the_whole_text() {
    let bench = Bench::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let text = [("content-type", "text/plain; charset=utf-8")];
    for (code, expected) in CODES {
        let body = format!("error={code}&error_description=canary+x&error_uri=canary");
        for headers in [&form, &text] {
            for status in [200, 400] {
                check_code(&bench, &response(status, headers, &body), code, *expected);
            }
        }
        for body in [(*code).to_owned(), format!(" {code}\r\n"), format!("\u{feff}{code}")] {
            check_code(&bench, &response(400, &text, &body), code, *expected);
            check_code(&bench, &response(401, &[], &body), code, *expected);
        }
    }
    for other in ["invalid_grant canary", "\"invalid_grant\"", "invalid_grants", "INVALID_GRANT"] {
        check(&bench, &response(400, &text, other), Unclassified);
    }
    check(&bench, &response(200, &text, "invalid_grant"), Ambiguous);
    check(&bench, &response(400, &[], "error=invalid_grant"), Unclassified);
}

#[test]
fn a_bare_401_is_not_understood_and_a_token_that_is_invalid_there_is_rejected() {
    let bench = Bench::new();
    for body in ["", "<html>canary</html>", "canary", "{}", r#"{"error":"token_expired"}"#] {
        check(&bench, &response(401, &[], body), Unclassified);
    }
    check(&bench, &response(401, &[], refusing("invalid_token")), Rejected);
    check(&bench, &response(401, &[], "invalid_token"), Rejected);
    for status in [200, 400, 403] {
        check(&bench, &response(status, &[], refusing("invalid_token")), Unclassified);
    }
}

#[test]
fn a_401_that_asks_for_basic_rejects_a_client_that_authenticated_so_unless_a_code_says_better() {
    let bench = Bench::new();
    let sender = bench.sender();
    let class = |client: &OAuth2, challenge: &str, body: &str| {
        let response = response(401, &[("www-authenticate", challenge)], body);
        client.tokens(&sender, &response, Attributes::default(), Rejected).unwrap_err().class()
    };
    let basic = client().client_secret_basic("canary");
    let both = "Bearer realm=\"a, b\", basic realm=\"canary\"";
    for body in ["", "<html>", &refusing("something_else")] {
        assert_eq!(class(&basic, "Basic realm=\"canary\"", body), InvalidClient, "{body}");
        assert_eq!(class(&basic, both, body), InvalidClient, "{body}");
        for other in ["Bearer realm=\"Basic\"", "Digest realm=\"x\"", "Bearer a=\"b, Basic\""] {
            assert_eq!(class(&basic, other, body), Unclassified, "{other} {body}");
        }
        for other in [client(), client().client_secret_post("canary")] {
            assert_eq!(class(&other, both, body), Unclassified, "{body}");
        }
    }
    for (code, expected) in [
        ("invalid_grant", Rejected),
        ("invalid_token", Rejected),
        ("unauthorized_client", Unclassified),
        ("invalid_request", Unclassified),
        ("temporarily_unavailable", NotProcessed),
    ] {
        assert_eq!(class(&basic, both, &refusing(code)), expected, "{code}");
    }
    let forbidden = response(403, &[("www-authenticate", both)], "");
    let forbidden = basic.tokens(&sender, &forbidden, Attributes::default(), Rejected).unwrap_err();
    assert_eq!(forbidden.class(), Unclassified);
}

#[test]
fn a_wrong_password_may_be_an_invalid_request_or_a_403_without_a_code() {
    let bench = Bench::new();
    for body in ["", "<html>canary</html>", GOOD, r#"{"error":{"message":"canary"}}"#] {
        check_each(&bench, &response(403, &[], body), |invalid_grant| {
            if invalid_grant == WRONG_PASSWORD { invalid_grant } else { Unclassified }
        });
    }
    check(&bench, &response(403, &[], refusing("something_else")), Unclassified);
    check(&bench, &response(403, &[], refusing("invalid_scope")), Unclassified);
    let failed = client().tokens(
        &bench.sender(),
        &response(400, &[], refusing("invalid_request")),
        Attributes::default(),
        WRONG_PASSWORD,
    );
    let error = failed.unwrap_err().into_error();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::WrongCredentials));
    assert_eq!((error.provider_code(), error.status()), (Some("invalid_request"), Some(400)));
}

/// Statuses that decide alone: without a body, with a page, and with any code.
const FINAL: &[(u16, Headers, FailureClass)] = &[
    (301, &[("location", "https://canary.example/")], Unclassified),
    (302, &[], Unclassified),
    (303, &[], Unclassified),
    (304, &[], Unclassified),
    (307, &[("location", "https://canary.example/")], Unclassified),
    (308, &[("location", "https://canary.example/")], Unclassified),
    (408, &[], NotProcessed),
    (425, &[], NotProcessed),
    (429, &[], Throttled),
    (429, &[("retry-after", "7")], Throttled),
    (429, &[("retry-after", "canary")], Throttled),
];

#[test]
fn some_statuses_are_final_whatever_the_body_says() {
    let bench = Bench::new();
    let html = "<html>canary</html>".to_owned();
    for (status, headers, expected) in FINAL {
        let codes = CODES.iter().map(|(code, _)| refusing(code));
        for body in codes.chain([String::new(), html.clone(), GOOD.to_owned()]) {
            check(&bench, &response(*status, headers, body), *expected);
        }
    }
}

/// Statuses that decide if the body has no known code.
const SILENT: &[(u16, Headers, FailureClass)] = &[
    (400, &[], Unclassified),
    (402, &[], Unclassified),
    (404, &[], Unclassified),
    (405, &[], Unclassified),
    (406, &[], Unclassified),
    (409, &[], Unclassified),
    (418, &[], Unclassified),
    (500, &[], Ambiguous),
    (500, &[("retry-after", "7")], Ambiguous),
    (502, &[], Ambiguous),
    (503, &[], Ambiguous),
    (503, &[("retry-after", "7")], NotProcessed),
    (503, &[("retry-after", "Fri, 15 Jan 2027 08:00:07 GMT")], NotProcessed),
    (503, &[("retry-after", "canary")], Ambiguous),
    (504, &[], Ambiguous),
    (504, &[("retry-after", "7")], Ambiguous),
    (599, &[], Ambiguous),
    (999, &[], Ambiguous),
];

#[test]
fn a_status_speaks_where_no_known_code_does() {
    let bench = Bench::new();
    let silent = [
        "",
        "<html>canary</html>",
        "null",
        "[\"invalid_grant\"]",
        r#"{"error":{"message":"canary"}}"#,
        r#"{"error":"invalid_grant","error":"x"}"#,
        r#"{"error":"invalid_grant"#,
        r#"{"Error":"invalid_grant"}"#,
        r#"{"error":"something_else","error_description":"canary"}"#,
    ];
    for (status, headers, expected) in SILENT {
        for body in silent.into_iter().chain([GOOD]) {
            check(&bench, &response(*status, headers, body), *expected);
        }
    }
}

#[test]
fn a_broken_gateway_is_not_believed_when_it_condemns_what_was_sent() {
    let bench = Bench::new();
    for status in [500, 502, 503, 504] {
        for (code, expected) in CODES {
            let done = *code == "server_error" || *expected != NotProcessed;
            let expected = if done { Ambiguous } else { NotProcessed };
            check(&bench, &response(status, &[], refusing(code)), expected);
        }
    }
    check(&bench, &response(503, &[("retry-after", "7")], refusing("invalid_grant")), NotProcessed);
}

#[test]
fn a_code_goes_before_the_status() {
    let bench = Bench::new();
    // Auth0 sends 403 and `invalid_grant` for an invalid refresh token.
    check(&bench, &response(403, &[], refusing("invalid_grant")), Rejected);
    check(&bench, &response(404, &[], refusing("invalid_client")), InvalidClient);
    // A description in Latin-1 does not hide the code.
    let latin: &[u8] = b"{\"error\":\"invalid_grant\",\"error_description\":\"canary\xfc\"}";
    check(&bench, &response(400, &[], latin), Rejected);
}

/// Of a grant the outcome is ambiguous. After a refresh the session goes on with the refresh token.
#[test]
fn a_200_whose_access_token_is_refused_leaves_no_doubt_after_a_refresh() {
    let bodies: &[&[u8]] = &[
        b"{\"access_token\":null,\"refresh_token\":\"canary\"}",
        b"{\"access_token\":\"\",\"refresh_token\":\"canary\"}",
        b"{\"refresh_token\":\"canary\",\"token_type\":\"bearer\"}",
        b"{\"error\":\"invalid_grant\",\"refresh_token\":\"canary\"}",
        b"{\"access_token\":\"canary\",\"token_type\":\"DPoP\"}",
        b"{\"access_token\":\"canary\",\"token_type\":\"mac\"}",
    ];
    for body in bodies {
        check_each(&Bench::new(), &response(200, &[], body), |invalid_grant| {
            let is_refresh = invalid_grant == Rejected;
            if is_refresh { FailureClass::Misconfigured } else { Ambiguous }
        });
    }
}

#[test]
fn a_200_that_cannot_be_used_is_ambiguous_and_nothing_of_it_is_kept() {
    let bench = Bench::new();
    let deep = "[".repeat(100_000);
    let bodies: &[&[u8]] = &[
        b"",
        b" \n",
        b"<!doctype html><title>canary</title>",
        b"access_token=canary&token_type=bearer",
        b"null",
        b"\"canary\"",
        b"[]",
        b"[\"canary\",\"canary\",\"bearer\",null,null,null,null]",
        b"{}",
        b"{\"access_token\":\"canary",
        b"{\"access_token\":\"canary\"",
        b"{\"access_token\":\"canary\"} canary",
        b"{\"access_token\":\"canary\"}{\"access_token\":\"canary\"}",
        b"{\"access_token\":4711,\"x\":\"canary\"}",
        b"{\"access_token\":true}",
        b"{\"access_token\":[\"canary\"]}",
        b"{\"access_token\":{\"canary\":\"canary\"}}",
        b"{\"access_token\":\"canary\",\"refresh_token\":[\"canary\"]}",
        b"{\"access_token\":\"canary\",\"access_token\":null}",
        b"{\"access_token\":\"can ary\"}",
        b"{\"access_token\":\"canary\\u0000\"}",
        b"{\"access_token\":\"canary\\u00e9\"}",
        b"{\"access_token\":\"canary\xff\"}",
        b"{\"access_token\":\"\\ud800canary\"}",
        b"{\"access_token\":\"canary\0\"}",
        b"\xff\xfe{\0}\0canary",
        b"{\"error\":null,\"ok\":true}",
        b"{\"error\":\"\",\"ok\":\"false\"}",
        b"{\"error\":0,\"error_description\":\"canary\"}",
    ];
    for body in bodies {
        check(&bench, &response(200, &[], body), Ambiguous);
    }
    check(&bench, &response(200, &[], format!("{{\"access_token\":{deep}")), Ambiguous);
    check(&bench, &response(200, &[], format!("{{\"x\":\"canary\",\"y\":{deep}")), Ambiguous);
    check(&bench, &response(204, &[], ""), Ambiguous);
}

#[test]
fn a_200_that_says_that_it_failed_and_has_no_token_is_an_answer() {
    let bench = Bench::new();
    for (body, expected) in [
        (r#"{"error":["canary"]}"#, Unclassified),
        (r#"{"error":{"code":"invalid_grant"}}"#, Unclassified),
        (r#"{"error":true}"#, Unclassified),
        (r#"{"error":"invalid_grant","error":"canary"}"#, Unclassified),
        (r#"{"error":"canary","error":"invalid_grant"}"#, Rejected),
        (r#"{"ok":false}"#, Unclassified),
        (r#"{"ok":false,"error":"invalid_refresh_token"}"#, Unclassified),
        (r#"{"ok":false,"error":"invalid_grant","access_token":"","refresh_token":""}"#, Rejected),
        ("\u{feff}{\"error\":\"invalid_client\"}", InvalidClient),
        (r#"{"access_token":"error: canary","error":"slow_down"}"#, NotProcessed),
    ] {
        let response = response(200, &[], body.replace("\"canary\"", "\"x\""));
        check(&bench, &response, expected);
    }
}

#[test]
fn an_answer_with_an_access_token_is_a_success_whatever_else_it_has() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let more = [
        String::new(),
        r#","token_type":"Bearer""#.to_owned(),
        r#","token_type":"bEARER","expires_in":"60","scope":["read"]"#.to_owned(),
        r#","token_type":"","scope":"","refresh_token":"""#.to_owned(),
        r#","token_type":null,"expires_in":null,"refresh_token":null,"scope":null"#.to_owned(),
        r#","expires_in":{"seconds":60},"refresh_expires_in":"soon","id_token":7"#.to_owned(),
        r#","error":null,"error_description":"""#.to_owned(),
        r#","error":"","x":1,"x":2"#.to_owned(),
        // A token that was issued is never discarded.
        r#","error":"invalid_grant""#.to_owned(),
        format!(r#","x":{deep}"#),
        format!(r#","scope":{deep},"expires_in":{deep}"#),
    ];
    let (bench, client) = (Bench::new(), client());
    let sender = bench.sender();
    for more in more {
        for status in [200, 201] {
            let response =
                response(status, &[], format!("\n {{\"access_token\":\"a\\/b\"{more}}}\n"));
            for invalid_grant in invalid_grants() {
                let tokens = client
                    .tokens(&sender, &response, Attributes::default(), invalid_grant)
                    .unwrap();
                assert_eq!(tokens.access_token().unwrap().expose_secret(), "a/b");
                assert!(tokens.refresh_token().is_none());
            }
        }
    }
}

#[test]
fn no_server_code_is_shown_longer_or_wilder_than_is_safe() {
    let bench = Bench::new();
    let code = format!("e\\u001b[31m {}", "x".repeat(500));
    let response = response(400, &[], refusing(&code));
    let failed =
        client().tokens(&bench.sender(), &response, Attributes::default(), Rejected).unwrap_err();
    let code = failed.code.as_ref().unwrap().as_str();
    assert!(code.starts_with("e31mxxx") && code.len() == 64, "{code}");
}

const NAMES: &[&str] =
    &["access_token", "refresh_token", "token_type", "expires_in", "expires_at", "error", "ok"];

/// Bytes of all kinds, and JSON that comes close to a token.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"t\"".to_owned()),
        Just("-1e999".to_owned()),
        Just("[{}]".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        proptest::sample::select(CODES).prop_map(|(code, _)| format!("{code:?}")),
    ];
    let member = (proptest::sample::select(NAMES), value)
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let field = (proptest::sample::select(NAMES), any::<String>());
    let form = vec(field, 0..6).prop_map(|fields| {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields).finish().into_bytes()
    });
    let object = vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")));
    let cut = (object.clone(), any::<proptest::sample::Index>(), any::<u8>());
    prop_oneof![
        vec(any::<u8>(), 0..200),
        form,
        object.prop_map(String::into_bytes),
        cut.prop_map(|(object, at, byte)| {
            let mut bytes = object.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
    ]
}

#[test]
fn no_answer_panics_and_none_succeeds_without_an_access_token() {
    let (bench, client) = (Bench::new(), client());
    let sender = bench.sender();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(status in prop_oneof![Just(200), 100_u16..1000], body in bodies())| {
        let kind = if status % 2 == 0 { "text/plain" } else { "application/json" };
        let response = response(status, &[("content-type", kind)], body);
        for invalid_grant in invalid_grants() {
            let Ok(tokens) = client.tokens(&sender, &response, Attributes::default(), invalid_grant) else { continue };
            prop_assert!((200..300).contains(&status));
            let token = tokens.access_token().unwrap().expose_secret().to_owned();
            prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    });
}
