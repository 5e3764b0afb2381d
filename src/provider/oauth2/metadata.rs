//! A server's metadata: requested before it is needed, kept, and read again.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::discovery::{Discovered, Endpoints, Issuer};
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
    found: Discovered,
    read_again_at: BootTime,
    /// The document that was refused since these endpoints were found, so that it is reported once.
    refused: Option<Refused>,
}

/// Why a document does not replace the former one.
#[derive(Clone, PartialEq)]
enum Refused {
    /// It names other hosts.
    Moved(Arc<Endpoints>),
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
        self.known.read().as_ref().map(|known| Arc::clone(&known.found.endpoints))
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
        let found = self.issuer.discover(sender).await?;
        let endpoints = Arc::clone(&found.endpoints);
        self.keep(found, sender);
        Ok(endpoints)
    }

    /// Reads the endpoints if they are not known, and again if they are older than
    /// [`METADATA_AGE`]. The former endpoints stay in use while the server does not answer, and if
    /// its document is refused. A refused document fails one call. If only one of the two documents
    /// can be read, members that it lacks stay as they were.
    pub(super) async fn refresh(&self, sender: &HttpSender<'_>) -> Exchanged<()> {
        if self.known.read().is_none() {
            return self.endpoints(sender).await.map(drop);
        }
        // The other callers use the known endpoints.
        let Ok(_request_lock) = self.request_lock.try_lock() else { return Ok(()) };
        let Some(former) = self.is_old(sender) else { return Ok(()) };
        match sender.timeout(METADATA_WAIT, self.issuer.discover(sender)).await {
            Some(Ok(new)) if new.endpoints.has_moved_from(&former) => {
                let moved = Error::new(ErrorKind::Misconfigured).about(
                    "the metadata names other hosts than before, and the former endpoints stay in \
                     use; call `Sessions::reload` or `replace` to accept the new ones",
                );
                let failed = ExchangeError::new(FailureClass::Misconfigured).with_source(moved);
                self.refuse(Refused::Moved(new.endpoints), failed)
            }
            Some(Ok(new)) => {
                let endpoints = if new.is_partial {
                    Arc::new(new.endpoints.filled_from(&former.endpoints))
                } else {
                    new.endpoints
                };
                self.keep(Discovered { endpoints, is_partial: new.is_partial }, sender);
                Ok(())
            }
            Some(Err(failed)) if is_refused(&failed) => self.refuse(Refused::UnusableBody, failed),
            // It could not be read.
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// The endpoints, if it is time to read them again. It sets the time of the next reading first,
    /// so that a dropped reading is not repeated at once.
    fn is_old(&self, sender: &HttpSender<'_>) -> Option<Discovered> {
        let now = sender.boot_time();
        let mut known = self.known.write();
        let known = known.as_mut().filter(|known| now >= known.read_again_at)?;
        known.read_again_at = now.after(METADATA_RETRY);
        Some(known.found.clone())
    }

    fn keep(&self, found: Discovered, sender: &HttpSender<'_>) {
        let age = if found.is_partial { METADATA_RETRY } else { METADATA_AGE };
        let read_again_at = sender.boot_time().after(age);
        *self.known.write() = Some(Known { found, read_again_at, refused: None });
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

    /// What `prepare` gives while the server answers this and has no other document.
    async fn answered(
        bench: &Bench,
        client: &OAuth2,
        peer: &Peer,
        status: u16,
        body: &str,
    ) -> Exchanged<()> {
        peer.json_then_404(status, body, client.prepare(&bench.sender())).await
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

    /// What `prepare` gives while the server has these two documents.
    async fn answered_both(
        bench: &Bench,
        client: &OAuth2,
        peer: &Peer,
        documents: [(u16, &str); 2],
    ) -> Exchanged<()> {
        let serve = async {
            for (status, body) in documents {
                peer.json(status, body).await;
            }
        };
        join(client.prepare(&bench.sender()), serve).await.0
    }

    #[tokio::test]
    async fn while_one_document_cannot_be_read_its_endpoints_stay_and_both_are_read_each_minute() {
        let (bench, peer) = (Bench::new(), Peer::start().await);
        let issuer = peer.url("");
        let client = OAuth2::discover(&issuer, "c").unwrap();
        let oauth = at(&issuer, "/a");
        let promise = r#""authorization_response_iss_parameter_supported":true"#;
        let openid = format!(
            r#"{{"issuer":"{issuer}","token_endpoint":"{issuer}/b/t",
                "userinfo_endpoint":"https://users.example/u",{promise}}}"#
        );
        let known = || {
            let known = client.known().unwrap();
            let userinfo = known.optional.userinfo.as_ref().map(ToString::to_string);
            (known.token.to_string(), userinfo, known.names_issuer)
        };
        let partial = [(200, oauth.as_str()), (503, "")];
        let whole = [(200, oauth.as_str()), (200, openid.as_str())];
        let token = peer.url("/a/t");
        answered_both(&bench, &client, &peer, partial).await.unwrap();
        assert_eq!(known(), (token.clone(), None, false));
        // It is not asked for again at once.
        client.prepare(&bench.sender()).await.unwrap();

        // The other host is not new: the document that names it was not read before.
        bench.clock.advance(METADATA_RETRY);
        answered_both(&bench, &client, &peer, whole).await.unwrap();
        let userinfo = Some("https://users.example/u".to_owned());
        assert_eq!(known(), (token.clone(), userinfo.clone(), true));

        bench.clock.advance(METADATA_AGE);
        answered_both(&bench, &client, &peer, partial).await.unwrap();
        assert_eq!(known(), (token, userinfo.clone(), true));
        bench.clock.advance(METADATA_RETRY);
        answered_both(&bench, &client, &peer, [(500, ""), (200, &openid)]).await.unwrap();
        assert_eq!(known(), (peer.url("/b/t"), userinfo, true));

        // Endpoints that were known before may not move, even while a document is not read.
        let evil = openid.replace("users.example", "evil.example");
        bench.clock.advance(METADATA_RETRY);
        let moved = answered_both(&bench, &client, &peer, [(500, ""), (200, &evil)]).await;
        assert_eq!(moved.unwrap_err().class(), FailureClass::Misconfigured);
        assert_eq!(known().1.as_deref(), Some("https://users.example/u"));
    }
}
