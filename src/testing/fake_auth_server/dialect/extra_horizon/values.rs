//! Ids, secrets, times and texts in the form of the vendor.

use std::time::SystemTime;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A text member; empty if there is none.
pub(super) fn text<'j>(json: &'j Map<String, Value>, name: &str) -> &'j str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// 40 hexadecimal characters that cannot be guessed.
pub(super) fn new_secret() -> String {
    hex(&Sha256::digest(format!("{:?}", std::array::from_fn::<_, 4, _>(|_| fastrand::u64(..)))), 40)
}

/// The id of a user or an application: the same name has the same id.
pub(super) fn id_of(name: &str) -> String {
    hex(&Sha256::digest(name), 24)
}

fn hex(bytes: &[u8], length: usize) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(length).collect()
}

/// RFC 3339 with milliseconds.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}
