//! The results of responses.

use proptest::collection::vec as many;
use proptest::prelude::*;

use super::super::FailureClass::{
    Ambiguous, InvalidClient, NotProcessed, Refused, Rejected, Throttled, Unclassified,
};
use super::*;
use crate::provider::{Effect, Operation};

fn refresh(response: &Response<Bytes>) -> Result<Tokens<IOfficeAttributes>, ExchangeError> {
    let attributes = IOfficeAttributes::default();
    response::tokens(&Bench::new().sender(), response, Unit::Milliseconds, attributes, Rejected)
}

fn class(status: u16, headers: &[(&str, &str)], body: &str) -> FailureClass {
    let failed = refresh(&response(status, headers, body)).unwrap_err();
    assert_eq!(failed.status(), Some(status));
    assert!(!shown(&failed).contains("canary"), "{failed:?}");
    failed.class()
}

const DENIED: &str = r#"{"error":"token_gone","errorDescription":"canary"}"#;

#[test]
fn hazard_11_the_unit_of_expires_in_is_milliseconds_or_seconds_as_set_and_never_guessed() {
    for (unit, said, life) in [
        (Unit::Milliseconds, "3600000", 3600),
        (Unit::Milliseconds, "3600", 3),
        (Unit::Milliseconds, "\"60000\"", 60),
        (Unit::Seconds, "3600", 3600),
        (Unit::Seconds, "59.5", 59),
    ] {
        let body = format!(r#"{{"access_token":"a","expires_in":{said}}}"#);
        let bench = Bench::new();
        let issued = response::tokens(
            &bench.sender(),
            &response(200, &[], body),
            unit,
            IOfficeAttributes::default(),
            Rejected,
        );
        let ends = issued.unwrap().access_expires_at().unwrap();
        let seconds = ends.duration_since(Bench::at(0)).unwrap().as_secs();
        assert_eq!(seconds, life, "{unit:?} {said}");
    }
    for odd in [r#"{"access_token":"a"}"#, r#"{"access_token":"a","expires_in":"soon"}"#] {
        assert_eq!(refresh(&response(200, &[], odd)).unwrap().access_expires_at(), None);
    }
    let old = client().expires_in_seconds();
    assert_eq!((client().unit, old.unit), (Unit::Milliseconds, Unit::Seconds));
}

#[test]
fn hazard_10_a_success_without_a_token_that_a_header_carries_is_a_lost_answer() {
    for body in [
        "",
        "{}",
        "null",
        "[]",
        "<html>canary</html>",
        r#"{"access_token":""}"#,
        r#"{"access_token":null}"#,
        r#"{"access_token":1}"#,
        r#"{"access_token":"canary\n"}"#,
        r#"{"access_token":"can ary"}"#,
        r#"{"access_token":"canary","refresh_token":"a\u0000"}"#,
        r#"{"access_token":"canary","refresh_token":{}}"#,
        r#"{"access_token":"canary"#,
    ] {
        assert_eq!(class(200, &[], body), Ambiguous, "{body}");
    }
    for failed in [
        r#"{"error":"unknown","errorDescription":"canary"}"#,
        r#"{"error":{"message":"canary"}}"#,
        r#"{"ok":false,"message":"canary"}"#,
    ] {
        assert_eq!(class(200, &[], failed), Unclassified, "{failed}");
    }
}

#[test]
fn a_refusal_in_the_vendors_form_is_final_at_a_refresh() {
    let standard = r#"{"error":"token_gone","error_description":"canary"}"#;
    for status in [400, 401, 403, 404, 409, 422] {
        for body in [DENIED, standard, r#"{"error":"invalid_grant"}"#] {
            assert_eq!(class(status, &[], body), Rejected, "{status} {body}");
        }
    }
    assert_eq!(class(401, &[], r#"{"error":"Unauthorized"}"#), Rejected);
    assert_eq!(class(403, &[], r#"{"errorDescription":"canary"}"#), Rejected);
}

#[test]
fn what_is_no_refusal_of_the_token_keeps_it() {
    for (status, headers, body, expected) in [
        (400, &[][..], "", Unclassified),
        (400, &[], "<html>canary</html>", Unclassified),
        (400, &[], r#"{"message":"canary"}"#, Unclassified),
        (401, &[], "", Unclassified),
        (403, &[], "<html>canary</html>", Unclassified),
        (404, &[], r#"{"error":"Not Found","path":"canary"}"#, Unclassified),
        (405, &[], r#"{"error":"Method Not Allowed"}"#, Unclassified),
        (401, &[], r#"{"error":"invalid_client","errorDescription":"canary"}"#, InvalidClient),
        (400, &[], r#"{"error":"invalid_scope"}"#, Unclassified),
        (400, &[], r#"{"error":"invalid_request"}"#, Unclassified),
        (302, &[("location", "https://canary.example")], "", Unclassified),
        (408, &[], DENIED, NotProcessed),
        (429, &[("retry-after", "7")], DENIED, Throttled),
        (500, &[], DENIED, Ambiguous),
        (502, &[], r#"{"error":"invalid_grant"}"#, Ambiguous),
        (503, &[("retry-after", "7")], "", NotProcessed),
    ] {
        assert_eq!(class(status, headers, body), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn no_failure_of_the_request_for_a_code_is_ambiguous_and_none_uses_a_code_twice() {
    let wrong = Refused(Refusal::WrongCredentials);
    for (status, body, expected) in [
        (401, "", wrong),
        (401, DENIED, wrong),
        (400, DENIED, wrong),
        (400, r#"{"error":"invalid_grant"}"#, wrong),
        (403, r#"{"error":"access_denied"}"#, Refused(Refusal::NotPermitted)),
        (401, r#"{"error":"invalid_client"}"#, InvalidClient),
        (404, "", Unclassified),
        (429, "", Throttled),
        (500, DENIED, NotProcessed),
        (200, "<html>", NotProcessed),
        (200, "{}", NotProcessed),
        (200, r#"{"code":"a b"}"#, NotProcessed),
    ] {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let (sender, client) = (bench.sender(), at(&peer));
        let grant = IOfficePassword::new("ada", "canary").into();
        let (issued, _) = join(client.establish(&sender, grant), peer.json(status, body)).await;
        let failed = issued.unwrap_err();
        assert_eq!(failed.class(), expected, "{status} {body}");
        assert!(!shown(&failed).contains("canary"));
    }
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, client) = (bench.sender(), at(&peer));
    let cut = async { drop(peer.accept().await) };
    let (issued, ()) =
        join(client.establish(&sender, IOfficePassword::new("a", "b").into()), cut).await;
    assert_eq!(issued.unwrap_err().class(), NotProcessed);
}

/// The result of this response to the exchange of the code.
async fn exchanged(grant: IOfficeGrant, status: u16, body: &str) -> FailureClass {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, client) = (bench.sender(), at(&peer));
    let is_password = matches!(grant, IOfficeGrant::Password(_));
    let server = async {
        if is_password {
            peer.json(200, r#"{"code":"c-1"}"#).await;
        }
        peer.json(status, body).await
    };
    let (issued, _) = join(client.establish(&sender, grant), server).await;
    issued.unwrap_err().class()
}

#[tokio::test]
async fn the_exchange_of_a_code_is_ambiguous_where_its_answer_is_lost() {
    for (grant, refused) in [
        (IOfficeGrant::from(IOfficePassword::new("ada", "ok")), Refusal::Other),
        (IOfficeCode::new("c-1").into(), Refusal::GrantExpired),
    ] {
        assert_eq!(exchanged(grant.clone(), 400, DENIED).await, Refused(refused));
        assert_eq!(exchanged(grant.clone(), 500, "").await, Ambiguous);
        assert_eq!(exchanged(grant, 200, "{}").await, Ambiguous);
    }
}

#[tokio::test]
async fn the_code_is_not_sent_when_too_little_of_the_budget_is_left() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let (sender, client) = (bench.sender(), at(&peer));
    let slow = async {
        let (mut stream, _) = peer.accept().await;
        bench.clock.advance(std::time::Duration::from_secs(6));
        let response = crate::transport::peer::json(200, r#"{"code":"c"}"#);
        tokio::io::AsyncWriteExt::write_all(&mut stream, response.as_bytes()).await.unwrap();
    };
    let (issued, ()) =
        join(client.establish(&sender, IOfficePassword::new("a", "b").into()), slow).await;
    assert_eq!(issued.unwrap_err().class(), FailureClass::NotSent);
}

#[test]
fn a_token_is_live_dead_or_not_judged() {
    let token_info = |status, body: &str| {
        TokenInfo.response(&Bench::new().sender(), (), &response(status, &[], body))
    };
    assert_eq!(token_info(200, "").unwrap(), (true, Effect::None));
    assert_eq!(token_info(204, "<html>").unwrap(), (true, Effect::None));
    for (status, body) in [(400, DENIED), (401, ""), (403, ""), (404, DENIED)] {
        assert_eq!(token_info(status, body).unwrap(), (false, Effect::AccessTokenDead), "{status}");
    }
    for (status, body, class) in [
        (404, "", Unclassified),
        (403, "<html>canary</html>", Unclassified),
        (400, "", Unclassified),
        (500, DENIED, Ambiguous),
        (429, "", Throttled),
    ] {
        let failed = token_info(status, body).unwrap_err();
        assert_eq!(failed.class(), class, "{status}");
        assert!(!shown(&failed).contains("canary"));
    }
    let revoking = |status, body: &str| {
        IOfficeRevokeAccessToken.response(&Bench::new().sender(), (), &response(status, &[], body))
    };
    assert_eq!(revoking(200, "").unwrap().1, Effect::AccessTokenDead);
    assert_eq!(revoking(400, DENIED).unwrap().1, Effect::AccessTokenDead);
    assert_eq!(revoking(405, "").unwrap_err().class(), Unclassified);
}

/// Nothing panics, no error shows the body, and a success has a token that a header can carry.
fn check(bench: &Bench, status: u16, body: &[u8]) -> Result<(), TestCaseError> {
    let (sender, response) = (bench.sender(), response(status, &[], body));
    let attributes = IOfficeAttributes::default();
    match response::tokens(&sender, &response, Unit::Milliseconds, attributes, Rejected) {
        Ok(tokens) => {
            prop_assert!((200..300).contains(&status));
            let token = tokens.access_token().unwrap().expose_secret().to_owned();
            prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        Err(failed) => {
            let code = failed.code.as_ref().map_or("", |code| code.as_str());
            prop_assert!(code.contains("canary") || !shown(&failed).contains("canary"));
            prop_assert!(status < 500 || matches!(failed.class(), Ambiguous | NotProcessed));
            prop_assert!(
                !(200..300).contains(&status)
                    || failed.class() != Rejected
                    || code == "invalid_grant"
            );
        }
    }
    for result in [
        response::code(&sender, &response).map(drop),
        response::is_valid(&sender, &response).map(drop),
        revoked(&sender, &response),
    ] {
        if let Err(failed) = result {
            prop_assert!(failed.code.is_some() || !shown(&failed).contains("canary"));
        }
    }
    Ok(())
}

#[test]
fn no_body_panics_or_is_shown() {
    let bench = Bench::new();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let statuses = proptest::sample::select(&[200_u16, 204, 400, 401, 403, 404, 500, 503][..]);
    proptest!(config.clone(), |(status in statuses.clone(), body in many(any::<u8>(), 0..200))| {
        check(&bench, status, &body)?;
    });
    let valid = vec![GOOD, DENIED, r#"{"code":"canary"}"#, r#"{"error":"invalid_grant"}"#];
    let valid = proptest::sample::select(valid);
    let edits = many((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6);
    proptest!(config, |(status in statuses, valid in valid, edits in edits)| {
        let mut body = valid.as_bytes().to_vec();
        for (at, byte, edit) in edits {
            let at = at.index(body.len() + 1);
            match edit {
                0 => body.insert(at, byte),
                1 => body.truncate(at),
                _ if at < body.len() => body[at] = byte,
                _ => body.push(byte),
            }
        }
        check(&bench, status, &body)?;
    });
}
