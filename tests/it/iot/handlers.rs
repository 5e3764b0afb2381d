//! The program's handlers.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use session_warden::error::Refusal;
use session_warden::key::Tenant;
use session_warden::session::{self, Filter};
use session_warden::ticket::Ticket;

use super::*;

pub fn router(app: App) -> Router {
    Router::new()
        .route("/{tenant}/{device}/login", post(login))
        .route("/{tenant}/{device}/mfa", post(mfa))
        .route("/{tenant}/{device}/read", post(read))
        .route("/{tenant}/{device}/logout", post(logout))
        .route("/{tenant}/sessions", post(list))
        .with_state(app)
}

type Device = Path<(String, String)>;

#[derive(serde::Deserialize)]
struct Login {
    user: String,
    password: SecretString,
}

async fn login(
    State(exh): State<Sessions<Exh>>,
    Path((tenant, device)): Device,
    Json(login): Json<Login>,
) -> Result<Response, Api> {
    let grant = exh::ExtraHorizonPassword::new(login.user, login.password);
    match exh.session(SessionKey::new(tenant, device)?).establish(grant).await? {
        Establishment::Active(attributes) => Ok(Json(attributes).into_response()),
        Establishment::Challenge(challenge) => {
            let ticket = challenge.ticket().as_str();
            let body = json!({"ticket": ticket, "methods": challenge.methods()});
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
    }
}

#[derive(serde::Deserialize)]
struct Mfa {
    ticket: String,
    method: String,
    code: SecretString,
}

async fn mfa(
    State(exh): State<Sessions<Exh>>,
    Path((tenant, device)): Device,
    Json(mfa): Json<Mfa>,
) -> Result<StatusCode, Api> {
    let answer = exh::MfaAnswer::new(Ticket::parse(mfa.ticket)?, mfa.method, mfa.code);
    match exh.session(SessionKey::new(tenant, device)?).establish(answer).await? {
        Establishment::Active(_) => Ok(StatusCode::NO_CONTENT),
        Establishment::Challenge(_) => Ok(StatusCode::ACCEPTED),
    }
}

async fn read(State(app): State<App>, Path((tenant, device)): Device) -> Result<String, Api> {
    let session = app.spatium.session(SessionKey::new(tenant, device)?);
    let token = tokio::time::timeout(Duration::from_secs(3), session.permission_token());
    let token = token.await.map_err(|_| Api(StatusCode::GATEWAY_TIMEOUT))??;
    let header = token.header().map(|(name, value)| (name.clone(), value.clone()));
    let request = app.http.get(&app.api).headers(header.into_iter().collect());
    let answer = request.send().await.map_err(|_| Api(StatusCode::BAD_GATEWAY))?;
    if answer.status() == 401 {
        session.invalidate(&token);
    }
    answer.text().await.map_err(|_| Api(StatusCode::BAD_GATEWAY))
}

async fn logout(State(app): State<App>, Path((tenant, device)): Device) -> Result<StatusCode, Api> {
    let key = SessionKey::new(tenant, device)?;
    let (spatium, exh) = (app.spatium.session(key.clone()), app.exh.session(key));
    // Several providers in one place.
    let all: Vec<Session> = vec![spatium.into(), exh.into()];
    for session in all {
        session.revoke().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn list(
    State(supervisor): State<Supervisor>,
    Path(tenant): Path<String>,
) -> Result<Json<Vec<SessionStatus>>, Api> {
    let filter = Filter::tenant(Tenant::new(tenant)?).state(session::State::Lost);
    let mut listed = Box::pin(supervisor.list(filter));
    let mut out = vec![];
    while let Some(status) = listed.next().await {
        out.push(status?);
        if out.len() == 100 {
            break;
        }
    }
    Ok(Json(out))
}

pub struct Api(StatusCode);

impl IntoResponse for Api {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl From<InvalidKey> for Api {
    fn from(invalid: InvalidKey) -> Self {
        Error::from(invalid).into()
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "as a user writes it")]
impl From<Error> for Api {
    fn from(error: Error) -> Self {
        use ErrorKind::*;
        Self(match error.kind() {
            NotEstablished | SignInAgain(_) => StatusCode::UNAUTHORIZED,
            Refused(Refusal::Locked) => StatusCode::TOO_MANY_REQUESTS,
            Refused(_) => StatusCode::FORBIDDEN,
            InvalidInput => StatusCode::BAD_REQUEST,
            Superseded => StatusCode::CONFLICT,
            Capacity | RetryLater | Store | ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Deadline => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        })
    }
}
