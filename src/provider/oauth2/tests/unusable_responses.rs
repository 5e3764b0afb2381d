//! Token responses that cannot be used: the error and one log line say why, without their text.

use super::*;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
const TEXT: &str = "text/plain";

/// The caller's error for a 200, and what is logged.
fn unusable(client: &OAuth2, kind: &str, body: &str) -> (Error, String) {
    let bench = Bench::new();
    let response = response(200, &[("content-type", kind)], body);
    let mut read = None;
    let logged = logged(|| {
        let sender = bench.sender();
        read = Some(client.tokens(&sender, &response, Attributes::default(), Rejected));
    });
    (read.unwrap().unwrap_err().into_error(), logged)
}

#[test]
fn the_error_and_the_log_line_say_which_member_is_wrong_and_never_its_value() {
    for (kind, body, words) in [
        (FORM, "refresh_token=canary", "has no access_token"),
        (FORM, "canary", "has no access_token"),
        (
            FORM,
            "access_token=can+ary",
            "has an access_token with characters that no header can carry",
        ),
        (TEXT, r#"{"refresh_token":"canary"}"#, "has no access_token"),
        (TEXT, r#"{"access_token":["canary"]}"#, "has an access_token that is no text"),
        (
            TEXT,
            r#"{"access_token":"error: canary","refresh_token":"","expires_in":0}"#,
            "has an access_token with characters that no header can carry",
        ),
        (
            TEXT,
            r#"{"access_token":"canary","refresh_token":7}"#,
            "has a refresh_token that is no text",
        ),
        (
            TEXT,
            r#"{"access_token":"canary","token_type":"DPoP"}"#,
            "has the token_type DPoP, which needs a key that this client does not have",
        ),
        (TEXT, r#"{"access_token":"canary"#, "is cut short"),
        ("text/html; canary", "<html>canary</html>", "is no JSON object"),
    ] {
        let (error, logged) = unusable(&client(), kind, body);
        let shown = kind.split(';').next().unwrap();
        let expected = format!(
            "the server answered 200 ({shown}) with a token response that {words}, so the outcome \
             of the request is not known"
        );
        // After a refresh nothing is in doubt if a token cannot be used, so the end may differ.
        let start = expected.split(", so the outcome").next().unwrap();
        assert!(error.to_string().contains(start), "{error}");
        assert_eq!(logged.lines().count(), 1, "{logged}");
        let fields = format!("status=200 content_type=\"{shown}\" fault=\"{words}\"");
        assert!(logged.contains(&fields) && logged.contains(" WARN "), "{logged}");
        assert!(!format!("{error:?} {error:#?} {error} {logged}").contains("canary"), "{body}");
    }
}

#[test]
fn the_cause_has_the_position_and_repeats_nothing() {
    let (error, _) = unusable(&client(), TEXT, r#"{"access_token":"canary"#);
    let mut causes = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    assert_eq!(causes.last().unwrap(), "the body cannot be used (line 1, column 23)");
    for (at, cause) in causes.iter().enumerate() {
        assert!(causes.iter().skip(at + 1).all(|other| !cause.contains(other)), "{causes:?}");
    }
}

#[test]
fn a_member_that_is_not_at_the_place_of_the_settings_is_named_with_that_place() {
    let places = TokenResponse {
        under: Some(JsonPointer::new("/data").unwrap()),
        access_token: Some(JsonPointer::new("/token").unwrap()),
        ..TokenResponse::default()
    };
    let client = client().token_response(places).unwrap();
    for (body, words) in [
        (r#"{"access_token":"canary"}"#, "has no access_token (the settings name /data/token)"),
        (
            r#"{"data":{"token":"a","refresh_token":7}}"#,
            "has a refresh_token that is no text (the settings name /data/refresh_token)",
        ),
    ] {
        let (error, logged) = unusable(&client, "application/json", body);
        let error = error.to_string();
        assert!(error.contains(&format!(" that {words}")), "{error}");
        assert!(logged.contains(words), "{logged}");
    }
}

#[tokio::test]
async fn the_error_names_the_endpoint_without_its_query() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = OAuth2::new(&peer.url("/token?key=canary"), "app").unwrap();
    let (sender, held) = (bench.sender(), held());
    let refreshing = client.refresh(&sender, held.refresh_token().unwrap(), &held);
    let (failed, _) = join(refreshing, peer.json(200, "{}")).await;
    let error = failed.unwrap_err().into_error().to_string();
    let at = format!("at {} with a token response that has no access_token", peer.url("/token"));
    assert!(error.contains(&at) && !error.contains("canary"), "{error}");
}

#[test]
fn a_response_that_names_its_failure_is_not_logged_as_one_that_cannot_be_used() {
    for body in [refusing("invalid_grant"), r#"{"ok":false}"#.to_owned()] {
        let (_, logged) = unusable(&client(), "application/json", &body);
        assert_eq!(logged, "", "{body}");
    }
}
