//! Logins through a browser, and the page that carries the fragment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::error::ErrorKind;
use crate::provider::{LoginRequest, RedirectLogin};

const MISMATCH: ErrorKind = ErrorKind::Refused(Refusal::LoginStateMismatch);

/// Calls `with` with a login of state `s-1&`.
fn login<T>(with: impl FnOnce(&LoginRequest<'_>) -> T) -> T {
    let (state, verifier) = (Secret::from("s-1&"), Secret::from("v"));
    with(&LoginRequest::new(&state, &verifier))
}

fn login_grant(client: &IOffice, redirect: &str) -> Result<IOfficeGrant> {
    login(|login| client.login_grant(redirect, login, &()))
}

fn code_of(grant: IOfficeGrant) -> IOfficeCode {
    match grant {
        IOfficeGrant::Code(code) => code,
        IOfficeGrant::Password(_) => panic!("a password"),
    }
}

#[test]
fn a_login_has_the_five_parameters_and_no_challenge() {
    let client = client().scope("a b").unwrap();
    let url = login(|login| client.login_url(login, &())).unwrap();
    assert!(url.as_str().starts_with("https://acme.example/office/login.html?"), "{url}");
    let fields: Vec<_> = url.query_pairs().into_owned().collect();
    let expected = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", CALLBACK),
        ("scope", "a b"),
        ("state", "s-1&"),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn the_code_is_in_a_fragment_a_url_or_the_form_of_the_relay() {
    let fragment = "code=c%2F1&appCode=a+1&state=s-1%26";
    for redirect in [format!("#{fragment}"), format!("{CALLBACK}#{fragment}"), fragment.to_owned()]
    {
        let code = code_of(login_grant(&client(), &redirect).unwrap());
        assert_eq!(code.code.expose_secret(), "c/1");
        assert_eq!((code.app_code.as_deref(), code.scope.as_deref()), (Some("a 1"), Some("email")));
    }
    assert_eq!(code_of(login_grant(&client(), "#code=c&state=s-1%26").unwrap()).app_code, None);
}

#[test]
fn an_answer_without_the_logins_own_state_is_refused() {
    for other in [
        "#code=canary",
        "#error=canary",
        "#code=canary&state=s-1",
        "#code=canary&state=",
        "#state=canary&error=x",
    ] {
        let error = login_grant(&client(), other).unwrap_err();
        assert_eq!(error.kind(), MISMATCH, "{other}");
        assert!(!format!("{error:?}").contains("canary"));
    }
    login_grant(&client(), "#code=c&state=s-1%26").unwrap();
}

#[test]
fn a_missing_state_is_accepted_only_by_a_setting_that_names_the_price_and_a_wrong_one_never() {
    let open = client().allow_login_csrf_where_state_is_missing();
    login_grant(&open, "#code=c").unwrap();
    for wrong in ["#code=c&state=s-1", "#code=c&state="] {
        assert_eq!(login_grant(&open, wrong).unwrap_err().kind(), MISMATCH, "{wrong}");
    }
}

#[test]
fn a_whole_url_must_be_that_of_the_redirect_uri() {
    let elsewhere = "https://app.example/bolt/callback#code=canary&state=s-1%26";
    assert_eq!(login_grant(&client(), elsewhere).unwrap_err().kind(), MISMATCH);
    login_grant(&client(), &format!("{CALLBACK}#code=c&state=s-1%26")).unwrap();
}

#[test]
fn a_redirect_without_a_code_is_no_login() {
    for redirect in ["", CALLBACK, "#", "#appCode=canary", "canary", "#code=a&code=canary"] {
        let error = login_grant(&client(), redirect).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{redirect}");
        assert!(!format!("{error:?}").contains("canary"));
    }
    for (code, kind) in [
        ("access_denied", ErrorKind::Refused(Refusal::NotPermitted)),
        ("server_error", ErrorKind::RetryLater),
        ("odd", ErrorKind::Refused(Refusal::Other)),
    ] {
        let error = login_grant(&client(), &format!("#error={code}&state=s-1%26")).unwrap_err();
        assert_eq!((error.kind(), error.provider_code()), (kind, Some(code)));
    }
}

#[test]
fn no_redirect_panics() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let wild = prop_oneof![
        any::<String>(),
        "[#?&=]?(code|state|appCode|error|[a-z%]){0,3}[=&#%a-z]{0,20}"
    ];
    proptest!(config, |(redirect in wild)| {
        drop(login_grant(&client(), &redirect));
    });
}

/// The script, as a browser hashes it.
fn script(page: &str) -> &str {
    let (_, rest) = page.split_once("<script>").unwrap();
    rest.split_once("</script>").unwrap().0
}

#[test]
fn the_policy_lets_exactly_the_script_of_the_page_run() {
    let hash = STANDARD.encode(Sha256::digest(script(FRAGMENT_RELAY_HTML)));
    assert!(FRAGMENT_RELAY_CSP.contains(&format!("script-src 'sha256-{hash}';")), "{hash}");
    assert!(
        !FRAGMENT_RELAY_CSP.contains("unsafe")
            && FRAGMENT_RELAY_CSP.starts_with("default-src 'none';")
    );
    assert!(!script(FRAGMENT_RELAY_HTML).contains('\n'), "a checkout may change line ends");
    assert_eq!(script(&fragment_relay_html("/elsewhere")), script(FRAGMENT_RELAY_HTML));
    // One script, no handlers in attributes, nothing from elsewhere.
    assert_eq!(FRAGMENT_RELAY_HTML.matches("<script").count(), 1);
    for forbidden in [" on", "src=", "href=", "style", "innerHTML", "document.write", "http"] {
        assert!(!FRAGMENT_RELAY_HTML.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_target_of_the_relay_stays_one_attribute_whatever_it_is() {
    assert!(FRAGMENT_RELAY_HTML.contains(r#"action="callback/done""#));
    assert_eq!(fragment_relay_html("callback/done"), FRAGMENT_RELAY_HTML);
    let page = fragment_relay_html(r#""><script>alert('1')</script>&x="#);
    let escaped = r#"action="&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;x=""#;
    assert!(page.contains(escaped), "{page}");
    assert_eq!(page.matches("<script").count(), 1);
}
