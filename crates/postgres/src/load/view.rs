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
    let present = |of: &str| {
        format!(
            "not exists (select from starlift.retracted r where r.pipeline = {} and r.model = {} and r.key = {})",
            quote_literal(pipeline),
            quote_literal(&pair.model.name),
            pair.key_json(of)
        )
    };
    let current = current(pair);
    match (pair.model.kind, pair.target.record_id()) {
        (ModelKind::Calendar, _) => current,
        (ModelKind::Fact, Some(_)) => {
            format!("select {} from ({current}) v where {}", columns(pair, "v"), present("v"))
        }
        _ => format!("{current} where {}", present("t")),
    }
}

/// The query of a model's current rows with those of retracted keys: a fact's newest versions, all rows of another table.
pub(crate) fn current(pair: Pair<'_>) -> String {
    let (columns, table) = (columns(pair, "t"), pair.table());
    match pair.target.record_id().filter(|_| pair.model.kind == ModelKind::Fact) {
        Some(record_id) => {
            let key: Vec<String> = pair.model.schema.key.iter().map(|k| format!("t.{}", quote_ident(k))).collect();
            // All of it descending: an index on (key, record id), read backwards, gives this order without a sort.
            format!(
                "select distinct on ({}) {columns} from {table} t order by {} desc, t.{} desc",
                key.join(", "),
                key.join(" desc, "),
                quote_ident(&record_id.name)
            )
        }
        None => format!("select {columns} from {table} t"),
    }
}

fn columns(pair: Pair<'_>, of: &str) -> String {
    let names: Vec<String> = pair.target.columns.iter().map(|c| format!("{of}.{}", quote_ident(&c.name))).collect();
    names.join(", ")
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

/// The statements that give the columns of a view, quoted, the names that those of its table have by now. PostgreSQL replaces no
/// view whose columns have other names; renamed, it keeps its grants and what depends on it.
pub(crate) fn renames(view: &str, existing: &[String], wanted: &[&str]) -> Vec<String> {
    let rename =
        |from: &str, to: &str| format!("alter view {view} rename column {} to {};", quote_ident(from), quote_ident(to));
    let changed: Vec<(&str, &str)> =
        existing.iter().map(String::as_str).zip(wanted.iter().copied()).filter(|(old, new)| old != new).collect();
    if changed.iter().all(|(_, new)| !existing.iter().any(|old| old == new)) {
        return changed.into_iter().map(|(old, new)| rename(old, new)).collect();
    }
    // Names that change places are free once nobody has them.
    let between = |position: usize| format!("starlift.{position}");
    let away = changed.iter().enumerate().map(|(position, (old, _))| rename(old, &between(position)));
    let back = changed.iter().enumerate().map(|(position, (_, new))| rename(&between(position), new));
    away.chain(back).collect()
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
    fn columns_take_the_names_of_the_tables_and_may_change_places() {
        let renames = |existing: &[&str], wanted: &[&str]| {
            let existing: Vec<String> = existing.iter().map(|name| name.to_string()).collect();
            let sql = renames("v", &existing, wanted);
            sql.iter().map(|s| s.replace("alter view v rename column ", "")).collect::<Vec<_>>()
        };
        assert!(renames(&["id", "a"], &["id", "a", "b"]).is_empty());
        assert_eq!(renames(&["id", "amount"], &["id", "total", "more"]), ["\"amount\" to \"total\";"]);
        // The new name is one that the view has elsewhere: b goes away first.
        assert_eq!(
            renames(&["a", "b"], &["b", "c"]),
            [
                "\"a\" to \"starlift.0\";",
                "\"b\" to \"starlift.1\";",
                "\"starlift.0\" to \"b\";",
                "\"starlift.1\" to \"c\";"
            ]
        );
    }

    #[test]
    fn a_comment_follows_the_definition_and_tells_ours_from_others() {
        assert_ne!(comment("m", "select 1"), comment("m", "select 2"));
        assert!(is_ours(Some(&comment("m", "select 1"))));
        assert!(!is_ours(None) && !is_ours(Some("an analyst's view")));
    }
}
