//! A browser whose user does everything that a server asks.

mod page;

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use url::{Origin, Url, form_urlencoded};

/// More than any login here has: the server, its pages of login and consent, and twice back.
const MOST_STEPS: usize = 12;

/// Logs in with a new browser that comes to this authorization URL, and gives the URL of the client
/// to which it is sent in the end, without going there. On pages, the user gives this name and the
/// password `ok`, and consents.
///
/// # Panics
///
/// If the server shows a page without a form, or any page when no user is there.
pub async fn log_in(server: &str, authorization_url: &str, user: Option<&str>) -> String {
    let http = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let mut browser =
        Browser { server: Url::parse(server).unwrap().origin(), http, cookies: BTreeMap::new() };
    let mut url = Url::parse(authorization_url).unwrap();
    let mut answer = browser.get(&url).await;
    for _ in 0..MOST_STEPS {
        if let Some(location) = answer.headers().get(LOCATION) {
            url = url.join(location.to_str().unwrap()).unwrap();
            if url.origin() != browser.server {
                return url.into();
            }
            answer = browser.get(&url).await;
            continue;
        }
        let (status, html) = (answer.status(), answer.text().await.unwrap());
        let form = user.and_then(|user| page::filled(&html, user));
        let Some((action, fields)) = form else {
            panic!("{status} at {url} and no redirect: {html}");
        };
        url = url.join(&action).unwrap();
        answer = browser.post(&url, &fields).await;
    }
    panic!("the login has no end: it is at {url}");
}

/// Opens this page of the server with a new browser, whose user sends each form that it shows, and
/// gives the first page without a form, or that asks for a code again.
pub async fn approve(server: &str, page: &str) -> String {
    let http = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let mut browser =
        Browser { server: Url::parse(server).unwrap().origin(), http, cookies: BTreeMap::new() };
    let mut url = Url::parse(page).unwrap();
    let mut answer = browser.get(&url).await;
    for _ in 0..MOST_STEPS {
        if let Some(location) = answer.headers().get(LOCATION) {
            url = url.join(location.to_str().unwrap()).unwrap();
            answer = browser.get(&url).await;
            continue;
        }
        let html = answer.text().await.unwrap();
        let form = page::filled(&html, "").filter(|_| !html.contains("placeholder=\"Enter code\""));
        let Some((action, fields)) = form else { return html };
        url = url.join(&action).unwrap();
        answer = browser.post(&url, &fields).await;
    }
    panic!("the login has no end: it is at {url}");
}

struct Browser {
    server: Origin,
    http: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn get(&mut self, url: &Url) -> Response {
        let request = self.http.get(url.as_str());
        self.send(url, request).await
    }

    async fn post(&mut self, url: &Url, fields: &[(String, String)]) -> Response {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.http.post(url.as_str()).body(body);
        let kind = "application/x-www-form-urlencoded";
        self.send(url, request.header(CONTENT_TYPE, kind)).await
    }

    async fn send(&mut self, url: &Url, request: RequestBuilder) -> Response {
        assert_eq!(url.origin(), self.server, "the login stays at the server");
        let jar: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header(COOKIE, jar.join("; "));
        let answer = request.send().await.expect("the server answers");
        self.keep(&answer);
        answer
    }

    /// One server and one login: paths and lifetimes do not matter, but an empty cookie is one that
    /// the server takes back.
    fn keep(&mut self, answer: &Response) {
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap().trim();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}
