//! Digests of rows that PostgreSQL and starlift compute alike, so that rows are compared without being sent.
//!
//! The text of each value, as `starlift_postgres::codec` renders it on either side, is joined into one line: `~` becomes
//! `~0` and `|` becomes `~1` in a value, `~N` stands for null, and `|` separates values. So two rows have the same line
//! only where they have the same values. The digest is the first half of the SHA-256 of that line.

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of a SHA-256.
pub(super) type RowDigest = [u8; 16];

/// The SQL of the digest of some values, given as SQL expressions of type `text`.
///
/// PostgreSQL manual, 9.5 (`sha256`, since 11) and 9.19 (`array_to_string`). A collation that knows no substrings
/// would make `replace` fail, hence the "C".
pub(super) fn sql(texts: &[String]) -> String {
    let escaped: Vec<String> =
        texts.iter().map(|text| format!("replace(replace(({text}) collate \"C\", '~', '~0'), '|', '~1')")).collect();
    format!(
        "substring(sha256(convert_to(array_to_string(array[{}]::text[], '|', '~N'), 'UTF8')) from 1 for 16)",
        escaped.join(", ")
    )
}

/// The digest of the same values here.
pub(super) fn of<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> RowDigest {
    let mut hash = Sha256::new();
    for (position, value) in values.into_iter().enumerate() {
        if position > 0 {
            hash.update(b"|");
        }
        match value {
            None => hash.update(b"~N"),
            Some(text) => {
                let mut rest = text.as_bytes();
                while let Some(special) = rest.iter().position(|b| matches!(b, b'~' | b'|')) {
                    let (plain, tail) = rest.split_at(special);
                    hash.update(plain);
                    hash.update(if tail.first() == Some(&b'~') { b"~0" } else { b"~1" });
                    rest = tail.get(1..).unwrap_or_default();
                }
                hash.update(rest);
            }
        }
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = RowDigest::default();
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_a_plain_join_would_mix_up_have_digests_of_their_own() {
        let rows: Vec<Vec<Option<&str>>> = vec![
            vec![],
            vec![None],
            vec![Some("~N")],
            vec![Some("N")],
            vec![None, None],
            vec![Some(""), Some("")],
            vec![Some("|")],
            vec![Some("a|b")],
            vec![Some("a"), Some("b")],
            vec![Some("a~1b")],
            vec![Some("a~"), Some("b")],
            vec![Some("a"), Some("~b")],
            vec![Some("ä~ö|")],
        ];
        let digests: std::collections::HashSet<RowDigest> = rows.iter().map(|row| of(row.iter().copied())).collect();
        assert_eq!(digests.len(), rows.len());
    }

    #[test]
    fn the_line_is_the_one_of_the_documentation() {
        let line = Sha256::digest("a~0b|~N|c~1".as_bytes());
        assert_eq!(of([Some("a~b"), None, Some("c|")])[..], line[..16]);
    }
}
