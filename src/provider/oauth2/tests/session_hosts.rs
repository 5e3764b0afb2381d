//! The host of a session that a token response names.

use super::*;

fn client_with_hosts() -> OAuth2 {
    let host = SessionHost {
        response_member: Some(JsonPointer::new("/api/host").unwrap()),
        allowed: vec!["*.example.eu".to_owned()],
        ..SessionHost::default()
    };
    client().session_host(host).unwrap()
}

fn read(named: &str, known: Attributes, invalid_grant: FailureClass) -> Exchanged<Attributes> {
    let body = format!(r#"{{"access_token":"a","refresh_token":"r","api":{{"host":{named}}}}}"#);
    let bench = Bench::new();
    let tokens = client_with_hosts().tokens(
        &bench.sender(),
        &response(200, &[], body),
        known,
        invalid_grant,
    )?;
    assert_eq!(tokens.refresh_token().unwrap().expose_secret(), "r");
    Ok(tokens.attributes().clone())
}

fn of_host(host: Option<&str>) -> Attributes {
    Attributes { host: host.map(str::to_owned), ..Attributes::default() }
}

const GRANT: FailureClass = Refused(Refusal::GrantExpired);

#[test]
fn the_host_that_a_response_names_becomes_that_of_the_session() {
    for invalid_grant in [GRANT, Rejected] {
        for named in ["\"api.example.eu\"", "\"https://API.example.eu/\""] {
            let read = read(named, of_host(None), invalid_grant).unwrap();
            assert_eq!(read.host.as_deref(), Some("api.example.eu"));
        }
        for none in ["null", "\"\"", "{}"] {
            assert_eq!(read(none, of_host(None), invalid_grant).unwrap().host, None);
            // The redirect has named it.
            let redirect = of_host(Some("a.example.eu"));
            let host = read(none, redirect, invalid_grant).unwrap().host;
            assert_eq!(host.as_deref(), Some("a.example.eu"));
        }
    }
    let moved = client_with_hosts()
        .merge_attributes(&of_host(Some("a.example.eu")), of_host(Some("b.example.eu")));
    assert_eq!(moved.unwrap().host.as_deref(), Some("b.example.eu"));
}

#[test]
fn a_login_with_a_host_that_is_not_allowed_fails_and_says_so() {
    let failed = read("\"evil.example\"", of_host(None), GRANT).unwrap_err();
    assert_eq!(failed.class(), Refused(Refusal::HostNotAllowed));
    let error = failed.into_error();
    assert_eq!(error.kind(), ErrorKind::Refused(Refusal::HostNotAllowed));
    let text = error.to_string();
    assert!(text.contains("\"evil.example\", which the settings do not allow"), "{text}");
}

#[test]
fn a_refresh_with_a_host_that_is_not_allowed_keeps_its_tokens_and_the_former_host() {
    let mut issued = None;
    let logged = logged(|| {
        issued = Some(read("\"evil.example\\u001b[31m\"", of_host(None), Rejected).unwrap());
    });
    let merged =
        client_with_hosts().merge_attributes(&of_host(Some("a.example.eu")), issued.unwrap());
    assert_eq!(merged.unwrap().host.as_deref(), Some("a.example.eu"));
    assert_eq!(logged.lines().count(), 1, "{logged}");
    assert!(logged.contains(" WARN ") && logged.contains("evil.example"), "{logged}");
    assert!(!logged.contains('\u{1b}'), "{logged}");
}
