use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::BoxError;
use crate::middleware::reqwest_sending::{Next, Sending};
use crate::middleware::{
    Authorizer, CallerHeader, RepeatableBody, Resend, ResponseBody, SessionChoice,
};
use crate::session::Verdict;
use crate::token::PermissionToken;

/// The service that a [`SessionLayer`](super::SessionLayer) makes. See its example.
///
/// A call uses the inner service that was polled ready, and waits until it is ready again before it
/// sends the request once more. If the future of a call is dropped, a refresh that it waits for goes
/// on.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    choice: SessionChoice,
    caller_header: CallerHeader,
}

impl<S> SessionService<S> {
    pub(super) fn new(inner: S, choice: SessionChoice, caller_header: CallerHeader) -> Self {
        Self { inner, choice, caller_header }
    }
}

impl<S: Clone> SessionService<S> {
    /// Takes the inner service that is ready, and leaves a clone, which may not be.
    fn take_ready(&mut self) -> S {
        let clone = self.inner.clone();
        mem::replace(&mut self.inner, clone)
    }
}

/// The future of a call of a [`SessionService`]. See the example of
/// [`SessionLayer`](super::SessionLayer).
pub struct ResponseFuture<T>(Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>);

impl<T> ResponseFuture<T> {
    fn new(call: impl Future<Output = Result<T, BoxError>> + Send + 'static) -> Self {
        Self(Box::pin(call))
    }
}

impl<T> Future for ResponseFuture<T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for ResponseFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<RepeatableBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Error: Send,
    R: Body + Send + 'static,
    R::Error: Send,
{
    type Response = Response<ResponseBody<R>>;
    type Error = BoxError;
    type Future = ResponseFuture<Response<ResponseBody<R>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, choice, caller_header) =
            (self.take_ready(), self.choice.clone(), self.caller_header);
        ResponseFuture::new(send(inner, choice, caller_header, request))
    }
}

impl<S> Service<::reqwest::Request> for SessionService<S>
where
    S: Service<::reqwest::Request, Response = ::reqwest::Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    type Response = ::reqwest::Response;
    type Error = BoxError;
    type Future = ResponseFuture<::reqwest::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: ::reqwest::Request) -> Self::Future {
        let (mut inner, choice, caller_header) =
            (self.take_ready(), self.choice.clone(), self.caller_header);
        ResponseFuture::new(async move {
            let (request, extensions) = with_extensions(request)?;
            let begun = Sending::begin(&choice, caller_header, request, extensions);
            let (mut sending, request) = begun.await?;
            let response = inner.call(request).await;
            let response = response.map_err(|error| without_token(&sending, error.into()))?;
            match sending.first(response).await? {
                Next::Done(response) => Ok(response),
                Next::Send(request) => {
                    let response = ready_call(&mut inner, request).await;
                    let response = response.map_err(|error| without_token(&sending, error))?;
                    Ok(sending.last(response).await)
                }
            }
        })
    }
}

fn without_token(sending: &Sending, error: BoxError) -> BoxError {
    match error.downcast::<::reqwest::Error>() {
        Ok(error) => sending.without_token(*error).into(),
        Err(other) => other,
    }
}

/// The extensions of a request, which reqwest shows only in this form.
fn with_extensions(
    request: ::reqwest::Request,
) -> Result<(::reqwest::Request, Extensions), ::reqwest::Error> {
    let request = Request::try_from(request)?;
    let extensions = request.extensions().clone();
    Ok((request.try_into()?, extensions))
}

async fn send<S, B, R>(
    mut inner: S,
    choice: SessionChoice,
    caller_header: CallerHeader,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, BoxError>
where
    S: Service<Request<RepeatableBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body,
    R: Body,
{
    let (parts, body) = request.into_parts();
    let authorizer = Authorizer::new(&choice, caller_header, &parts)?;
    let (body, repeat) = RepeatableBody::new(body);
    // Each send begins with the request as it came, because a signature is for one send.
    let mut first = parts.clone();
    let Some(token) = authorizer.authorize(&mut first).await? else {
        let sent = inner.call(Request::from_parts(first, body)).await.map_err(Into::into)?;
        return Ok(sent.map(ResponseBody::new));
    };
    let response = inner.call(Request::from_parts(first, body)).await.map_err(Into::into)?;
    let (mut response, verdict) = judge(&authorizer, &token, response).await;
    if verdict == Verdict::Forward {
        return Ok(response);
    }
    let Some(body) = repeat.body() else {
        authorizer.log_body_not_repeatable();
        response.extensions_mut().insert(Resend::BodyNotRepeatable);
        return Ok(response);
    };
    // Before the wait: its connection is free for the next request.
    drop(response);
    let mut second = parts;
    let token = authorizer.authorize(&mut second).await?;
    let response = ready_call(&mut inner, Request::from_parts(second, body)).await?;
    let mut response = match &token {
        Some(token) => judge(&authorizer, token, response).await.0,
        None => response.map(ResponseBody::new),
    };
    response.extensions_mut().insert(Resend::Resent);
    Ok(response)
}

async fn judge<R: Body>(
    authorizer: &Authorizer,
    token: &PermissionToken,
    response: Response<R>,
) -> (Response<ResponseBody<R>>, Verdict) {
    let (parts, body) = response.into_parts();
    let mut body = ResponseBody::new(body);
    let prefix = if authorizer.reads_body(&parts) { body.read_prefix().await } else { Vec::new() };
    let verdict = authorizer.judge(token, &parts, &prefix);
    (Response::from_parts(parts, body), verdict)
}

async fn ready_call<Q, S: Service<Q>>(inner: &mut S, request: Q) -> Result<S::Response, BoxError>
where
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
    inner.call(request).await.map_err(Into::into)
}
