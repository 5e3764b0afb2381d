use tower_layer::Layer;

use super::SessionService;
use crate::middleware::{CallerHeader, SessionChoice};

/// Puts a session's token on each request of a service. See
/// [`middleware`](crate::middleware) for what it does.
///
/// The service may take `http::Request<RepeatableBody<B>>`, as the clients of hyper do, or
/// `reqwest::Request`, as a `reqwest::Client` does. A client of tonic needs its own body type: put
/// `.map_request(|request: http::Request<_>| request.map(tonic::body::Body::new))` between this
/// layer and the channel, and give the client the origin of the API with `with_origin`. The inner
/// service must be `Clone + Send + 'static`.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body::Body;
/// use http_body_util::Full;
/// use session_warden::middleware::tower::{
///     BoxError, ResponseFuture, SessionLayer, SessionService,
/// };
/// use session_warden::middleware::{CallerHeader, RepeatableBody, Resend, ResponseBody, SessionChoice};
/// use session_warden::provider::Registration;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::{Session, SessionKey, Supervisor};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// /// An API that has revoked the first token.
/// async fn api(request: Request<RepeatableBody<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, BoxError> {
///     let mut response = Response::new(Full::from("hello"));
///     if request.headers()["authorization"] == "Bearer access-1" {
///         *response.status_mut() = StatusCode::UNAUTHORIZED;
///     }
///     Ok(response)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let acme: Registration<ScriptedProvider> = ScriptedProvider::new().into();
/// let acme = acme.api_origins(["https://api.example.com"]);
/// let supervisor = Supervisor::builder().provider("acme", acme).start().await?;
/// let sessions = supervisor.sessions::<ScriptedProvider>("acme")?;
/// let session = sessions.session(SessionKey::single("device-17")?);
/// let _ = session.establish(()).await?;
///
/// // Each request names its session.
/// let layer = SessionLayer::new(SessionChoice::from_extension()).caller_header(CallerHeader::Keep);
/// let mut client: SessionService<_> = ServiceBuilder::new().layer(layer).service(service_fn(api));
///
/// let mut request = Request::get("https://api.example.com/profile").body(Full::default())?;
/// request.extensions_mut().insert::<Session>(session.erase());
/// let call: ResponseFuture<Response<ResponseBody<Full<Bytes>>>> =
///     client.ready().await?.call(request);
/// let response = call.await?;
/// assert_eq!(response.status(), StatusCode::OK);
/// assert_eq!(response.extensions().get(), Some(&Resend::Resent));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionLayer {
    choice: SessionChoice,
    caller_header: CallerHeader,
}

impl SessionLayer {
    /// A layer for one session, or for the session that the choice finds for each request.
    #[must_use]
    pub fn new(choice: impl Into<SessionChoice>) -> Self {
        Self { choice: choice.into(), caller_header: CallerHeader::default() }
    }

    /// What to do with a request that already has the header `Authorization`, or the header in which
    /// the provider puts its token.
    #[must_use]
    pub fn caller_header(self, caller_header: CallerHeader) -> Self {
        Self { caller_header, ..self }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService::new(inner, self.choice.clone(), self.caller_header)
    }
}
