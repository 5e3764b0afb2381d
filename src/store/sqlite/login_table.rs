//! The table `login`: which process polls the server for a login.

use rusqlite::{OptionalExtension, params};

use super::database::Database;
use super::statement_error::Result;
use crate::policy::DEVICE_LOGIN_TTL;
use crate::store::encoding::{
    decode_duration, decode_wall_time, encode_duration, encode_wall_time,
};
use crate::store::login_claim::{LoginRow, decide_login};
use crate::store::{ClaimId, LoginClaim, LoginOutcome};

/// Claims a login, renews the claim or ends it.
pub(super) fn claim(db: &Database<'_>, claim: &LoginClaim) -> Result<LoginOutcome> {
    let (login, now) = (&claim.login.0[..], db.now().wall);
    let sql = "SELECT claim, until, pace FROM login WHERE login = ?1";
    let found = db.conn.query_row(sql, params![login], |row| {
        let claim: i64 = row.get(0)?;
        Ok(LoginRow {
            claim: ClaimId(claim.cast_unsigned()),
            until: decode_wall_time(row.get(1)?),
            interval: decode_duration(row.get(2)?),
        })
    });
    let (outcome, row) = decide_login(found.optional()?, claim, now);
    let Some(LoginRow { claim, until, interval }) = row else { return Ok(outcome) };
    if let Some(old) = now.checked_sub(DEVICE_LOGIN_TTL) {
        db.conn.execute("DELETE FROM login WHERE until <= ?1", params![encode_wall_time(old)])?;
    }
    let sql = "INSERT INTO login (login, claim, until, pace) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (login) DO UPDATE SET claim = ?2, until = ?3, pace = ?4";
    let (until, interval) = (encode_wall_time(until), encode_duration(interval));
    db.conn.execute(sql, params![login, claim.0.cast_signed(), until, interval])?;
    Ok(outcome)
}
