//! The tables of the warehouse as their catalog describes them, and whether a model can be loaded into its table.
//!
//! Pure: `target_catalog` reads them.

use std::collections::BTreeMap;

use starlift_core::model::ModelKind;
use starlift_core::{ColumnType, Error, Result};

use super::fit::misfits;
use super::key_type::KeyType;
use super::model::ModelTable;
use super::target_type::TargetType;
use super::unique::TargetUnique;
use super::view::view_name;
use crate::ident::{quote_ident, quote_qualified};

/// A table of the warehouse.
#[derive(Debug, Clone)]
pub(crate) struct TargetTable {
    /// Its schema.
    pub(crate) schema: String,
    /// Its name.
    pub(crate) name: String,
    /// Its oid.
    pub(crate) oid: u32,
    /// Columns in their order.
    pub(crate) columns: Vec<TargetColumn>,
    /// Columns of the primary key, in its order; empty without one.
    pub(crate) primary_key: Vec<String>,
    /// Its b-tree indexes over plain columns, valid and without a condition.
    pub(crate) indexes: Vec<TargetIndex>,
    /// All its unique indexes.
    pub(crate) uniques: Vec<TargetUnique>,
    /// Foreign keys of one column: column, then table of the same schema and its column.
    pub(crate) foreign_keys: BTreeMap<String, (String, String)>,
    /// Rows, by the server's estimate or the size of the table; never below zero.
    pub(crate) estimated_rows: u64,
    /// Whether our role may alter it.
    pub(crate) owned: bool,
    /// Privileges of `select`, `insert`, `update` that our role lacks.
    pub(crate) lacking: Vec<String>,
    /// The sequence of a serial column, where our role may not use it.
    pub(crate) locked_sequence: Option<String>,
    /// That of an identity in the primary key, likewise: a fact's record id.
    pub(crate) locked_identity: Option<String>,
    /// Whether a trigger or rule of its own may keep a row out, or leave one as it was, without an error: see [`super::kept`].
    pub(crate) may_skip: bool,
    /// The types of the columns of its model's key.
    pub(crate) key_types: BTreeMap<String, KeyType>,
}

/// A column of a warehouse table.
#[derive(Debug, Clone)]
pub(crate) struct TargetColumn {
    /// Its name.
    pub(crate) name: String,
    /// How the table declares it: `numeric(10,2)`, `email`.
    pub(crate) declared: String,
    /// What it holds when domains are taken off.
    pub(crate) holds: TargetType,
    /// The SQL name of that type without a modifier, for casts; of an array without the domain of its elements.
    pub(crate) cast: String,
    /// Whether it is an array with elements of a domain, which PostgreSQL compares with no array of the base type.
    pub(crate) of_domain: bool,
    /// Whether it, or a domain of it, refuses null.
    pub(crate) not_null: bool,
    /// Whether it has a value where none is given: a default, an identity.
    pub(crate) fills_itself: bool,
    /// Whether PostgreSQL alone may write it: generated, or identity `always`.
    pub(crate) generated: bool,
    /// Whether it counts upwards by itself: an integer with a sequence or an identity.
    pub(crate) counts: bool,
    /// The sequence that it counts downwards by, quoted.
    pub(crate) downwards: Option<String>,
}

impl TargetColumn {
    /// Its value in a row of the table, as one that can be compared with a staged one.
    pub(crate) fn stored(&self, of: &str) -> String {
        let column = format!("{of}.{}", quote_ident(&self.name));
        if self.of_domain { format!("{column}::{}", self.cast) } else { column }
    }
}

/// An index that can serve equality and order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetIndex {
    /// Its columns in order, included ones left out.
    pub(crate) columns: Vec<String>,
    /// Whether it is unique.
    pub(crate) unique: bool,
}

impl TargetTable {
    /// The quoted name with its schema.
    pub(crate) fn sql_name(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }

    /// The column of a name.
    pub(crate) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The column of a fact that orders its versions: the one of the primary key that counts by itself. A partitioned
    /// table has the columns that it is partitioned by beside it.
    pub(crate) fn record_id(&self) -> Option<&TargetColumn> {
        let mut counting = self.primary_key.iter().filter_map(|name| self.column(name)).filter(|c| c.counts);
        counting.next().filter(|_| counting.next().is_none())
    }

    /// Whether an index makes the newest version of a key cheap to find: the key's columns in any order, then the
    /// record id.
    pub(crate) fn has_version_index(&self, key: &[String], record_id: &str) -> bool {
        self.indexes.iter().any(|index| {
            index.columns.get(key.len()).is_some_and(|c| c == record_id)
                && index.columns.iter().take(key.len()).all(|c| key.contains(c))
        })
    }

    /// Whether a unique index keeps two rows of one key out.
    pub(crate) fn key_is_unique(&self, key: &[String]) -> bool {
        self.indexes.iter().any(|index| index.unique && index.columns.iter().all(|c| key.contains(c)))
    }

    /// The `=` of a column.
    pub(crate) fn equals(&self, column: &str) -> &str {
        self.key_types.get(column).map_or("=", KeyType::equals)
    }

