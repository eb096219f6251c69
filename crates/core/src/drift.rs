//! Drift: how the tables of a source differ from those that the lake was read under.
//!
//! PostgreSQL numbers tables (oid) and columns (attnum) and never gives a number twice, so that a renamed one is known
//! from one that was dropped and another one that was added.

use std::collections::BTreeMap;

use crate::schema::{Column, TableSchema};

/// What a project wants done about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriftPolicy {
    /// The table is read again as it is now, and what changed is said.
    #[default]
    Evolve,
    /// Ingest stops before it writes anything, until somebody has looked.
    Fail,
}

impl DriftPolicy {
    /// The policy of a word in starlift.toml.
    pub fn from_name(name: &str) -> Option<DriftPolicy> {
        match name {
            "evolve" => Some(DriftPolicy::Evolve),
            "fail" => Some(DriftPolicy::Fail),
            _ => None,
        }
    }
}

/// What changed about one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    TableAdded,
    /// It is gone.
    TableDropped,
    /// It had another name.
    TableRenamed {
        /// The old name.
        from: String,
    },
    /// It was dropped and made again under its name.
    TableReplaced,
    /// A column is new.
    ColumnAdded {
        /// The column.
        column: String,
    },
    /// A column is gone.
    ColumnDropped {
        /// The column.
        column: String,
    },
    /// A column has another name.
    ColumnRenamed {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// A column is declared with another type.
    ColumnRetyped {
        /// The column.
        column: String,
        /// How it was declared.
        from: String,
        /// How it is declared now.
        to: String,
    },
    /// Rows are identified by other columns.
    KeyChanged {
        /// The columns before.
        from: Vec<String>,
        /// The columns now.
        to: Vec<String>,
    },
}

impl Change {
    /// What people read: "column `amount` became `total`".
    pub fn text(&self) -> String {
        match self {
            Change::TableAdded => "the table is new".into(),
            Change::TableDropped => "the table is gone".into(),
            Change::TableRenamed { from } => format!("the table was `{from}`"),
            Change::TableReplaced => "the table was dropped and made again".into(),
            Change::ColumnAdded { column } => format!("column `{column}` is new"),
            Change::ColumnDropped { column } => format!("column `{column}` is gone"),
            Change::ColumnRenamed { from, to } => format!("column `{from}` became `{to}`"),
            Change::ColumnRetyped { column, from, to } => format!("column `{column}` was `{from}` and is `{to}`"),
            Change::KeyChanged { from, to } => format!("the key was {} and is {}", key(from), key(to)),
        }
    }

    /// The name under which models know what changed; none where it is the whole table.
    pub fn column(&self) -> Option<&str> {
        match self {
            Change::ColumnAdded { column } | Change::ColumnDropped { column } => Some(column),
            Change::ColumnRenamed { from, .. } => Some(from),
            Change::ColumnRetyped { column, .. } => Some(column),
            _ => None,
        }
    }
}

fn key(columns: &[String]) -> String {
    if columns.is_empty() { "none".into() } else { format!("({})", columns.join(", ")) }
}

/// The changes between two sets of tables, by table; those that stayed as they were are left out.
pub fn between(
    before: &BTreeMap<String, TableSchema>,
    now: &BTreeMap<String, TableSchema>,
) -> BTreeMap<String, Vec<Change>> {
    let mut found: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    let mut renamed = Vec::new();
    for (name, schema) in now.iter().filter(|(name, _)| !before.contains_key(*name)) {
        let old =
            before.iter().find(|(old, was)| !now.contains_key(*old) && was.oid.is_some() && was.oid == schema.oid);
        let changes = match old {
            Some((from, was)) => {
                renamed.push(from);
                let mut changes = vec![Change::TableRenamed { from: from.clone() }];
                changes.extend(columns(was, schema));
                changes
            }
            None => vec![Change::TableAdded],
        };
        found.insert(name.clone(), changes);
    }
    for (name, was) in before {
        let changes = match now.get(name) {
            Some(is) => columns(was, is),
            None if renamed.contains(&name) => continue,
            None => vec![Change::TableDropped],
        };
        if !changes.is_empty() {
            found.insert(name.clone(), changes);
        }
    }
    found
}

