//! A model beside its table: the SQL fragments that every statement of load is made of. Pure.
//!
//! In all of them `s` is a row of the stage and `t` a row of the table.

use starlift_core::Column;

use super::fit::misfits;
use super::key_type::KeyType;
use super::model::ModelTable;
use super::refused::entry_key;
use super::target::{TargetColumn, TargetTable};
use crate::ident::{quote_ident, quote_idents, quote_literal};

/// A model and the table that it is loaded into, which [`TargetTable::check`] has passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) model: &'a ModelTable,
    pub(crate) target: &'a TargetTable,
}

impl<'a> Pair<'a> {
    /// The model's columns, each beside the table's.
    pub(crate) fn columns(self) -> impl Iterator<Item = (&'a Column, &'a TargetColumn)> {
        self.model.schema.columns.iter().filter_map(move |c| Some((c, self.target.column(&c.name)?)))
    }

    /// The key's columns, each beside the table's, in the order of the key.
    pub(crate) fn key(self) -> impl Iterator<Item = (&'a Column, &'a TargetColumn)> {
        self.model.schema.key_columns().filter_map(move |c| Some((c, self.target.column(&c.name)?)))
    }

    /// The table's name in SQL.
    pub(crate) fn table(self) -> String {
        self.target.sql_name()
    }

    /// The model's columns as a list of names.
    pub(crate) fn column_list(self) -> String {
        quote_idents(self.model.schema.columns.iter().map(|c| c.name.as_str()))
    }

    /// The staged values in the types of the table, in the order of [`Pair::column_list`].
    pub(crate) fn staged_values(self) -> String {
        self.columns().map(|(_, target)| staged(target)).collect::<Vec<_>>().join(", ")
    }

    /// The condition that `t` and `s` have the same key.
    pub(crate) fn same_key(self) -> String {
        let equal = |target: &TargetColumn| {
            format!("{} {} {}", stored(target), self.target.equals(&target.name), staged(target))
        };
        self.key().map(|(_, target)| equal(target)).collect::<Vec<_>>().join(" and ")
    }

    /// The first column of the key whose `=` may hold for keys that are two in the star.
    pub(crate) fn loose_key(self) -> Option<(&'a TargetColumn, &'a KeyType)> {
        let of = |(_, target): (_, &'a TargetColumn)| Some((target, self.target.key_types.get(&target.name)?));
        self.key().filter_map(of).find(|(_, key)| key.is_loose)
    }

    /// The condition that `t` and `s`, which have the same key, have it in the star as well.
    pub(crate) fn reads_the_same(self) -> String {
        match self.loose_key() {
            Some(_) => format!("{} = {}", self.key_json("t"), self.key_json("s")),
            None => "true".into(),
        }
    }

    /// The condition that `t` and `s`, which have the same key, differ: outside the key, or in a key that reads differently.
    pub(crate) fn differs(self) -> String {
        let conditions: Vec<String> =
            self.rest().map(|target| format!("({})", target.holds.differs(&stored(target), &staged(target)))).collect();
        if conditions.is_empty() { "false".into() } else { conditions.join(" or ") }
    }

    /// `set` of an update: all that can differ; none for a model that is only a key whose equal values read the same.
    pub(crate) fn assignments(self) -> Option<String> {
        let set: Vec<String> = self.rest().map(|t| format!("{} = {}", quote_ident(&t.name), staged(t))).collect();
        (!set.is_empty()).then(|| set.join(", "))
    }

    fn rest(self) -> impl Iterator<Item = &'a TargetColumn> {
        self.columns()
            .filter(move |(c, t)| !self.model.schema.key.contains(&c.name) || t.holds.has_equals_that_differ())
            .map(|(_, target)| target)
    }

    /// The staged key, to order by.
    pub(crate) fn staged_order(self) -> String {
        self.key().map(|(_, target)| staged(target)).collect::<Vec<_>>().join(", ")
    }

