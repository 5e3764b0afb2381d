//! How values are written in columns of SQL databases. A code keeps its meaning for ever.

use std::time::{Duration, SystemTime};

use super::row_fault::RowFault;
use super::{Intent, Phase};
use crate::clock::BootTime;
use crate::error::LostReason;

/// In version 1, 2 was the code of a claimed session.
pub(super) fn encode_phase(phase: Phase) -> i64 {
    match phase {
        Phase::Vacant => 0,
        Phase::Active => 1,
        Phase::InDoubt => 3,
        Phase::Lost => 4,
        Phase::Closed => 5,
    }
}

pub(super) fn decode_phase(code: i64) -> Option<Phase> {
    use Phase::{Active, Closed, InDoubt, Lost, Vacant};
    [Vacant, Active, InDoubt, Lost, Closed].into_iter().find(|of| encode_phase(*of) == code)
}

/// The intent of a claim, and whether its owner keeps a journal.
pub(super) fn encode_intent(intent: Intent, journal: bool) -> i64 {
    let code = match intent {
        Intent::Establish => 0,
        Intent::Refresh => 1,
        Intent::Revoke => 2,
    };
    if journal { code + 3 } else { code }
}

pub(super) fn decode_intent(code: i64) -> Option<(Intent, bool)> {
    let all = [Intent::Establish, Intent::Refresh, Intent::Revoke];
    let mut all = all.into_iter().flat_map(|intent| [(intent, false), (intent, true)]);
    all.find(|(intent, journal)| encode_intent(*intent, *journal) == code)
}

pub(super) fn encode_lost_reason(reason: LostReason) -> i64 {
    match reason {
        LostReason::RefreshExpired => 0,
        LostReason::Rejected => 1,
        LostReason::Revoked => 2,
        LostReason::LostInDoubt => 3,
        LostReason::TokensDeleted => 4,
        LostReason::Unreadable => 5,
        LostReason::SessionDeleted => 6,
        LostReason::Unclassified => 7,
    }
}

pub(super) fn decode_lost_reason(code: i64) -> Option<LostReason> {
    use LostReason as Reason;
    let all = [
        Reason::RefreshExpired,
        Reason::Rejected,
        Reason::Revoked,
        Reason::LostInDoubt,
        Reason::TokensDeleted,
        Reason::Unreadable,
        Reason::SessionDeleted,
        Reason::Unclassified,
    ];
    all.into_iter().find(|of| encode_lost_reason(*of) == code)
}

/// Nanoseconds since 1970. Times after the year 2262 or before 1677 become the nearest of these.
pub(super) fn encode_wall_time(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or_else(|before| -encode_duration(before.duration()), encode_duration)
}

pub(super) fn decode_wall_time(nanos: i64) -> SystemTime {
    let (size, epoch) = (Duration::from_nanos(nanos.unsigned_abs()), SystemTime::UNIX_EPOCH);
    let time = if nanos < 0 { epoch.checked_sub(size) } else { epoch.checked_add(size) };
    time.unwrap_or(epoch)
}

/// Nanoseconds since the store's clock began to count.
pub(super) fn encode_boot_time(time: BootTime) -> i64 {
    encode_duration(time.since_boot())
}

pub(super) fn decode_boot_time(nanos: i64) -> BootTime {
    BootTime::new(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// Whether a store can have reached this number and can count further. Counters begin at 0 and grow
/// by one, and no store ever uses up half of all numbers.
pub(super) fn is_counter(number: i64) -> bool {
    (0..=i64::MAX / 2).contains(&number)
}

/// A counter.
pub(super) fn encode_counter(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A counter from a row. A number that no store can have reached means that the row is damaged.
pub(super) fn decode_counter(number: i64) -> Result<u64, RowFault> {
    let counted = u64::try_from(number).ok().filter(|_| is_counter(number));
    counted.ok_or(RowFault::Malformed)
}

/// A number of rows, for a `LIMIT`.
pub(super) fn encode_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A duration in nanoseconds.
pub(super) fn encode_duration(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A negative one is none at all.
pub(super) fn decode_duration(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests;
