//! Plain HTTP to named hosts.

use std::io;
use std::sync::Mutex;

use super::*;
use crate::transport::resolver::tests::NameServer;

/// The port of a peer, under the name that the name server knows.
fn named(peer: &Peer, path: &str) -> String {
    peer.url(path).replace("127.0.0.1", "good")
}

#[tokio::test]
async fn plain_http_reaches_the_private_address_of_a_named_host_and_no_other_host() {
    let (names, peer) = (NameServer::start().await, Peer::start().await);
    let config = TransportConfig::default().name_servers([names.address]);
    let transport = Transport::new(&config.clone().allow_http_hosts(["good"])).unwrap();
    let sent = send(&transport, post(&named(&peer, "/token")));
    let (answer, seen) = join(sent, peer.json(200, "{}")).await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert!(seen.starts_with("POST /token HTTP/1.1\r\n"), "{seen}");

    let other = Transport::new(&config.clone().allow_http_hosts(["other"])).unwrap();
    let none = Transport::new(&config.allow_loopback_http()).unwrap();
    for transport in [&other, &none] {
        let fault = send(transport, post(&named(&peer, "/token"))).await.unwrap_err();
        assert!(matches!(fault, SendError::Address(Refused::NotHttps)), "{fault:?}");
    }
}

#[tokio::test]
async fn a_redirect_of_a_named_host_is_not_followed() {
    let (names, peer) = (NameServer::start().await, Peer::start().await);
    let config = TransportConfig::default().name_servers([names.address]);
    let transport = Transport::new(&config.allow_http_hosts(["good"])).unwrap();
    let elsewhere = named(&peer, "/elsewhere");
    let redirect = format!(
        "HTTP/1.1 307 Elsewhere\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\nconnection: \
         close\r\n\r\n"
    );
    let sent = send(&transport, post(&named(&peer, "/token")));
    let (answer, _) = join(sent, peer.answer(redirect)).await;
    assert_eq!(answer.unwrap().status(), StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn plain_http_to_a_named_host_is_for_our_own_providers_and_goes_past_a_proxy() {
    let (names, peer, proxy) =
        (NameServer::start().await, Peer::start().await, Peer::start().await);
    let config = TransportConfig::default().name_servers([names.address]);
    let config = config.allow_http_hosts(["good"]);
    let proxied = config.clone().proxy(&proxy.url("")).unwrap();
    let transport = Transport::new(&proxied).unwrap();
    let sent = send(&transport, post(&named(&peer, "/token")));
    let (answer, _) = join(sent, peer.json(200, "{}")).await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);

    let url = Url::parse(&named(&peer, "/token")).unwrap();
    let tenants = Transport::new(&config.for_tenants().unwrap()).unwrap();
    assert_eq!(tenants.check(&url), Err(Refused::NotHttps));
    let allowed = config.tenants_reach_internal_addresses();
    assert!(allowed.for_tenants().is_none(), "tenants share our own transport then");
}

#[test]
fn a_name_that_is_none_and_public_addresses_only_are_refused() {
    for host in ["http://keycloak:8080", "keycloak:8080", "*.internal", ""] {
        let config = TransportConfig::default().allow_http_hosts([host]);
        let refused = Transport::new(&config).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{host}");
        assert!(refused.to_string().contains("write the name alone"), "{refused}");
    }
    let public = TransportConfig::default().public_addresses_only();
    let refused = Transport::new(&public.allow_http_hosts(["keycloak"])).err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("`allow_http_hosts` contradict"), "{refused}");
}

/// What is logged while the transport is made.
fn logged(config: &TransportConfig) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), || Transport::new(config).map(drop))
        .unwrap();
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_transport_warns_about_hosts_with_plain_http() {
    let warning = logged(&TransportConfig::default().allow_http_hosts(["keycloak", "vault"]));
    assert!(warning.contains("WARN") && warning.contains(r#"["keycloak", "vault"]"#), "{warning}");
    assert_eq!(warning.matches("WARN").count(), 1, "{warning}");
    assert_eq!(logged(&TransportConfig::default().allow_loopback_http()), "");
}
