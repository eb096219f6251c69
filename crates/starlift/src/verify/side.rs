//! Two sides, compared: digests first, and then, where they differ, a second look that names keys and columns.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use starlift_core::Result;
use starlift_core::event::printable;
use starlift_lake::Spill;

use super::lake_side::LakeSide;
use super::matching::{Counts, Matching, What};
use super::report::{Comparison, EXAMPLES, Example};
use super::row_digest::RowDigest;
use super::sql_side::SqlSide;

/// Takes a row: the digest of its key, the digest of its columns, and whether it may have changed meanwhile.
pub(super) type Visit<'a> = dyn FnMut(RowDigest, RowDigest, bool) + Send + 'a;

/// One side of a comparison.
pub(super) enum Side<'a> {
    Sql(SqlSide<'a>),
    Lake(LakeSide),
}

/// What a second look at a row finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Detail {
    /// Its key, as people read it.
    pub(super) key: Vec<Option<String>>,
    /// The digest of each of its columns.
    pub(super) columns: Vec<RowDigest>,
}

/// The names that a comparison's findings are told in.
pub(super) struct Names {
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<String>,
}

/// What is known only after a comparison.
#[derive(Default)]
pub(super) struct Compared {
    /// Keys that only the right side has and that count as pending.
    pub(super) gone: HashSet<RowDigest>,
    /// Keys that differ, as many as were looked at.
    pub(super) differing: Vec<RowDigest>,
}

impl Side<'_> {
    /// Where rows are put aside; none of a database.
    fn spill(&self) -> Option<&Spill> {
        match self {
            Side::Sql(_) => None,
            Side::Lake(side) => Some(side.spill()),
        }
    }

    async fn each(&self, visit: &mut Visit<'_>) -> Result<()> {
        match self {
            Side::Sql(side) => side.each(visit).await,
            Side::Lake(side) => side.each(visit).await,
        }
    }

    async fn details(&self, keys: &[RowDigest]) -> Result<HashMap<RowDigest, Detail>> {
        match self {
            Side::Sql(side) => side.details(keys).await,
            Side::Lake(side) => side.details(keys).await,
        }
    }
}

/// Compares two sides and adds what differs to `comparison`. `counts` judges each finding; see [`Matching::finish`].
pub(super) async fn compare(
    comparison: &mut Comparison,
    left: &Side<'_>,
    right: &Side<'_>,
    names: &Names,
    counts: impl Fn(What, &RowDigest, bool) -> Counts,
) -> Result<Compared> {
    let spill = left.spill().or(right.spill()).cloned().unwrap_or_default();
    let mut matching = Matching::new(!names.key.is_empty(), &spill);
    left.each(&mut |key, content, flagged| matching.left(key, content, flagged)).await?;
    right.each(&mut |key, content, _| matching.right(key, content)).await?;
    let found = matching.finish(counts)?;

    comparison.columns = names.columns.len() as u64;
    comparison.rows_left += found.rows_left;
    comparison.rows_right += found.rows_right;
    comparison.pending += found.pending;
    comparison.differences += found.differences;
    let differing: Vec<RowDigest> = found.candidates.iter().map(|(key, _)| *key).collect();
    if !differing.is_empty() {
        let details = (left.details(&differing).await?, right.details(&differing).await?);
        comparison.examples.extend(examples(&found.candidates, names, comparison.kind.sides(), &details));
    }
    Ok(Compared { gone: found.gone, differing })
}

type Details = HashMap<RowDigest, Detail>;

