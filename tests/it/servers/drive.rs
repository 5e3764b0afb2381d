//! The life of a session at a server of a shape: its first token, a refresh, the end of a token's
//! life, and the revocation.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use session_warden::clock::Clock;
use session_warden::error::Refusal;
use session_warden::key::Tenant;
use session_warden::provider::oauth2::{
    ClientCredentials, LoginOptions, OAuth2, OAuth2Settings, Password,
};
use session_warden::provider::{Registration, SourceError};
use session_warden::session::Revocation;
use session_warden::testing::{Endpoint, FakeAuthServer, ManualClock};
use session_warden::ticket::Ticket;
use session_warden::transport::TransportConfig;
use session_warden::{ErrorKind, Session, SessionKey, Sessions, Supervisor};
use url::Url;

use super::shape::Shape;
use super::words::{self, Client, MARGIN};
use crate::client_keys::EcKeyPem;
use crate::client_keys::tls_proxy::TlsProxy;
use crate::support::SECOND;

/// The lifetime of access tokens.
const HOUR: Duration = Duration::from_secs(3600);

static BROWSER: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    // A connection belongs to the runtime of one test.
    http.no_proxy().pool_max_idle_per_host(0).build().unwrap()
});

/// The server of a tenant.
struct Site {
    tenant: &'static str,
    server: FakeAuthServer,
    /// The data center that has the user's account, if that is another server.
    home: Option<FakeAuthServer>,
    /// What requires a certificate of the client, and stands in front of the server.
    proxy: Option<TlsProxy>,
    settings: String,
}

/// The servers of a shape, and a process with a client of each.
struct World {
    shape: Shape,
    clock: ManualClock,
    sites: Vec<Site>,
    supervisor: Supervisor,
}

/// Drives all that a shape has.
pub async fn drive(shape: Shape) {
    for authentication in shape.authentications() {
        let world = World::start(&shape, &authentication).await;
        for site in &world.sites {
            world.drive(site).await;
        }
        // Each token went to the server that issued it, and no other.
        for server in world.servers() {
            let counts = server.counts();
            assert!(counts.errors.is_empty(), "{counts:?}");
            assert_eq!((counts.presented_twice, server.live_grants()), (0, 0), "{counts:?}");
        }
    }
}

impl World {
    async fn start(shape: &Shape, authentication: &Value) -> Self {
        let clock = ManualClock::new();
        let tenants: &[_] = if shape.is_per_tenant() { &["acme", "umbrella"] } else { &["acme"] };
        let mut sites = Vec::new();
        for tenant in tenants {
            sites.push(Site::start(shape, authentication, tenant, &clock).await);
        }
        let supervisor = supervisor(shape, &sites, &clock).await;
        Self { shape: shape.clone(), clock, sites, supervisor }
    }

    fn servers(&self) -> impl Iterator<Item = &FakeAuthServer> {
        self.sites.iter().flat_map(|site| site.home.iter().chain([&site.server]))
    }

    fn sessions(&self) -> Sessions<OAuth2> {
        self.supervisor.sessions("vendor").unwrap()
    }