    /// Whether what goes can be found again by its key, which [`super::key_catalog::read_keys`] has read.
    ///
    /// # Errors
    /// Config, with the statement that mends it, for a column of the key whose type is not known well enough.
    pub(crate) fn check_key(&self, model: &ModelTable) -> Result<()> {
        for column in model.schema.key_columns() {
            let Some(target) = self.column(&column.name) else { continue };
            if self.key_types.get(&column.name).is_none_or(KeyType::is_known) {
                continue;
            }
            return Err(Error::config(format!(
                "column `{}` of table `{}` cannot be in the key of a model",
                target.name, self.name
            ))
            .with_detail(format!(
                "the warehouse declares {}, and what is gone could not be left out of view `{}`: no form of its values is known \
                 that is the same in every session",
                target.declared,
                view_name(&self.name)
            ))
            .with_hint(match column.column_type {
                ColumnType::Text => self.hint_of_text(target),
                _ => "take a column of another type into the key, in the model and in the warehouse".into(),
            })
            .with_context("model", model.name.clone())
            .with_context("column", column.name.clone()));
        }
        Ok(())
    }

    /// Any text fits a column of text.
    fn hint_of_text(&self, target: &TargetColumn) -> String {
        format!(
            "cast it in the model, or let the owner run `drop view if exists {}; alter table {} alter column {name} type \
             text using {name}::text;`: load makes the view again, and grants on it have to be given again",
            quote_qualified(&self.schema, &view_name(&self.name)),
            self.sql_name(),
            name = quote_ident(&target.name),
        )
    }

    /// Whether a model can be loaded into this table, as far as names, types and keys tell.
    ///
    /// # Errors
    /// Config, with the statement that mends it, for a column that is missing, of a type that does not go with the
    /// model's, written by PostgreSQL alone, or required and not yielded; for a fact without record id, or with a
    /// unique key, which would keep its versions out.
    pub(crate) fn check(&self, model: &ModelTable) -> Result<()> {
        let at = |error: Error| error.with_context("model", model.name.clone());
        let missing: Vec<_> = model.schema.columns.iter().filter(|c| self.column(&c.name).is_none()).collect();
        if let Some(first) = missing.first() {
            let additions: Vec<String> = missing
                .iter()
                .map(|c| format!("add column {} {}", quote_ident(&c.name), c.column_type.postgres_type()))
                .collect();
            return Err(at(Error::config(format!(
                "table `{}` of the warehouse has no column `{}`",
                self.name, first.name
            ))
            .with_detail(format!("model `{}` yields it", model.name))
            .with_hint(format!(
                "let the owner run `alter table {} {};`, or leave the column out of the model",
                self.sql_name(),
                additions.join(", ")
            ))
            .with_context("column", first.name.clone())));
        }
        for column in &model.schema.columns {
            if let Some(target) = self.column(&column.name) {
                self.check_pair(&column.column_type, target).map_err(at)?;
            }
        }
        if model.kind == ModelKind::Fact {
            self.check_fact(model).map_err(at)?;
        }
        for target in &self.columns {
            if target.not_null && !target.fills_itself && model.schema.column(&target.name).is_none() {
                return Err(at(Error::config(format!(
                    "column `{}` of table `{}` needs a value that model `{}` does not yield",
                    target.name, self.name, model.name
                ))
                .with_detail("it is not null and has no default")
                .with_hint("yield the column in the model, or give it a default in the warehouse")));
            }
        }
        Ok(())
    }

    fn check_pair(&self, from: &ColumnType, target: &TargetColumn) -> Result<()> {
        if target.generated {
            return Err(Error::config(format!(
                "column `{}` of table `{}` is written by PostgreSQL alone",
                target.name, self.name
            ))
            .with_detail("it is a generated or an identity column")
            .with_hint("leave it out of the model, or make it an ordinary column in the warehouse"));
        }
        if misfits(from, &target.holds, "").is_none() {
            return Err(Error::config(format!(
                "column `{}` of table `{}` does not go with its model",
                target.name, self.name
            ))
            .with_detail(format!("the model yields {from}, the warehouse declares {}", target.declared))
            .with_hint(match from {
                // Another cast than to text might change what is there without a word: digits, a time of day.
                ColumnType::Text => self.hint_of_text(target),
                _ => "cast it in the model, or change the type in the warehouse".into(),
            }));
        }
        Ok(())
    }

    fn check_fact(&self, model: &ModelTable) -> Result<()> {
        let mut key = self.primary_key.iter().filter_map(|name| self.column(name));
        if let Some(sequence) = key.find_map(|column| column.downwards.as_ref()) {
            return Err(Error::config(format!("the record id of fact `{}` counts downwards", self.name))
                .with_detail(format!(
                    "sequence {sequence} has a negative increment, and of the versions of a row that with the highest \
                     record id is current: old values would stay so"
                ))
                .with_hint(format!(
                    "let the owner run `alter sequence {sequence} increment by 1 no minvalue no maxvalue start with 1 \
                     restart;`, then run `starlift verify --repair`, which appends what an older version hides"
                )));
        }
        match self.record_id() {
            Some(id) if model.schema.column(&id.name).is_none() => {}
            _ => {
                let record_id = quote_ident(&format!("{}_record_id", self.name));
                let statement =
                    |end: &str| format!("`alter table {} add column {record_id} bigserial{end};`", self.sql_name());
                return Err(Error::config(format!("fact `{}` has no record id in the warehouse", self.name))
                    .with_detail(
                        "a fact keeps every version of a row, so its primary key is, or has, a serial column of its \
                         own that the model does not yield",
                    )
                    .with_hint(match self.primary_key.is_empty() {
                        true => format!("let the owner run {}", statement(" primary key")),
                        false => format!("let the owner run {} and make it the primary key", statement("")),
                    }));
            }
        }
        if self.key_is_unique(&model.schema.key) {
            return Err(Error::config(format!("fact `{}` lets a key in only once", self.name))
                .with_detail("a unique index over its business key keeps further versions of a row out")
                .with_hint("drop that index or constraint in the warehouse, or make the model a dimension"));
        }
        Ok(())
    }
}
