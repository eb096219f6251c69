//! Rows that are copied straight into their empty table: the way of a large first load, which needs no stage.
//!
//! A stage is a second copy of all rows, and what is asked of it are passes over that copy. Here the same is asked before:
//! * **fit**: of each batch, before it is sent ([`super::fits`]);
//! * **keys once, record ids in their order**: of the keys alone, which are read first ([`super::ranks`]);
//! * **foreign keys**: by the server, by set, when they are put back ([`super::set_wise`]).
//!
//! What the server could refuse beyond that (a CHECK, a domain, a trigger, another unique index, an encoding) keeps a table
//! on the plain way. Where a row does not fit, or a foreign key finds no row, what was copied becomes an ordinary stage
//! ([`Direct::retreat`]), and the plain way sets aside what it must: both ways have the same end.
//!
//! All of it happens in the load's transaction, with other writers locked out. A crash leaves the table as it was; numbers of
//! its sequence are skipped, as after any insert that was rolled back.

use std::pin::pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::Schema;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use starlift_core::model::ModelKind;
use starlift_core::{Column, ColumnType, Error, Result, fault};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::fact::is_empty;
use super::fits::Fits;
use super::model::{Ahead, BatchStream, LoadLimits};
use super::pair::Pair;
use super::ranks::{Keys, Ranks};
use super::record_id::{self, Reserved};
use super::reference::Reference;
use super::session::{awake, execute, keep, mark, query, run, take_back};
use super::set_wise::{Parts, Worth, is_many};
use super::stage::{CHUNK, Days, Stage, fill, make, next_rows, project};
use super::target_type::TargetType;
use crate::codec::BatchEncoder;
use crate::ident::quote_idents;
use crate::sqlstate::{classify, classify_of_rows};

const SAVEPOINT: &str = "starlift_direct";

/// A table that takes its rows directly, without what [`Parts`] took off it.
#[derive(Debug)]
pub(crate) struct Direct {
    parts: Parts,
    fits: Fits,
    ranks: Ranks,
    record_ids: Option<RecordIds>,
}

#[derive(Debug)]
struct RecordIds {
    column: Column,
    reserved: Reserved,
}

/// How a copy ended.
pub(crate) enum Copied<'a> {
    /// All rows are in.
    All(Stage),
    /// Rows are in up to one that does not fit, which comes first of the rest.
    UpTo(BatchStream<'a>),
}

impl Direct {
    /// Prepares a table; none, and nothing done, where its rows are better staged.
    pub(crate) async fn prepare(
        client: &Client,
        pair: Pair<'_>,
        dates: &[String],
        ahead: Ahead<'_>,
        limits: LoadLimits,
    ) -> Result<Option<Direct>> {
        let name = &pair.model.name;
        if pair.model.kind == ModelKind::Calendar || !is_many(ahead.rows) || !pair.target.owned {
            return Ok(None);
        }
        if !is_empty(client, pair).await? {
            return Ok(None);
        }
        let plain = |reason: &str| {
            tracing::info!(model = %name, reason, "load: the plain path: rows are staged");
            Ok(None)
        };
        let Some(fits) = Fits::of(pair, dates) else { return plain("a column takes its values in another form") };
        if !refuses_nothing_else(client, pair).await? {
            return plain("the table has checks of its own");
        }
        let parts = Parts::read(client, pair).await?;
        if parts.fixed > 0 {
            return plain("a foreign key cannot be taken off");
        }
        if !query(client, REFERRED_LATER, &[(&pair.target.oid, Type::OID)], "cannot read the catalog").await?.is_empty()
        {
            return plain("it could not be emptied again: a deferred foreign key refers to it");
        }
        let Some(ranks) = awake(client, limits, ranks(pair, ahead)).await? else {
            return plain("the keys are no dense whole numbers");
        };

        mark(client, SAVEPOINT).await?;
        let parts = parts.of(Worth { foreign_keys: true, indexes: true });
        if !parts.take_off(client, pair, true, limits.lock_timeout).await? {
            keep(client, SAVEPOINT).await?;
            return Ok(None);
        }
        let record_ids = match record_ids(client, pair, ranks.rows()).await? {
            // Now that nobody else can write.
            Some(record_ids) if is_empty(client, pair).await? => record_ids,
            _ => {
                take_back(client, SAVEPOINT).await?;
                return plain("the table was written to, or its record ids are no sequence of its own");
            }
        };
        keep(client, SAVEPOINT).await?;
        let (foreign_keys, indexes) = parts.counts();
        tracing::info!(
            model = %name, rows = ranks.rows(), foreign_keys, indexes,
            "load: the bulk path: rows are copied into their table; foreign keys are checked and indexes built by set"
        );
        Ok(Some(Direct { parts, fits, ranks, record_ids }))
    }

