//! Wall times as text (RFC 3339), in UTC and with milliseconds.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serializer;

/// A time outside the years -9999 to 9999 gives the nearest time within them.
pub(crate) fn text(at: SystemTime) -> String {
    let outside = if at < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    let at = Timestamp::try_from(at).unwrap_or(outside);
    format!("{at:.3}")
}

/// For `#[serde(serialize_with)]`.
pub(crate) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*at))
}

/// For `#[serde(serialize_with)]`.
pub(crate) fn serialize_optional<S: Serializer>(
    at: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serialize(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wall_time_is_written_in_utc_with_milliseconds() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_735_689_600_001_999);
        assert_eq!(text(at), "2025-01-01T00:00:00.001Z");
        assert_eq!(text(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_that_is_too_far_away_gives_the_nearest_year() {
        let far = Duration::from_secs(1 << 50);
        assert!(text(SystemTime::UNIX_EPOCH + far).starts_with("9999-12-3"));
        assert!(text(SystemTime::UNIX_EPOCH - far).starts_with("-009999-01-0"));
    }
}
