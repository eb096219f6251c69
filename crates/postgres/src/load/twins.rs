//! Twins: rows with keys that are two in the star and one to their column, such as `a` and `A` to one of citext.
//!
//! The table has room for one of them. It is the one that the warehouse holds already, for as long as the star has it; else the first
//! as they read. The others are set aside by name, and come in once that one is gone. A key that is only spelt anew, the old
//! spelling gone or on its way out with the same manifest, is no twin: it takes the place.

use starlift_core::Result;
use starlift_core::model::ModelKind;
use tokio_postgres::Client;

use super::fact::{Comparison, beside_newest, comparison};
use super::isolate::{Attempt, Write, attempt};
use super::pair::{Pair, staged};
use super::refused::{of_model, own_column};
use super::refusing::Refusals;
use super::session::value;
use super::stage::Stage;
use super::target::TargetColumn;
use super::transaction::{Staged, Work};
use crate::ident::quote_ident;

const REASON: &str = "it is to its column the key of another row, which reads differently";

impl Work<'_, '_> {
    /// Sets staged rows aside that are twins of others. All of them fit their table's columns; `is_whole` where they are all rows of
    /// the model.
    pub(crate) async fn set_twins_aside(
        &self,
        client: &Client,
        model: &mut Staged<'_>,
        is_whole: bool,
        refusals: &mut Refusals,
    ) -> Result<()> {
        let pair = model.pair;
        let (Some(stage), Some((column, _))) = (model.upserts.clone(), pair.loose_key()) else { return Ok(()) };
        let twins = twins(pair, &stage, model.retractions.as_ref(), is_whole, &self.run.pipeline)?;
        let any = format!("select exists (select from {twins} n)");
        let what = format!("cannot compare the keys of model `{}`", pair.model.name);
        let found = match attempt(client, value::<bool>(client, &any, &what)).await? {
            Attempt::Done(found) => found,
            // The type of the column refuses the key of a row, which is in nobody's way once it is set aside.
            Attempt::Refused(_) => {
                self.written(client, model, &stage, Write::Keys, refusals).await?;
                value(client, &any, &what).await?
            }
        };
        if !found {
            return Ok(());
        }
        let (why, keep_values) = ((column.name.as_str(), REASON), self.run.aside.keep_values);
        model.taken += model.aside.take_those(client, pair, &stage, &twins, why, keep_values).await?;
        self.set_aside(client, model, refusals).await
    }
}

/// The keys of the staged rows that are to be set aside, in the types of the model, as a table.
fn twins(pair: Pair<'_>, stage: &Stage, gone: Option<&Stage>, is_whole: bool, pipeline: &str) -> Result<String> {
    let keys = |of: &str| {
        let names = pair.model.schema.key.iter().map(|name| format!("{of}.{}", quote_ident(name)));
        names.collect::<Vec<_>>().join(", ")
    };
    let [reads, holds, kept] = ["reads", "holds", "kept"].map(own_column);
    // A partition is made by the column's own collation, which the stage does not have.
    let part = |(position, (_, target)): (usize, (_, &TargetColumn))| {
        let collation = pair.target.key_types.get(&target.name).and_then(|key| key.collation.as_ref());
        let collate = collation.map_or_else(String::new, |collation| format!(" collate {collation}"));
        (own_column(&format!("part {position}")), format!("{}{collate}", staged(target)))
    };
    let parts: Vec<(String, String)> = pair.key().enumerate().map(part).collect();
    let parts_as: Vec<String> = parts.iter().map(|(name, sql)| format!("{sql} as {name}")).collect();
    let part_names: Vec<String> = parts.into_iter().map(|(name, _)| format!("j.{name}")).collect();
    let beside = match pair.model.kind {
        ModelKind::Fact => {
            let comparison = match comparison(false, stage.rows, pair.target.estimated_rows) {
                Comparison::None => Comparison::Lookup,
                comparison => comparison,
            };
            beside_newest(pair, comparison)?.unwrap_or_default()
        }
        _ => format!(" left join {} t on {}", pair.table(), pair.same_key()),
    };
    let stored = pair.key().map(|(_, target)| format!("t.{} is not null", quote_ident(&target.name)));
    let judged = format!(
        "select j.*, first_value(j.{reads}) over (partition by {} \
            order by case when j.{reads} = j.{holds} then 0 else 1 end, j.{reads}::text collate \"C\") as {kept} \
         from (select {}, {} as {reads}, case when {} then {} end as {holds}, {} from {} s{beside}) j",
        part_names.join(", "),
        keys("s"),
        pair.key_json("s"),
        stored.collect::<Vec<_>>().join(" and "),
        pair.key_json("t"),
        parts_as.join(", "),
        stage.table
    );
    // Of a whole state what is not staged is gone.
    if is_whole {
        return Ok(format!("(select {} from ({judged}) w where w.{reads} <> w.{kept})", keys("w")));
    }
    let (leaves, stays) = match gone {
        Some(gone) => (
            format!(
                " left join (select distinct {} as key from {} s) g on g.key = w.{holds}",
                pair.fitting_key_json(),
                gone.table
            ),
            " and g.key is null",
        ),
        None => (String::new(), ""),
    };
    Ok(format!(
        "(select {} from ({judged}) w left join starlift.retracted r on {} and r.key = w.{holds}{leaves} \
          where w.{reads} <> w.{kept} or w.{holds} <> w.{reads} and r.key is null{stays})",
        keys("w"),
        of_model("r", pipeline, &pair.model.name)
    ))
}