/// What changed within one table.
fn columns(was: &TableSchema, is: &TableSchema) -> Vec<Change> {
    let is_same = was.oid == is.oid;
    let mut changes = if is_same { Vec::new() } else { vec![Change::TableReplaced] };
    let number = |schema: &TableSchema, name: &str| {
        let position = schema.columns.iter().position(|c| c.name == name)?;
        schema.attributes.get(position).copied()
    };
    let of_number = |schema: &TableSchema, wanted: i16| {
        let position = schema.attributes.iter().position(|n| *n == wanted)?;
        schema.columns.get(position).cloned()
    };
    // Where a column is now; names alone say it where the table is another one.
    let moved = |name: &str| number(was, name).filter(|_| is_same).and_then(|number| of_number(is, number));
    // Whose name a column has now that had another one.
    let is_taken = |name: &str| {
        let before = number(is, name).filter(|_| is_same).and_then(|number| of_number(was, number));
        before.is_some_and(|before| before.name != name)
    };
    let mut gone_from = Vec::new();
    for old in &was.columns {
        match moved(&old.name).or_else(|| is.column(&old.name).filter(|_| !is_taken(&old.name)).cloned()) {
            Some(new) => {
                changes.extend(retyped(old, &new));
                if new.name != old.name {
                    changes.push(Change::ColumnRenamed { from: old.name.clone(), to: new.name });
                    gone_from.push(&old.name);
                }
            }
            None => changes.push(Change::ColumnDropped { column: old.name.clone() }),
        }
    }
    let is_new = |name: &String| !is_taken(name) && (was.column(name).is_none() || gone_from.contains(&name));
    for new in is.columns.iter().filter(|c| is_new(&c.name)) {
        changes.push(Change::ColumnAdded { column: new.name.clone() });
    }
    let follows = |name: &String| {
        let renamed = changes.iter().find_map(|change| match change {
            Change::ColumnRenamed { from, to } if from == name => Some(to),
            _ => None,
        });
        renamed.unwrap_or(name).clone()
    };
    if was.key.iter().map(follows).collect::<Vec<_>>() != is.key {
        changes.push(Change::KeyChanged { from: was.key.clone(), to: is.key.clone() });
    }
    changes
}

