//! The columns of a table or model, and the fingerprint that names one version of them.

use arrow_schema::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::digest::sha256_hex;
use crate::types::ColumnType;

/// The column of a refused row that names the column which refused it.
pub const REFUSED_COLUMN: &str = "_refused_column";
/// The column of a refused row that says why, without the value.
pub const REFUSED_REASON: &str = "_refused_reason";
/// The column of a refused row with the refused value as text; null unless the project keeps values.
pub const REFUSED_VALUE: &str = "_refused_value";

/// One column of a table or model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, exactly as PostgreSQL or the model spells it.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether it may be null.
    pub nullable: bool,
    /// How the source declares it (`character varying(3)`, `public.mood`); a model's columns have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// The labels of an enum in their order, so that renaming one is seen as a change; also the fields of a composite type, and how
    /// a virtual generated column is computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// The columns and the key of a table or model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Columns in the order in which they are stored.
    pub columns: Vec<Column>,
    /// Names of the columns that identify a row; empty for a table without a key.
    pub key: Vec<String>,
    /// The oid of the source table; a model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// The oids of the table's partitions, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<u32>,
    /// PostgreSQL's number of each column, which it never gives twice: a column that is dropped and added again under its
    /// old name and type has other values in every row and leaves no trace in any `xmin`. A model has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<i16>,
}

impl TableSchema {
    /// The Arrow schema of the table's data files.
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.columns.iter().map(|c| c.column_type.to_field(&c.name, c.nullable)).collect::<Vec<_>>(),
        ))
    }

    /// The Arrow schema of the table's tombstones: its key columns in the order of the key.
    pub fn key_to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(
            self.key_columns().map(|c| c.column_type.to_field(&c.name, c.nullable)).collect::<Vec<_>>(),
        ))
    }

    /// The Arrow schema of the table's refused rows: the columns of its key, in the order of the key, then
    /// [`REFUSED_COLUMN`], [`REFUSED_REASON`] and [`REFUSED_VALUE`].
    pub fn refused_to_arrow(&self) -> SchemaRef {
        let text = |name: &str, nullable: bool| Arc::new(ColumnType::Text.to_field(name, nullable));
        let about = [text(REFUSED_COLUMN, false), text(REFUSED_REASON, false), text(REFUSED_VALUE, true)];
        let key = self.key_to_arrow();
        Arc::new(Schema::new(key.fields().iter().cloned().chain(about).collect::<Vec<_>>()))
    }

    /// The columns of the key, in the order of the key.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|name| self.column(name))
    }

    /// Positions of the key's columns among all columns, in the order of the key.
    pub fn key_positions(&self) -> Vec<usize> {
        self.key.iter().filter_map(|name| self.columns.iter().position(|c| c.name == *name)).collect()
    }

    /// The column of a name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The same table with the partitions that it had when it was like `before`.
    ///
    /// Partitions come and go without a trace in any `xmin` of the table's rows, but not without any: rows of those that came are read, and
    /// rows of those that went are missed by the count. So only what else differs makes it another table.
    pub fn but_for_partitions(&self, before: Option<&TableSchema>) -> TableSchema {
        let partitions = before.map_or(&self.partitions, |before| &before.partitions).clone();
        TableSchema { partitions, ..self.clone() }
    }

    /// Names one version of the table: its columns, types, labels, key, identity, partitions and attributes.
    ///
    /// Rows that were read under another fingerprint, [but for partitions](TableSchema::but_for_partitions), are read again in full, because a
    /// changed default or label leaves no trace in `xmin`.
    pub fn fingerprint(&self) -> String {
        // Serialising plain structs of strings and numbers cannot fail, and field order is fixed by the struct.
        sha256_hex(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Names one version of the labels and fields that the values of a table show, given the rows of the catalog that name them, each
/// with its `xmin`. None where there are none.
///
/// What was renamed and renamed back looks as it did, and has another digest.
pub fn names_digest<'a>(versions: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut versions: Vec<&str> = versions.into_iter().collect();
    versions.sort_unstable();
    versions.dedup();
    (!versions.is_empty()).then(|| sha256_hex(versions.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_written_again_have_another_digest_whatever_their_order() {
        assert_eq!(names_digest([]), None);
        assert_eq!(names_digest(["1 700", "2 700"]), names_digest(["2 700", "1 700", "2 700"]));
        assert_ne!(names_digest(["1 700", "2 700"]), names_digest(["1 700", "2 701"]));
    }

    fn schema() -> TableSchema {
        let column = |name: &str, column_type| Column {
            name: name.into(),
            column_type,
            nullable: false,
            declared: None,
            labels: vec![],
        };
        TableSchema {
            columns: vec![column("name", ColumnType::Text), column("id", ColumnType::Int4)],
            key: vec!["id".into()],
            oid: Some(7),
            partitions: vec![],
            attributes: vec![1, 2],
        }
    }

    #[test]
    fn the_fingerprint_sees_labels_partitions_types_and_columns_that_came_again() {
        let before = schema().fingerprint();
        let mut labels = schema();
        labels.columns[0].labels = vec!["sad".into()];
        let mut partitions = schema();
        partitions.partitions = vec![9];
        let mut types = schema();
        types.columns[1].column_type = ColumnType::Int8;
        let mut again = schema();
        again.attributes = vec![3, 2];
        for changed in [labels, partitions, types, again] {
            assert_ne!(changed.fingerprint(), before);
        }
        assert_eq!(schema().fingerprint(), before);
    }

    #[test]
    fn partitions_that_come_or_go_make_no_other_table_and_anything_else_does() {
        let with = |partitions: &[u32]| TableSchema { partitions: partitions.to_vec(), ..schema() };
        let same = |before: &TableSchema, now: &TableSchema| {
            now.but_for_partitions(Some(before)).fingerprint() == before.fingerprint()
        };
        for (before, now) in [(&[][..], &[9][..]), (&[9], &[]), (&[8, 9], &[7, 9])] {
            assert!(same(&with(before), &with(now)), "{before:?} {now:?}");
            assert!(!same(&with(before), &TableSchema { attributes: vec![1, 3], ..with(now) }));
        }
        assert_eq!(with(&[9]).but_for_partitions(None), with(&[9]));
    }

    #[test]
    fn key_positions_follow_the_key() {
        assert_eq!(schema().key_positions(), [1]);
        assert_eq!(schema().key_to_arrow().fields().len(), 1);
    }
}
