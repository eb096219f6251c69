//! The views `current_<model>`: what the warehouse holds now, with retracted keys and older versions left out. Pure.
//!
//! "Equal to the source" always means these views. A view carries its definition's hash in its comment, so that a load
//! that finds it unchanged takes no lock on it, and so that a view of somebody else is never replaced.

use starlift_core::digest::sha256_hex;
use starlift_core::model::ModelKind;

use super::pair::Pair;
use crate::ident::{quote_ident, quote_literal, quote_qualified};

/// What every comment of a view of ours starts with.
const MARK: &str = "starlift: ";
/// The longest name that PostgreSQL keeps whole, in bytes.
pub(crate) const LONGEST_NAME: usize = 63;

/// The name of a model's view: `current_<model>`, shortened where PostgreSQL would cut it.
pub fn view_name(model: &str) -> String {
    object_name(&format!("current_{model}"))
}

/// A name that PostgreSQL keeps whole: a longer one ends in a hash of itself, so that two of them stay different.
pub(crate) fn object_name(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_string();
    }
    let hash = sha256_hex(name.as_bytes());
    let kept: String = name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= LONGEST_NAME - 9).then_some(c)
        })
        .collect();
    format!("{kept}_{}", hash.chars().take(8).collect::<String>())
}

/// The query of a model's view.
///
/// * a dimension: the rows whose key is not retracted;
/// * a fact: per key the version with the highest record id, where the key is not retracted;
/// * a calendar: all rows.
pub(crate) fn definition(pair: Pair<'_>, pipeline: &str) -> String {
    let columns = |of: &str| {
        let names: Vec<String> = pair.target.columns.iter().map(|c| format!("{of}.{}", quote_ident(&c.name))).collect();
        names.join(", ")
    };
    let table = pair.table();
    let present = |of: &str| {
        format!(
            "not exists (select from starlift.retracted r where r.pipeline = {} and r.model = {} and r.key = {})",
            quote_literal(pipeline),
            quote_literal(&pair.model.name),
            pair.key_json(of)
        )
    };
    let record_id = pair.target.record_id().map(|c| quote_ident(&c.name));
    match (pair.model.kind, record_id) {
        (ModelKind::Calendar, _) => format!("select {} from {table} t", columns("t")),
        (ModelKind::Fact, Some(record_id)) => {
            let key: Vec<String> = pair.model.schema.key.iter().map(|k| format!("t.{}", quote_ident(k))).collect();
            // All of it descending: an index on (key, record id), read backwards, gives this order without a sort.
            format!(
                "select {} from (select distinct on ({}) {} from {table} t order by {} desc, t.{record_id} desc) v \
                 where {}",
                columns("v"),
                key.join(", "),
                columns("t"),
                key.join(" desc, "),
                present("v")
            )
        }
        _ => format!("select {} from {table} t where {}", columns("t"), present("t")),
    }
}

/// The comment of a view with this definition.
pub(crate) fn comment(model: &str, definition: &str) -> String {
    let hash: String = sha256_hex(definition.as_bytes()).chars().take(16).collect();
    format!("{MARK}the current rows of {model} (definition {hash})")
}

/// Whether a comment is one of ours.
pub(crate) fn is_ours(comment: Option<&str>) -> bool {
    comment.is_some_and(|c| c.starts_with(MARK))
}

/// The statements that make or replace a view.
pub(crate) fn create_sql(schema: &str, model: &str, definition: &str) -> String {
    let view = quote_qualified(schema, &view_name(model));
    format!(
        "create or replace view {view} as {definition};\ncomment on view {view} is {};",
        quote_literal(&comment(model, definition))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_whole_and_different() {
        assert_eq!(view_name("fact_payment"), "current_fact_payment");
        let (a, b) = (view_name(&format!("{}a", "é".repeat(40))), view_name(&format!("{}b", "é".repeat(40))));
        assert!(a.len() <= 63 && b.len() <= 63);
        assert_ne!(a, b);
    }

    #[test]
    fn a_comment_follows_the_definition_and_tells_ours_from_others() {
        assert_ne!(comment("m", "select 1"), comment("m", "select 2"));
        assert!(is_ours(Some(&comment("m", "select 1"))));
        assert!(!is_ours(None) && !is_ours(Some("an analyst's view")));
    }
}
