//! Setting rows aside: what the warehouse cannot hold leaves the stage, becomes an entry of `starlift.refused`, and hides what
//! the warehouse held of its key.
//!
//! All of it happens in the load's transaction. A row that stood aside before is not counted again, one that only waits for
//! another is not counted at all, and one that a later manifest replaces or retracts is passed over: that manifest decides.

use starlift_core::model::ModelKind;
use starlift_core::refused::{RefusedGroup, RefusedRows, waits_for};
use starlift_core::{Column, Error, Result};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::check::{Check, KEYS_SHOWN, any_of};
use super::encoding::{Encoding, Unsent};
use super::model::{LoadRun, LookAhead};
use super::pair::Pair;
use super::refused::{of_model, own_column};
use super::session::{count, execute, query, run, seq_to_sql};
use super::skipped::SKIPPED;
use super::stage::Stage;
use crate::ident::{quote_ident, quote_literal};
use crate::sqlstate::classify;

/// Where the keys of later manifests are for the moment.
const LATER: &str = "starlift_later";

/// The rows of one model that are set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    /// The temporary table: the model's columns, then ours.
    table: String,
    /// The temporary table of keys that had no entry before.
    newly: String,
    has_rows: bool,
    /// Whether `newly` is there.
    pub(crate) has_newly: bool,
    /// What the warehouse's columns are like to this model: see [`shape`](super::check::shape).
    shape: String,
}

impl Aside {
    /// Of the model at a position of the load; nothing is made before a row is set aside.
    pub(crate) fn new(position: usize, shape: String) -> Aside {
        Aside {
            table: format!("pg_temp.starlift_aside_{position}"),
            newly: format!("pg_temp.starlift_newly_{position}"),
            has_rows: false,
            has_newly: false,
            shape,
        }
    }

    /// The keys of a model that no entry had before this load.
    pub(crate) fn newly(&self) -> &str {
        &self.newly
    }

    async fn make(&mut self, client: &Client, stage: &Stage) -> Result<()> {
        if self.has_rows {
            return Ok(());
        }
        let ours = ["column", "reason", "value", "waits", "shape"].map(|name| format!("{} text", own_column(name)));
        let sql =
            format!("create temp table {} (like {}, {}) on commit drop", self.table, stage.table, ours.join(", "));
        run(client, &sql, "cannot set rows aside in the warehouse").await?;
        self.has_rows = true;
        Ok(())
    }

    async fn make_newly(&mut self, client: &Client) -> Result<()> {
        if !std::mem::replace(&mut self.has_newly, true) {
            let sql = format!("create temp table {} (key jsonb) on commit drop", self.newly);
            run(client, &sql, "cannot set rows aside in the warehouse").await?;
        }
        Ok(())
    }

