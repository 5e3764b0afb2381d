//! Counts of the server's requests and results.

use std::collections::{BTreeMap, HashMap};

/// A part of the server that counts its requests, and that a test can make fail. See the example of
/// [`FakeAuthServer`](super::FakeAuthServer).
///
/// Every token request belongs to [`Token`](Self::Token) and, if the server knows its grant type,
/// to the endpoint of that grant type too. The paths below are those of the standard dialect. The
/// other dialects have paths of their own, for a refresh for example.
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
    /// `POST /par`.
    PushedAuthorization,
    /// `POST /device_authorization`.
    DeviceAuthorization,
    /// `POST /token` with a device code.
    DeviceCode,
    /// `POST /token` with a JWT as the grant.
    JwtBearer,
    /// `POST /token` with another token as the grant.
    TokenExchange,
    /// `GET /userinfo`.
    UserInfo,
    /// `GET /.well-known/oauth-authorization-server`.
    Discovery,
    /// A first step, whose result the client exchanges for tokens later: Spatium's `POST
    /// /api/security-factor/credentials`, and iOFFICE's `POST /external/api/oauth2/auth`, which
    /// gives a code for a password.
    SecurityFactor,
    /// Tokens for security tokens: Spatium's `POST /api/permission/issue-by-factors`.
    IssueByFactors,
    /// Tokens for a key: Spatium's `POST /api/permission/issue-by-key`.
    IssueByKey,
    /// Tokens for a member: Circle's `POST /api/v1/headless/auth_token`.
    AuthToken,
    /// The revocation of only the access token: Circle's
    /// `POST /api/v1/headless/access_token/revoke`.
    RevokeAccessToken,
    /// Tokens for a second factor: Extra Horizon's `POST /auth/v2/oauth1/tokens/mfa`, and its grant
    /// type `mfa`.
    SecondFactor,
    /// Tokens for a single-use token: Extra Horizon's `POST /auth/v2/oauth1/ssoTokens/consume`.
    ConsumeSso,
    /// The creation of a single-use token: Extra Horizon's
    /// `POST /auth/v2/oauth1/ssoTokens/generate`.
    GenerateSso,
    /// A list of tokens: Extra Horizon's `GET /auth/v2/oauth1/tokens`, for example.
    ListTokens,
    /// The deletion of one token: Extra Horizon's `DELETE /auth/v2/oauth1/tokens/{id}`, for
    /// example.
    DeleteToken,
}

impl Endpoint {
    /// The endpoint to which all requests of this one belong too.
    pub(super) fn parent(self) -> Option<Self> {
        match self {
            Self::Password
            | Self::ClientCredentials
            | Self::AuthorizationCode
            | Self::DeviceCode
            | Self::JwtBearer
            | Self::TokenExchange
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
            | Self::PushedAuthorization
            | Self::DeviceAuthorization
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

/// The counts of one endpoint's requests. See the example of
/// [`FakeAuthServer`](super::FakeAuthServer).
///
/// `granted` and `refused` count the processed requests, even if a fault lost the response. The
/// other requests met a fault before the server processed them, or are held.
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

/// All counts of a [`FakeAuthServer`](super::FakeAuthServer) at one moment. See the example there.
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
    /// Introspections. A response "not active" counts as granted.
    pub introspect: Tally,
    /// Requests for the protected resource; `refused` counts the responses with 401.
    pub resource: Tally,
    /// Logins through a browser. `refused` includes the logins for which the server sent the
    /// browser back with an error.
    pub authorize: Tally,
    /// Requests for user info; `refused` counts the responses with 401.
    pub userinfo: Tally,
    /// Requests for the metadata.
    pub discovery: Tally,
    /// Accepted connections.
    pub connections: u64,
    /// Granted refreshes whose refresh token had not been used before.
    pub refreshes: u64,
    /// Granted refreshes whose refresh token had been used before, within the grace time.
    pub grace_retries: u64,
    /// Refused refreshes whose refresh token had been used before. Each of them ended its grant.
    pub reuses_detected: u64,
    /// Grants that have ended for another reason than that their tokens expired.
    pub grants_revoked: u64,
    /// Refresh tokens that clients sent in more than one token request, granted or refused.
    pub presented_twice: u64,
    /// Requests of the endpoints that have no member of their own.
    pub(super) others: BTreeMap<Endpoint, Tally>,
    /// Refusals for each error code. Errors from a [`Fault`](super::Fault) do not count.
    pub errors: BTreeMap<String, u64>,
}

impl Counts {
    /// The counts of one endpoint.
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
            Endpoint::PushedAuthorization
            | Endpoint::DeviceAuthorization
            | Endpoint::DeviceCode
            | Endpoint::JwtBearer
            | Endpoint::TokenExchange
            | Endpoint::SecurityFactor
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
            Endpoint::PushedAuthorization
            | Endpoint::DeviceAuthorization
            | Endpoint::DeviceCode
            | Endpoint::JwtBearer
            | Endpoint::TokenExchange
            | Endpoint::SecurityFactor
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