    /// Copies the rows, as far as they fit.
    pub(crate) async fn copy<'a>(
        &self,
        client: &Client,
        pair: Pair<'_>,
        mut batches: BatchStream<'a>,
        what: &str,
    ) -> Result<Copied<'a>> {
        let model = &pair.model.schema.columns;
        let columns: Vec<Column> = self.record_ids.iter().map(|ids| ids.column.clone()).chain(model.clone()).collect();
        let names = quote_idents(columns.iter().map(|c| c.name.as_str()));
        let failed =
            |e| classify_of_rows(e, format!("cannot copy {what}")).with_context(COPIED_INTO, pair.model.name.clone());
        let copy = format!("copy {} ({names}) from stdin (format binary)", pair.table());
        let sink = client.copy_in::<_, Bytes>(&copy).await.map_err(failed)?;
        let mut sink = pin!(sink);
        let mut encoder = BatchEncoder::new(&columns)?;
        let schema =
            Arc::new(Schema::new(columns.iter().map(|c| c.column_type.to_field(&c.name, true)).collect::<Vec<_>>()));
        let mut buffer = BytesMut::with_capacity(CHUNK + CHUNK / 4);
        encoder.header(&mut buffer);
        let (mut left, mut days) = (None, Days::new());
        while let Some(batch) = next_rows(&mut batches).await? {
            let batch = project(&batch, model, what)?;
            let Some(arrays) = self.arrays(pair, &batch)? else {
                left = Some(batch);
                break;
            };
            self.fits.widen(&mut days, &batch);
            let batch = RecordBatch::try_new(schema.clone(), arrays)
                .map_err(|e| Error::internal(format!("cannot read {what}")).with_source(e))?;
            encoder.encode(&batch, &mut buffer)?;
            if buffer.len() >= CHUNK {
                sink.send(buffer.split().freeze()).await.map_err(failed)?;
            }
            fault::point("load.mid_stage");
        }
        encoder.trailer(&mut buffer);
        sink.send(buffer.freeze()).await.map_err(failed)?;
        let rows = sink.finish().await.map_err(failed)?;
        Ok(match left {
            None => Copied::All(Stage { table: pair.table(), rows, days: Some(days) }),
            Some(batch) => Copied::UpTo(Box::pin(futures::stream::iter([Ok(batch)]).chain(batches))),
        })
    }

    /// The columns of a batch behind their record ids; none where a row does not fit.
    fn arrays(&self, pair: Pair<'_>, batch: &RecordBatch) -> Result<Option<Vec<ArrayRef>>> {
        if !self.fits.hold(batch) {
            return Ok(None);
        }
        let Some(ids) = &self.record_ids else { return Ok(Some(batch.columns().to_vec())) };
        let key = pair.model.schema.key_positions().first().and_then(|position| batch.columns().get(*position));
        let Some(places) = key.and_then(|key| self.ranks.of(key)) else { return Ok(None) };
        let values = places.into_iter().map(|place| ids.reserved.id(place));
        let array: Option<ArrayRef> = match ids.column.column_type {
            ColumnType::Int2 => narrow::<i16>(values).map(|ids| Arc::new(Int16Array::from(ids)) as ArrayRef),
            ColumnType::Int4 => narrow::<i32>(values).map(|ids| Arc::new(Int32Array::from(ids)) as ArrayRef),
            _ => narrow::<i64>(values).map(|ids| Arc::new(Int64Array::from(ids)) as ArrayRef),
        };
        Ok(array.map(|ids| std::iter::once(ids).chain(batch.columns().iter().cloned()).collect()))
    }

    /// Puts back what was taken off, once all rows are in.
    pub(crate) async fn complete(&self, client: &Client, pair: Pair<'_>) -> Result<()> {
        self.parts.put_back(client, pair).await
    }

    /// Makes a stage of the rows that were copied and of the rest, and leaves the table as it was found.
    pub(crate) async fn retreat(
        self,
        client: &Client,
        pair: Pair<'_>,
        name: &str,
        rest: Option<BatchStream<'_>>,
    ) -> Result<Stage> {
        tracing::info!(model = %pair.model.name, "load: the plain path after all: a row does not fit, or refers to none");
        let what = format!("rows of model `{}`", pair.model.name);
        let (columns, key) = (&pair.model.schema.columns, &pair.model.schema.key);
        let filled = match rest {
            Some(rest) => fill(client, name, columns, key, rest, &what).await?,
            None => None,
        };
        let stage = match filled {
            Some(stage) => stage,
            None => Stage { table: make(client, name, columns, &what).await?, rows: 0, days: None },
        };
        let (names, table) = (pair.column_list(), pair.table());
        let sql = format!("insert into {} ({names}) select {names} from {table}", stage.table);
        let rows = execute(client, &sql, &[], &format!("cannot stage {what}")).await?;
        // A table that others refer to cannot be truncated by itself.
        let referred = query(client, REFERRED, &[(&pair.target.oid, Type::OID)], "cannot read the catalog").await?;
        let clear = if referred.is_empty() { format!("truncate {table}") } else { format!("delete from {table}") };
        run(client, &clear, &format!("cannot empty `{}` again", pair.model.name)).await?;
        if let Some(ids) = &self.record_ids {
            record_id::release(client, &ids.reserved).await?;
        }
        self.parts.put_back(client, pair).await?;
        let stage = Stage { rows: stage.rows + rows, days: None, ..stage };
        stage.analyze(client, key, &what).await?;
        Ok(stage)
    }

    /// Whether a foreign key that was taken off finds out by itself that a reference leads nowhere: one to the same table and key.
    pub(crate) fn checks(&self, pair: Pair<'_>, reference: &Reference<'_>) -> bool {
        let to = reference.to;
        let leads_there = |(table, column): &(String, String)| {
            *table == to.target.name && to.model.schema.key.as_slice() == std::slice::from_ref(column)
        };
        self.parts.counts().0 > 0 && pair.target.foreign_keys.get(reference.column).is_some_and(leads_there)
    }
}

