//! Which replica polls the server for a login: one row for each login.

use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::postgres_fault::PostgresFault;
use crate::policy::DEVICE_LOGIN_TTL;
use crate::store::encoding::{decode_duration, encode_duration};
use crate::store::{LoginClaim, LoginOutcome};

impl Shared {
    /// Claims a login, renews the claim or ends it.
    pub(super) async fn claim_login(
        &self,
        claim: &LoginClaim,
    ) -> Result<LoginOutcome, PostgresFault> {
        let login = &claim.login.0[..];
        let id = claim.claim.0.cast_signed();
        let (lease, interval) = (encode_duration(claim.lease), encode_duration(claim.interval));
        let longest = encode_duration(DEVICE_LOGIN_TTL);
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&login, Type::BYTEA),
            (&id, Type::INT8),
            (&lease, Type::INT8),
            (&interval, Type::INT8),
            (&longest, Type::INT8),
        ];
        let rows = self.connections.query(&self.statements.claim_login, &parameters).await?;
        let row = rows.first().ok_or(PostgresFault::NotMigrated)?;
        if let Some(interval) = row.try_get::<_, Option<i64>>(0)? {
            return Ok(LoginOutcome::Claimed { interval: decode_duration(interval) });
        }
        // No row if the first claim of this login is being written at this moment.
        let left: Option<i64> = row.try_get(1)?;
        Ok(LoginOutcome::Held { left: left.map_or(claim.lease, decode_duration) })
    }
}
