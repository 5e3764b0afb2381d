//! Puts tokens on requests, and reads from responses whether the API accepted them.

use http::{HeaderMap, HeaderName, StatusCode, header, request, response};

use super::SessionChoice;
use crate::error::{Error, ErrorKind, Result};
use crate::log::log_session;
use crate::session::{Session, Verdict};
use crate::token::PermissionToken;

/// What to do with a request that already has the header `Authorization`, or the header in which the
/// provider puts its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerHeader {
    /// The request fails with `InvalidInput`, and is not sent. This is the default, because two
    /// credentials for one request are a mistake.
    #[default]
    Refuse,
    /// The request is sent as it is, without the session's token.
    Keep,
}

/// The session of one request, and the settings of the middleware.
pub(super) struct Authorizer {
    session: Session,
    caller_header: CallerHeader,
}

impl Authorizer {
    pub(super) fn new(
        choice: &SessionChoice,
        caller_header: CallerHeader,
        request: &request::Parts,
    ) -> Result<Self> {
        Ok(Self { session: choice.session(request)?, caller_header })
    }

    /// Puts the session's present token on the request. None if the request goes as it came,
    /// because the program has set the header. Call this for each send, because a signature is for
    /// one.
    pub(super) async fn authorize(
        &self,
        request: &mut request::Parts,
    ) -> Result<Option<PermissionToken>> {
        let id = self.session.id();
        let client = self.session.resolved_client().await?;
        let placed = client.provider.placement();
        let header = placed.as_ref().map_or(&header::AUTHORIZATION, |placed| placed.name());
        if let Some(set) = credentials(&request.headers, header) {
            return match self.caller_header {
                CallerHeader::Keep => Ok(None),
                CallerHeader::Refuse => Err(refused(set).of_session(id)),
            };
        }
        // Before the token is asked for: a request that may not go there causes no refresh.
        self.session.check_origin(&client, &request.uri)?;
        self.session.authorize(request).await.map(Some)
    }

    /// Whether the beginning of the body says whether the API accepted the token. The body of a
    /// stream is never waited for.
    pub(super) fn reads_body(&self, response: &response::Parts) -> bool {
        if is_stream(&response.headers) {
            return false;
        }
        self.session.client().is_ok_and(|client| client.provider.rejection_reads_body(response))
    }

    /// Tells the session of the answer, and whether to send the request once more.
    pub(super) fn judge(
        &self,
        used: &PermissionToken,
        response: &response::Parts,
        body_prefix: &[u8],
    ) -> Verdict {
        if !is_unauthenticated_grpc(response) {
            return self.session.rejected(used, response, body_prefix);
        }
        let mut response = response.clone();
        response.status = StatusCode::UNAUTHORIZED;
        self.session.rejected(used, &response, body_prefix)
    }

    pub(super) fn log_body_not_repeatable(&self) {
        log_session!(
            self.session.log_limit(),
            info,
            self.session.id(),
            "the API rejected the token of a request whose body cannot be sent again, so the \
             caller gets this answer"
        );
    }
}

/// The header with which the program has already set credentials.
fn credentials<'h>(headers: &HeaderMap, of_token: &'h HeaderName) -> Option<&'h HeaderName> {
    [of_token, &header::AUTHORIZATION].into_iter().find(|name| headers.contains_key(*name))
}

fn refused(header: &HeaderName) -> Error {
    Error::new(ErrorKind::InvalidInput).about(format!(
        "the request already has the header `{header}`; remove it, or set `CallerHeader::Keep` to \
         send the request without the session's token"
    ))
}

/// The media types of bodies that may go on for as long as the server likes.
const STREAMS: [&str; 6] = [
    "application/grpc",
    "application/json-seq",
    "application/stream+json",
    "application/x-ndjson",
    "multipart/x-mixed-replace",
    "text/event-stream",
];

/// Whether the answer may go on for long, so that its body must not be waited for.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        STREAMS.iter().any(|stream| kind.starts_with(stream))
    })
}

/// gRPC answers with the status 200, and with the code 16 (`UNAUTHENTICATED`) in the headers if there
/// is no message.
fn is_unauthenticated_grpc(response: &response::Parts) -> bool {
    let kind = response.headers.get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    is_grpc && response.headers.get("grpc-status").is_some_and(|code| code == "16")
}