/// Another declaration; the same one that is carried otherwise is a setting's doing.
fn retyped(old: &Column, new: &Column) -> Option<Change> {
    let declared = |column: &Column| column.declared.clone().unwrap_or_else(|| column.column_type.to_string());
    let (from, to) = (declared(old), declared(new));
    (from != to).then(|| Change::ColumnRetyped { column: new.name.clone(), from, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ColumnType;

    /// Columns as number, name and declaration; the first is the key.
    fn table(oid: u32, columns: &[(i16, &str, &str)]) -> TableSchema {
        let column = |(_, name, declared): &(i16, &str, &str)| Column {
            name: name.to_string(),
            column_type: ColumnType::Int4,
            nullable: true,
            declared: Some(declared.to_string()),
            labels: vec![],
        };
        TableSchema {
            columns: columns.iter().map(column).collect(),
            key: columns.first().map(|c| c.1.to_string()).into_iter().collect(),
            oid: Some(oid),
            partitions: vec![],
            attributes: columns.iter().map(|c| c.0).collect(),
        }
    }

    fn of(tables: &[(&str, TableSchema)]) -> BTreeMap<String, TableSchema> {
        tables.iter().map(|(name, schema)| (name.to_string(), schema.clone())).collect()
    }

    fn texts(before: &[(&str, TableSchema)], now: &[(&str, TableSchema)]) -> Vec<String> {
        let found = between(&of(before), &of(now));
        found.iter().flat_map(|(name, changes)| changes.iter().map(move |c| format!("{name}: {}", c.text()))).collect()
    }

    const PAYMENT: [(i16, &str, &str); 3] = [(1, "id", "integer"), (2, "amount", "numeric"), (3, "day", "date")];

    #[test]
    fn columns_that_come_go_and_change_are_told_apart() {
        let before = [("payment", table(7, &PAYMENT))];
        let now = |columns: &[(i16, &str, &str)]| [("payment", table(7, columns))];
        assert!(texts(&before, &before).is_empty());
        assert_eq!(
            texts(&before, &now(&[(1, "id", "bigint"), (2, "total", "numeric"), (4, "note", "text")])),
            [
                "payment: column `id` was `integer` and is `bigint`",
                "payment: column `amount` became `total`",
                "payment: column `day` is gone",
                "payment: column `note` is new",
            ]
        );
        // Dropped and added again: another number under the same name is no other column to models, and its rows are
        // read again all the same.
        assert!(texts(&before, &now(&[PAYMENT[0], (9, "amount", "numeric"), PAYMENT[2]])).is_empty());
        assert_eq!(
            texts(&before, &now(&[PAYMENT[0], (2, "total", "text"), PAYMENT[2]])),
            ["payment: column `total` was `numeric` and is `text`", "payment: column `amount` became `total`"]
        );
    }

    #[test]
    fn names_that_go_from_one_column_to_another_are_told() {
        let before = [("payment", table(7, &PAYMENT))];
        let now = |columns: &[(i16, &str, &str)]| texts(&before, &[("payment", table(7, columns))]);
        // Swapped, with types that tell nothing and with such that do.
        assert_eq!(
            now(&[(1, "amount", "integer"), (2, "id", "numeric"), PAYMENT[2]]),
            ["payment: column `id` became `amount`", "payment: column `amount` became `id`"]
        );
        assert_eq!(
            now(&[(1, "amount", "bigint"), (2, "id", "numeric"), PAYMENT[2]]),
            [
                "payment: column `amount` was `integer` and is `bigint`",
                "payment: column `id` became `amount`",
                "payment: column `amount` became `id`",
            ]
        );
        // Handed on: another one has the name of the first, and the name of the last is gone with it.
        assert_eq!(
            now(&[PAYMENT[0], (2, "day", "numeric"), (4, "amount", "text")]),
            [
                "payment: column `amount` became `day`",
                "payment: column `day` is gone",
                "payment: column `amount` is new",
            ]
        );
        // In another table numbers mean nothing.
        let other = [("payment", table(8, &[(2, "id", "integer"), (1, "amount", "numeric"), PAYMENT[2]]))];
        assert_eq!(texts(&before, &other), ["payment: the table was dropped and made again"]);
    }

    #[test]
    fn a_key_that_was_only_renamed_is_the_same_key() {
        let before = [("payment", table(7, &PAYMENT))];
        let renamed = [("payment", table(7, &[(1, "payment_id", "integer"), PAYMENT[1], PAYMENT[2]]))];
        assert_eq!(texts(&before, &renamed), ["payment: column `id` became `payment_id`"]);
        let mut keyless = table(7, &PAYMENT);
        keyless.key.clear();
        assert_eq!(texts(&before, &[("payment", keyless)]), ["payment: the key was (id) and is none"]);
    }

    #[test]
    fn tables_that_come_go_and_change_their_name_are_told_apart() {
        let (one, two) = (table(7, &PAYMENT), table(8, &PAYMENT));
        assert_eq!(
            texts(&[("a", one.clone()), ("gone", two.clone())], &[("b", one.clone()), ("new", table(9, &PAYMENT))]),
            ["b: the table was `a`", "gone: the table is gone", "new: the table is new"]
        );
        assert_eq!(texts(&[("a", one.clone())], &[("a", two)]), ["a: the table was dropped and made again"]);
        let view = TableSchema { oid: None, ..one };
        assert_eq!(texts(&[("a", view.clone())], &[("b", view)]), ["a: the table is gone", "b: the table is new"]);
    }
}
