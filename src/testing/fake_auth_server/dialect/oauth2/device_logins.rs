//! Logins on another device (RFC 8628).

use std::collections::HashMap;
use std::time::Duration;

use http::StatusCode;

use super::{OAuth2Server, Outcome, client};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::{Authority, Holder, Issued};
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::dialect::oauth2::shaped_request::ShapedRequest;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_login::FakeLogin;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};

/// The logins that have begun, by their device codes.
#[derive(Default)]
pub(super) struct DeviceLogins {
    by_code: HashMap<String, DeviceLogin>,
}

struct DeviceLogin {
    user_code: String,
    client: String,
    scope: Option<String>,
    expires: BootTime,
    /// The shortest pause between two polls. Each poll that comes too soon makes it longer.
    interval: Duration,
    polled: Option<BootTime>,
    answer: Option<FakeLogin>,
    /// The grant for which the code was redeemed.
    redeemed: Option<usize>,
}

impl DeviceLogins {
    /// The user's answer to the login with this code.
    pub(super) fn answer(&mut self, user_code: &str, answer: FakeLogin) {
        let mut logins = self.by_code.values_mut();
        if let Some(login) = logins.find(|login| login.user_code == user_code) {
            login.answer = Some(answer);
        }
    }

    /// RFC 8628 section 3.4.
    pub(super) fn poll(
        &mut self,
        authority: &mut Authority,
        (code, client): (&str, &str),
        now: BootTime,
    ) -> Result<Issued, Box<FakeResponse>> {
        let login = self.by_code.get_mut(code).filter(|login| login.client == client);
        let login = login.ok_or_else(|| Box::new(ErrorCode::InvalidGrant.into()))?;
        login.poll(authority, now).map_err(|code| {
            let error = members([("error", code.as_str().into())]);
            Box::new(FakeResponse::refusal(StatusCode::BAD_REQUEST, &code, error))
        })
    }
}

impl DeviceLogin {
    /// Tokens, or the error code of RFC 8628 section 3.5.
    fn poll(&mut self, authority: &mut Authority, now: BootTime) -> Result<Issued, String> {
        let former = self.polled.replace(now);
        if let Some(grant) = self.redeemed {
            // As with an authorization code that comes twice.
            authority.end_grant(grant);
            return Err(ErrorCode::InvalidGrant.text().to_owned());
        }
        if now >= self.expires {
            return Err("expired_token".to_owned());
        }
        if former.is_some_and(|former| now.since(former) < self.interval) {
            self.interval += SLOW_DOWN;
            return Err("slow_down".to_owned());
        }
        match &self.answer {
            None => Err("authorization_pending".to_owned()),
            Some(FakeLogin::Deny(code)) => Err(code.clone()),
            Some(FakeLogin::Approve(user)) => {
                let (client, scope) = (self.client.clone(), self.scope.clone());
                let holder = Holder { user: Some(user.clone()), client, scope };
                let (grant, issued) = authority.new_grant(holder, now);
                self.redeemed = Some(grant);
                Ok(issued)
            }
        }
    }
}

impl OAuth2Server {
    /// RFC 8628 section 3.1.
    pub(super) fn begin_device_login(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let request = ShapedRequest::read(&self.shape, request)?;
        let client = client(server, &request, *now)?;
        let (code, user_code) = (server.authority.new_token(), server.authority.new_token());
        let user_code = user_code.chars().take(8).collect::<String>().to_uppercase();
        let lifetime = self.shape.device_lifetime;
        let login = DeviceLogin {
            user_code: user_code.clone(),
            client,
            scope: request.scope()?,
            expires: now.boot.after(lifetime),
            interval: self.shape.device_interval.unwrap_or(INTERVAL),
            polled: None,
            answer: None,
            redeemed: None,
        };
        let page = format!("{}/device", server.url);
        let mut response = members([
            ("device_code", (&*code).into()),
            ("user_code", user_code.as_str().into()),
            ("verification_uri", page.as_str().into()),
            ("verification_uri_complete", format!("{page}?user_code={user_code}").into()),
            ("expires_in", lifetime.as_secs().into()),
        ]);
        if let Some(interval) = self.shape.device_interval {
            response.insert("interval".to_owned(), interval.as_secs().into());
        }
        self.devices.by_code.insert(code.to_string(), login);
        Ok(FakeResponse::ok(response))
    }
}

/// RFC 8628 section 3.2.
const INTERVAL: Duration = Duration::from_secs(5);

/// RFC 8628 section 3.5.
const SLOW_DOWN: Duration = Duration::from_secs(5);
