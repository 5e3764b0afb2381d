//! A browser that follows a script. It keeps cookies and follows redirects, like a real one.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use http::StatusCode;
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, redirect};
use session_warden::testing::{FakeAuthServer, FakeLogin};
use url::Url;

/// Logs in, looks around, logs out.
pub(super) async fn visit(backend: &str, server: &FakeAuthServer) -> Result<()> {
    let mut browser = Browser::new(backend)?;
    let (status, _) = browser.go(Method::GET, "/").await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "before the login: {status}");

    // An attacker's link, with the attacker's code: this browser has not begun a login.
    let (status, _) = browser.go(Method::GET, "/callback?code=a&state=b").await?;
    ensure!(status == StatusCode::BAD_REQUEST, "a stranger's link: {status}");

    server.set_login(FakeLogin::deny("access_denied"));
    let (status, _) = browser.go(Method::GET, "/login").await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "a login that was denied: {status}");

    server.set_login(FakeLogin::approve("ada"));
    let hello = (StatusCode::OK, "hello ada, the API says 200 OK".to_owned());
    let page = browser.go(Method::GET, "/login").await?;
    ensure!(page == hello, "after the login: {page:?}");

    // The server revokes the access tokens; the user does not notice.
    server.kill_access_tokens();
    let page = browser.go(Method::GET, "/").await?;
    ensure!(page == hello, "after the tokens died: {page:?}");

    let (status, _) = browser.go(Method::POST, "/logout").await?;
    ensure!(status == StatusCode::OK && server.live_grants() == 0, "after the logout: {status}");
    let (status, _) = browser.go(Method::GET, "/").await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "logged out: {status}");
    Ok(())
}

struct Browser {
    backend: Url,
    http: Client,
    /// The cookies of the backend. No other host sets any here.
    cookies: HashMap<String, String>,
}

impl Browser {
    fn new(backend: &str) -> Result<Self> {
        let http = Client::builder().redirect(redirect::Policy::none()).build()?;
        Ok(Self { backend: Url::parse(backend)?, http, cookies: HashMap::new() })
    }

    /// The page at the end of all redirects.
    async fn go(&mut self, mut method: Method, path: &str) -> Result<(StatusCode, String)> {
        let mut url = self.backend.join(path)?;
        loop {
            let mut request = self.http.request(method, url.clone());
            if url.origin() == self.backend.origin() {
                let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
                request = request.header(COOKIE, pairs.collect::<Vec<_>>().join("; "));
            }
            let answer = request.send().await?;
            for line in answer.headers().get_all(SET_COOKIE) {
                let pair = line.to_str()?.split(';').next().and_then(|pair| pair.split_once('='));
                let Some((name, value)) = pair else { continue };
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            let Some(next) = answer.headers().get(LOCATION) else {
                return Ok((answer.status(), answer.text().await?));
            };
            url = url.join(next.to_str()?)?;
            method = Method::GET;
        }
    }
}
