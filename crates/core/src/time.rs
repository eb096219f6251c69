//! Points in time, as microseconds since 1970 in UTC. Core has no clock: every time is given to it.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in microseconds since 1970-01-01 00:00 UTC, written as RFC 3339 with six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

impl Micros {
    /// The next representable point in time.
    pub fn next(self) -> Micros {
        Micros(self.0.saturating_add(1))
    }

    /// The calendar's view of it; times that no calendar of ours holds become 1970.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Micros> {
        DateTime::parse_from_rfc3339(text).ok().map(|t| Micros(t.timestamp_micros()))
    }

    /// Whole milliseconds from an earlier time to this one; 0 when a clock stepped back.
    pub fn millis_since(self, earlier: Micros) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0) / 1000).unwrap_or(0)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_datetime().format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Micros::parse(&text).ok_or_else(|| serde::de::Error::custom("a time is not in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        let time = Micros(1_732_102_500_000_001);
        assert_eq!(time.to_string(), "2024-11-20T11:35:00.000001Z");
        assert_eq!(Micros::parse(&time.to_string()), Some(time));
    }
}
