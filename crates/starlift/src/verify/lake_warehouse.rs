//! Lake and warehouse, past the star: where a model has one row for each row of one table (its [`Spine`]), the table's
//! state as of the ingest manifest that the loaded star covers, beside the model's current rows.
//!
//! Neither the evaluation of the model nor the star's files have a part in it: the keys must be the same, and so must
//! every column that the model passes through unchanged.

use starlift_core::Result;
use starlift_core::manifest::{Manifest, Relation};
use starlift_core::model::Model;
use starlift_lake::{Head, State, Store};
use starlift_models::EVALUATION_VERSION;

use super::lake_side::{LakeSide, aside_note, refused_keys, values};
use super::matching::{Counts, What};
use super::model_view::ModelView;
use super::report::{Comparison, ComparisonKind};
use super::row_digest::RowDigest;
use super::side::{Names, Side, compare};
use super::source_lake::as_strs;
use super::spine::{Spine, spine};
use super::sql_side::SqlColumn;
use super::star_warehouse::Loaded;
use super::warehouse_view::{padded_key, same_text};
use crate::context::Context;

/// The lake as of the manifest that the loaded star covers.
pub(super) struct Covered<'a> {
    pub(super) lake: &'a Store,
    pub(super) head: &'a Head,
}

impl Covered<'_> {
    fn relation(&self, table: &str) -> Option<&Relation> {
        self.head.manifest().and_then(|m: &Manifest| m.relations.get(table))
    }

    fn state(&self, table: &str, relation: &Relation) -> Result<State> {
        State::new(self.lake, relation.schema.clone(), self.head.live_of(table))
    }
}

/// What a model takes from its spine.
#[derive(Debug)]
struct Passed {
    /// The spine's columns that are the model's key, in its order.
    key: Vec<String>,
    /// Columns that are passed through with their type: the spine's name, then the model's.
    columns: Vec<(String, String)>,
}

