//! A server's metadata: requested before it is needed, kept, and read again.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::discovery::{Endpoints, Issuer};
use crate::clock::BootTime;
use crate::error::{Error, ErrorKind};
use crate::policy::{METADATA_AGE, METADATA_RETRY, METADATA_WAIT};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, Exchanged, FailureClass};

/// A server's metadata. A failure of the first request is not kept.
pub(super) struct Metadata {
    issuer: Issuer,
    known: RwLock<Option<Known>>,
    /// Held during a request for metadata, so that there is one at a time.
    request_lock: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    endpoints: Arc<Endpoints>,
    read_again_at: BootTime,
    /// The document that was refused since these endpoints were read, so that it is reported once.
    refused: Option<Refused>,
}

/// Why a document does not replace the former one.
#[derive(Clone, PartialEq)]
enum Refused {
    /// It names other hosts.
    Moved(Box<Endpoints>),
    /// It names another issuer, or is no metadata.
    UnusableBody,
}

impl Clone for Metadata {
    fn clone(&self) -> Self {
        let known = RwLock::new(self.known.read().clone());
        Self { issuer: self.issuer.clone(), known, request_lock: Mutex::default() }
    }
}

impl Metadata {
    pub(super) fn new(issuer: Issuer) -> Self {
        Self { issuer, known: RwLock::default(), request_lock: Mutex::default() }
    }

    pub(super) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The endpoints, if they are known.
    pub(super) fn known(&self) -> Option<Arc<Endpoints>> {
        self.known.read().as_ref().map(|known| Arc::clone(&known.endpoints))
    }

    /// The endpoints. Requests the metadata if they are not known.
    pub(super) async fn endpoints(&self, sender: &HttpSender<'_>) -> Exchanged<Arc<Endpoints>> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let _request_lock = self.request_lock.lock().await;
        // Another caller may have read the metadata while this one waited for the lock.
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let endpoints = Arc::new(self.issuer.discover(sender).await?);
        self.keep(Arc::clone(&endpoints), sender);
        Ok(endpoints)
    }