    /// The key of a row of the stage or, where `of` is `t`, of the table, as `starlift.retracted` holds it.
    pub(crate) fn key_json(self, of: &str) -> String {
        self.key_object(of, |target, value| match self.target.key_types.get(&target.name) {
            Some(key) => key.json(&target.holds, value),
            None => target.holds.key_json(value),
        })
    }

    /// The same as earlier versions wrote it.
    pub(crate) fn key_json_before(self, of: &str) -> String {
        self.key_object(of, |target, value| target.holds.key_json(value))
    }

    fn key_object(self, of: &str, json: impl Fn(&TargetColumn, &str) -> String) -> String {
        let part = |(_, target): (&Column, &TargetColumn)| {
            let value = if of == "s" { staged(target) } else { format!("{of}.{}", quote_ident(&target.name)) };
            format!("{}, {}", quote_literal(&target.name), json(target, &value))
        };
        format!("jsonb_build_object({})", self.key().map(part).collect::<Vec<_>>().join(", "))
    }

    /// The condition that an entry `r` of `starlift.retracted` was written by an earlier version, where that wrote others.
    pub(crate) fn is_of_before(self) -> Option<String> {
        let of = |(_, target): (_, &TargetColumn)| {
            let text = format!("r.key ->> {}", quote_literal(&target.name));
            self.target.key_types.get(&target.name)?.was_text(&format!("({text})"))
        };
        let conditions: Vec<String> = self.key().filter_map(of).collect();
        (!conditions.is_empty()).then(|| format!("({})", conditions.join(" or ")))
    }

    /// The key of a row `s` as `starlift.retracted` holds it; null where the table cannot hold it. CASE keeps the order, because the
    /// key of a value that does not fit cannot be made.
    pub(crate) fn fitting_key_json(self) -> String {
        format!("case when {} then {} end", self.key_fits(), self.key_json("s"))
    }

    /// The condition that a row of the table can have the key of a row `s`.
    pub(crate) fn key_fits(self) -> String {
        let mut fits = Vec::new();
        for (column, target) in self.key() {
            let value = format!("s.{}", quote_ident(&column.name));
            fits.push(format!("{value} is not null"));
            let misfits = misfits(&column.column_type, &target.holds, &value).unwrap_or_default();
            fits.extend(misfits.iter().map(|misfit| format!("not coalesce({}, false)", misfit.condition)));
        }
        fits.join(" and ")
    }

    /// The key of a row of the stage, or of a table with the model's columns, as `starlift.refused` holds it.
    pub(crate) fn entry_key(self, of: &str) -> String {
        entry_key(self.model, |column| format!("{of}.{}", quote_ident(&column.name)))
    }

    /// The key of a stored row `t`, in the form of [`Pair::entry_key`].
    pub(crate) fn stored_entry_key(self, of: &str) -> String {
        entry_key(self.model, |c| format!("{of}.{}::{}", quote_ident(&c.name), c.column_type.postgres_type()))
    }

    /// The key of a row, as people read it: `sales_order_id=5`, or `(day=2024-01-01, shop=7)`.
    pub(crate) fn key_text(self, of: &str) -> String {
        let parts: Vec<String> = self
            .key()
            .map(|(c, _)| {
                let name = quote_literal(&format!("{}=", c.name));
                format!("{name} || coalesce({of}.{}::text, 'null')", quote_ident(&c.name))
            })
            .collect();
        match parts.as_slice() {
            [one] => one.clone(),
            many => format!("'(' || {} || ')'", many.join(" || ', ' || ")),
        }
    }
}

/// A staged value in the base type of its table's column. Its modifier is left to the assignment, which refuses a text
/// that is too long where a cast would cut it.
pub(crate) fn staged(target: &TargetColumn) -> String {
    format!("s.{}::{}", quote_ident(&target.name), target.cast)
}

fn stored(target: &TargetColumn) -> String {
    target.stored("t")
}