    async fn drive(&self, site: &Site) {
        let home = site.home();
        let session = self.sessions().session(SessionKey::new(site.tenant, "ada").unwrap());
        self.establish(site, &session).await;
        self.keeps(&session).await;
        let first = session.permission_token().await.unwrap();
        assert!(home.is_active(first.expose_secret()));
        assert_eq!(first.expires_at(), Some(self.clock.now().wall + HOUR), "the lifetime");

        let renewals = self.renewals(home);
        let second = session.refresh().await.unwrap();
        assert!(home.is_active(second.expose_secret()));
        assert_ne!(first.expose_secret(), second.expose_secret());
        assert_eq!(self.renewals(home), renewals + 1);
        self.keeps(&session).await;

        if self.shape.due.is_some() {
            self.is_due_by_the_margin(home, &session).await;
        }
        self.clock.advance(HOUR + SECOND).await;
        let third = session.permission_token().await.unwrap();
        assert!(home.is_active(third.expose_secret()));
        self.keeps(&session).await;

        assert_eq!(home.live_grants(), 1);
        assert_eq!(session.revoke().await.unwrap(), Revocation::AtServer);
        assert_eq!((home.live_grants(), home.counts().revoke.granted), (0, 1));
        let ended = session.permission_token().await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::NotEstablished);
        if let Some(other) = &site.home {
            // The server of the settings saw the browser at most.
            assert_eq!(site.server.count(Endpoint::Token), 0);
            assert_eq!(site.server.count(Endpoint::Revoke), 0);
            assert!(other.count(Endpoint::Token) > 0);
        }
    }

    async fn establish(&self, site: &Site, session: &Session<OAuth2>) {
        let shape = &self.shape;
        if !shape.has_browser() {
            let established = match shape.acts_for_itself() {
                true => session.establish(ClientCredentials::new()).await,
                false => session.establish(Password::new("ada", "ok")).await,
            };
            let _ = established.unwrap();
            return;
        }
        let (ticket, back) = site.log_in(session).await;
        if let Some(parameter) = shape.host_parameter() {
            self.refuses_a_forged_host(site, parameter).await;
        }
        let _ = session.finish_login(&ticket, back.as_str()).await.unwrap();
    }

    /// A redirect to a host that the settings do not allow gets no code and no connection.
    async fn refuses_a_forged_host(&self, site: &Site, parameter: &str) {
        let forged = FakeAuthServer::start().await.unwrap();
        let host = forged.url().trim_start_matches("http://");
        let named = match parameter {
            // The whole host, and then the domain of the settings in its path.
            "subdomain" => format!("{host}/"),
            _ => forged.url().to_owned(),
        };
        let session = self.sessions().session(SessionKey::new(site.tenant, "victim").unwrap());
        let (ticket, mut back) = site.log_in(&session).await;
        let fields: Vec<_> = back.query_pairs().into_owned().collect();
        back.query_pairs_mut().clear().extend_pairs(
            fields
                .iter()
                .map(|(name, value)| (name, if name == parameter { &named } else { value })),
        );
        let refused = session.finish_login(&ticket, back.as_str()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused(Refusal::HostNotAllowed), "{refused}");
        let codes = |server: &FakeAuthServer| server.count(Endpoint::AuthorizationCode);
        assert_eq!((codes(&site.server), codes(site.home())), (0, 0), "a code was sent");
        assert_eq!(forged.counts().connections, 0);
    }

    /// The token is not replaced before the margin of the settings begins, and then it is.
    async fn is_due_by_the_margin(&self, home: &FakeAuthServer, session: &Session<OAuth2>) {
        let renewals = self.renewals(home);
        self.clock.advance(HOUR - Duration::from_secs(MARGIN) - SECOND).await;
        session.permission_token().await.unwrap();
        self.clock.advance(Duration::ZERO).await;
        assert_eq!(self.renewals(home), renewals, "it is due too early");
        self.clock.advance(2 * SECOND).await;
        session.permission_token().await.unwrap();
        home.wait_for_count(self.renewal(), renewals + 1).await;
        while session.permission_token().await.unwrap().generation() < 3 {
            tokio::task::yield_now().await;
        }
    }

    /// The endpoint that gives a session its next token.
    fn renewal(&self) -> Endpoint {
        match self.shape.acts_for_itself() {
            true => Endpoint::ClientCredentials,
            false => Endpoint::RefreshToken,
        }
    }

    fn renewals(&self, server: &FakeAuthServer) -> u64 {
        server.count(self.renewal())
    }

    async fn keeps(&self, session: &Session<OAuth2>) {
        let attributes = session.attributes().await.unwrap();
        assert_eq!(attributes.more, words::kept(&self.shape));
        assert_eq!(attributes.scope.as_deref(), Some("read write"));
    }
}