    /// Moves the staged rows that meet one of the conditions, each for the first that it meets; returns how many.
    pub(crate) async fn take(
        &mut self,
        client: &Client,
        pair: Pair<'_>,
        stage: &Stage,
        checks: &[Check],
        keep_values: bool,
    ) -> Result<u64> {
        self.make(client, stage).await?;
        let (mut conditions, mut said, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (number, check) in checks.iter().enumerate() {
            conditions.push(format!("when {} then {number}", check.condition));
            let (reason, waits) = match &check.waits_for {
                Some(target) => (waits_for(target), quote_literal(target)),
                None => (format!("it {}", check.reason), "null".into()),
            };
            let shape = if check.is_of_shape { quote_literal(&self.shape) } else { "null".into() };
            said.push(format!(
                "({number}, {}, {}, {waits}::text, {shape}::text)",
                quote_literal(&check.column),
                quote_literal(&reason)
            ));
            if keep_values && check.waits_for.is_none() {
                values.push(format!("when {number} then s.{}::text", quote_ident(&check.column)));
            }
        }
        let value = match values.is_empty() {
            true => "null".into(),
            false => format!("case c.number {} end", values.join(" ")),
        };
        let sql = format!(
            "with moved as (delete from {stage} s where {any} returning s.*) \
             insert into {aside} select s.*, v.a, v.b, {value}, v.c, v.d from moved s \
             cross join lateral (select case {cases} end as number) c \
             join (values {said}) v (number, a, b, c, d) on v.number = c.number",
            stage = stage.table,
            any = any_of(checks),
            aside = self.table,
            cases = conditions.join(" "),
            said = said.join(", ")
        );
        execute(client, &sql, &[], &format!("cannot set rows of model `{}` aside", pair.model.name)).await
    }

    /// Moves the staged rows that have the key of a row `n` of `from`, for a column and reason that the server gave. Column
    /// `?` has no value.
    pub(crate) async fn take_those(
        &mut self,
        client: &Client,
        pair: Pair<'_>,
        stage: &Stage,
        from: &str,
        (column, reason): (&str, &str),
        keep_values: bool,
    ) -> Result<u64> {
        self.make(client, stage).await?;
        let value = match pair.model.schema.column(column).filter(|_| keep_values) {
            Some(column) => format!("s.{}::text", quote_ident(&column.name)),
            None => "null".into(),
        };
        let sql = format!(
            "with moved as (delete from {stage} s using {from} n where {same} returning s.*) \
             insert into {aside} select s.*, $1, $2, {value}, null, null from moved s",
            stage = stage.table,
            same = same_staged_key(pair, "n"),
            aside = self.table
        );
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&column, Type::TEXT), (&reason, Type::TEXT)];
        execute(client, &sql, parameters, &format!("cannot set rows of model `{}` aside", pair.model.name)).await
    }

    /// Forgets rows whose key a later manifest has: it decides about them. Returns how many.
    pub(crate) async fn pass_over(
        &self,
        client: &Client,
        pair: Pair<'_>,
        look_ahead: &LookAhead<'_>,
        encoding: Option<&Encoding>,
    ) -> Result<u64> {
        let name = &pair.model.name;
        if !self.has_rows {
            return Ok(0);
        }
        let key: Vec<Column> = pair.model.schema.key_columns().cloned().collect();
        let what = format!("later keys of model `{name}`");
        let stream = look_ahead(name);
        let table = (LATER, key.as_slice(), pair.model.schema.key.as_slice());
        let (keys, _) = Encoding::fill(encoding, client, table, stream, &what, Unsent::LeftOut).await?;
        let Some(keys) = keys else { return Ok(0) };
        let sql = format!(
            "delete from {} s where exists (select from {} n where {})",
            self.table,
            keys.table,
            same_staged_key(pair, "n")
        );
        let passed_over = execute(client, &sql, &[], &format!("cannot pass over rows of model `{name}`")).await?;
        // The next model with such rows uses the same name.
        execute(client, &format!("drop table {}", keys.table), &[], "cannot drop a temporary table").await?;
        if passed_over > 0 {
            tracing::warn!(
                model = %name,
                rows = passed_over,
                "rows that do not fit the warehouse were passed over: a later manifest has their keys"
            );
        }
        Ok(passed_over)
    }

    /// The rows that no entry counted before, by column and reason.
    pub(crate) async fn new_rows(&self, client: &Client, pair: Pair<'_>, pipeline: &str) -> Result<RefusedRows> {
        let mut new = RefusedRows::default();
        if !self.has_rows {
            return Ok(new);
        }
        // Without statistics the entries are looked through for every row.
        run(client, &format!("analyze {}", self.table), "cannot analyze rows that are set aside").await?;
        let (column, reason) = (own_column("column"), own_column("reason"));
        let key: Vec<String> = pair.model.schema.key.iter().map(|k| format!("s.{}", quote_ident(k))).collect();
        let sql = format!(
            "select g.{column}, g.{reason}, g.rows, array_agg(g.key order by g.number) from \
             (select s.{column}, s.{reason}, {text} as key, count(*) over (partition by s.{column}, s.{reason}) as rows, \
                     row_number() over (partition by s.{column}, s.{reason} order by {key}) as number \
              from {aside} s where s.{waits} is null and not exists (select from starlift.refused r where {of_model} \
                     and r.key = {entry} and r.waits_for is null)) g \
             where g.number <= {KEYS_SHOWN} group by 1, 2, 3",
            text = pair.key_text("s"),
            key = key.join(", "),
            aside = self.table,
            waits = own_column("waits"),
            of_model = of_model("r", pipeline, &pair.model.name),
            entry = pair.entry_key("s"),
        );
        let what = format!("cannot count the refused rows of model `{}`", pair.model.name);
        for row in query(client, &sql, &[], &what).await? {
            let read = |e| classify(e, what.clone());
            new.add(RefusedGroup {
                column: row.try_get(0).map_err(read)?,
                reason: row.try_get(1).map_err(read)?,
                rows: count(row.try_get(2).map_err(read)?),
                examples: row.try_get(3).map_err(read)?,
            });
        }
        Ok(new)
    }

    /// Makes entries of the rows, and retracts the rows that the table holds of their keys; returns how many keys were
    /// newly retracted.
    pub(crate) async fn record(&mut self, client: &Client, pair: Pair<'_>, load: &LoadRun) -> Result<u64> {
        if !self.has_rows {
            return Ok(0);
        }
        let name = &pair.model.name;
        let what = format!("cannot record the refused rows of model `{name}`");
        let (of_model, key) = (of_model("r", &load.pipeline, name), pair.entry_key("s"));
        self.make_newly(client).await?;
        let newly = format!(
            "insert into {} select {key} from {} s \
             where not exists (select from starlift.refused r where {of_model} and r.key = {key})",
            self.newly, self.table
        );
        execute(client, &newly, &[], &what).await?;
        let ours = ["column", "reason", "value", "waits", "shape"].map(|name| format!("s.{}", own_column(name)));
        let entries = format!(
            "insert into starlift.refused as r (pipeline, model, key, column_name, reason, value, waits_for, shape, run_id, seq) \
             select $1, $2, {key}, {}, $3, $4 from {} s \
             on conflict (pipeline, model, key) do update set column_name = excluded.column_name, \
                 reason = excluded.reason, value = excluded.value, waits_for = excluded.waits_for, \
                 shape = excluded.shape, run_id = excluded.run_id, seq = excluded.seq, refused_at = excluded.refused_at \
             where (r.column_name, r.reason, r.value, r.waits_for, r.shape) \
                 is distinct from (excluded.column_name, excluded.reason, excluded.value, excluded.waits_for, excluded.shape)",
            ours.join(", "),
            self.table
        );
        let seq = seq_to_sql(load.seq)?;
        let parameters: &[(&(dyn ToSql + Sync), Type)] =
            &[(&load.pipeline, Type::TEXT), (name, Type::TEXT), (&load.run_id, Type::TEXT), (&seq, Type::INT8)];
        execute(client, &entries, parameters, &what).await?;

        // CASE keeps the order: the key of a row whose key does not fit cannot be made, and was never loaded. Nor is a row that only
        // the column takes for the same any of its business.
        let stored = format!(
            "case when {} then exists (select from {} t where {} and {}) end",
            pair.key_fits(),
            pair.table(),
            pair.same_key(),
            pair.reads_the_same()
        );
        let retract = format!(
            "insert into starlift.retracted (pipeline, model, key, seq) \
             select $1, $2, {}, $3 from {} s where {stored} on conflict do nothing",
            pair.fitting_key_json(),
            self.table
        );
        let parameters: &[(&(dyn ToSql + Sync), Type)] =
            &[(&load.pipeline, Type::TEXT), (name, Type::TEXT), (&seq, Type::INT8)];
        execute(client, &retract, parameters, &what).await
    }

    /// The condition that none of the rows has the key of an entry `r`.
    pub(crate) fn lacks_entry(&self, pair: Pair<'_>) -> String {
        match self.has_rows {
            true => format!("not exists (select from {} s where {} = r.key)", self.table, pair.entry_key("s")),
            false => "true".into(),
        }
    }

    /// Makes entries of the model's current rows that refer to rows of `target` which stand aside since this load, and
    /// retracts them; returns how many. `gone` are keys that the manifest retracts anyway.
    pub(crate) async fn pull(
        &mut self,
        client: &Client,
        pair: Pair<'_>,
        (column, target, newly): (&str, &str, &str),
        entry: &str,
        gone: Option<&Stage>,
        load: &LoadRun,
    ) -> Result<u64> {
        let name = &pair.model.name;
        let what = format!("cannot set rows of model `{name}` aside with those of `{target}`");
        self.make_newly(client).await?;
        let not_gone = match gone {
            Some(gone) => {
                let key = pair.entry_key("s");
                format!(" and not exists (select from {} s where {key} = {})", gone.table, pair.stored_entry_key("v"))
            }
            None => String::new(),
        };
        let sql = format!(
            "with pulled as (select {stored} as entry, {hidden} as hidden from ({current}) v \
                             where exists (select from {newly} n where n.key = {entry}){not_gone}), \
             hidden as (insert into starlift.retracted (pipeline, model, key, seq) \
                        select $1, $2, p.hidden, $6 from pulled p on conflict do nothing), \
             entered as (insert into starlift.refused (pipeline, model, key, column_name, reason, waits_for, run_id, seq) \
                         select $1, $2, p.entry, $3, $4, $5, $7, $6 from pulled p on conflict do nothing) \
             insert into {ours} select p.entry from pulled p",
            stored = pair.stored_entry_key("v"),
            hidden = pair.key_json("v"),
            current = super::view::definition(pair, &load.pipeline),
            ours = self.newly
        );
        let (reason, seq) = (waits_for(target), seq_to_sql(load.seq)?);
        let parameters: &[(&(dyn ToSql + Sync), Type)] = &[
            (&load.pipeline, Type::TEXT),
            (name, Type::TEXT),
            (&column, Type::TEXT),
            (&reason, Type::TEXT),
            (&target, Type::TEXT),
            (&seq, Type::INT8),
            (&load.run_id, Type::TEXT),
        ];
        execute(client, &sql, parameters, &what).await
    }
}