/// What came of the comparison of one model.
pub(super) enum Past {
    /// It was compared.
    Compared(Comparison),
    /// It cannot be, for this reason.
    Not(&'static str),
}

/// Compares one model, if it has a spine in the lake and was loaded from its present SQL.
pub(super) async fn model(
    ctx: &Context,
    loaded: &Loaded<'_>,
    covered: &Covered<'_>,
    model: &Model,
    relation: &Relation,
) -> Result<Past> {
    let is_loaded = relation.fingerprint == ctx.project.fingerprint(model, EVALUATION_VERSION, ctx.config.calendar);
    if !is_loaded {
        return Ok(Past::Not("it changed since it was loaded"));
    }
    let Some(spine) = spine(&model.sql) else { return Ok(Past::Not("it has not one row for each row of a table")) };
    let Some(table) = covered.relation(&spine.table) else { return Ok(Past::Not("it selects from no source table")) };
    let Some(passed) = passed(&spine, table, relation) else {
        return Ok(Past::Not("its key is not passed through from its table"));
    };

    let mut comparison = Comparison::new(ComparisonKind::LakeWarehouse, &model.name);
    let held = loaded.warehouse.columns(&model.name).await?;
    let Some(view) = ModelView::new(&relation.schema, held.as_ref(), &mut comparison) else {
        return Ok(Past::Compared(comparison));
    };
    // Columns that only the star can be compared in are left out here without another note.
    let columns: Vec<_> = passed
        .columns
        .iter()
        .filter_map(|(source, name)| Some((source.clone(), name.clone(), view.column(name)?)))
        .collect();
    let sources: Vec<&str> = columns.iter().map(|(source, _, _)| source.as_str()).collect();
    let names =
        Names { key: relation.schema.key.clone(), columns: columns.iter().map(|(_, name, _)| name.clone()).collect() };

    let held_columns: Vec<SqlColumn> = columns.iter().map(|(_, _, sql)| sql.clone()).collect();
    let left = LakeSide::new(covered.state(&spine.table, table)?, &as_strs(&passed.key), &sources)?;
    let mut left = left.held_as(&view.key, &held_columns);
    let mut may_drop = spine.may_drop;
    for join in &spine.inner {
        match partners(covered, table, join).await? {
            Some(values) => left = left.with_partners(&join.column, values)?,
            None => may_drop = true,
        }
    }
    let right = loaded.warehouse.side(&model.name, view.key, held_columns);

    let aside = State::new(loaded.star, relation.schema.clone(), loaded.head.live_of(&model.name))?;
    let padded = padded_key(&relation.schema.key, held.as_ref());
    let mut aside = refused_keys(&aside, &padded).await?;
    let of_load = (model.name.as_str(), model.header.kind);
    aside.extend(loaded.warehouse.aside(loaded.pipeline, of_load, relation, &padded).await?);
    let waiting = loaded.later.of(&model.name);
    let judge = |what: What, key: &RowDigest, _| match what {
        _ if waiting.contains(key) => Counts::Pending,
        What::OnlyLeft if may_drop || aside.contains(key) => Counts::Nothing,
        _ => Counts::Difference,
    };
    compare(&mut comparison, &Side::Lake(left), &Side::Sql(right), &names, judge).await?;
    // They are why the two sides may be equal with different numbers of rows.
    comparison.notes.extend(aside_note(aside.len() as u64));
    comparison.notes.push(match names.columns.len() {
        1 => format!("against table `{}` by key", spine.table),
        count => format!("against table `{}` by key and {count} columns that the model passes through", spine.table),
    });
    if may_drop {
        comparison.notes.push("missing keys were not looked for: a join of the model may drop them".into());
    }
    loaded.later.note(&mut comparison);
    comparison.judge();
    Ok(Past::Compared(comparison))
}

/// What a model takes from its spine; none where its key is not the spine's to give.
fn passed(spine: &Spine, table: &Relation, model: &Relation) -> Option<Passed> {
    let mut pairs = spine.pairs.clone();
    if spine.all_columns {
        pairs.extend(table.schema.columns.iter().map(|c| (c.name.clone(), c.name.clone())));
    }
    // The same type on both sides: then the model can only have passed the value through.
    pairs.retain(|(source, name)| match (table.schema.column(source), model.schema.column(name)) {
        (Some(source), Some(column)) => source.column_type == column.column_type,
        _ => false,
    });
    pairs.dedup();
    let source_of = |name: &String| pairs.iter().find(|(_, model)| model == name).map(|(source, _)| source.clone());
    let key: Vec<String> = model.schema.key.iter().map(source_of).collect::<Option<_>>()?;
    (!key.is_empty()).then_some(Passed { key, columns: pairs })
}

/// The values of the joined column that have a row; none where the lake cannot tell.
async fn partners(
    covered: &Covered<'_>,
    spine: &Relation,
    join: &super::spine::InnerJoin,
) -> Result<Option<std::collections::HashSet<RowDigest>>> {
    let Some(other) = covered.relation(&join.table) else { return Ok(None) };
    match (spine.schema.column(&join.column), other.schema.column(&join.partner)) {
        (Some(ours), Some(theirs)) if same_text(&ours.column_type, &theirs.column_type) => {
            values(&covered.state(&join.table, other)?, &join.partner).await.map(Some)
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift_core::{Column, ColumnType, TableSchema};

    fn relation(columns: &[(&str, ColumnType)], key: &str) -> Relation {
        let column = |(name, column_type): &(&str, ColumnType)| Column {
            name: name.to_string(),
            column_type: column_type.clone(),
            nullable: false,
            declared: None,
            labels: vec![],
        };
        Relation {
            schema: TableSchema {
                columns: columns.iter().map(column).collect(),
                key: vec![key.into()],
                oid: None,
                partitions: vec![],
                attributes: vec![],
            },
            fingerprint: String::new(),
            rows: 0,
            refused: 0,
            last_change: 0,
            base: 0,
            capture: None,
            model: None,
            run: None,
        }
    }

    #[test]
    fn only_columns_that_keep_their_type_are_compared() {
        let table = relation(&[("address_id", ColumnType::Int4), ("opened", ColumnType::Text)], "address_id");
        let model = relation(
            &[("location_id", ColumnType::Int4), ("opened", ColumnType::Date), ("city", ColumnType::Text)],
            "location_id",
        );
        let sql = "select address_id as location_id, opened, city from address";
        let passed = passed(&spine(sql).unwrap(), &table, &model).unwrap();
        assert_eq!(passed.key, ["address_id"]);
        assert_eq!(passed.columns, [("address_id".to_string(), "location_id".to_string())]);
    }

    #[test]
    fn a_key_that_the_model_computes_is_not_the_spines() {
        let table = relation(&[("id", ColumnType::Int4)], "id");
        let model = relation(&[("id", ColumnType::Int4)], "id");
        assert!(passed(&spine("select id + 1 as id from t").unwrap(), &table, &model).is_none());
        assert!(passed(&spine("select * from t").unwrap(), &table, &model).is_some());
    }
}
