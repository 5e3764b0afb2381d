//! Authorization codes, and the proof that comes with them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{Authority, Holder, Issued};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::error_code::ErrorCode;

/// An authorization code that has been minted.
pub(in super::super) struct Code {
    pub(in super::super) user: String,
    /// `None` for whichever client comes first.
    pub(in super::super) client: Option<String>,
    pub(in super::super) redirect_uri: String,
    /// By the method S256 (RFC 7636).
    pub(in super::super) challenge: Option<String>,
    /// What the authorization request asked for.
    pub(in super::super) scope: Option<String>,
    /// The grant for which it was redeemed.
    pub(in super::super) redeemed: Option<usize>,
}

/// What a client sends to redeem a code.
pub(in super::super) struct Redemption<'a> {
    pub(in super::super) code: &'a str,
    pub(in super::super) client: &'a str,
    pub(in super::super) redirect_uri: Option<&'a str>,
    pub(in super::super) verifier: Option<&'a str>,
    pub(in super::super) scope: Option<&'a str>,
}

impl Code {
    /// Whether this redemption comes from the client that asked for the code.
    fn is_for(&self, redemption: &Redemption<'_>) -> bool {
        self.client.as_deref().is_none_or(|client| client == redemption.client)
            && redemption.redirect_uri == Some(self.redirect_uri.as_str())
            && is_proof(redemption.verifier, self.challenge.as_deref())
    }
}

impl Authority {
    pub(in super::super) fn mint_code(&mut self, code: Code) -> String {
        let text = self.new_token().to_string();
        self.codes.insert(text.clone(), code);
        text
    }

    /// The redirect URI to which the browser brought this code back.
    pub(in super::super) fn redirect_uri_of(&self, code: &str) -> Option<String> {
        self.codes.get(code).map(|code| code.redirect_uri.clone())
    }

    /// Tokens for a code. A code that comes twice ends the grant of its first time (RFC 6749
    /// section 4.1.2).
    pub(in super::super) fn redeem(
        &mut self,
        redemption: &Redemption<'_>,
        now: BootTime,
    ) -> Result<Issued, ErrorCode> {
        let code = self.codes.get(redemption.code).ok_or(ErrorCode::InvalidGrant)?;
        if let Some(grant) = code.redeemed {
            self.end_grant(grant);
            return Err(ErrorCode::InvalidGrant);
        }
        if !code.is_for(redemption) {
            return Err(ErrorCode::InvalidGrant);
        }
        let holder = Holder {
            user: Some(code.user.clone()),
            client: redemption.client.to_owned(),
            scope: redemption.scope.map(str::to_owned).or_else(|| code.scope.clone()),
        };
        let (grant, issued) = self.new_grant(holder, now);
        if let Some(code) = self.codes.get_mut(redemption.code) {
            code.redeemed = Some(grant);
        }
        Ok(issued)
    }
}

/// A verifier without a challenge is refused too: the challenge was taken away (RFC 9700
/// section 2.1.1).
fn is_proof(verifier: Option<&str>, challenge: Option<&str>) -> bool {
    verifier.map(s256).as_deref() == challenge
}

/// The code challenge of a verifier by the method S256 (RFC 7636 section 4.2).
pub(in super::super) fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}
