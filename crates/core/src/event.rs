//! The JSON that starts a stage. It may narrow what ingest reads; it never steers what transform and load do.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::key;

/// The most bytes of an event: the limit of a Step Functions task's input.
pub const MAX_BYTES: usize = 262_144;

/// What a stage printed, and what the next stage takes: table or model to its first file.
pub type StageResult = BTreeMap<String, String>;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct IngestEvent {
    #[serde(default)]
    tables_to_query: Vec<String>,
}

/// The tables that an ingest event names; empty means all.
pub fn parse_ingest(bytes: &[u8]) -> Result<Vec<String>> {
    let value = object(bytes, "ingest", r#"{"tables_to_query": ["address"]}"#)?;
    let event: IngestEvent = serde_json::from_value(value).map_err(|_| {
        malformed("ingest", "it is no list of tables under `tables_to_query`", r#"{"tables_to_query": ["address"]}"#)
    })?;
    Ok(event.tables_to_query)
}

/// The keys that a transform or load event names. Each must be one that its table or model can have.
pub fn parse_keys(stage: &'static str, bytes: &[u8]) -> Result<StageResult> {
    const EXAMPLE: &str = r#"{"address": "address/2024/11/20/113500000000.parquet"}"#;
    if stage == "load" && bytes.trim_ascii() == b"null" {
        return Ok(StageResult::new());
    }
    let value = object(bytes, stage, EXAMPLE)?;
    let keys: StageResult =
        serde_json::from_value(value).map_err(|_| malformed(stage, "it is no object of names and keys", EXAMPLE))?;
    match keys.iter().find(|(name, key)| !key::is_data_key(name, key)) {
        None => Ok(keys),
        Some((name, _)) => {
            Err(malformed(stage, &format!("the key of `{}` is none that it can have", printable(name)), EXAMPLE))
        }
    }
}

fn object(bytes: &[u8], stage: &'static str, example: &str) -> Result<serde_json::Value> {
    if bytes.len() > MAX_BYTES {
        return Err(malformed(stage, &format!("it has {} bytes, and {MAX_BYTES} are allowed", bytes.len()), example));
    }
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|e| malformed(stage, &format!("it is no JSON at line {} column {}", e.line(), e.column()), example))?;
    if !value.is_object() {
        return Err(malformed(stage, "it is no JSON object", example));
    }
    match serde_json::from_slice(bytes) {
        Ok(DistinctNames) => Ok(value),
        Err(_) => Err(malformed(stage, "it gives one name twice", example)),
    }
}

/// An object that has each name once. Readers disagree on which of two values counts, so none is taken.
struct DistinctNames;

impl<'de> Deserialize<'de> for DistinctNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DistinctNames, D::Error> {
        deserializer.deserialize_map(DistinctNames)
    }
}

impl<'de> Visitor<'de> for DistinctNames {
    type Value = DistinctNames;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<DistinctNames, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some((name, IgnoredAny)) = object.next_entry::<String, _>()? {
            if !seen.insert(name) {
                return Err(A::Error::custom("a name is given twice"));
            }
        }
        Ok(self)
    }
}

fn malformed(stage: &'static str, detail: &str, example: &str) -> Error {
    Error::config(format!("the event for {stage} cannot be used"))
        .with_detail(detail)
        .with_hint(format!("give `{{}}` for all there is to do, or {example}"))
}

/// A name from outside, cut and without control characters, fit for a message.
pub fn printable(text: &str) -> String {
    let mut shown: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_events_are_read() {
        assert_eq!(parse_ingest(br#"{"tables_to_query": ["address", "staff"]}"#).unwrap(), ["address", "staff"]);
        assert!(parse_ingest(b"{}").unwrap().is_empty());
        let keys = parse_keys("transform", br#"{"address": "address/2024/11/20/113500000000.parquet"}"#).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(parse_keys("load", b"null\n").unwrap().is_empty());
    }

    #[test]
    fn a_name_that_is_given_twice_is_refused_also_with_equal_values() {
        let refused = |error: Error| assert_eq!(error.detail().unwrap(), "it gives one name twice");
        let twice = br#"{"tables_to_query": ["a"], "tables_to_query": ["a"]}"#;
        refused(parse_ingest(twice).unwrap_err());
        let keys = r#"{"a": "a/2024/11/20/113500000000.parquet", "\u0061": "a/2024/11/20/113500000001.parquet"}"#;
        refused(parse_keys("load", keys.as_bytes()).unwrap_err());
    }

    #[test]
    fn whatever_else_comes_is_refused_without_a_panic() {
        let deep = "[".repeat(10_000);
        let long = format!(r#"{{"tables_to_query": ["{}"]}}"#, "a".repeat(MAX_BYTES));
        for bad in ["", "[]", "null", "{", r#"{"tables": []}"#, r#"{"tables_to_query": "address"}"#, &deep, &long] {
            let error = parse_ingest(bad.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            assert!(error.hint().is_some());
        }
        for bad in [r#"{"a": 1}"#, r#"{"a": "a/../b.parquet"}"#, r#"{"a": "b/2024/11/20/113500000000.parquet"}"#, "7"] {
            assert!(parse_keys("transform", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
