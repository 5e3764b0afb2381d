//! Logins through a browser.

use super::OidcPeer;
use crate::peer::browser;

impl OidcPeer {
    /// Logs in with a new browser that comes to this authorization URL, and gives the URL of the
    /// client to which it is sent in the end, without going there.
    ///
    /// # Panics
    ///
    /// If the server shows a page instead.
    pub async fn log_in(&self, authorization_url: &str) -> String {
        browser::log_in(self.issuer(), authorization_url, None).await
    }

    /// Approves, with a new browser, the login on another device whose code this page knows, and gives
    /// the last page.
    pub async fn approve(&self, verification_uri_complete: &str) -> String {
        browser::approve(self.issuer(), verification_uri_complete).await
    }
}

/// The server and this browser are what the other tests take them for.
mod tests {
    use reqwest::StatusCode;
    use serde_json::json;
    use session_warden::Supervisor;
    use session_warden::key::SessionKey;
    use session_warden::provider::oauth2::{AuthorizationCode, OAuth2};
    use session_warden::transport::TransportConfig;
    use url::Url;

    use crate::oidc_peer::{CLIENT_ID, CLIENT_SECRET, OidcPeer, Options, REDIRECT_URI};

    /// The example of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn authorization_url(peer: &OidcPeer, user: &str) -> String {
        let fields = [
            ("response_type", "code"),
            ("client_id", CLIENT_ID),
            ("redirect_uri", REDIRECT_URI),
            ("scope", "openid offline_access"),
            ("state", "state-1"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("prompt", "consent"),
            ("login_hint", user),
        ];
        Url::parse_with_params(&format!("{}/auth", peer.issuer()), fields).unwrap().into()
    }

    fn field(url: &str, wanted: &str) -> Option<String> {
        assert!(url.starts_with(&format!("{REDIRECT_URI}?")), "{url}");
        let url = Url::parse(url).unwrap();
        url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    }

    #[tokio::test]
    async fn a_browser_brings_back_a_code_that_opens_a_session_with_its_verifier_alone() {
        let peer = OidcPeer::start(Options::default()).await;
        let back = peer.log_in(&authorization_url(&peer, "bob")).await;
        assert_eq!(field(&back, "state").as_deref(), Some("state-1"));
        assert_eq!(field(&back, "iss").as_deref(), Some(peer.issuer()));
        let redeem = async |code: &str, verifier| {
            let form = [("grant_type", "authorization_code"), ("code", code)];
            let proof = [("redirect_uri", REDIRECT_URI), ("code_verifier", verifier)];
            peer.post("/token", &[form, proof].concat()).await
        };
        let code = field(&back, "code").unwrap();
        let other = "x".repeat(43);
        assert_eq!(redeem(&code, &other).await.0, StatusCode::BAD_REQUEST);
        let (status, tokens) = redeem(&code, VERIFIER).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        assert_eq!(tokens["scope"], "openid offline_access");
        let access = tokens["access_token"].as_str().unwrap();
        let user = peer.0.http().get(format!("{}/me", peer.issuer())).bearer_auth(access);
        let user = user.send().await.unwrap().bytes().await.unwrap();
        let user: serde_json::Value = serde_json::from_slice(&user).unwrap();
        assert_eq!(user, json!({ "sub": "bob" }));
        let refresh = [
            ("grant_type", "refresh_token"),
            ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ];
        assert_eq!(peer.post("/token", &refresh).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_user_may_say_no_and_another_time_yes() {
        let peer = OidcPeer::start(Options::default()).await;
        peer.deny_next_logins(1).await;
        let back = peer.log_in(&authorization_url(&peer, "alice")).await;
        assert_eq!(field(&back, "error").as_deref(), Some("access_denied"));
        assert_eq!(field(&back, "state").as_deref(), Some("state-1"));
        assert_eq!(field(&back, "iss").as_deref(), Some(peer.issuer()));
        assert_eq!(field(&back, "code"), None);
        let back = peer.log_in(&authorization_url(&peer, "alice")).await;
        assert!(field(&back, "code").is_some());
    }

    #[tokio::test]
    async fn the_library_makes_a_session_of_the_code_of_a_browser() {
        let peer = OidcPeer::start(Options::default()).await;
        let client = OAuth2::discover(peer.issuer(), CLIENT_ID).unwrap();
        let supervisor = Supervisor::builder()
            .transport(TransportConfig::default().allow_loopback_http())
            .provider("oidc", client.client_secret_basic(CLIENT_SECRET));
        let supervisor = supervisor.start().await.unwrap();
        let sessions = supervisor.sessions::<OAuth2>("oidc").unwrap();
        let session = sessions.session(SessionKey::new("tenant", "device").unwrap());
        let back = peer.log_in(&authorization_url(&peer, "alice")).await;
        let code = AuthorizationCode::new(field(&back, "code").unwrap());
        let code = code.redirect_uri(REDIRECT_URI).code_verifier(VERIFIER);
        let _ = session.establish(code).await.unwrap();
        let attributes = session.attributes().await.unwrap();
        assert_eq!(attributes.scope.as_deref(), Some("openid offline_access"));
        assert_eq!(session.refresh().await.unwrap().generation(), 2);
    }

    #[tokio::test]
    async fn a_clients_secret_changes_while_the_server_runs() {
        let peer = OidcPeer::start(Options::default()).await;
        let post = |secret: &'static str| {
            let form = [("grant_type", "password"), ("username", "a"), ("password", "ok")];
            let form = form.into_iter().chain([("client_id", "post"), ("client_secret", secret)]);
            let body =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            let request = peer.0.http().post(format!("{}/token", peer.issuer())).body(body);
            request.header("content-type", "application/x-www-form-urlencoded").send()
        };
        assert_eq!(post("post-secret").await.unwrap().status(), StatusCode::OK);
        peer.set_client_secret("post", "new").await;
        assert_eq!(post("post-secret").await.unwrap().status(), StatusCode::UNAUTHORIZED);
        assert_eq!(post("new").await.unwrap().status(), StatusCode::OK);
        peer.set_client_secret(CLIENT_ID, "new").await;
        let (status, _) = peer.post("/token", &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}
