//! Texts on their way into a database whose encoding does not have every character, such as LATIN1.
//!
//! The server refuses a whole COPY for one such character, and names no row. So the characters beyond ASCII are asked about before
//! rows are sent, each once in a load. A row with one that the encoding does not have is staged without its text and marked with
//! the column, so that it stands aside under its key. A key with one has nothing to stand aside under: the load stops, unless a
//! later manifest decides about the key; keys that are gone were never there.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{filter_record_batch, nullif};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use starlift_core::{Column, ColumnType, Error, Result, fault};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::check::{Check, KEYS_SHOWN};
use super::isolate::{Attempt, attempt};
use super::model::{BatchStream, LookAhead, ModelTable};
use super::refused::{own_column, own_name};
use super::session::{run, value};
use super::stage::{Stage, fill, make, next_rows, project};
use crate::codec::BatchEncoder;
use crate::ident::{quote_idents, quote_literal};
use crate::sqlstate::classify_of_rows;

/// The column of a stage that names the column whose text could not be sent.
const UNSENT: &str = "unsent";

/// An encoding of a database that does not have every character.
#[derive(Debug)]
pub(crate) struct Encoding {
    name: String,
    /// The characters that were asked about, and whether it has them.
    known: Mutex<BTreeMap<char, bool>>,
}

/// What is done about rows with a text that cannot be sent.
#[derive(Clone, Copy)]
pub(crate) enum Unsent<'a, 'l> {
    /// They are keys that the warehouse cannot have: they are left out.
    LeftOut,
    /// They are marked, to be set aside.
    Marked(&'a ModelTable, &'a LookAhead<'l>),
}

impl Encoding {
    /// That of the database; none where it takes every text.
    pub(crate) async fn read(client: &Client) -> Result<Option<Encoding>> {
        let name: String =
            value(client, "select current_setting('server_encoding')", "cannot read the encoding of the warehouse")
                .await?;
        // SQL_ASCII takes bytes as they are.
        let takes_all = ["UTF8", "SQL_ASCII"].contains(&name.as_str());
        Ok((!takes_all).then(|| Encoding { name, known: Mutex::default() }))
    }

    /// As [`fill`]; says as well whether rows were marked.
    pub(crate) async fn fill(
        encoding: Option<&Encoding>,
        client: &Client,
        (name, columns, key): (&str, &[Column], &[String]),
        batches: BatchStream<'_>,
        what: &str,
        unsent: Unsent<'_, '_>,
    ) -> Result<(Option<Stage>, bool)> {
        match encoding.filter(|_| columns.iter().any(|column| is_text(&column.column_type))) {
            Some(encoding) => encoding.fill_by_batch(client, (name, columns, key), batches, what, unsent).await,
            None => Ok((fill(client, name, columns, key, batches, what).await?, false)),
        }
    }

    async fn fill_by_batch(
        &self,
        client: &Client,
        (name, columns, key): (&str, &[Column], &[String]),
        mut batches: BatchStream<'_>,
        what: &str,
        unsent: Unsent<'_, '_>,
    ) -> Result<(Option<Stage>, bool)> {
        let Some(mut next) = next_rows(&mut batches).await? else { return Ok((None, false)) };
        let table = make(client, name, columns, what).await?;
        let (mut rows, mut has_marks, mut keys) = (0, false, BTreeSet::new());
        loop {
            let batch = project(&next, columns, what)?;
            self.ask(client, &batch).await?;
            let (sendable, marked) = self.split(&batch, columns, key, what)?;
            rows += copy(client, &table, columns, &sendable, what).await?;
            if let (Unsent::Marked(..), Some(marked)) = (unsent, marked) {
                if !std::mem::replace(&mut has_marks, true) {
                    run(client, &format!("alter table {table} add column {} text", own_column(UNSENT)), what).await?;
                }
                let mut columns = columns.to_vec();
                columns.push(marks());
                rows += copy(client, &table, &columns, &marked.rows, what).await?;
                keys.extend(marked.keys);
            }
            fault::point("load.mid_stage");
            match next_rows(&mut batches).await? {
                Some(more) => next = more,
                None => break,
            }
        }
        if let Unsent::Marked(model, look_ahead) = unsent {
            self.refuse_keys(model, look_ahead, keys).await?;
        }
        if rows == 0 {
            run(client, &format!("drop table {table}"), what).await?;
            return Ok((None, false));
        }
        let stage = Stage { table, rows, days: None };
        stage.analyze(client, key, what).await?;
        Ok((Some(stage), has_marks))
    }

    /// The checks that find marked rows.
    pub(crate) fn checks(&self, model: &ModelTable) -> Vec<Check> {
        let texts = model.schema.columns.iter().filter(|column| is_text(&column.column_type));
        let check = |column: &Column| Check {
            column: column.name.clone(),
            condition: format!("s.{} = {}", own_column(UNSENT), quote_literal(&column.name)),
            reason: self.reason(),
            waits_for: None,
            is_of_shape: true,
        };
        texts.map(check).collect()
    }