/// The context of an error of the server's during a copy: the model whose table refused it.
pub const COPIED_INTO: &str = "copied_into";

fn narrow<T: TryFrom<i64>>(values: impl Iterator<Item = Option<i64>>) -> Option<Vec<T>> {
    values.map(|value| value.and_then(|value| T::try_from(value).ok())).collect()
}

/// The places of the keys; none where they have none.
async fn ranks(pair: Pair<'_>, ahead: Ahead<'_>) -> Result<Option<Ranks>> {
    let [key] = pair.model.schema.key.as_slice() else { return Ok(None) };
    let mut keys = Keys::default();
    let mut batches = (ahead.keys)();
    while let Some(batch) = next_rows(&mut batches).await? {
        match batch.column_by_name(key) {
            Some(column) if keys.take(column) => {}
            _ => return Ok(None),
        }
        // Files that are near never make us wait.
        tokio::task::yield_now().await;
    }
    Ok(Some(keys.ranks()))
}

/// The record ids of so many rows of a fact; `Some(None)` for a dimension, which has none.
async fn record_ids(client: &Client, pair: Pair<'_>, rows: u64) -> Result<Option<Option<RecordIds>>> {
    if pair.model.kind != ModelKind::Fact {
        return Ok(Some(None));
    }
    let Some(target) = pair.target.record_id() else { return Ok(None) };
    let (column_type, most) = match target.holds {
        TargetType::Int2 => (ColumnType::Int2, i64::from(i16::MAX)),
        TargetType::Int4 => (ColumnType::Int4, i64::from(i32::MAX)),
        TargetType::Int8 => (ColumnType::Int8, i64::MAX),
        _ => return Ok(None),
    };
    let Some(reserved) = record_id::reserve(client, pair, &target.name, rows, most).await? else { return Ok(None) };
    let column = Column { name: target.name.clone(), column_type, nullable: false, declared: None, labels: vec![] };
    Ok(Some(Some(RecordIds { column, reserved })))
}

/// Whether nothing but nulls, sizes and foreign keys can keep a row out of a table.
async fn refuses_nothing_else(client: &Client, pair: Pair<'_>) -> Result<bool> {
    let what = format!("cannot read the catalog of `{}`", pair.model.name);
    // The one unique index is that of the record id, or of the key, which comes once.
    let unique: &[String] = match pair.model.kind {
        ModelKind::Fact => &pair.target.primary_key,
        _ => &pair.model.schema.key,
    };
    let parameters: &[(&(dyn ToSql + Sync), Type)] = &[(&pair.target.oid, Type::OID), (&unique, Type::TEXT_ARRAY)];
    let rows = query(client, REFUSES_NOTHING_ELSE, parameters, &what).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(|e| classify(e, what))
}

// Texts of another encoding are converted on their way in, which can fail.
const REFUSES_NOTHING_ELSE: &str = "\
select c.relkind = 'r' and not c.relrowsecurity and not c.relhasrules and not c.relispartition
   and current_setting('server_encoding') = 'UTF8'
   and not exists (select from pg_inherits h where c.oid in (h.inhrelid, h.inhparent))
   and not exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal)
   and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype in ('c', 'x', 't'))
   and not exists (select from pg_attribute a join pg_type t on t.oid = a.atttypid
                   where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                     and (t.typtype = 'd' or a.attgenerated <> ''))
   and not exists (select from pg_index i where i.indrelid = c.oid and (i.indexprs is not null or i.indpred is not null))
   and not exists (select from pg_index i where i.indrelid = c.oid and (i.indisunique or i.indisexclusion)
                   and $2 <> array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality k (attnum, position)
                                   join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                                   where k.position <= i.indnkeyatts order by k.position))
from pg_class c where c.oid = $1";

const REFERRED: &str =
    "select conname::text from pg_constraint where contype = 'f' and confrelid = $1 and conrelid <> $1 limit 1";

// Rows that are deleted have their checks waiting for the commit, and until then no table with such rows can be altered.
const REFERRED_LATER: &str = "\
select conname::text from pg_constraint where contype = 'f' and confrelid = $1 and conrelid <> $1 and condeferred limit 1";
