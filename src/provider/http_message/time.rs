//! Times as servers write them.

use std::time::{Duration, SystemTime};

/// Reads a time in the format of RFC 3339 section 5.6: `2025-02-03T04:05:06.789Z`, for example.
/// None for any other text, and for a time before 1970. See the
/// [example of the module](super).
#[must_use]
pub fn rfc3339(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(at)?;
    let [year, month, day] = parts(date, '-', [4, 2, 2])?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = parts(whole, ':', [2, 2, 2])?;
    let days = days(year, month, day)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, nanos(fraction)?);
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Numbers of these lengths with a separator between them.
fn parts<const N: usize>(text: &str, separator: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut pieces = text.split(separator);
    for (number, length) in numbers.iter_mut().zip(lengths) {
        let piece = pieces.next()?;
        if piece.len() != length || !piece.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = piece.parse().ok()?;
    }
    pieces.next().is_none().then_some(numbers)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let long = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=long).contains(&day) {
        return None;
    }
    // The year begins with March, so that the leap day is its last day.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(before + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// How many seconds a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hours, minutes] = parts(rest, ':', [2, 2])?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The digits after the point. Those below a nanosecond are dropped.
fn nanos(fraction: &str) -> Option<u32> {
    let is_number = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    is_number.then(|| digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_read_with_its_fraction_and_its_zone() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("2025-02-03T04:05:06.789Z", 1_738_555_506_789),
            ("2025-02-03t05:05:06.789123456789+01:00", 1_738_555_506_789),
            ("2025-02-02 22:35:06.789-05:30", 1_738_555_506_789),
            ("2000-02-29T23:59:60Z", 951_868_800_000),
            ("2400-12-31T00:00:00Z", 13_601_001_600_000),
        ] {
            let time = rfc3339(text).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(time.as_millis(), millis, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "T",
            "2025-02-03",
            "2025-02-03T04:05:06",
            "2025-02-30T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-13-01T00:00:00Z",
            "2025-02-03T24:00:00Z",
            "2025-2-03T04:05:06Z",
            "1900-02-29T00:00:00Z",
            "2025-02-03T04:05:06.Z",
            "2025-02-03T04:05:06Zx",
            "2025-02-03T04:05:06+1:00",
            "1738555506",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(text in prop_oneof![any::<String>(), "[0-9TZ:.+é-]{0,30}"])| {
            let _ = rfc3339(&text);
        });
    }
}
