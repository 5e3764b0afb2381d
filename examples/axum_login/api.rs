//! An API that is called with a user's session.

use anyhow::Result;
use http::{Request, Response, StatusCode};
use session_warden::Session;
use session_warden::provider::oauth2::OAuth2;
use session_warden::session::Verdict;

#[derive(Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    url: String,
}

impl Api {
    pub(super) fn new(url: String) -> Self {
        Self { http: reqwest::Client::new(), url }
    }

    /// Calls the API, and calls it once more if it rejects the token.
    pub(super) async fn call(&self, session: &Session<OAuth2>) -> Result<StatusCode> {
        let mut again = true;
        loop {
            let (mut head, ()) = Request::get(&self.url).body(())?.into_parts();
            let used = session.authorize(&mut head).await?;
            let request = reqwest::Request::try_from(Request::from_parts(head, ""))?;
            let answer = self.http.execute(request).await?;

            let (mut head, ()) = Response::new(()).into_parts();
            head.status = answer.status();
            head.headers = answer.headers().clone();
            let body = answer.bytes().await?;
            match session.rejected(&used, &head, &body) {
                Verdict::Retry if again => again = false,
                Verdict::Retry | Verdict::Forward => return Ok(head.status),
            }
        }
    }
}
