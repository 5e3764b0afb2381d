//! What the server has seen and done, in numbers.

use std::collections::{BTreeMap, HashMap};

/// A part of the server that counts its requests and can be made to fail.
///
/// Every token request belongs to [`Token`](Self::Token) and, if its grant type is known, to the
/// endpoint of that grant type too. The paths are those of the standard dialect; the others have
/// their own for what is the same, a refresh for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Endpoint {
    /// `POST /token` with any grant type.
    Token,
    /// `POST /token` with `grant_type=password`.
    Password,
    /// `POST /token` with `grant_type=client_credentials`.
    ClientCredentials,
    /// `POST /token` with `grant_type=authorization_code`.
    AuthorizationCode,
    /// `POST /token` with `grant_type=refresh_token`.
    RefreshToken,
    /// `POST /revoke`.
    Revoke,
    /// `POST /introspect`.
    Introspect,
    /// `GET /resource`.
    Resource,
    /// `GET /authorize`.
    Authorize,
    /// `GET /userinfo`.
    UserInfo,
    /// `GET /.well-known/oauth-authorization-server`.
    Discovery,
    /// A factor that is exchanged for tokens later: Spatium's
    /// `POST /api/security-factor/credentials`, iOFFICE's code for a password,
    /// `POST /external/api/oauth2/auth`.
    SecurityFactor,
    /// Tokens for factors: Spatium's `POST /api/permission/issue-by-factors`.
    IssueByFactors,
    /// Tokens for a key: Spatium's `POST /api/permission/issue-by-key`.
    IssueByKey,
    /// Tokens for a member: Circle's `POST /api/v1/headless/auth_token`.
    AuthToken,
    /// The end of an access token alone: Circle's `POST /api/v1/headless/access_token/revoke`.
    RevokeAccessToken,
    /// Tokens for a second factor: Extra Horizon's `POST /auth/v2/oauth1/tokens/mfa`, and its grant
    /// type `mfa`.
    SecondFactor,
    /// Tokens for a single-use token: Extra Horizon's `POST /auth/v2/oauth1/ssoTokens/consume`.
    ConsumeSso,
    /// A single-use token: Extra Horizon's `POST /auth/v2/oauth1/ssoTokens/generate`.
    GenerateSso,
    /// A list of tokens: Extra Horizon's `GET /auth/v2/oauth1/tokens` and its like.
    ListTokens,
    /// The end of one token: Extra Horizon's `DELETE /auth/v2/oauth1/tokens/{id}` and its like.
    DeleteToken,
}

impl Endpoint {
    /// The endpoint to which all requests of this one belong too.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::Password
            | Self::ClientCredentials
            | Self::AuthorizationCode
            | Self::RefreshToken
            | Self::IssueByFactors
            | Self::IssueByKey
            | Self::AuthToken
            | Self::SecondFactor
            | Self::ConsumeSso => Some(Self::Token),
            Self::Token
            | Self::Revoke
            | Self::Introspect
            | Self::Resource
            | Self::Authorize
            | Self::UserInfo
            | Self::Discovery
            | Self::SecurityFactor
            | Self::RevokeAccessToken
            | Self::GenerateSso
            | Self::ListTokens
            | Self::DeleteToken => None,
        }
    }
}

/// The requests of one endpoint.
///
/// `granted` and `refused` count what was processed, whether or not the answer got out. What is
/// left of `requests` met a fault before it was processed, or is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that were processed and granted.
    pub granted: u64,
    /// Requests that were processed and refused.
    pub refused: u64,
}

