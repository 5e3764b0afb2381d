//! Times of day as RFC 3339 writes them.

use std::time::{Duration, SystemTime};

/// The time that `text` is, be it cut to nanoseconds; None if it is none, or before 1970.
pub(in crate::provider) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let (year, month, day) = (number(date, 0..4)?, number(date, 5..7)?, number(date, 8..10)?);
    let (hour, minute, second) = (number(clock, 0..2)?, number(clock, 3..5)?, number(clock, 6..8)?);
    let separators = [date.get(4..5)?, date.get(7..8)?, clock.get(2..3)?, clock.get(5..6)?];
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    // 60 is a leap second.
    if separators != ["-", "-", ":", ":"] || !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = fraction(clock.get(8..)?)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let since = u64::try_from(seconds - offset(zone)?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(since, nanos))
}

/// Nanoseconds, and what stands after them.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(fraction) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let end = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = fraction.split_at(end);
    let nanos: u32 = format!("{:0<9}", digits.get(..digits.len().min(9))?).parse().ok()?;
    (!digits.is_empty()).then_some((nanos, zone))
}

/// How many seconds a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.get(..1)? {
        "Z" | "z" => return (zone.len() == 1).then_some(0),
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let well_formed = zone.len() == 6 && zone.get(3..4) == Some(":");
    let (hours, minutes) = (number(zone, 1..3)?, number(zone, 4..6)?);
    (well_formed && hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn number(text: &str, at: std::ops::Range<usize>) -> Option<i64> {
    let digits = text.get(at)?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days since 1970 of a day of the Gregorian calendar; a day that a month does not have is one of
/// the next month.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> Option<u128> {
        let since = parse(text)?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.unwrap().as_millis())
    }

    #[test]
    fn times_are_read_with_fractions_and_zones() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2025-02-03T05:05:06.789Z", 1_738_559_106_789),
            (" 2025-02-03 05:05:06.7Z\n", 1_738_559_106_700),
            ("2025-02-03t07:05:06.789123456789+02:00", 1_738_559_106_789),
            ("2025-02-02T23:35:06-05:30", 1_738_559_106_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-03-01T00:00:00z", 951_868_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "soon",
            "2025-02-03",
            "2025-02-03T05:05:06",
            "2025-02-03T05:05:06.Z",
            "2025-02-03T05:05:06.7",
            "2025-02-03T05:05:06+0200",
            "2025-02-03T05:05:06+02:00x",
            "2025-02-03T05:05:06é",
            "2025-02-03T24:05:06Z",
            "2025-13-03T05:05:06Z",
            "2025-00-03T05:05:06Z",
            "+025-02-03T05:05:06Z",
            "2025/02/03T05:05:06Z",
            "1969-12-31T23:59:59Z",
            "1738559106",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn it_agrees_with_the_dates_of_http_and_never_panics() {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config.clone(), |(seconds in 0_u64..200_000_000_000)| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            // Wed, 03 Feb 2025 05:05:06 GMT
            let http = httpdate::fmt_http_date(time);
            let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = months.find(&http[8..11]).unwrap() / 3 + 1;
            let text = format!("{}-{month:02}-{}T{}Z", &http[12..16], &http[5..7], &http[17..25]);
            prop_assert_eq!(parse(&text), Some(time));
        });
        let wild = prop_oneof![any::<String>(), "[-0-9T:.Z+é]{0,30}"];
        proptest!(config, |(text in wild)| { let _ = parse(&text); });
    }
}
