//! The backend's pages.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use http::{HeaderMap, StatusCode, Uri};
use parking_lot::Mutex;
use session_warden::provider::oauth2::{LoginOptions, OAuth2, UserInfo};
use session_warden::session::Revocation;
use session_warden::ticket::Ticket;
use session_warden::{Establishment, Session, SessionKey, Sessions};

use super::api::Api;
use super::web::{Failed, cookie, set_cookie};

#[derive(Clone)]
pub(super) struct App {
    pub(super) sessions: Sessions<OAuth2>,
    pub(super) api: Api,
    /// The session of each logged-in user, by the backend's own cookie.
    pub(super) users: Arc<Mutex<HashMap<String, Session<OAuth2>>>>,
}

pub(super) async fn login(State(app): State<App>) -> Result<Response, Failed> {
    // The user is not known yet, so each login has a session of its own.
    let key = SessionKey::new("acme", format!("login-{:016x}", getrandom::u64()?))?;
    let login = app.sessions.begin_login(key, LoginOptions::new()).await?;
    let ticket = set_cookie("__Host-ticket", login.ticket.as_str(), 600);
    Ok((AppendHeaders([ticket]), Redirect::to(login.url.as_str())).into_response())
}

pub(super) async fn callback(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let ticket = Ticket::parse(cookie(&headers, "__Host-ticket"))?;
    // Path and query: an answer that does not name its server must have come to this redirect URI.
    let back = uri.to_string();
    let (session, Establishment::Active(_)) = app.sessions.finish_login(&ticket, &back).await?;
    let user = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let cookies = [set_cookie("__Host-user", &user, 86_400), set_cookie("__Host-ticket", "", 0)];
    app.users.lock().insert(user, session);
    Ok((AppendHeaders(cookies), Redirect::to("/")).into_response())
}

pub(super) async fn home(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failed> {
    let Some(session) = app.users.lock().get(cookie(&headers, "__Host-user")).cloned() else {
        return Ok((StatusCode::UNAUTHORIZED, "log in first").into_response());
    };
    let claims = session.call(UserInfo).await?;
    let name = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or("somebody");
    let status = app.api.call(&session).await?;
    Ok(format!("hello {name}, the API says {status}").into_response())
}

pub(super) async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failed> {
    let user = app.users.lock().remove(cookie(&headers, "__Host-user"));
    if let Some(session) = user
        && session.revoke().await? == Revocation::AtServer
    {
        // This key is not used again. A revocation that did not reach the server yet is repeated.
        session.forget().await?;
    }
    Ok((AppendHeaders([set_cookie("__Host-user", "", 0)]), "goodbye").into_response())
}
