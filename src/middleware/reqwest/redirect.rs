//! The redirects of one request.

use ::reqwest::{Method, Request, Response};
use http::{StatusCode, header};
use url::Url;

/// A request that was sent, for the case that its answer is a redirect.
pub(super) struct Hop {
    url: Url,
    /// None if its body is a stream.
    copy: Option<Request>,
    /// The same without a body.
    bare: Request,
}

impl Hop {
    /// Of a request without a token, as the program made it.
    pub(super) fn of(request: &Request) -> Self {
        let mut bare = Request::new(request.method().clone(), request.url().clone());
        bare.headers_mut().clone_from(request.headers());
        *bare.version_mut() = request.version();
        if let Some(timeout) = request.timeout() {
            *bare.timeout_mut() = Some(*timeout);
        }
        Self { url: request.url().clone(), copy: request.try_clone(), bare }
    }

    /// The next request, if the answer is a redirect that can be followed (RFC 9110 section 15.4),
    /// and whether it goes to the same origin.
    pub(super) fn after(&mut self, response: &Response) -> Option<(Request, bool)> {
        let to = response.headers().get(header::LOCATION)?.to_str().ok()?;
        let to = self.url.join(to).ok().filter(|to| matches!(to.scheme(), "https" | "http"))?;
        let mut request = match response.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND
                if self.bare.method() == Method::POST =>
            {
                self.without_body()?
            }
            StatusCode::SEE_OTHER => self.without_body()?,
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => self.copy.take()?,
            _ => return None,
        };
        let is_same_origin = to.origin() == self.url.origin();
        if !is_same_origin {
            for name in [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION] {
                request.headers_mut().remove(name);
            }
        }
        *request.url_mut() = to;
        Some((request, is_same_origin))
    }

    fn without_body(&self) -> Option<Request> {
        let mut request = self.bare.try_clone()?;
        if request.method() != Method::HEAD {
            *request.method_mut() = Method::GET;
        }
        for name in [
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::TRANSFER_ENCODING,
        ] {
            request.headers_mut().remove(name);
        }
        Some(request)
    }
}
