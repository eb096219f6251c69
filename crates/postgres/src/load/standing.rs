//! The rows that stand aside when a load begins: which of them it tries again, and which stand aside no longer.
//!
//! A row that a column could not hold is tried again when the table's columns are others; one that waits, when a row of the
//! model that it waits for may have come in or gone; any other, such as one that a CHECK refused, by every load. A row that
//! the manifest brings itself is always tried, and a load that finds nothing standing asks nothing more.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use starlift_core::Result;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::aside::Aside;
use super::model::LoadRun;
use super::pair::Pair;
use super::refused::{keys_where, of_model};
use super::session::{execute, query, value};
use super::stage::Stage;
use crate::ident::quote_literal;
use crate::sqlstate::classify;

const READ: &str = "cannot read the refused rows of the warehouse";

/// What stands aside, by model.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    models: BTreeMap<String, Vec<Group>>,
    /// Models of which every row that stood aside before does so still.
    unmoved: BTreeSet<String>,
}

/// Entries that are tried again for the same reasons.
#[derive(Debug)]
struct Group {
    shape: Option<String>,
    waits_for: Option<String>,
}

impl Standing {
    /// Reads what stands aside.
    pub(crate) async fn read(client: &Client, pipeline: &str) -> Result<Standing> {
        let sql = "select distinct model, shape, waits_for from starlift.refused where pipeline = $1";
        let mut standing = Standing::default();
        for row in query(client, sql, &[(&pipeline, Type::TEXT)], READ).await? {
            let read = |e| classify(e, READ);
            let group = Group { shape: row.try_get(1).map_err(read)?, waits_for: row.try_get(2).map_err(read)? };
            standing.models.entry(row.try_get(0).map_err(read)?).or_default().push(group);
        }
        Ok(standing)
    }

    /// Forgets the rows of models that the star has no more.
    pub(crate) async fn forget_others(&self, client: &Client, pipeline: &str, pairs: &[Pair<'_>]) -> Result<()> {
        let names: Vec<&str> = pairs.iter().map(|pair| pair.model.name.as_str()).collect();
        if self.models.keys().all(|model| names.contains(&model.as_str())) {
            return Ok(());
        }
        let sql = "delete from starlift.refused where pipeline = $1 and model <> all ($2)";
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&pipeline, Type::TEXT), (&names, Type::TEXT_ARRAY)];
        execute(client, sql, parameters, "cannot take back refused rows of models that are gone").await.map(|_| ())
    }

    /// Whether rows of a model stood aside when the load began.
    pub(crate) fn may_hold(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// The keys of a model that are tried again. The models that it refers to have been staged.
    pub(crate) async fn tried_again(
        &self,
        client: &Client,
        pair: Pair<'_>,
        shape: &str,
        load: &LoadRun,
    ) -> Result<Vec<RecordBatch>> {
        let Some(groups) = self.models.get(&pair.model.name) else { return Ok(Vec::new()) };
        let is_due = |group: &Group| match &group.waits_for {
            Some(target) => !self.unmoved.contains(target),
            None => group.shape.as_deref() != Some(shape),
        };
        if !load.aside.replay && !groups.iter().any(is_due) {
            return Ok(Vec::new());
        }
        let unmoved: Vec<String> = self.unmoved.iter().map(|name| quote_literal(name)).collect();
        let due = match load.aside.replay {
            true => "true".to_string(),
            false => format!(
                "case when r.waits_for is null then r.shape is distinct from {} \
                 else r.waits_for <> all (array[{}]::text[]) end",
                quote_literal(shape),
                unmoved.join(", ")
            ),
        };
        let keys = keys_where(client, &load.pipeline, pair.model, &due).await?;
        let rows: usize = keys.iter().map(RecordBatch::num_rows).sum();
        tracing::debug!(model = %pair.model.name, rows, "rows that stand aside are tried again");
        Ok(keys)
    }

    /// Takes note of what is staged of a model, those rows left out that stand aside by now.
    pub(crate) async fn staged(
        &mut self,
        client: &Client,
        pair: Pair<'_>,
        pipeline: &str,
        stage: Option<&Stage>,
        gone: Option<&Stage>,
        is_whole: bool,
    ) -> Result<()> {
        if !self.may_hold(&pair.model.name) || is_whole {
            return Ok(());
        }
        let in_any: Vec<String> = [stage, gone].into_iter().flatten().map(|stage| has_key(pair, stage)).collect();
        let moved = match in_any.is_empty() {
            true => false,
            false => {
                let sql = format!(
                    "select exists (select from starlift.refused r where {} and ({}))",
                    of_model("r", pipeline, &pair.model.name),
                    in_any.join(" or ")
                );
                value(client, &sql, READ).await?
            }
        };
        if !moved {
            self.unmoved.insert(pair.model.name.clone());
        }
        Ok(())
    }

    /// Removes the entries of rows that are in, and of keys that are gone; where the model brought its whole state, `whole`
    /// being what it set aside, those of all other rows.
    pub(crate) async fn remove(
        &self,
        client: &Client,
        pair: Pair<'_>,
        pipeline: &str,
        stage: Option<&Stage>,
        gone: Option<&Stage>,
        whole: Option<&Aside>,
    ) -> Result<()> {
        if !self.may_hold(&pair.model.name) {
            return Ok(());
        }
        let conditions: Vec<String> = match whole {
            Some(aside) => vec![aside.lacks_entry(pair)],
            None => [stage, gone].into_iter().flatten().map(|stage| has_key(pair, stage)).collect(),
        };
        if conditions.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "delete from starlift.refused r where {} and ({})",
            of_model("r", pipeline, &pair.model.name),
            conditions.join(" or ")
        );
        let what = format!("cannot take back refused rows of model `{}`", pair.model.name);
        execute(client, &sql, &[], &what).await.map(|_| ())
    }
}

/// The condition that a stage has the key of an entry `r`.
fn has_key(pair: Pair<'_>, stage: &Stage) -> String {
    format!("exists (select from {} s where {} = r.key)", stage.table, pair.entry_key("s"))
}
