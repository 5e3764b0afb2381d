//! The server's records of its tokens.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::provider::Exchanged;
use crate::provider::http_message::lenient::{number, secret, text};
use crate::provider::http_message::{self, HttpResponse, rfc3339};
use crate::secret::Secret;

/// The server's record of a token. See the [example of the module](super#oauth2).
///
/// Older servers also list the tokens themselves. The crate does not keep them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TokenRecord {
    /// The id of the record. A token is deleted by this id.
    pub id: String,
    /// Whether this is the session's own token. In oAuth1, the crate recognizes the token by its
    /// id. In oAuth2, it recognizes the token itself, which only older servers list: with newer
    /// servers, this is always false.
    pub is_own: bool,
    /// The id of the token's user.
    pub user_id: Option<String>,
    /// The id of the application to which the server issued the token.
    pub application_id: Option<String>,
    /// The id of the record of the refresh token that the server issued with this token; only for
    /// access tokens in oAuth2.
    pub refresh_token_id: Option<String>,
    /// When the token expires; oAuth2 only.
    pub expires_at: Option<SystemTime>,
    /// When the token was last used; oAuth1 only.
    pub last_used_at: Option<SystemTime>,
    /// When the record was changed.
    pub updated_at: Option<SystemTime>,
    /// When the record was created.
    pub created_at: Option<SystemTime>,
    /// The digest of the oAuth2 access token that the record belongs to, if it is the session's.
    #[serde(skip)]
    pub(super) token_digest: Option<TokenDigest>,
}

/// The SHA-256 digest of an access token, by which the token is recognized.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &Secret) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenDigest").finish_non_exhaustive()
    }
}

/// A page of records: at most 20, unless the filter has another limit, `limit(50)` for example. See
/// the [example of the module](super#oauth2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TokenPage {
    /// The records, in the server's order.
    pub records: Vec<TokenRecord>,
    /// The number of all records that the filter selects, if the server sends it.
    pub total: Option<u64>,
    /// The number of records before this page, if the server sends it.
    pub offset: Option<u64>,
}

impl IntoIterator for TokenPage {
    type Item = TokenRecord;
    type IntoIter = std::vec::IntoIter<TokenRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

/// The [`RequestInfo`](crate::provider::Operation::RequestInfo) of
/// [`ListTokens`](super::ListTokens): it recognizes the record of the session's own token. A
/// backend meets this type only in an operation that wraps `ListTokens`:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use session_warden::error::Result;
/// use session_warden::provider::extra_horizon::{
///     ExtraHorizonAttributes, ExtraHorizonOAuth1, ListTokens, OwnToken,
/// };
/// use session_warden::provider::{Effect, ExchangeError, HttpSender, Operation};
/// use session_warden::token::Tokens;
///
/// /// Counts the user's other signed-in devices.
/// struct OtherDevices;
///
/// impl Operation<ExtraHorizonOAuth1> for OtherDevices {
///     type Output = usize;
///     type RequestInfo = OwnToken;
///
///     fn request(
///         &self,
///         provider: &ExtraHorizonOAuth1,
///         held: &Tokens<ExtraHorizonAttributes>,
///     ) -> Result<(Request<Bytes>, OwnToken)> {
///         ListTokens::new().request(provider, held)
///     }
///
///     fn response(
///         &self,
///         sender: &HttpSender<'_>,
///         own: OwnToken,
///         response: &Response<Bytes>,
///     ) -> Result<(usize, Effect), ExchangeError> {
///         let list = ListTokens::new();
///         let (page, effect) =
///             Operation::<ExtraHorizonOAuth1>::response(&list, sender, own, response)?;
///         Ok((page.records.iter().filter(|record| !record.is_own).count(), effect))
///     }
/// }
/// ```
#[derive(Debug, Default)]
pub struct OwnToken {
    pub(super) id: Option<String>,
    pub(super) token: Option<TokenDigest>,
}

impl TokenPage {
    pub(super) fn read(response: &HttpResponse, own_token: &OwnToken) -> Exchanged<Self> {
        let members: Members = http_message::json_object(response)?;
        let Some(records) = members.data else {
            return Err(http_message::unusable(response, "has no list"));
        };
        let page = members.page.unwrap_or_default();
        let records = records.into_iter().filter_map(|record| record.of(own_token)).collect();
        Ok(Self { records, total: count(page.total), offset: count(page.offset) })
    }
}

/// The number of deleted records in a response.
pub(super) fn deleted_count(response: &HttpResponse) -> Exchanged<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Deleted {
        #[serde(default, deserialize_with = "number")]
        affected_records: Option<f64>,
    }
    let body: Deleted = http_message::json_object(response)?;
    count(body.affected_records)
        .ok_or_else(|| http_message::unusable(response, "does not say how many were deleted"))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
fn count(number: Option<f64>) -> Option<u64> {
    number.filter(|number| (0.0..9e15).contains(number)).map(|number| number as u64)
}

#[derive(Deserialize)]
struct Members {
    data: Option<Vec<Record>>,
    #[serde(default)]
    page: Option<Page>,
}

#[derive(Default, Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "number")]
    total: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    offset: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    user_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    application_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    refresh_token_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    expiry_timestamp: Option<String>,
    #[serde(default, deserialize_with = "text")]
    last_used_timestamp: Option<String>,
    #[serde(default, deserialize_with = "text")]
    update_timestamp: Option<String>,
    #[serde(default, deserialize_with = "text")]
    creation_timestamp: Option<String>,
}

impl Record {
    /// None for a record without an id.
    fn of(self, own_token: &OwnToken) -> Option<TokenRecord> {
        let id = self.id?;
        let token_digest = self
            .access_token
            .as_ref()
            .map(TokenDigest::of)
            .filter(|token_digest| own_token.token == Some(*token_digest));
        let time = |text: Option<String>| text.as_deref().and_then(rfc3339);
        Some(TokenRecord {
            is_own: token_digest.is_some() || own_token.id.as_deref() == Some(id.as_str()),
            id,
            user_id: self.user_id,
            application_id: self.application_id,
            refresh_token_id: self.refresh_token_id,
            expires_at: time(self.expiry_timestamp),
            last_used_at: time(self.last_used_timestamp),
            updated_at: time(self.update_timestamp),
            created_at: time(self.creation_timestamp),
            token_digest,
        })
    }
}
