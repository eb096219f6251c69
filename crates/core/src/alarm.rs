//! Which line of a log raises the alarm: one word of a level, and the filter of CloudWatch Logs that finds it.
//!
//! Whatever deploys the functions has to use [`PATTERN`] as it is. Syntax:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html> (JSON, a property that equals a text).

/// The level of what a person must hear of.
pub const CRITICAL: &str = "CRITICAL";

/// The metric filter that counts lines of this level, and no line that only holds the word.
pub const PATTERN: &str = r#"{ $.level = "CRITICAL" }"#;

/// Whether a line of a log matches a filter of the form `{ $.name = "text" }`, as CloudWatch Logs would have it: a line that is
/// no JSON object never does. None where the filter is of another form.
pub fn matches(pattern: &str, line: &str) -> Option<bool> {
    let inner = pattern.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let (name, text) = inner.strip_prefix("$.")?.split_once('=')?;
    let (name, text) = (name.trim(), text.trim().strip_prefix('"')?.strip_suffix('"')?);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || !text.chars().all(plain) {
        return None;
    }
    let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
    Some(value.as_ref().and_then(|value| value.get(name)?.as_str()).is_some_and(|found| found == text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_finds_the_level_and_not_the_word() {
        assert_eq!(PATTERN, format!("{{ $.level = \"{CRITICAL}\" }}"));
        for (line, expected) in [
            (r#"{"timestamp":"x","level":"CRITICAL","message":"m"}"#, true),
            (r#"{"level":"ERROR","message":"CRITICAL"}"#, false),
            (r#"{"inner":{"level":"CRITICAL"}}"#, false),
            (r#"{"level":["CRITICAL"]}"#, false),
            ("CRITICAL: it failed", false),
            ("", false),
        ] {
            assert_eq!(matches(PATTERN, line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_filter_of_another_form_is_not_guessed_at() {
        for pattern in
            ["[CRITICAL]", "CRITICAL", "{ $.level != \"CRITICAL\" }", "{ $.level = CRITICAL }", "{ $.a.b = \"c\" }"]
        {
            assert_eq!(matches(pattern, r#"{"level":"CRITICAL"}"#), None, "{pattern}");
        }
    }
}