/// The first differences in the order of their keys.
fn examples(
    candidates: &[(RowDigest, What)],
    names: &Names,
    sides: (&str, &str),
    (left, right): &(Details, Details),
) -> Vec<Example> {
    let mut found: Vec<(&[Option<String>], Example)> = candidates
        .iter()
        .map(|(digest, what)| {
            let (left, right) = (left.get(digest), right.get(digest));
            let key = left.or(right).map_or(&[][..], |detail| &detail.key);
            let what = in_words(*what, sides, || differing_columns(left, right, &names.columns));
            (key, Example { key: key_text(&names.key, key), what })
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| by_key(a, b));
    found.into_iter().take(EXAMPLES).map(|(_, example)| example).collect()
}

fn in_words(what: What, (left, right): (&str, &str), columns: impl FnOnce() -> Vec<String>) -> String {
    match what {
        What::OnlyLeft => format!("only in {left}"),
        What::OnlyRight => format!("only in {right}"),
        What::TwiceLeft => format!("twice in {left}"),
        What::TwiceRight => format!("twice in {right}"),
        What::Differs => match columns().as_slice() {
            [] => "differs".into(),
            [column] => format!("differs in column {column}"),
            columns => format!("differs in columns {}", columns.join(", ")),
        },
    }
}

fn differing_columns(left: Option<&Detail>, right: Option<&Detail>, names: &[String]) -> Vec<String> {
    let (Some(left), Some(right)) = (left, right) else { return Vec::new() };
    let pairs = left.columns.iter().zip(&right.columns);
    names.iter().zip(pairs).filter(|(_, (a, b))| a != b).map(|(name, _)| name.clone()).collect()
}

/// A key as `a=1, b=x`.
pub(super) fn key_text(names: &[String], values: &[Option<String>]) -> String {
    if names.is_empty() {
        return "a row without a key".into();
    }
    let value = |value: &Option<String>| value.as_deref().map_or("null".to_string(), printable);
    names.iter().zip(values).map(|(name, v)| format!("{name}={}", value(v))).collect::<Vec<_>>().join(", ")
}

/// Keys in the order in which people count: numbers as numbers.
pub(super) fn by_key(a: &[Option<String>], b: &[Option<String>]) -> Ordering {
    let number = |value: &Option<String>| value.as_ref().and_then(|v| v.parse::<i128>().ok());
    let one = |(a, b): (&Option<String>, &Option<String>)| match (number(a), number(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    };
    a.iter().zip(b).map(one).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(key: &str, columns: [u8; 2]) -> Detail {
        Detail { key: vec![Some(key.into())], columns: columns.iter().map(|c| [*c; 16]).collect() }
    }

    #[test]
    fn the_first_differences_come_in_the_order_of_their_keys_and_name_the_columns() {
        let names = Names { key: vec!["id".into()], columns: vec!["id".into(), "price".into()] };
        let candidates: Vec<(RowDigest, What)> = vec![
            ([1; 16], What::Differs),
            ([2; 16], What::OnlyLeft),
            ([3; 16], What::TwiceRight),
            ([4; 16], What::OnlyRight),
            ([5; 16], What::TwiceLeft),
            ([6; 16], What::OnlyLeft),
        ];
        let left: Details = [(1, "10"), (2, "9"), (5, "200"), (6, "1000")]
            .into_iter()
            .map(|(digest, key)| ([digest; 16], detail(key, [1, 1])))
            .collect();
        let right: Details = [(1, "10"), (3, "-1"), (4, "30")]
            .into_iter()
            .map(|(digest, key)| ([digest; 16], detail(key, [1, 2])))
            .collect();
        let shown: Vec<String> = examples(&candidates, &names, ("star", "warehouse"), &(left, right))
            .into_iter()
            .map(|e| format!("{}: {}", e.key, e.what))
            .collect();
        assert_eq!(
            shown,
            [
                "id=-1: twice in warehouse",
                "id=9: only in star",
                "id=10: differs in column price",
                "id=30: only in warehouse",
                "id=200: twice in star",
            ]
        );
    }

    #[test]
    fn a_key_of_several_columns_is_named_in_full_and_without_control_characters() {
        let names = ["a".to_string(), "b".to_string()];
        assert_eq!(key_text(&names, &[Some("1".into()), Some("x\ny".into())]), "a=1, b=x\u{fffd}y");
        assert_eq!(key_text(&names, &[None, Some(String::new())]), "a=null, b=");
        assert_eq!(key_text(&[], &[]), "a row without a key");
    }
}
