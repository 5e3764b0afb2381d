//! One request of reqwest with a token: before it is sent, and after its answers.

use ::reqwest::{Body, Request, Response, ResponseBuilderExt};
use http::{Extensions, request};
use url::Url;

use super::{Authorizer, CallerHeader, Resend, ResponseBody, SessionChoice};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Verdict;
use crate::token::PermissionToken;

/// A request on its way. The caller of this sends.
pub(super) struct Sending {
    authorizer: Authorizer,
    /// None if the request goes as it came.
    token: Option<PermissionToken>,
    /// The request as it came. None if its body is a stream.
    copy: Option<Request>,
    /// The URL as it came.
    url: Url,
    /// The URL that was sent last, which may contain the token.
    sent_url: Url,
}

/// What to do after the first answer.
pub(super) enum Next {
    Done(Response),
    /// Send this, and give its answer to [`Sending::last`].
    Send(Request),
}

impl Sending {
    /// Puts the token on the request, which the caller of this sends then.
    pub(super) async fn begin(
        choice: &SessionChoice,
        caller_header: CallerHeader,
        mut request: Request,
        extensions: Extensions,
    ) -> Result<(Self, Request)> {
        let mut parts = parts_of(&request)?;
        parts.extensions = extensions;
        let authorizer = Authorizer::new(choice, caller_header, &parts)?;
        let copy = request.try_clone();
        let url = request.url().clone();
        let token = authorizer.authorize(&mut parts).await?;
        put_back(parts, &mut request)?;
        let sent_url = request.url().clone();
        Ok((Self { authorizer, token, copy, url, sent_url }, request))
    }

    /// Reads the first answer.
    pub(super) async fn first(&mut self, response: Response) -> Result<Next> {
        let (response, verdict) = self.judge(response).await;
        if verdict == Verdict::Forward {
            return Ok(Next::Done(response));
        }
        let Some(mut request) = self.copy.take() else {
            self.authorizer.log_body_not_repeatable();
            return Ok(Next::Done(marked(response, Resend::BodyNotRepeatable)));
        };
        drop(response);
        let mut parts = parts_of(&request)?;
        self.token = self.authorizer.authorize(&mut parts).await?;
        put_back(parts, &mut request)?;
        self.sent_url = request.url().clone();
        Ok(Next::Send(request))
    }

    /// Reads the second answer, which the caller gets as it came.
    pub(super) async fn last(self, response: Response) -> Response {
        marked(self.judge(response).await.0, Resend::Resent)
    }

    /// The error with the URL as it came, because the URL that was sent may contain the token.
    pub(super) fn without_token(&self, error: ::reqwest::Error) -> ::reqwest::Error {
        if error.url() == Some(&self.sent_url) { error.with_url(self.url.clone()) } else { error }
    }

    async fn judge(&self, response: Response) -> (Response, Verdict) {
        let Some(token) = &self.token else { return (response, Verdict::Forward) };
        let mut url = response.url().clone();
        if url.origin() != self.sent_url.origin() {
            // The client has followed a redirect. Another server knows nothing of the token.
            return (response, Verdict::Forward);
        }
        if url == self.sent_url {
            url.clone_from(&self.url);
        }
        let (parts, body) = http::Response::from(response).into_parts();
        if !self.authorizer.reads_body(&parts) {
            let verdict = self.authorizer.judge(token, &parts, &[]);
            return (whole(parts, body, url), verdict);
        }
        let mut body = ResponseBody::new(body);
        let prefix = body.read_prefix().await;
        let verdict = self.authorizer.judge(token, &parts, &prefix);
        (whole(parts, Body::wrap(body), url), verdict)
    }
}

/// The request without its body, as the middleware looks at it.
fn parts_of(request: &Request) -> Result<request::Parts> {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = request.method().clone();
    parts.uri = request.url().as_str().parse().map_err(|_| unsendable())?;
    parts.version = request.version();
    parts.headers = request.headers().clone();
    Ok(parts)
}

/// A provider changes the URL and the headers of a request.
fn put_back(parts: request::Parts, request: &mut Request) -> Result<()> {
    let url = Url::parse(&parts.uri.to_string()).map_err(|_| unsendable())?;
    *request.url_mut() = url;
    *request.headers_mut() = parts.headers;
    Ok(())
}

fn whole(parts: http::response::Parts, body: Body, url: Url) -> Response {
    let mut response = http::Response::from_parts(parts, body);
    // Reqwest takes the URL of a response from an extension.
    let of_url = http::Response::builder().url(url).body(());
    if let Ok(of_url) = of_url {
        response.extensions_mut().extend(of_url.into_parts().0.extensions);
    }
    response.into()
}

fn marked(mut response: Response, resend: Resend) -> Response {
    response.extensions_mut().insert(resend);
    response
}

fn unsendable() -> Error {
    Error::new(ErrorKind::InvalidInput)
        .about("the request has a URL that HTTP cannot carry; correct the URL")
}