/// All that a [`FakeAuthServer`](super::FakeAuthServer) counts, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Token requests with any grant type.
    pub token: Tally,
    /// Token requests with a password.
    pub password: Tally,
    /// Token requests with client credentials.
    pub client_credentials: Tally,
    /// Token requests with an authorization code.
    pub authorization_code: Tally,
    /// Token requests with a refresh token.
    pub refresh_token: Tally,
    /// Revocations.
    pub revoke: Tally,
    /// Introspections; one that says "not active" is granted.
    pub introspect: Tally,
    /// Visits to the protected resource; `refused` is the 401s.
    pub resource: Tally,
    /// Logins by a browser; `refused` is those that went back with an error too.
    pub authorize: Tally,
    /// Requests for user info; `refused` is the 401s.
    pub userinfo: Tally,
    /// Requests for the metadata.
    pub discovery: Tally,
    /// Connections accepted.
    pub connections: u64,
    /// Refreshes granted for a token that was current.
    pub refreshes: u64,
    /// Refreshes granted, within the grace time, for a token that had been used before.
    pub grace_retries: u64,
    /// Refreshes refused because the token had been used before; each ended its grant.
    pub reuses_detected: u64,
    /// Grants that have ended, for any reason but age.
    pub grants_revoked: u64,
    /// Refresh tokens that arrived in more than one token request, granted or refused.
    pub presented_twice: u64,
    /// Requests of the endpoints that only dialects other than the standard one have.
    pub(super) others: BTreeMap<Endpoint, Tally>,
    /// Refusals by error code. Those of [`Fault`](super::Fault)s are not counted.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// The requests of one endpoint.
    #[must_use]
    pub fn of(&self, endpoint: Endpoint) -> Tally {
        match endpoint {
            Endpoint::Token => self.token,
            Endpoint::Password => self.password,
            Endpoint::ClientCredentials => self.client_credentials,
            Endpoint::AuthorizationCode => self.authorization_code,
            Endpoint::RefreshToken => self.refresh_token,
            Endpoint::Revoke => self.revoke,
            Endpoint::Introspect => self.introspect,
            Endpoint::Resource => self.resource,
            Endpoint::Authorize => self.authorize,
            Endpoint::UserInfo => self.userinfo,
            Endpoint::Discovery => self.discovery,
            Endpoint::SecurityFactor
            | Endpoint::IssueByFactors
            | Endpoint::IssueByKey
            | Endpoint::AuthToken
            | Endpoint::RevokeAccessToken
            | Endpoint::SecondFactor
            | Endpoint::ConsumeSso
            | Endpoint::GenerateSso
            | Endpoint::ListTokens
            | Endpoint::DeleteToken => self.others.get(&endpoint).copied().unwrap_or_default(),
        }
    }

    /// Changes the tally of an endpoint and that of its parent.
    pub(super) fn add(&mut self, endpoint: Endpoint, change: fn(&mut Tally)) {
        change(self.of_mut(endpoint));
        if let Some(parent) = endpoint.parent() {
            change(self.of_mut(parent));
        }
    }

    fn of_mut(&mut self, endpoint: Endpoint) -> &mut Tally {
        match endpoint {
            Endpoint::Token => &mut self.token,
            Endpoint::Password => &mut self.password,
            Endpoint::ClientCredentials => &mut self.client_credentials,
            Endpoint::AuthorizationCode => &mut self.authorization_code,
            Endpoint::RefreshToken => &mut self.refresh_token,
            Endpoint::Revoke => &mut self.revoke,
            Endpoint::Introspect => &mut self.introspect,
            Endpoint::Resource => &mut self.resource,
            Endpoint::Authorize => &mut self.authorize,
            Endpoint::UserInfo => &mut self.userinfo,
            Endpoint::Discovery => &mut self.discovery,
            Endpoint::SecurityFactor
            | Endpoint::IssueByFactors
            | Endpoint::IssueByKey
            | Endpoint::AuthToken
            | Endpoint::RevokeAccessToken
            | Endpoint::SecondFactor
            | Endpoint::ConsumeSso
            | Endpoint::GenerateSso
            | Endpoint::ListTokens
            | Endpoint::DeleteToken => self.others.entry(endpoint).or_default(),
        }
    }
}

/// How often each refresh token has arrived, unknown and dead ones included.
#[derive(Default)]
pub(super) struct PresentedTokens {
    times: HashMap<String, u64>,
}

impl PresentedTokens {
    /// Notes an arrival, and gives how many there have been.
    pub(super) fn add(&mut self, refresh_token: &str) -> u64 {
        if let Some(times) = self.times.get_mut(refresh_token) {
            *times += 1;
            return *times;
        }
        self.times.insert(refresh_token.to_owned(), 1);
        1
    }

    pub(super) fn times(&self, refresh_token: &str) -> u64 {
        self.times.get(refresh_token).copied().unwrap_or(0)
    }
}
