//! The vendors' dialects: faults, counters and clock mean what they mean for OAuth 2.0.

use serde_json::json;

use super::*;

/// A server of this dialect, and the refresh token of a session at it.
async fn signed_in(dialect: FakeDialect) -> (FakeAuthServer, String) {
    let server = FakeAuthServer::builder().dialect(dialect).start().await.unwrap();
    let peer = Peer::new(&server);
    let token = if dialect == FakeDialect::Circle {
        let made = peer.json("POST", "/api/v1/headless/auth_token", &json!({ "email": "a@b.c" }));
        answer(made).await.1["refresh_token"].clone()
    } else {
        let body = json!({
            "tokenId": "device", "permissions": [], "securityTokens": [server.security_token("ada")],
        });
        let made = answer(peer.json("POST", "/api/permission/issue-by-factors", &body)).await.1;
        made["data"]["permissionRefreshToken"]["permissionRefreshToken"].clone()
    };
    (server, token.as_str().unwrap().to_owned())
}

impl Peer<'_> {
    fn json(&self, method: &str, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.server.url());
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth("app");
        let request = request.header("request-id", "0b0b0b0b-1111-4222-8333-444444444444");
        request.header(CONTENT_TYPE, "application/json").body(body.to_string())
    }

    fn vendor_refresh(&self, dialect: FakeDialect, token: &str) -> reqwest::RequestBuilder {
        if dialect == FakeDialect::Circle {
            let body = json!({ "refresh_token": token });
            return self.json("PATCH", "/api/v1/headless/access_token/refresh", &body);
        }
        let body = json!({ "permissionRefreshToken": token });
        self.json("POST", "/api/permission/refresh", &body)
    }
}

const DIALECTS: [FakeDialect; 2] = [FakeDialect::Spatium, FakeDialect::Circle];

/// Whether it is processed, and the status of the answer; none if there is no whole one.
fn faults() -> Vec<(Fault, bool, Option<u16>)> {
    let status = |code| Fault::Status { code, retry_after: None, body: None };
    vec![
        (Fault::CloseBeforeProcessing, false, None),
        (status(503), false, Some(503)),
        (Fault::OAuthError { status: 400, code: "no".to_owned() }, false, Some(400)),
        (Fault::RedirectTo("http://127.0.0.1:1/".to_owned()), false, Some(307)),
        (Fault::Delay(Duration::ZERO), true, Some(200)),
        (Fault::DropAfterCommit, true, None),
        (Fault::StatusAfterCommit(502), true, Some(502)),
        (Fault::BodyAfterCommit(b"{}".to_vec()), true, Some(200)),
        (Fault::Malformed, true, Some(200)),
        (Fault::WrongTypes, true, Some(200)),
        (Fault::Html, true, Some(200)),
        (Fault::Empty200, true, Some(200)),
        (Fault::NoAccessToken, true, Some(200)),
        (Fault::TornBody, true, None),
        (Fault::SlowBody(Duration::ZERO), true, Some(200)),
    ]
}

async fn whole(request: reqwest::RequestBuilder) -> Option<(u16, String)> {
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.text().await.ok()?))
}

#[tokio::test]
async fn every_fault_is_processed_or_not_and_answered_as_it_is_said_to_be() {
    for dialect in DIALECTS {
        for (fault, processed, status) in faults() {
            let (server, token) = signed_in(dialect).await;
            server.fail_next(Endpoint::RefreshToken, fault.clone());
            let reply = whole(Peer::new(&server).vendor_refresh(dialect, &token)).await;
            assert_eq!(reply.map(|reply| reply.0), status, "{dialect:?} {fault:?}");
            let counts = server.counts();
            let expected = (1, u64::from(processed));
            let tally = counts.refresh_token;
            assert_eq!((tally.requests, tally.granted), expected, "{dialect:?} {fault:?}");
            assert_eq!(counts.refreshes, u64::from(processed), "{dialect:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn held_requests_wait_before_or_after_they_are_processed_in_every_dialect() {
    for dialect in DIALECTS {
        for (fault, refreshes) in [(Fault::HoldBeforeProcessing, 0), (Fault::HoldUntilReleased, 1)]
        {
            let (server, token) = signed_in(dialect).await;
            server.fail_next(Endpoint::RefreshToken, fault);
            let peer = Peer::new(&server);
            let request = answer(peer.vendor_refresh(dialect, &token));
            let ((status, _), ()) = tokio::join!(request, async {
                server.held(1).await;
                assert_eq!(server.refreshes(), refreshes);
                server.release();
            });
            assert_eq!((status, server.refreshes()), (200, 1));
        }
    }
}

#[tokio::test]
async fn a_spoilt_answer_has_no_token_that_could_be_used() {
    for dialect in DIALECTS {
        for fault in [Fault::NoAccessToken, Fault::WrongTypes] {
            let (server, token) = signed_in(dialect).await;
            server.fail_next(Endpoint::RefreshToken, fault);
            let reply = answer(Peer::new(&server).vendor_refresh(dialect, &token)).await.1;
            let access = if dialect == FakeDialect::Circle {
                reply["access_token"].clone()
            } else {
                reply["data"]["permissionToken"]["permissionToken"].clone()
            };
            assert!(reply.is_object() && !access.is_string(), "{reply}");
        }
    }
}

#[tokio::test]
async fn a_spatium_token_that_comes_again_ends_its_grant_and_a_circle_token_serves_on() {
    for (dialect, again, reuses) in [(FakeDialect::Spatium, 401, 1), (FakeDialect::Circle, 200, 0)]
    {
        let (server, token) = signed_in(dialect).await;
        let peer = Peer::new(&server);
        let first = answer(peer.vendor_refresh(dialect, &token)).await;
        let second = answer(peer.vendor_refresh(dialect, &token)).await;
        assert_eq!((first.0, second.0), (200, again));
        let counts = server.counts();
        assert_eq!((counts.reuses_detected, counts.grants_revoked), (reuses, reuses));
        assert_eq!((counts.presented_twice, server.times_presented(&token)), (1, 2));
        assert_eq!(counts.of(Endpoint::RefreshToken), counts.refresh_token);
    }
}

#[tokio::test]
async fn an_answer_is_dated_by_the_servers_clock() {
    let clock = ManualClock::new();
    clock.step_wall(3600);
    let server = FakeAuthServer::builder().clock(clock).start().await.unwrap();
    let response = Peer::new(&server).login_request().send().await.unwrap();
    assert_eq!(response.headers()["date"], "Wed, 01 Jan 2025 01:00:00 GMT");
}