    fn reason(&self) -> String {
        format!("has a character that the warehouse's encoding {} does not have", self.name)
    }

    /// Asks about the characters of a batch that nobody has asked about yet.
    async fn ask(&self, client: &Client, batch: &RecordBatch) -> Result<()> {
        let mut new = BTreeSet::new();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for array in batch.columns() {
                for_each_text(array, |_, text| {
                    new.extend(text.chars().filter(|c| !c.is_ascii() && !known.contains_key(c)));
                });
            }
        }
        let new: Vec<char> = new.into_iter().collect();
        let mut left = if new.is_empty() { vec![] } else { vec![(0, new.len())] };
        while let Some((first, end)) = left.pop() {
            let Some(part) = new.get(first..end) else { continue };
            let has = matches!(attempt(client, convert(client, part)).await?, Attempt::Done(()));
            if !has && part.len() > 1 {
                let middle = first + part.len() / 2;
                left.extend([(first, middle), (middle, end)]);
                continue;
            }
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(part.iter().map(|c| (*c, has)));
        }
        Ok(())
    }

    /// The rows that can be sent, and the others with nulls in place of their texts.
    fn split(
        &self,
        batch: &RecordBatch,
        columns: &[Column],
        key: &[String],
        what: &str,
    ) -> Result<(RecordBatch, Option<Marked>)> {
        let failed = |e| Error::internal(format!("cannot read {what}")).with_source(e);
        let mut first: Vec<Option<&str>> = vec![None; batch.num_rows()];
        let mut key_rows: BTreeMap<usize, &str> = BTreeMap::new();
        let mut arrays = Vec::with_capacity(columns.len() + 1);
        for (array, column) in batch.columns().iter().zip(columns) {
            let mut lost = vec![false; batch.num_rows()];
            {
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                for_each_text(array, |row, text| {
                    let is_lost = text.chars().any(|c| known.get(&c) == Some(&false));
                    if let Some(lost) = lost.get_mut(row) {
                        *lost |= is_lost;
                    }
                });
            }
            for (row, _) in lost.iter().enumerate().filter(|(_, lost)| **lost) {
                if let Some(first) = first.get_mut(row) {
                    first.get_or_insert(&column.name);
                }
                if key.contains(&column.name) {
                    key_rows.entry(row).or_insert(&column.name);
                }
            }
            arrays.push(match lost.contains(&true) {
                true => nullif(array, &BooleanArray::from(lost)).map_err(failed)?,
                false => array.clone(),
            });
        }
        if first.iter().all(Option::is_none) {
            return Ok((batch.clone(), None));
        }
        let sendable: BooleanArray = first.iter().map(|column| Some(column.is_none())).collect();
        // A row without its key has nothing to stand aside under.
        let marked: BooleanArray =
            first.iter().enumerate().map(|(row, c)| Some(c.is_some() && !key_rows.contains_key(&row))).collect();
        let mut fields: Vec<Arc<Field>> =
            batch.schema().fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
        fields.push(Arc::new(Field::new(UNSENT, DataType::Utf8, true)));
        arrays.push(Arc::new(StringArray::from(first)) as ArrayRef);
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(failed)?;
        let marked = Marked {
            rows: filter_record_batch(&rows, &marked).map_err(failed)?,
            keys: key_rows.into_iter().map(|(row, column)| (key_text(batch, key, row), column.to_string())).collect(),
        };
        Ok((filter_record_batch(batch, &sendable).map_err(failed)?, Some(marked)))
    }

    /// Refuses keys that cannot be sent, but for those that a later manifest has: it decides about them.
    async fn refuse_keys(
        &self,
        model: &ModelTable,
        look_ahead: &LookAhead<'_>,
        mut keys: BTreeSet<(String, String)>,
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut later = look_ahead(&model.name);
        while let Some(batch) = later.next().await {
            let batch = batch?;
            let has: BTreeSet<String> =
                (0..batch.num_rows()).map(|row| key_text(&batch, &model.schema.key, row)).collect();
            keys.retain(|(key, _)| !has.contains(key));
        }
        let Some((_, column)) = keys.first() else { return Ok(()) };
        let shown: Vec<&str> = keys.iter().take(KEYS_SHOWN as usize).map(|(key, _)| key.as_str()).collect();
        Err(Error::data(format!("rows of model `{}` have a key that the warehouse cannot hold", model.name))
            .with_detail(format!("the value of `{column}` {} ({})", self.reason(), shown.join(", ")))
            .with_hint(
                "mend these rows in the source or in the model, or load into a database with the encoding UTF8; if load stops at \
                 the older rows all the same, `starlift load --adopt` brings the newest in",
            )
            .with_context("model", model.name.clone()))
    }
}

