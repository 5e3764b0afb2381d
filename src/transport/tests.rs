use std::error::Error as StdError;
use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join;
use http::{Request, Response, StatusCode};
use tokio::io::AsyncWriteExt;

use super::peer::{Peer, json, send};
use super::*;

mod plain_http;
mod timing;

fn local() -> Transport {
    Transport::new(&TransportConfig::default().allow_loopback_http()).unwrap()
}

fn post(url: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::from_static(b"refresh_token=canary")).unwrap()
}

/// What the transport makes of an answer that is sent as it stands.
async fn response_to(answer: impl AsRef<[u8]>) -> Result<Response<Bytes>, SendError> {
    let peer = Peer::start().await;
    let (answer, _) = join(send(&local(), post(&peer.url("/"))), peer.answer(answer)).await;
    answer
}

/// The error and all its causes, as a log would show them.
fn shown(fault: &SendError) -> String {
    let mut text = format!("{fault:?} {fault}");
    let mut next = fault.source();
    while let Some(cause) = next {
        text.push_str(&format!(" {cause:?} {cause}"));
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn an_answer_comes_whole_and_is_asked_for_as_json_that_is_not_compressed() {
    let peer = Peer::start().await;
    let (transport, request) = (local(), post(&peer.url("/token?tenant=a")));
    let (answer, seen) = join(send(&transport, request), peer.json(400, "{}")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(&answer.body()[..], b"{}");
    assert!(seen.starts_with("POST /token?tenant=a HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("accept: application/json\r\n"), "{seen}");
    assert_eq!(seen.matches("accept-encoding: ").count(), 1, "{seen}");
    assert!(seen.contains("\r\naccept-encoding: identity\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\nrefresh_token=canary"), "{seen}");
    for absent in ["cookie", "referer"] {
        assert!(!seen.contains(absent), "{seen}");
    }
}

#[tokio::test]
async fn a_refused_port_and_an_unknown_name_are_not_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{free}/canary"), "https://canary.invalid/".to_owned()] {
        let fault = send(&local(), post(&url)).await.unwrap_err();
        assert!(matches!(fault, SendError::NotSent(_)), "{fault:?}");
        assert!(!shown(&fault).contains("/canary"), "{}", shown(&fault));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_not_http_is_ambiguous() {
    let broken: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 20",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"access_token\":\"canary",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"acc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\ncanary",
    ];
    for answer in broken {
        let fault = response_to(answer).await.unwrap_err();
        assert!(matches!(fault, SendError::Ambiguous(_)), "{fault:?}");
        assert!(!shown(&fault).contains("canary"), "{}", shown(&fault));
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_ambiguous() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for n in 0..200 {
        write!(head, "x-{n}: y\r\n").unwrap();
    }
    assert!(matches!(response_to(head).await.unwrap_err(), SendError::Ambiguous(_)));
}

/// A body in one chunk, and the chunk that ends it. An empty one is only that.
fn chunked(body: &str) -> String {
    let chunk = match body.len() {
        0 => String::new(),
        length => format!("{length:x}\r\n{body}\r\n"),
    };
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n")
}

#[tokio::test]
async fn a_body_of_the_longest_length_is_read_and_one_byte_more_is_not() {
    for (length, fits) in [(0, true), (MAX_BODY_BYTES, true), (MAX_BODY_BYTES + 1, false)] {
        let body = "x".repeat(length);
        for answer in [json(200, &body), chunked(&body)] {
            let peer = Peer::start().await;
            let serve = async {
                let (mut stream, _) = peer.accept().await;
                // The reader may be gone before the end.
                let _ = stream.write_all(answer.as_bytes()).await;
            };
            let (answer, ()) = join(send(&local(), post(&peer.url("/"))), serve).await;
            match answer {
                Ok(answer) => assert!(fits && answer.body() == body.as_bytes(), "{length}"),
                Err(fault) => {
                    assert!(matches!(fault, SendError::TooLarge) && !fits, "{length} {fault:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_body_without_end_is_read_to_the_cap_and_no_further() {
    let peer = Peer::start().await;
    let flood = async {
        let (mut stream, _) = peer.accept().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut written = 0;
        while let Ok(more) = stream.write(&[b'x'; 8192]).await {
            written += more;
        }
        written
    };
    let (answer, written) = join(send(&local(), post(&peer.url("/"))), flood).await;
    assert!(matches!(answer, Err(SendError::TooLarge)));
    // What is beyond the cap lies in the two sockets' buffers.
    assert!(written < 64 * MAX_BODY_BYTES, "{written}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_the_other_host_hears_nothing() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let target = other.local_addr().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let answer = response_to(format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        assert_eq!(answer.unwrap().status().as_u16(), status);
    }
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_address_that_is_refused_is_not_connected_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let strict = Transport::new(&TransportConfig::default()).unwrap();
    let listed = TransportConfig::default().allow_loopback_http().allow_hosts(["as.example"]);
    let listed = Transport::new(&listed).unwrap();
    for (transport, url, refused) in [
        (&strict, format!("http://127.0.0.1:{port}/"), Refused::NotHttps),
        (&local(), format!("http://localhost:{port}/"), Refused::NotHttps),
        (&local(), format!("http://u:p@127.0.0.1:{port}/"), Refused::UserInfo),
        (&listed, format!("http://127.0.0.1:{port}/"), Refused::NotAllowed),
        (&strict, "/token".to_owned(), Refused::Malformed),
    ] {
        let fault = send(transport, post(&url)).await.unwrap_err();
        assert!(matches!(fault, SendError::Address(why) if why == refused), "{url} {fault:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn public_only_refuses_private_addresses_and_names_that_lead_to_them() {
    let public = Transport::new(&TransportConfig::default().public_addresses_only()).unwrap();
    for host in ["127.0.0.1:1", "10.0.0.1", "[::1]", "169.254.169.254", "localhost:1", "0x7f.1"] {
        let fault = send(&public, post(&format!("https://{host}/"))).await.unwrap_err();
        assert!(matches!(fault, SendError::Address(Refused::NotPublic)), "{host} {fault:?}");
    }
}

#[test]
fn settings_that_contradict_each_other_or_cannot_be_read_are_refused() {
    let public = || TransportConfig::default().public_addresses_only();
    for config in [public().allow_loopback_http(), public().proxy("http://p.example").unwrap()] {
        let refused = Transport::new(&config).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("`public_addresses_only`"), "{refused}");
    }
    let certificate =
        |base64| format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----");
    for pem in ["", "garbage", &certificate("*"), &certificate("AAAA")] {
        let refused = TransportConfig::default().root_certificate_pem(pem.as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    for url in ["", "proxy", "socks5://proxy", "http://u:canary@", "http:// canary"] {
        let refused = TransportConfig::default().proxy(url).unwrap_err();
        assert!(!format!("{refused:?}").contains("canary"));
    }
}

#[tokio::test]
async fn https_goes_through_the_proxys_tunnel_and_plain_http_to_this_machine_beside_it() {
    let (proxy, server) = (Peer::start().await, Peer::start().await);
    let url = proxy.url("").replace("//", "//operator:canary@");
    let config = TransportConfig::default().allow_loopback_http().proxy(&url).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    let transport = Transport::new(&config).unwrap();

    let tunnelled = send(&transport, post("https://as.example/token"));
    let denied = proxy.answer("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
    let (answer, seen) = join(tunnelled, denied).await;
    assert!(matches!(answer.unwrap_err(), SendError::NotSent(_)));
    assert!(seen.starts_with("CONNECT as.example:443 HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.contains("canary") && seen.contains("Basic "), "{seen}");

    let beside = send(&transport, post(&server.url("/")));
    let (answer, _) = join(beside, server.json(200, "{}")).await;
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
}

#[test]
fn growing_a_body_keeps_its_bytes_and_stays_within_the_cap() {
    let mut body = Zeroizing::new(Vec::with_capacity(4));
    let chunk: Vec<u8> = (0..=255).cycle().take(1000).collect();
    for _ in 0..MAX_BODY_BYTES / 1000 {
        append(&mut body, &chunk);
    }
    assert!(body.chunks(1000).all(|part| part == chunk));
    assert!(body.capacity() <= MAX_BODY_BYTES);
}

/// A certificate for 127.0.0.1 that is its own root, good from 2020 to 2120, and its key. They
/// protect nothing.
const CERTIFICATE: &str = "MIIBYjCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1sb29wYmFjayB0ZXN0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYDVQQDDA1sb29wYmFjayB0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEs0Kw4OZrIyE1MqIj6ooSmNlu4awMCufuucFJuqJmNVtoRMD4csXGi0+9evVBDdQC02pErBfSmIAue7PLbgQsKNAMD4wDwYDVR0RBAgwBocEfwAAATAMBgNVHRMBAf8EAjAAMB0GA1UdDgQWBBQIhDlj6gADcyeNGARqhS7DoVcj0TAKBggqhkjOPQQDAgNJADBGAiEA7ii4ysNd9jlT7P50L0eDcO/qkzY3AiLXDf/ZwtBQQYwCIQCDNAYqzw9ck9FcftslSQ0SRTGHvX3TA2prwg1vVmxiLQ==";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg2cW75t0fAVHHqfbLmtx5N5vYqSeU41XplUnerDNhcoKhRANCAAQSzQrDg5msjITUyoiPqihKY2W7hrAwK5+65wUm6omY1W2hEwPhyxcaLT7169UEN1ALTakSsF9KYgC57s8tuBCw";

/// A TLS server that answers `connections` of them and tells how many requests it read.
fn tls_server(connections: usize) -> (String, std::thread::JoinHandle<usize>) {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap()));
    let provider = Arc::new(crypto_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let serve = move || {
        let served = |_| {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut request = [0; 4096];
            let read = std::io::Read::read(&mut stream, &mut request);
            let answered = read.is_ok_and(|read| read > 0)
                && stream.write_all(json(200, "{}").as_bytes()).is_ok();
            usize::from(answered)
        };
        (0..connections).map(served).sum()
    };
    (url, std::thread::spawn(serve))
}

#[test]
fn the_features_choose_the_cryptography_and_aws_lc_goes_first() {
    let chosen = format!("{:?}", crypto_provider().secure_random);
    assert_eq!(chosen, if cfg!(feature = "tls-aws-lc") { "AwsLcRs" } else { "Ring" });
}

#[tokio::test]
async fn a_certificate_is_refused_until_its_root_is_trusted() {
    let (url, served) = tls_server(2);
    let strict = Transport::new(&TransportConfig::default()).unwrap();
    let fault = send(&strict, post(&url)).await.unwrap_err();
    assert!(matches!(fault, SendError::Untrusted(_)), "{fault:?}");

    let pem = format!("-----BEGIN CERTIFICATE-----\n{CERTIFICATE}\n-----END CERTIFICATE-----\n");
    let config = TransportConfig::default().root_certificate_pem(pem.as_bytes()).unwrap();
    let answer = send(&Transport::new(&config).unwrap(), post(&url)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(served.join().unwrap(), 1, "the first was refused before its request");
}

#[test]
fn urls_of_tenants_lead_to_public_addresses_and_to_port_443_or_those_that_are_named() {
    let judged = |config: &TransportConfig, text: &str| {
        Transport::new(config).unwrap().check(&Url::parse(text).unwrap()).err()
    };
    let ours = TransportConfig::default().allow_loopback_http();
    let theirs = ours.for_tenants().unwrap();
    let named = ours.clone().allow_ports([8443]).for_tenants().unwrap();
    for (url, strict, with_8443) in [
        ("https://as.example/", None, Some(Refused::Port)),
        ("https://1.1.1.1/", None, Some(Refused::Port)),
        ("https://as.example:8443/", Some(Refused::Port), None),
        ("https://as.example:22/", Some(Refused::Port), Some(Refused::Port)),
        ("https://10.0.0.1/", Some(Refused::NotPublic), Some(Refused::NotPublic)),
        ("http://127.0.0.1:443/", Some(Refused::NotPublic), Some(Refused::NotPublic)),
        ("http://as.example:443/", Some(Refused::NotHttps), Some(Refused::NotHttps)),
    ] {
        assert_eq!((judged(&theirs, url), judged(&named, url)), (strict, with_8443), "{url}");
    }
    assert_eq!(judged(&ours, "https://as.example:22/"), None, "our own URLs have any port");
    let listed = ours.clone().allow_ports([443]);
    assert_eq!(judged(&listed, "https://as.example:22/"), Some(Refused::Port));
    assert_eq!(judged(&listed, "http://127.0.0.1:22/"), None, "as allowed");
    assert!(ours.tenants_reach_internal_addresses().for_tenants().is_none());
}

/// The test of certificates again, in a process whose environment names the server's as a root.
#[test]
fn the_environment_names_no_root() {
    let folder = std::env::temp_dir().join(format!("session-warden-roots-{}", fastrand::u64(..)));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("root.pem");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{CERTIFICATE}\n-----END CERTIFICATE-----\n");
    std::fs::write(&file, pem).unwrap();
    let exact = "transport::tests::a_certificate_is_refused_until_its_root_is_trusted";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", exact])
        .env("SSL_CERT_FILE", &file)
        .env("SSL_CERT_DIR", &folder)
        .output();
    std::fs::remove_dir_all(&folder).unwrap();
    let run = run.unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
}