/// The condition that the row `s` of the stage has the key of `other`, which has the model's types too.
pub(crate) fn same_staged_key(pair: Pair<'_>, other: &str) -> String {
    let equal = |name: &String| format!("s.{0} = {other}.{0}", quote_ident(name));
    pair.model.schema.key.iter().map(equal).collect::<Vec<_>>().join(" and ")
}

/// Whether a model's rows may be set aside at all: a calendar never loses a day.
pub(crate) fn may_stand_aside(pair: Pair<'_>) -> bool {
    pair.model.kind != ModelKind::Calendar
}

/// The rows are more than may be set aside.
pub(crate) fn too_many(pair: Pair<'_>, new: &RefusedRows) -> Error {
    let name = &pair.model.name;
    let declared = |column: &str| match pair.target.column(column) {
        Some(target) => format!("the value of `{column}` ({})", target.declared),
        None => "the row".to_string(),
    };
    let line = |group: &RefusedGroup| {
        let rows = match group.rows {
            1 => "1 row:".to_string(),
            rows => format!("{rows} rows, such as"),
        };
        let said = match group.reason.strip_prefix("it ") {
            Some(said) => format!("{} {said}", declared(&group.column)),
            None => group.reason.clone(),
        };
        format!("{said} ({rows} {})", group.examples.join(", "))
    };
    let detail = new.groups().map(line).collect::<Vec<_>>().join("; ");
    let accept = "or go on without them: `starlift quarantine accept`";
    let error = if new.groups().all(|group| group.reason.starts_with("it has no row in ")) {
        Error::data(format!("rows of model `{name}` refer to rows that the warehouse does not have")).with_hint(
            format!(
                "`starlift load --adopt` brings in the newest star state, where the missing rows may have arrived; \
             else mend the rows in the source and run again; {accept}"
            ),
        )
    } else {
        let mend = match new.groups().all(|group| group.reason == SKIPPED) {
            true => "let the trigger return these rows, or leave them out of the model,",
            false => "mend these rows in the source or in the model",
        };
        let these = if new.rows() == 1 { "1 row".to_string() } else { format!("{} rows", new.rows()) };
        let error = Error::data(format!("{these} of model `{name}` cannot be loaded into its table without loss"));
        let breaks = |name: &str| format!("it breaks the unique constraint `{name}`;");
        let unique = pair.target.uniques.iter().find(|unique| {
            let is_broken = new.groups().any(|group| group.reason.starts_with(&breaks(&unique.name)));
            is_broken && pair.target.unique(pair.model, &unique.name).is_some()
        });
        error.with_hint(match unique {
            // Nothing may be wrong with them in the source.
            Some(unique) => format!(
                "`{}` is no constraint of the key: {}; or mend these rows in the source and run again; nothing of this manifest \
                 was loaded; {accept}",
                unique.name,
                pair.target.mend_unique(pair.model, unique)
            ),
            None => format!("{mend} and run again; nothing of this manifest was loaded; {accept}"),
        })
    };
    error.with_detail(detail).with_context("model", name.clone())
}