/// Rows whose texts cannot be sent.
struct Marked {
    /// Those with a key, and the column of the marks behind.
    rows: RecordBatch,
    /// The keys of the others, with the column.
    keys: Vec<(String, String)>,
}

fn marks() -> Column {
    let name = own_name(UNSENT);
    Column { name, column_type: ColumnType::Text, nullable: true, declared: None, labels: vec![] }
}

async fn convert(client: &Client, characters: &[char]) -> Result<()> {
    let what = "cannot ask about the characters of the warehouse's encoding";
    let bytes = characters.iter().collect::<String>().into_bytes();
    let sql = "select octet_length(convert($1, 'UTF8', current_setting('server_encoding')))";
    client.query_typed(sql, &[(&bytes, Type::BYTEA)]).await.map(|_| ()).map_err(|e| classify_of_rows(e, what))
}

async fn copy(client: &Client, table: &str, columns: &[Column], batch: &RecordBatch, what: &str) -> Result<u64> {
    if batch.num_rows() == 0 {
        return Ok(0);
    }
    let failed = |e| classify_of_rows(e, format!("cannot stage {what}"));
    let names = quote_idents(columns.iter().map(|c| c.name.as_str()));
    let copy = format!("copy {table} ({names}) from stdin (format binary)");
    let mut sink = pin!(client.copy_in::<_, Bytes>(&copy).await.map_err(failed)?);
    let mut encoder = BatchEncoder::new(columns)?;
    let mut buffer = BytesMut::new();
    encoder.header(&mut buffer);
    encoder.encode(batch, &mut buffer)?;
    encoder.trailer(&mut buffer);
    sink.send(buffer.freeze()).await.map_err(failed)?;
    sink.finish().await.map_err(failed)
}

fn is_text(column_type: &ColumnType) -> bool {
    match column_type {
        ColumnType::Text | ColumnType::Json | ColumnType::Jsonb => true,
        ColumnType::Array(element) => is_text(element),
        _ => false,
    }
}

/// The texts of a column, and of the elements of an array, with their row.
fn for_each_text(array: &ArrayRef, mut look: impl FnMut(usize, &str)) {
    if let Some(texts) = array.as_string_opt::<i32>() {
        for (row, text) in texts.iter().enumerate() {
            if let Some(text) = text {
                look(row, text);
            }
        }
    } else if let Some(lists) = array.as_list_opt::<i32>() {
        for (row, list) in lists.iter().enumerate() {
            let Some(list) = list else { continue };
            let Some(texts) = list.as_string_opt::<i32>() else { return };
            texts.iter().flatten().for_each(|text| look(row, text));
        }
    }
}

/// The key of a row, as people read it.
fn key_text(batch: &RecordBatch, key: &[String], row: usize) -> String {
    let text = |name: &String| {
        let value = batch.column_by_name(name).and_then(|array| array_value_to_string(array, row).ok());
        format!("{name}={}", value.unwrap_or_default())
    };
    let parts: Vec<String> = key.iter().map(text).collect();
    match parts.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        Column { name: name.into(), ..marks() }
    }

    #[test]
    fn rows_with_a_character_that_is_missing_are_marked_by_their_first_column_or_named_by_their_key() {
        let encoding =
            Encoding { name: "LATIN1".into(), known: Mutex::new(BTreeMap::from([('é', true), ('ż', false)])) };
        let columns = [column("id"), column("a"), column("b")];
        let texts = |texts: &[Option<&str>]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let schema = Schema::new(columns.iter().map(|c| Field::new(&c.name, DataType::Utf8, true)).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(
            Arc::new(schema),
            vec![
                texts(&[Some("1"), Some("2"), Some("ż3"), Some("é4")]),
                texts(&[Some("é"), Some("ż"), Some("a"), None]),
                texts(&[None, Some("bż"), Some("b"), Some("ż")]),
            ],
        )
        .unwrap();
        let (sendable, marked) = encoding.split(&batch, &columns, &["id".into()], "rows").unwrap();
        let marked = marked.unwrap();
        assert_eq!(sendable.column(0).as_ref(), texts(&[Some("1")]).as_ref());
        assert_eq!(marked.rows.column(0).as_ref(), texts(&[Some("2"), Some("é4")]).as_ref());
        assert_eq!(marked.rows.column(1).as_ref(), texts(&[None, None]).as_ref());
        assert_eq!(marked.rows.column(2).as_ref(), texts(&[None, None]).as_ref());
        assert_eq!(marked.rows.column(3).as_ref(), texts(&[Some("a"), Some("b")]).as_ref());
        assert_eq!(marked.keys, [("id=ż3".to_string(), "id".to_string())]);
        let (all, none) = encoding.split(&sendable, &columns, &["id".into()], "rows").unwrap();
        assert!(all == sendable && none.is_none());
    }
}
