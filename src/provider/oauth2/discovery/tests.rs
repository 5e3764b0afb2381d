//! Reading the metadata documents of a server.

use std::pin::pin;

use FailureClass as Class;
use futures_util::future::{Either, join, select};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::policy::Policy;
use crate::provider::oauth2::{Attributes, OAuth2};
use crate::provider::test_bench::Bench;
use crate::provider::{Provider, Revoked};
use crate::token::Tokens;
use crate::transport::peer::{Peer, json};

#[test]
fn the_well_known_path_goes_before_the_issuers_path_and_openids_behind_it() {
    let plain = Issuer::new("https://as.example/").unwrap();
    assert_eq!(plain.oauth().as_str(), "https://as.example/.well-known/oauth-authorization-server");
    assert_eq!(plain.openid().as_str(), "https://as.example/.well-known/openid-configuration");
    let deep = Issuer::new("https://as.example/realms/a/").unwrap();
    assert_eq!(
        deep.oauth().as_str(),
        "https://as.example/.well-known/oauth-authorization-server/realms/a"
    );
    assert_eq!(
        deep.openid().as_str(),
        "https://as.example/realms/a/.well-known/openid-configuration"
    );
}

#[test]
fn an_https_issuer_names_no_plain_http_endpoint_on_another_machine() {
    let named = |issuer: &str, endpoint: &str| {
        let issuer = Issuer::new(issuer).unwrap();
        http_message::endpoint_of(issuer.url(), endpoint).map(drop)
    };
    let refused = named("https://as.example", "http://as.example/token").unwrap_err();
    assert!(refused.to_string().contains("http://as.example/token"), "{refused}");
    named("https://as.example", "http://127.0.0.1/token").unwrap();
    named("https://as.example", "https://other.example/token").unwrap();
    named("http://keycloak:8080", "http://keycloak:9000/token").unwrap();
    named("http://keycloak:8080", "http://other:8080/token").unwrap_err();
}

#[test]
fn an_issuer_is_an_http_or_https_url_without_query_or_fragment() {
    for name in ["ftp://as.example", "https://as.example/?a", "https://as.example/#a", "as"] {
        assert_eq!(Issuer::new(name).err().unwrap().kind(), ErrorKind::InvalidInput, "{name}");
    }
    Issuer::new("http://127.0.0.1:8080/realm").map(drop).unwrap();
}

/// The metadata of the server at `issuer`, with endpoints there.
fn metadata(issuer: &str) -> String {
    format!(
        r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/t","revocation_endpoint":"{issuer}/r",
            "grant_types_supported":["password"]}}"#
    )
}

#[tokio::test]
async fn metadata_is_asked_for_once_and_where_openid_has_it_if_it_is_not_found() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let issuer = peer.url("/realm");
    let client = OAuth2::discover(&issuer, "c").unwrap();
    assert_eq!(client.authority_url().as_str(), issuer);
    let sender = bench.sender();
    let serve = async {
        let first = peer.json(404, "").await;
        assert!(first.starts_with("GET /.well-known/oauth-authorization-server/realm "), "{first}");
        let second = peer.json(200, &metadata(&issuer)).await;
        assert!(second.starts_with("GET /realm/.well-known/openid-configuration "), "{second}");
    };
    join(client.prepare(&sender), serve).await.0.unwrap();
    client.prepare(&sender).await.unwrap();

    let held = Tokens::new(Attributes::default()).with_refresh_token("rt-0", None);
    let issued = r#"{"access_token":"at-1"}"#;
    let (_, seen) =
        join(client.refresh(&sender, held.refresh_token().unwrap(), &held), peer.json(200, issued))
            .await;
    assert!(seen.starts_with("POST /realm/t "), "{seen}");
    let (revoked, seen) = join(client.revoke(&sender, &held), peer.json(200, "")).await;
    assert_eq!(revoked.unwrap(), Revoked::AtServer);
    assert!(seen.starts_with("POST /realm/r "), "{seen}");
}

