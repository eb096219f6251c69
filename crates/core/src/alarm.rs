//! Which line of a log raises the alarm: one word of a level, and the filter of CloudWatch Logs that finds it.
//!
//! Whatever deploys the functions has to use [`PATTERN`] as it is. Syntax:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html> (JSON, a property that equals a text).

/// The level of what a person must hear of.
pub const CRITICAL: &str = "CRITICAL";

/// The metric filter that counts lines of this level, and no line that only holds the word. Lambda may write a `level` of its
/// own in the place of one that it does not know, so both names are looked at.
pub const PATTERN: &str = r#"{ ($.level = "CRITICAL") || ($.severity = "CRITICAL") }"#;

/// Whether a line of a log matches a filter of the form `{ ($.name = "text") || … }`, as CloudWatch Logs would have it: a line
/// that is no JSON object never does. None where the filter is of another form.
pub fn matches(pattern: &str, line: &str) -> Option<bool> {
    let inner = pattern.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let wanted = inner.split("||").map(comparison).collect::<Option<Vec<_>>>()?;
    let value: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    Some(wanted.iter().any(|(name, text)| value.get(*name).and_then(|found| found.as_str()) == Some(text)))
}

/// `($.name = "text")`, with or without its brackets.
fn comparison(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let text = text.strip_prefix('(').map_or(Some(text), |rest| rest.strip_suffix(')'))?;
    let (name, value) = text.trim().strip_prefix("$.")?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim().strip_prefix('"')?.strip_suffix('"')?);
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (plain(name) && plain(value)).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_finds_the_level_and_not_the_word() {
        assert!(PATTERN.contains(&format!("\"{CRITICAL}\"")));
        for (line, expected) in [
            (r#"{"timestamp":"x","level":"CRITICAL","message":"m"}"#, true),
            (r#"{"level":"INFO","severity":"CRITICAL"}"#, true),
            (r#"{"level":"ERROR","severity":"ERROR","message":"CRITICAL"}"#, false),
            (r#"{"inner":{"level":"CRITICAL"}}"#, false),
            (r#"{"level":["CRITICAL"]}"#, false),
            ("CRITICAL: it failed", false),
            ("\"CRITICAL\"", false),
            ("", false),
        ] {
            assert_eq!(matches(PATTERN, line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_filter_of_another_form_is_not_guessed_at() {
        for pattern in [
            "[CRITICAL]",
            "CRITICAL",
            "{ $.level != \"CRITICAL\" }",
            "{ $.level = CRITICAL }",
            "{ $.a.b = \"c\" }",
            "{ ($.level = \"CRITICAL\" || $.severity = \"CRITICAL\") }",
            "{ $.level = \"CRITICAL\" && $.b = \"c\" }",
        ] {
            assert_eq!(matches(pattern, r#"{"level":"CRITICAL"}"#), None, "{pattern}");
        }
    }
}
