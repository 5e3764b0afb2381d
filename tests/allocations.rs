//! To hand out a valid token allocates nothing, and a response without end takes no more memory
//! than the longest response.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail with them")]

use std::io::{Read, Write};
use std::net::TcpListener;

use allocation_counter::measure;
use futures_util::FutureExt;
use session_warden::provider::oauth2::{OAuth2, Password};
use session_warden::testing::ScriptedProvider;
use session_warden::transport::{MAX_BODY_BYTES, TransportConfig};
use session_warden::{Error, ErrorKind, PermissionToken, SessionKey, Supervisor};

#[tokio::test]
async fn a_fresh_token_is_served_without_an_allocation() {
    let provider: ScriptedProvider = ScriptedProvider::new();
    let supervisor = Supervisor::builder().provider("p", provider).start().await.unwrap();
    let sessions = supervisor.sessions::<ScriptedProvider>("p").unwrap();
    let key = SessionKey::new("tenant", "device").unwrap();
    let held = sessions.session(key.clone());
    let _ = held.establish(()).await.unwrap();
    // The first read of a thread makes data that its later reads use.
    assert_eq!(held.try_permission_token().unwrap().expose_secret(), "access-1");

    let by_key = || sessions.session(key.clone());
    let is_there = |token: &PermissionToken| token.generation() == 1;
    let ways: [(&str, &dyn Fn() -> Option<bool>); 6] = [
        ("held, borrowed", &|| held.with_token(is_there)),
        ("held, owned", &|| held.try_permission_token().as_ref().map(is_there)),
        ("held, awaited", &|| held.permission_token().now_or_never()?.ok().as_ref().map(is_there)),
        ("by key, borrowed", &|| by_key().with_token(is_there)),
        ("by key, owned", &|| by_key().try_permission_token().as_ref().map(is_there)),
        ("by key, awaited", &|| {
            by_key().permission_token().now_or_never()?.ok().as_ref().map(is_there)
        }),
    ];
    for (way, serve) in ways {
        let mut served = None;
        let counted = measure(|| served = serve());
        assert_eq!((served, counted.count_total), (Some(true), 0), "{way}");
    }
}

/// The beginning of a server's response, and the bytes that it then sends without end.
const FLOODS: [(&str, &str); 4] = [
    ("HTTP/1.1 200 OK\r\n\r\n", "{\"access_token\":["),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "8\r\nchunked \r\n"),
    ("HTTP/1.1 200 OK\r\n", "x-header: y\r\n"),
    ("HTTP/1.1 200 OK\r\nx-header: ", "without an end "),
];

#[test]
fn an_answer_without_end_takes_no_more_memory_than_one_that_is_too_long() {
    // Once before the measurement, for data that is made once and kept.
    drop(flooded(FLOODS[0]));
    for flood in FLOODS {
        let mut failed = None;
        let counted = measure(|| failed = Some(flooded(flood)));
        let failed = failed.unwrap();
        assert_eq!(failed.kind(), ErrorKind::RetryLater, "{flood:?}");
        // The bytes read, a second copy where the buffer grew, and the buffers of a connection.
        let most = 8 * u64::try_from(MAX_BODY_BYTES).unwrap();
        assert!(counted.bytes_max < most, "{flood:?}: {} of {most} bytes", counted.bytes_max);
    }
}

/// A sign-in at a server that sends without end. It runs on this thread only, whose allocations are
/// counted.
fn flooded((head, flood): (&'static str, &'static str)) -> Error {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(head.as_bytes()).unwrap();
        let block = flood.repeat(4096);
        while stream.write_all(block.as_bytes()).is_ok() {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let supervisor = Supervisor::builder()
            .transport(TransportConfig::default().allow_loopback_http())
            .provider("p", OAuth2::new(&format!("http://{address}/token"), "client").unwrap())
            .start()
            .await
            .unwrap();
        let sessions = supervisor.sessions::<OAuth2>("p").unwrap();
        let session = sessions.session(SessionKey::new("tenant", "device").unwrap());
        session.establish(Password::new("ada", "ok")).await.unwrap_err()
    });
    drop(runtime);
    server.join().unwrap();
    failed
}
