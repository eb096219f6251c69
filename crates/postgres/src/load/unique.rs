//! Unique indexes outside a model's key, which can refuse a valid row for the sake of another one. Pure.
//!
//! Load keeps the row of a key that is gone from the source, so that a new row which takes over its value is refused as long as
//! the constraint is there; and two rows that swap their values break it one after the other, unless it is checked at the
//! end of a statement. A fact's versions share their values. Many warehouses with such an index load well: it is warned of.

use starlift_core::model::ModelKind;

use super::model::ModelTable;
use super::target::TargetTable;
use crate::ident::{quote_ident, quote_qualified};

/// A unique index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetUnique {
    /// Its name.
    pub(crate) name: String,
    /// The columns that it is over; expressions are left out.
    pub(crate) columns: Vec<String>,
    /// Whether it is over expressions too.
    pub(crate) has_expressions: bool,
    /// The definition of the constraint that it belongs to, where there is one.
    pub(crate) definition: Option<String>,
    /// Whether it is checked row by row, which a constraint that is `deferrable` is not.
    pub(crate) immediate: bool,
}

/// What may refuse valid rows, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// The model.
    pub model: String,
    /// The constraint or index, and what it refuses: a sentence.
    pub detail: String,
    /// The statements, each with its semicolon, and when which of them is right.
    pub mend: String,
}

impl TargetUnique {
    /// Whether a row of the model can break it although it alone has its key, or is a further version.
    fn concerns(&self, model: &ModelTable, record_id: Option<&str>) -> bool {
        let has_a_value =
            self.has_expressions || self.columns.iter().any(|column| model.schema.column(column).is_some());
        let has = |name: &str| self.columns.iter().any(|column| column == name);
        has_a_value
            && match model.kind {
                ModelKind::Calendar => false,
                ModelKind::Fact => !record_id.is_some_and(has),
                _ => !model.schema.key.iter().all(|column| has(column)),
            }
    }

    /// Whether it is to be warned of before it refuses a row.
    fn is_hazard(&self, model: &ModelTable, record_id: Option<&str>) -> bool {
        (self.immediate || model.kind == ModelKind::Fact) && self.concerns(model, record_id)
    }

    /// The statements that keep it from refusing valid rows.
    fn mend(&self, schema: &str, table: &str, kind: ModelKind) -> String {
        let (table, name) = (quote_qualified(schema, table), quote_ident(&self.name));
        let Some(definition) = &self.definition else {
            return format!("let the owner run `drop index {};`", quote_qualified(schema, &self.name));
        };
        let drop = format!("alter table {table} drop constraint {name}");
        match self.immediate && kind != ModelKind::Fact {
            true => format!(
                "let the owner run `{drop};`, or, where no row is ever deleted in the source, \
                 `{drop}, add constraint {name} {definition} deferrable;`"
            ),
            false => format!("let the owner run `{drop};`"),
        }
    }
}

impl TargetTable {
    /// The unique index of a name, where valid rows of the model can break it.
    pub(crate) fn unique(&self, model: &ModelTable, name: &str) -> Option<&TargetUnique> {
        let record_id = self.record_id().map(|column| column.name.as_str());
        self.uniques.iter().find(|unique| unique.name == name && unique.concerns(model, record_id))
    }

    /// What mends it.
    pub(crate) fn mend_unique(&self, model: &ModelTable, unique: &TargetUnique) -> String {
        unique.mend(&self.schema, &self.name, model.kind)
    }

    /// What to be warned of before it refuses a row.
    pub(crate) fn hazards(&self, model: &ModelTable) -> Vec<Hazard> {
        let record_id = self.record_id().map(|column| column.name.as_str());
        let why = match model.kind {
            ModelKind::Fact => "a further version of a row, which shares its values",
            _ => "a row that takes over the value of one that is gone, and rows that swap their values",
        };
        let hazard = |unique: &TargetUnique| Hazard {
            model: model.name.clone(),
            detail: format!("`{}` of `{}` is unique outside the key: it refuses {why}", unique.name, self.name),
            mend: self.mend_unique(model, unique),
        };
        self.uniques.iter().filter(|unique| unique.is_hazard(model, record_id)).map(hazard).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use starlift_core::{Column, ColumnType, TableSchema};

    use super::*;

    fn unique(columns: &[&str], immediate: bool) -> TargetUnique {
        TargetUnique {
            name: "u".into(),
            columns: columns.iter().map(|c| c.to_string()).collect(),
            has_expressions: false,
            definition: Some(format!("UNIQUE ({})", columns.join(", "))),
            immediate,
        }
    }

    /// With the key `id`; its table has a serial `sk` too.
    fn model(kind: ModelKind) -> ModelTable {
        let column = |name: &str| Column {
            name: name.into(),
            column_type: ColumnType::Int4,
            nullable: true,
            declared: None,
            labels: vec![],
        };
        ModelTable {
            name: "t".into(),
            kind,
            schema: TableSchema {
                columns: vec![column("id"), column("email")],
                key: vec!["id".into()],
                oid: None,
                partitions: vec![],
                attributes: vec![],
            },
            references: BTreeMap::new(),
        }
    }

    #[test]
    fn a_unique_index_outside_the_key_is_a_hazard_and_one_that_the_key_implies_is_none() {
        let of = |kind, columns: &[&str], immediate| unique(columns, immediate).is_hazard(&model(kind), Some("sk"));
        assert!(of(ModelKind::Dimension, &["email"], true));
        for columns in [&["id"][..], &["email", "id"], &["sk"]] {
            assert!(!of(ModelKind::Dimension, columns, true), "{columns:?}");
        }
        assert!(!of(ModelKind::Calendar, &["email"], true));
        assert!(of(ModelKind::Fact, &["email"], true) && of(ModelKind::Fact, &["email"], false));
        assert!(!of(ModelKind::Fact, &["sk", "email"], true));
        // Checked at the end of a statement it lets a swap through, and is still broken by the value of a row that is gone.
        assert!(!of(ModelKind::Dimension, &["email"], false));
        assert!(unique(&["email"], false).concerns(&model(ModelKind::Dimension), None));
        let of_expression = TargetUnique { has_expressions: true, ..unique(&[], true) };
        assert!(of_expression.is_hazard(&model(ModelKind::Dimension), None));
    }

    #[test]
    fn what_mends_it_are_statements_for_the_owner() {
        let mend = |unique: TargetUnique, kind| unique.mend("dw", "t", kind);
        assert_eq!(
            mend(unique(&["email"], true), ModelKind::Dimension),
            "let the owner run `alter table \"dw\".\"t\" drop constraint \"u\";`, or, where no row is ever deleted in the source, \
             `alter table \"dw\".\"t\" drop constraint \"u\", add constraint \"u\" UNIQUE (email) deferrable;`"
        );
        let drop = "let the owner run `alter table \"dw\".\"t\" drop constraint \"u\";`";
        assert_eq!(mend(unique(&["email"], false), ModelKind::Dimension), drop);
        assert_eq!(mend(unique(&["email"], true), ModelKind::Fact), drop);
        let index = TargetUnique { definition: None, ..unique(&["email"], true) };
        assert_eq!(mend(index, ModelKind::Dimension), "let the owner run `drop index \"dw\".\"u\";`");
    }
}
