//! Reads and writes durations as seconds, whole or not: `#[serde(with = "serde_seconds")]`.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

pub(in crate::provider) fn serialize<S: Serializer>(
    duration: &Duration,
    to: S,
) -> Result<S::Ok, S::Error> {
    match duration.subsec_nanos() {
        0 => to.serialize_u64(duration.as_secs()),
        _ => to.serialize_f64(duration.as_secs_f64()),
    }
}

pub(in crate::provider) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    let words = "not a duration; write a number of seconds, zero or more";
    Duration::try_from_secs_f64(seconds).map_err(|_| D::Error::custom(words))
}

/// The same for a duration that may be missing.
pub(in crate::provider) mod optional {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    #[derive(Deserialize)]
    struct Seconds(#[serde(with = "super")] Duration);

    pub(in crate::provider) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::provider) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<Seconds>::deserialize(from)?;
        Ok(seconds.map(|Seconds(duration)| duration))
    }
}