    /// Reads the endpoints if they are not known, and again if they are older than
    /// [`METADATA_AGE`]. The former endpoints stay in use while the server does not answer, and if
    /// its document is refused. A refused document fails one call.
    pub(super) async fn refresh(&self, sender: &HttpSender<'_>) -> Exchanged<()> {
        if self.known.read().is_none() {
            return self.endpoints(sender).await.map(drop);
        }
        // The other callers use the known endpoints.
        let Ok(_request_lock) = self.request_lock.try_lock() else { return Ok(()) };
        let Some(former) = self.is_old(sender) else { return Ok(()) };
        match sender.timeout(METADATA_WAIT, self.issuer.discover(sender)).await {
            Some(Ok(new)) if new.has_moved_from(&former) => {
                let moved = Error::new(ErrorKind::Misconfigured).about(
                    "the metadata names other hosts than before, and the former endpoints stay in \
                     use; call `Sessions::reload` or `replace` to accept the new ones",
                );
                let failed = ExchangeError::new(FailureClass::Misconfigured).with_source(moved);
                self.refuse(Refused::Moved(Box::new(new)), failed)
            }
            Some(Ok(new)) => {
                self.keep(Arc::new(new), sender);
                Ok(())
            }
            Some(Err(failed)) if is_refused(&failed) => self.refuse(Refused::UnusableBody, failed),
            // It could not be read.
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// The endpoints, if it is time to read them again. It sets the time of the next reading first,
    /// so that a dropped reading is not repeated at once.
    fn is_old(&self, sender: &HttpSender<'_>) -> Option<Arc<Endpoints>> {
        let now = sender.boot_time();
        let mut known = self.known.write();
        let known = known.as_mut().filter(|known| now >= known.read_again_at)?;
        known.read_again_at = now.after(METADATA_RETRY);
        Some(Arc::clone(&known.endpoints))
    }

    fn keep(&self, endpoints: Arc<Endpoints>, sender: &HttpSender<'_>) {
        let read_again_at = sender.boot_time().after(METADATA_AGE);
        *self.known.write() = Some(Known { endpoints, read_again_at, refused: None });
    }

    /// The failure, if it was not reported yet.
    fn refuse(&self, refused: Refused, failed: ExchangeError) -> Exchanged<()> {
        let mut known = self.known.write();
        let Some(known) = known.as_mut() else { return Ok(()) };
        if known.refused.as_ref() == Some(&refused) {
            return Ok(());
        }
        known.refused = Some(refused);
        Err(failed)
    }
}

/// Whether the server sent a document that cannot be used.
fn is_refused(failed: &ExchangeError) -> bool {
    failed.class() == FailureClass::Misconfigured && failed.status() == Some(200)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join;

    use super::*;
    use crate::provider::Provider;
    use crate::provider::oauth2::OAuth2;
    use crate::provider::test_bench::Bench;
    use crate::transport::peer::Peer;

    /// A client that has read the metadata of the server at `peer`, whose endpoints are below
    /// `/old`.
    async fn discovered(bench: &Bench, peer: &Peer) -> OAuth2 {
        let client = OAuth2::discover(&peer.url(""), "c").unwrap();
        answered(bench, &client, peer, 200, &at(&peer.url(""), "/old")).await.unwrap();
        client
    }

    fn at(issuer: &str, path: &str) -> String {
        document(issuer, &format!("{issuer}{path}"))
    }

    fn document(issuer: &str, base: &str) -> String {
        format!(
            r#"{{"issuer":"{issuer}","token_endpoint":"{base}/t","revocation_endpoint":"{base}/r"}}"#
        )
    }

    /// What `prepare` gives while the server answers this.
    async fn answered(
        bench: &Bench,
        client: &OAuth2,
        peer: &Peer,
        status: u16,
        body: &str,
    ) -> Exchanged<()> {
        join(client.prepare(&bench.sender()), peer.json(status, body)).await.0
    }

    fn token_endpoint(client: &OAuth2) -> String {
        client.known().unwrap().token.to_string()
    }

    #[tokio::test]
    async fn metadata_is_read_again_when_it_is_old_and_not_before() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let client = discovered(&bench, &peer).await;
        bench.clock.advance(METADATA_AGE - Duration::from_secs(1));
        client.prepare(&bench.sender()).await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
        let new = at(&peer.url(""), "/new");
        answered(&bench, &client, &peer, 200, &new).await.unwrap();
        assert_eq!(token_endpoint(&client), peer.url("/new/t"));
        client.prepare(&bench.sender()).await.unwrap();
    }

    #[tokio::test]
    async fn a_document_with_other_hosts_or_another_issuer_is_told_once_and_never_used() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let client = discovered(&bench, &peer).await;
        let issuer = peer.url("");
        let moved = document(&issuer, "https://evil.example");
        let only_revocation =
            at(&issuer, "/old").replace(&format!("{issuer}/old/r"), "https://evil.example/r");
        let other_issuer = document("https://evil.example", &format!("{issuer}/old"));
        bench.clock.advance(METADATA_AGE);
        for refused in [&moved, &only_revocation, &other_issuer] {
            for is_first in [true, false] {
                let prepared = answered(&bench, &client, &peer, 200, refused).await;
                let class = prepared.err().map(|failed| failed.class());
                assert_eq!(class, is_first.then_some(FailureClass::Misconfigured), "{refused}");
                assert_eq!(token_endpoint(&client), peer.url("/old/t"));
                // It is not asked for again at once.
                client.prepare(&bench.sender()).await.unwrap();
                bench.clock.advance(METADATA_RETRY);
            }
        }
        let new = at(&issuer, "/new");
        answered(&bench, &client, &peer, 200, &new).await.unwrap();
        assert_eq!(token_endpoint(&client), peer.url("/new/t"));
        bench.clock.advance(METADATA_AGE);
        let failed = answered(&bench, &client, &peer, 200, &moved).await.unwrap_err();
        assert!(failed.into_error().to_string().contains("`Sessions::reload`"));
    }

    #[tokio::test]
    async fn metadata_that_cannot_be_read_again_fails_nothing_and_is_asked_for_later() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let client = discovered(&bench, &peer).await;
        bench.clock.advance(METADATA_AGE);
        for status in [500, 401, 429, 302] {
            answered(&bench, &client, &peer, status, "").await.unwrap();
            bench.clock.advance(METADATA_RETRY);
        }
        // It does not answer.
        let sender = bench.sender();
        let waiting = async {
            tokio::task::yield_now().await;
            bench.clock.advance(METADATA_WAIT);
        };
        join(client.prepare(&sender), waiting).await.0.unwrap();
        assert_eq!(token_endpoint(&client), peer.url("/old/t"));
    }
}
