//! What the server has on its oAuth2 tokens, by which they are listed and deleted.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Site, id_of, refused, timestamp};
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::authority::{Issued, Token};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::dialect::Route;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;
use crate::testing::fake_auth_server::shared::State;

/// An access token, or a refresh token.
pub(super) struct Record {
    id: String,
    user: String,
    client: String,
    token: Token,
    is_access: bool,
    /// The record of the refresh token that an access token came with.
    refresh: Option<String>,
    expires: Option<BootTime>,
    created: SystemTime,
}

pub(super) fn list() -> Route {
    Route::to(Endpoint::ListTokens, |state, call, now| state.exh_records(call, now))
}

pub(super) fn delete() -> Route {
    Route::to(Endpoint::DeleteToken, |state, call, now| state.exh_delete_record(call, now))
}

/// A page of `data`, of which `limit(amount,offset)` in the query picks a part.
pub(super) fn page(call: &Call, data: Vec<Value>) -> Reply {
    let query = call.query.as_deref().unwrap_or_default();
    let limit = query.split('&').find_map(|part| part.strip_prefix("limit(")?.strip_suffix(')'));
    let mut numbers = limit.into_iter().flat_map(|limit| limit.split(',').map(str::parse::<usize>));
    let limit = numbers.next().and_then(Result::ok).unwrap_or(20);
    let offset = numbers.next().and_then(Result::ok).unwrap_or(0);
    let total = data.len();
    let data: Vec<_> = data.into_iter().skip(offset).take(limit).collect();
    Reply::ok(members([
        ("query", "{}".into()),
        ("page", json!({ "total": total, "offset": offset, "limit": limit })),
        ("data", data.into()),
    ]))
}

impl State {
    fn exh_records(&self, call: &Call, now: Now) -> Reply {
        let user = match self.exh_bearer(call, now) {
            Ok(user) => user,
            Err(refused) => return *refused,
        };
        let wants_access = call.path.ends_with("/tokens");
        let live = |record: &&Record| {
            let is_own = record.user == user && record.is_access == wants_access;
            is_own && self.authority.describe(&record.token, now.boot).is_some()
        };
        let own = self.sites.extra_horizon.records.iter().filter(live);
        page(call, own.map(|record| record.json(now)).collect())
    }

    fn exh_delete_record(&mut self, call: &Call, now: Now) -> Reply {
        let user = match self.exh_bearer(call, now) {
            Ok(user) => user,
            Err(refused) => return *refused,
        };
        let id = call.path.rsplit('/').next().unwrap_or_default();
        let is_access = call.path.contains("/tokens/");
        let records = &mut self.sites.extra_horizon.records;
        let found = records.iter().position(|record| {
            record.id == id && record.is_access == is_access && record.user == user
        });
        let Some(found) = found else { return refused(StatusCode::NOT_FOUND, 16) };
        let record = records.remove(found);
        if !is_access {
            self.authority.forget_refresh(&record.token);
        } else if self.authority.revoke(&record.token, &record.client).is_err() {
            return refused(StatusCode::UNAUTHORIZED, 10);
        }
        Reply::ok(members([("affectedRecords", 1.into())]))
    }
}

impl Site {
    /// Keeps a record of both tokens.
    pub(super) fn note(&mut self, issued: &Issued, (user, client): (&str, &str), now: Now) {
        let mut add = |token: &Token, refresh: Option<String>, expires, is_access| {
            let id = self.new_id();
            self.records.push(Record {
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

impl Record {
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
