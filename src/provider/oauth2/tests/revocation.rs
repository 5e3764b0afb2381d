//! Revocation.

use super::*;

/// What is sent to revoke `held`, and the result of the response.
async fn revoking(
    held: &Tokens<Attributes>,
    status: u16,
    body: &str,
) -> (Result<Revoked, ExchangeError>, Seen) {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let client = client().revocation_endpoint(&peer.url("/revoke")).unwrap();
    let sender = bench.sender();
    let (revoked, seen) = join(client.revoke(&sender, held), peer.json(status, body)).await;
    (revoked, Seen::new(&seen))
}

#[tokio::test]
async fn the_refresh_token_is_revoked_or_the_access_token_where_there_is_no_other() {
    let (revoked, seen) = revoking(&held(), 200, "").await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    assert!(seen.head.starts_with("POST /revoke "), "{}", seen.head);
    let hint = ("token_type_hint", "refresh_token");
    seen.assert_fields(&[("token", "r+/=é"), hint, ("client_id", "app")]);

    let access = Tokens::new(Attributes::default()).with_access_token("a&b", None);
    let (revoked, seen) = revoking(&access, 200, "<html>").await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    seen.assert_fields(&[
        ("token", "a&b"),
        ("token_type_hint", "access_token"),
        ("client_id", "app"),
    ]);
}

#[tokio::test]
async fn without_an_endpoint_or_a_token_there_is_nothing_to_revoke() {
    let bench = Bench::new();
    let nothing = Tokens::new(Attributes::default());
    let with_endpoint = client().revocation_endpoint("https://as.example/revoke").unwrap();
    for (client, held) in [(client(), held()), (with_endpoint, nothing)] {
        let revoked = client.revoke(&bench.sender(), &held).await.unwrap();
        assert_eq!(revoked, Revoked::NotSupported);
    }
}

#[test]
fn a_revocation_is_done_when_the_server_does_not_know_the_token() {
    let bench = Bench::new();
    let sender = bench.sender();
    let revoked =
        |status, code: &str| revoked(&sender, &response(status, &[], refusing(code)), &[]);
    assert_eq!(revoked(400, "invalid_token").unwrap(), Revoked::AtServer);
    assert_eq!(revoked(400, "invalid_grant").unwrap(), Revoked::AtServer);
    assert_eq!(revoked(400, "unsupported_token_type").unwrap(), Revoked::NotSupported);
    for (status, code, expected) in [
        (401, "invalid_client", InvalidClient),
        (403, "", Unclassified),
        (307, "invalid_token", Unclassified),
        (429, "", Throttled),
        (500, "invalid_token", Ambiguous),
        (503, "", NotProcessed),
        (503, "invalid_token", NotProcessed),
    ] {
        assert_eq!(revoked(status, code).unwrap_err().class(), expected, "{status} {code}");
    }
}