impl Site {
    async fn start(
        shape: &Shape,
        authentication: &Value,
        tenant: &'static str,
        clock: &ManualClock,
    ) -> Self {
        // Some characters tell whether a credential is escaped as its place requires.
        let (id, secret) = (format!("{tenant} client"), format!("{tenant}%2Bs&c=r t"));
        let key = shape.has_private_key().then(EcKeyPem::generate);
        let start = || {
            let builder = FakeAuthServer::builder().clock(clock.clone());
            let builder = match &key {
                Some(key) => builder.client_key(&id, &key.public),
                None => builder.client(&id, &secret),
            };
            builder.access_lifetime(HOUR).token_prefix(tenant).start()
        };
        let server = start().await.unwrap();
        let home = match shape.host_parameter() {
            Some(_) => Some(start().await.unwrap()),
            None => None,
        };
        let host = home.as_ref().map(|home| home.url().trim_start_matches("http://").to_owned());
        let named = match (shape.host_parameter(), &home) {
            (Some("subdomain"), _) => Some("127"),
            (_, home) => home.as_ref().map(FakeAuthServer::url),
        };
        for server in home.iter().chain([&server]) {
            server.set_shape(words::of_server(shape, authentication, named));
        }
        let proxy = match shape.client_certificate {
            true => Some(TlsProxy::start(server.url()).await),
            false => None,
        };
        let url = proxy.as_ref().map_or(server.url(), |proxy| &proxy.url);
        let client =
            Client { url, id: &id, secret: &secret, authentication, home: host.as_deref() };
        let mut settings = client.settings(shape);
        if let Some(key) = &key {
            settings["client_secret"] = Value::Null;
            settings["client_key"] = key.private.as_str().into();
        }
        if let Some(TlsProxy { client, .. }) = &proxy {
            settings["client_certificate"] = client.chain.as_str().into();
            settings["client_key"] = client.key.as_str().into();
        }
        Self { tenant, server, home, proxy, settings: settings.to_string() }
    }

    /// The server that has the user's account.
    fn home(&self) -> &FakeAuthServer {
        self.home.as_ref().unwrap_or(&self.server)
    }

    /// A login up to the URL to which the browser comes back.
    async fn log_in(&self, session: &Session<OAuth2>) -> (Ticket, Url) {
        let login = session.begin_login(LoginOptions::new()).await.unwrap();
        let mut url = login.url;
        assert!(url.as_str().starts_with(self.server.url()), "{url}");
        if let Some(fragment) = url.fragment().map(str::to_owned) {
            url.set_fragment(None);
            let page = BROWSER.get(url.as_str()).send().await.unwrap();
            assert_eq!(page.status(), 200);
            let (route, query) = fragment.split_once('?').unwrap();
            assert_eq!(route, "/oauth/authorize");
            // The page's script.
            url.set_path("/authorize");
            url.set_query(Some(query));
        }
        if let Some(home) = &self.home {
            // The server sends the browser on to the data center of the user.
            url.set_port(Url::parse(home.url()).unwrap().port()).unwrap();
        }
        let response = BROWSER.get(url.as_str()).send().await.unwrap();
        let back = Url::parse(response.headers()["location"].to_str().unwrap()).unwrap();
        assert!(back.query_pairs().all(|(name, _)| name != "error"), "{back}");
        (login.ticket, back)
    }
}

async fn supervisor(shape: &Shape, sites: &[Site], clock: &ManualClock) -> Supervisor {
    let mut transport =
        TransportConfig::default().allow_loopback_http().tenants_reach_internal_addresses();
    for proxy in sites.iter().filter_map(|site| site.proxy.as_ref()) {
        transport = transport.root_certificate_pem(proxy.root.as_bytes()).unwrap();
    }
    let builder = Supervisor::builder().clock(clock.clone()).transport(transport);
    let builder = if shape.is_per_tenant() {
        let rows = sites.iter().map(|site| (site.tenant, site.settings.clone()));
        let rows: HashMap<_, _> = rows.collect();
        builder.provider_per_tenant::<OAuth2>("vendor", move |tenant: Tenant| {
            let row = rows.get(tenant.as_str()).map(|row| registration(row));
            async move { row.ok_or(SourceError::UnknownTenant) }
        })
    } else {
        builder.provider("vendor", registration(&sites[0].settings))
    };
    builder.start().await.unwrap()
}

/// The client, from its row alone.
fn registration(row: &str) -> Registration<OAuth2> {
    let settings: OAuth2Settings = serde_json::from_str(row).unwrap();
    settings.registration().unwrap()
}