/// RFC 8705 section 5.
#[test]
fn a_client_with_a_certificate_uses_the_endpoints_for_such_clients() {
    let (plain, certified) = (Issuer::new("https://as.example"), Issuer::new("https://as.example"));
    let (plain, certified) = (plain.unwrap(), certified.unwrap().certified());
    let endpoints = |issuer: &Issuer, aliases: &str| {
        let metadata = metadata("https://as.example");
        let metadata = metadata.trim_end().trim_end_matches('}');
        let text = format!(r#"{metadata},"mtls_endpoint_aliases":{aliases}}}"#);
        let metadata: Metadata = serde_json::from_str(&text).unwrap();
        let endpoints = metadata.document(issuer).ok().unwrap();
        [Some(endpoints.token), endpoints.optional.revocation, endpoints.optional.introspection]
            .map(|url| url.map(String::from).unwrap_or_default())
    };
    let aliases = r#"{"token_endpoint":"https://mtls.as.example/t",
        "introspection_endpoint":"https://mtls.as.example/i"}"#;
    let usual = ["https://as.example/t", "https://as.example/r", ""];
    assert_eq!(endpoints(&plain, aliases), usual);
    let own = ["https://mtls.as.example/t", "https://as.example/r", "https://mtls.as.example/i"];
    assert_eq!(endpoints(&certified, aliases), own);
    for unusable in ["null", "7", "{}"] {
        assert_eq!(endpoints(&certified, unusable), usual, "{unusable}");
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_used_is_not_kept_and_puts_nothing_in_doubt() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let issuer = peer.url("");
    let client = OAuth2::discover(&issuer, "c").unwrap();
    let good = metadata(&issuer);
    for (status, body, class) in [
        (200, metadata("https://other.example"), Class::Misconfigured),
        (200, metadata(&format!("{issuer}/")), Class::Misconfigured),
        (200, good.replace("http:", "ftp:"), Class::Misconfigured),
        (200, good.replace(&format!("{issuer}/t"), "http://as.example/"), Class::Misconfigured),
        (200, format!(r#"{{"issuer":"{issuer}"}}"#), Class::Misconfigured),
        (200, "canary".to_owned(), Class::Misconfigured),
        (204, String::new(), Class::NotProcessed),
        (429, String::new(), Class::Throttled),
        (500, String::new(), Class::NotProcessed),
    ] {
        let sender = bench.sender();
        let prepared = peer.json_then_404(status, &body, client.prepare(&sender)).await;
        let failed = prepared.unwrap_err();
        assert_eq!(failed.class(), class, "{status} {body}");
        let path = "/.well-known/oauth-authorization-server";
        assert_eq!((failed.status(), failed.path()), (Some(status), Some(path)));
        assert!(!format!("{failed:?}").contains("canary"));
        let text = failed.into_error().to_string();
        let named = text.contains(&format!("answered {status}"))
            && text.contains(&format!(" at {issuer}{path}"))
            && text.contains(" metadata of the configured issuer");
        assert_eq!(named, class == Class::Misconfigured, "{text}");
    }
    let sender = bench.sender();
    let (prepared, _) = join(client.prepare(&sender), peer.answer("HTTP/1.1 20")).await;
    assert_eq!(prepared.unwrap_err().class(), Class::NotProcessed);
    let sender = bench.sender();
    peer.json_then_404(200, &good, client.prepare(&sender)).await.unwrap();
}

/// A document with a member `name` for each of these.
fn with_endpoints(issuer: &str, base: &str, names: &[&str]) -> String {
    let names = names.iter().map(|name| format!(r#","{name}_endpoint":"{base}/{name}""#));
    let names: String = names.collect();
    format!(r#"{{"issuer":"{issuer}","token_endpoint":"{base}/token"{names}}}"#)
}

/// The result of a discovery at a server with these two documents, and the number of requests.
async fn discovered(
    peer: &Peer,
    first: (u16, &str),
    second: (u16, &str),
) -> (Exchanged<Discovered>, usize) {
    let (bench, issuer) = (Bench::new(), Issuer::new(&peer.url("")).unwrap());
    let sender = bench.sender();
    let mut requests = 0;
    let serve = async {
        for (status, body) in [first, second] {
            let (mut stream, _) = peer.accept().await;
            requests += 1;
            stream.write_all(json(status, body).as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let found = until_ended(issuer.discover(&sender), serve).await;
    (found, requests)
}

async fn until_ended<T>(client: impl Future<Output = T>, serve: impl Future) -> T {
    match select(pin!(client), pin!(serve)).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("the server ended before the client"),
    }
}

/// The paths of the optional endpoints, in the order of [`OptionalEndpoints`].
fn paths(found: &Discovered) -> [&str; 4] {
    let [usual @ .., _pushed, _device] = found.endpoints.optional.members();
    usual.map(|url| url.map_or("", Url::path))
}

#[tokio::test]
async fn each_member_comes_from_the_first_document_that_has_it() {
    let peer = Peer::start().await;
    let issuer = peer.url("");
    let promise = |document: String, value: bool| {
        let member = "authorization_response_iss_parameter_supported";
        document.replacen('{', &format!("{{\"{member}\":{value},"), 1)
    };
    let at =
        |base: &str, names: &[&str]| with_endpoints(&issuer, &format!("{issuer}{base}"), names);
    let first = at("/1", &["revocation", "introspection"]);
    let second = at("/2", &["authorization", "revocation", "userinfo"]);
    let second = promise(second, true);
    let (found, _) = discovered(&peer, (200, &first), (200, &second)).await;
    let found = found.unwrap();
    assert_eq!(found.endpoints.token.path(), "/1/token");
    let merged = ["/2/authorization", "/1/introspection", "/1/revocation", "/2/userinfo"];
    assert_eq!(paths(&found), merged);
    assert!(found.endpoints.names_issuer && !found.is_partial);

    // The first document says that the issuer is not named, so the second does not count.
    let (found, _) = discovered(&peer, (200, &promise(first, false)), (200, &second)).await;
    assert!(!found.unwrap().endpoints.names_issuer);
    // An endpoint that may not be used is as good as none.
    let unusable = at("/1", &["userinfo"]);
    let unusable = unusable.replace(&format!("{issuer}/1/userinfo"), "ftp://as.example/");
    let (found, _) = discovered(&peer, (200, &unusable), (200, &second)).await;
    assert_eq!(paths(&found.unwrap())[3], "/2/userinfo");
}

#[tokio::test]
async fn a_first_document_that_lacks_nothing_is_the_only_one_that_is_requested() {
    let peer = Peer::start().await;
    let issuer = peer.url("");
    let all = ["authorization", "introspection", "revocation", "userinfo"];
    let document = with_endpoints(&issuer, &issuer, &all);
    let supported = r#"{"authorization_response_iss_parameter_supported":false,"#;
    let complete = document.replacen('{', supported, 1);
    for (first, requests) in [(&complete, 1), (&document, 2)] {
        let (found, seen) = discovered(&peer, (200, first), (404, "")).await;
        assert_eq!((found.unwrap().is_partial, seen), (false, requests));
    }
}

#[tokio::test]
async fn every_answer_but_429_leads_to_the_other_document() {
    let peer = Peer::start().await;
    let issuer = peer.url("");
    let good = with_endpoints(&issuer, &issuer, &["revocation"]);
    let of_another = with_endpoints("https://other.example", &issuer, &["userinfo"]);
    let html = "<!doctype html><title>Not here</title>";
    let finals = [400, 401, 403, 404, 405, 410, 301, 302, 307].map(|status| (status, ""));
    let finals = finals.into_iter().chain([(200, html), (200, &*of_another), (200, "[]")]);
    let passing = [500, 501, 502, 503, 504, 408, 204].map(|status| (status, html));
    let unusable = finals.map(|answer| (answer, false));
    for (answer, is_partial) in unusable.chain(passing.map(|answer| (answer, true))) {
        for documents in [(answer, (200, &*good)), ((200, &*good), answer)] {
            let (found, requests) = discovered(&peer, documents.0, documents.1).await;
            let found = found.unwrap();
            assert_eq!(paths(&found), ["", "", "/revocation", ""], "{answer:?}");
            assert_eq!((found.is_partial, requests), (is_partial, 2), "{answer:?}");
        }
    }
    let (failed, requests) = discovered(&peer, (429, ""), (200, &good)).await;
    assert_eq!((failed.err().unwrap().class(), requests), (Class::Throttled, 1));
    let (found, _) = discovered(&peer, (200, &good), (429, "")).await;
    assert!(found.unwrap().is_partial);
}

#[tokio::test]
async fn of_two_failures_the_one_that_passes_or_says_more_is_reported() {
    let peer = Peer::start().await;
    let issuer = peer.url("");
    let of_another = with_endpoints("https://other.example", &issuer, &[]);
    let of_another = of_another.as_str();
    let [first, second] = ["oauth-authorization-server", "openid-configuration"]
        .map(|name| format!("/.well-known/{name}"));
    for (answers, class, status, path) in [
        ([(404, ""), (404, "")], Class::Misconfigured, 404, &second),
        ([(500, ""), (502, "")], Class::NotProcessed, 500, &first),
        ([(500, ""), (404, "")], Class::NotProcessed, 500, &first),
        ([(404, ""), (503, "")], Class::NotProcessed, 503, &second),
        ([(200, of_another), (503, "")], Class::NotProcessed, 503, &second),
        ([(404, ""), (429, "")], Class::Throttled, 429, &second),
        ([(200, of_another), (404, "")], Class::Misconfigured, 200, &first),
        ([(404, ""), (200, of_another)], Class::Misconfigured, 200, &second),
        ([(200, of_another), (200, of_another)], Class::Misconfigured, 200, &first),
    ] {
        let (found, requests) = discovered(&peer, answers[0], answers[1]).await;
        let failed = found.err().unwrap();
        let reported = (failed.class(), failed.status(), failed.path());
        assert_eq!(reported, (class, Some(status), Some(path.as_str())), "{answers:?}");
        assert_eq!(requests, 2);
    }
    for (statuses, advice) in [
        ([404, 404], "check the URL"),
        ([302, 404], "the crate follows no redirect, so use the URL that the server redirects to"),
        ([404, 401], "check the URL and the settings of the provider"),
    ] {
        let [there, here] = statuses;
        let (found, _) = discovered(&peer, (there, ""), (here, "")).await;
        assert_eq!(
            found.err().unwrap().into_error().to_string(),
            format!(
                "wrong configuration: the server answered {there} at {issuer}{first} and \
                 {here} at {issuer}{second}, where metadata of the configured issuer was \
                 expected; {advice}"
            )
        );
    }
}

#[tokio::test]
async fn a_second_document_that_does_not_come_in_time_is_done_without() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let issuer = peer.url("");
    let good = with_endpoints(&issuer, &issuer, &["revocation"]);
    let issuer = Issuer::new(&issuer).unwrap();
    let sender = bench.sender();
    let serve = async {
        peer.json(200, &good).await;
        let (stream, _) = peer.accept().await;
        bench.clock.advance(METADATA_WAIT);
        stream
    };
    let (found, _stream) = join(issuer.discover(&sender), serve).await;
    let found = found.unwrap();
    assert_eq!((paths(&found)[2], found.is_partial), ("/revocation", true));
}

#[tokio::test]
async fn a_second_request_for_which_no_time_is_left_is_not_sent() {
    let (bench, peer) = (Bench::new(), Peer::start().await);
    let issuer = peer.url("");
    let good = with_endpoints(&issuer, &issuer, &["revocation"]);
    let issuer = Issuer::new(&issuer).unwrap();
    for (status, body) in [(200, good.as_str()), (404, "")] {
        let sender = bench.sender();
        let serve = async {
            let (mut stream, _) = peer.accept().await;
            bench.clock.advance(Policy::default().attempt_budget);
            stream.write_all(json(status, body).as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        match until_ended(issuer.discover(&sender), serve).await {
            Ok(found) => assert!(status == 200 && found.is_partial),
            Err(failed) => assert_eq!((failed.class(), status), (Class::NotSent, 404)),
        }
    }
}
