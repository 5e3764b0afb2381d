//! The records of oAuth2 tokens, by which they are listed and deleted.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use super::caller::user_of_bearer;
use super::paging::page;
use super::server_data::{ExtraHorizonServer, TokenRecord};
use super::service_error::service_error;
use super::values::{id_of, timestamp};
use crate::clock::Now;
use crate::testing::fake_auth_server::authority::{Issued, Token};
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};

type Outcome = Result<FakeResponse, Box<FakeResponse>>;

impl ExtraHorizonServer {
    pub(super) fn list_records(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let user = user_of_bearer(context)?;
        let wants_access = context.request.path.ends_with("/tokens");
        let live = |record: &&TokenRecord| {
            let is_own = record.user == user && record.is_access == wants_access;
            is_own && context.server.authority.describe(&record.token, context.now.boot).is_some()
        };
        let own = self.records.iter().filter(live);
        Ok(page(context.request, own.map(|record| record.json(context.now)).collect()))
    }

    pub(super) fn delete_record(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let user = user_of_bearer(context)?;
        let id = context.request.path.rsplit('/').next().unwrap_or_default();
        let is_access = context.request.path.contains("/tokens/");
        let records = &mut self.records;
        let found = records.iter().position(|record| {
            record.id == id && record.is_access == is_access && record.user == user
        });
        let Some(found) = found else {
            return Err(Box::new(service_error(StatusCode::NOT_FOUND, 16)));
        };
        let record = records.remove(found);
        if !is_access {
            context.server.authority.forget_refresh(&record.token);
        } else if context.server.authority.revoke(&record.token, &record.client).is_err() {
            return Err(Box::new(service_error(StatusCode::UNAUTHORIZED, 10)));
        }
        Ok(FakeResponse::ok(members([("affectedRecords", 1.into())])))
    }

    /// Keeps a record of both tokens.
    pub(super) fn add_records(&mut self, issued: &Issued, (user, client): (&str, &str), now: Now) {
        let mut add = |token: &Token, refresh: Option<String>, expires, is_access| {
            let id = self.new_id();
            self.records.push(TokenRecord {
                id: id.clone(),
                user: user.to_owned(),
                client: client.to_owned(),
                token: Arc::clone(token),
                is_access,
                refresh,
                expires,
                created: now.wall,
            });
            id
        };
        let refresh = issued.pair.refresh.as_ref().map(|token| add(token, None, None, false));
        add(&issued.pair.access, refresh, Some(now.boot.after(issued.lifetime)), true);
    }
}

impl TokenRecord {
    fn json(&self, now: Now) -> Value {
        let mut json = members([
            ("id", self.id.as_str().into()),
            ("applicationId", id_of(&self.client).into()),
            ("userId", id_of(&self.user).into()),
            ("updateTimestamp", timestamp(self.created).into()),
            ("creationTimestamp", timestamp(self.created).into()),
        ]);
        if self.is_access {
            json.insert("refreshTokenId".to_owned(), self.refresh.clone().into());
            json.insert("accessToken".to_owned(), (&*self.token).into());
        }
        if let Some(expires) = self.expires {
            json.insert("expiryTimestamp".to_owned(), timestamp(now.wall_at(expires)).into());
        }
        Value::Object(json)
    }
}
