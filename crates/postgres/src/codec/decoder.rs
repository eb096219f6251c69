//! A COPY BINARY stream, in chunks of any size, to Arrow batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::filter;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{Buf, BytesMut};
use starlift_core::event::printable;
use starlift_core::schema::{REFUSED_COLUMN, REFUSED_REASON, REFUSED_VALUE};
use starlift_core::{Column, ColumnType, Error, Result};

use super::builder::ColumnBuilder;
use super::refusal::{NULL_IN_NOT_NULL, Refusal, Refusals, TOO_LARGE};
use super::{HEADER, NULL, Reject};

/// The largest value that is taken unless [`RowDecoder::with_max_value_bytes`] says otherwise: 64 MiB.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// Bytes of a refused value that are kept.
const VALUE_KEPT_BYTES: usize = 1_000;

/// Flag bit of the header: rows carry oids, which no server of today sends; the bits above it are critical as well.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Decodes the rows of one table.
///
/// Feed chunks with [`push`](Self::push), take batches whenever [`rows_buffered`](Self::rows_buffered) or
/// [`bytes_buffered`](Self::bytes_buffered) is enough, and call [`finish`](Self::finish) at the end of the stream. A row
/// with a value that its column cannot hold is in no batch, but in [`refusals`](Self::refusals).
pub struct RowDecoder {
    columns: Vec<Column>,
    key: Vec<usize>,
    schema: SchemaRef,
    builders: Vec<ColumnBuilder>,
    max_value_bytes: usize,
    state: State,
    /// The beginning of a row whose end has not come yet.
    pending: BytesMut,
    rows: usize,
    bytes: usize,
    /// Rows of the batch that are to be left out: their position, and why.
    left_out: Vec<LeftOut>,
    /// The rows that were left out of the last batch.
    refused: Option<RecordBatch>,
    keep_values: bool,
    rows_read: u64,
    refusals: Refusals,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Done,
}

/// A refused row: its position in the batch, with the first column that refused it.
#[derive(Debug)]
struct LeftOut {
    position: usize,
    column: usize,
    reason: &'static str,
    value: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    start: usize,
    /// None for a null.
    length: Option<usize>,
}

impl std::fmt::Debug for RowDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowDecoder")
            .field("state", &self.state)
            .field("rows_read", &self.rows_read)
            .finish_non_exhaustive()
    }
}

impl RowDecoder {
    /// A decoder for these columns in their order; `key` names the columns that identify a row in refusals.
    pub fn new(columns: &[Column], key: &[String]) -> Result<RowDecoder> {
        let fields: Vec<_> = columns.iter().map(|c| c.column_type.to_field(&c.name, c.nullable)).collect();
        Ok(RowDecoder {
            columns: columns.to_vec(),
            key: key.iter().filter_map(|name| columns.iter().position(|c| c.name == *name)).collect(),
            schema: Arc::new(Schema::new(fields)),
            builders: builders(columns, 0)?,
            max_value_bytes: MAX_VALUE_BYTES,
            state: State::Header,
            pending: BytesMut::new(),
            rows: 0,
            bytes: 0,
            left_out: Vec::new(),
            refused: None,
            keep_values: false,
            rows_read: 0,
            refusals: Refusals::default(),
        })
    }

    /// Sets the largest value that is taken; a larger one is refused.
    pub fn with_max_value_bytes(mut self, bytes: usize) -> RowDecoder {
        self.max_value_bytes = bytes;
        self
    }

    /// Keeps the refused values of refused rows.
    pub fn with_values(mut self, keep: bool) -> RowDecoder {
        self.keep_values = keep;
        self
    }

    /// The Arrow schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// Data where the stream is damaged; the decoder is of no use afterwards.
    pub fn push(&mut self, chunk: &[u8]) -> Result<()> {
        if self.pending.is_empty() {
            let used = self.consume(chunk)?;
            self.pending.extend_from_slice(chunk.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(chunk);
        let used = self.consume(&pending)?;
        pending.advance(used);
        self.pending = pending;
        Ok(())
    }

    /// Rows since the last batch, refused ones included.
    pub fn rows_pending(&self) -> usize {
        self.rows
    }

    /// Rows that [`take_batch`](Self::take_batch) would give.
    pub fn rows_buffered(&self) -> usize {
        self.rows - self.left_out.len()
    }

    /// Bytes of the stream since the last batch.
    pub fn bytes_buffered(&self) -> usize {
        self.bytes
    }

    /// Rows of the stream so far, refused ones included.
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// What was refused so far.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Takes the refusals out.
    pub fn take_refusals(&mut self) -> Refusals {
        std::mem::take(&mut self.refusals)
    }

    /// The refused rows since the last batch that was taken, with the columns of
    /// [`TableSchema::refused_to_arrow`](starlift_core::TableSchema::refused_to_arrow); none where there are none. A key that
    /// was itself refused is null.
    pub fn take_refused(&mut self) -> Option<RecordBatch> {
        self.refused.take()
    }

    /// The rows since the last batch; none where none came, and an empty batch where all that came were refused.
    pub fn take_batch(&mut self) -> Result<Option<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        let left_out = std::mem::take(&mut self.left_out);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let fresh = builders(&self.columns, rows)?;
        let mut full = std::mem::replace(&mut self.builders, fresh);
        let broken = |e| Error::internal("decoded rows are no Arrow batch").with_source(e);
        let mut arrays: Vec<ArrayRef> =
            full.iter_mut().map(ColumnBuilder::finish).collect::<Result<_, _>>().map_err(broken)?;
        let kept = rows - left_out.len();
        if !left_out.is_empty() {
            let mut mask = vec![true; rows];
            for row in &left_out {
                if let Some(keep) = mask.get_mut(row.position) {
                    *keep = false;
                }
            }
            self.refused = Some(self.set_aside(&arrays, &mask, &left_out).map_err(broken)?);
            let mask = BooleanArray::from(mask);
            arrays = arrays.iter().map(|a| filter(a, &mask)).collect::<Result<_, _>>().map_err(broken)?;
        }
        // The number of rows is said aloud for tables without columns.
        let options = RecordBatchOptions::new().with_row_count(Some(kept));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(broken).map(Some)
    }

    /// The rows that are left out, as entries of their keys.
    fn set_aside(
        &self,
        arrays: &[ArrayRef],
        kept: &[bool],
        left_out: &[LeftOut],
    ) -> std::result::Result<RecordBatch, ArrowError> {
        let mask = BooleanArray::from(kept.iter().map(|kept| !kept).collect::<Vec<_>>());
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (field, array) in self.key.iter().filter_map(|p| Some((self.schema.fields().get(*p)?, arrays.get(*p)?))) {
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            columns.push(filter(array, &mask)?);
        }
        let name = |row: &LeftOut| self.columns.get(row.column).map_or("", |column| column.name.as_str());
        let about: [(&str, StringArray); 3] = [
            (REFUSED_COLUMN, left_out.iter().map(|row| Some(name(row))).collect()),
            (REFUSED_REASON, left_out.iter().map(|row| Some(row.reason)).collect()),
            (REFUSED_VALUE, left_out.iter().map(|row| row.value.as_deref()).collect()),
        ];
        for (name, texts) in about {
            fields.push(Arc::new(ColumnType::Text.to_field(name, true)));
            columns.push(Arc::new(texts));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    /// The last rows, after the stream's end.
    ///
    /// # Errors
    /// Data where the stream ended before its trailer: rows may be missing, so that nothing of it may be used.
    pub fn finish(&mut self) -> Result<Option<RecordBatch>> {
        if self.state != State::Done || !self.pending.is_empty() {
            return Err(damaged("it ended before its trailer".into()));
        }
        self.take_batch()
    }

    /// Takes whole rows from the front and returns how many bytes they were.
    fn consume(&mut self, data: &[u8]) -> Result<usize> {
        let mut used = 0;
        loop {
            let rest = data.get(used..).unwrap_or_default();
            let taken = match self.state {
                State::Header => self.header(rest)?,
                State::Rows => self.row(rest)?,
                State::Done if rest.is_empty() => None,
                State::Done => return Err(damaged("there are bytes after its trailer".into())),
            };
            match taken {
                Some(bytes) => used += bytes,
                None => return Ok(used),
            }
        }
    }

    fn header(&mut self, data: &[u8]) -> Result<Option<usize>> {
        let (signature, _) = HEADER.split_at(11);
        if !signature.starts_with(data.get(..11).unwrap_or(data)) {
            return Err(damaged("it does not start with the signature of COPY BINARY".into()));
        }
        let Some((fixed, rest)) = data.split_first_chunk::<19>() else { return Ok(None) };
        let [.., f0, f1, f2, f3, e0, e1, e2, e3] = *fixed;
        if u32::from_be_bytes([f0, f1, f2, f3]) & CRITICAL_FLAGS != 0 {
            return Err(damaged("it has flags that are not known".into()));
        }
        let extension = i32::from_be_bytes([e0, e1, e2, e3]);
        // No server sends one; a small one may be skipped, as the manual says.
        let extension = usize::try_from(extension).ok().filter(|length| *length <= 65_536);
        let extension = extension.ok_or_else(|| damaged("its header has an impossible length".into()))?;
        if rest.len() < extension {
            return Ok(None);
        }
        self.state = State::Rows;
        Ok(Some(fixed.len() + extension))
    }

    fn row(&mut self, data: &[u8]) -> Result<Option<usize>> {
        let Some((count, _)) = data.split_first_chunk::<2>() else { return Ok(None) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.state = State::Done;
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.columns.len()) {
            let row = self.rows_read + 1;
            return Err(damaged(format!(
                "row {row} has {count} values, and {} columns were asked for",
                self.columns.len()
            )));
        }
        let Some(end) = self.end_of_row(data)? else { return Ok(None) };
        self.append_row(data.get(..end).unwrap_or_default())?;
        self.rows += 1;
        self.bytes += end;
        self.rows_read += 1;
        Ok(Some(end))
    }

    /// Where a row ends; none while it is incomplete.
    fn end_of_row(&self, data: &[u8]) -> Result<Option<usize>> {
        let mut rest = data.get(2..).unwrap_or_default();
        for column in &self.columns {
            let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            let length = match i32::from_be_bytes(*length) {
                NULL => 0,
                length => usize::try_from(length).map_err(|_| malformed(&column.name, self.rows_read + 1))?,
            };
            let Some(behind) = behind.get(length..) else { return Ok(None) };
            rest = behind;
        }
        Ok(Some(data.len() - rest.len()))
    }

    /// Appends a whole row. Values go from the stream into their builders; what is refused takes the long way.
    fn append_row(&mut self, data: &[u8]) -> Result<()> {
        let mut refused: Option<LeftOut> = None;
        let mut rest = data.get(2..).unwrap_or_default();
        for index in 0..self.builders.len() {
            let (Some(builder), Some((length, behind))) = (self.builders.get_mut(index), rest.split_first_chunk::<4>())
            else {
                return Err(Error::internal("a row ended before its end"));
            };
            // A null's length is beyond any limit.
            let length = i32::from_be_bytes(*length) as u32 as usize;
            let reason = match behind.split_at_checked(length).filter(|_| length <= self.max_value_bytes) {
                Some((value, behind)) => {
                    rest = behind;
                    match builder.append(value) {
                        Ok(()) => continue,
                        Err(Reject::Refused(reason)) => {
                            builder.append_null();
                            reason
                        }
                        Err(reject) => return Err(self.broken(index, reject)),
                    }
                }
                None if length == NULL as u32 as usize => {
                    rest = behind;
                    builder.append_null();
                    match self.columns.get(index) {
                        Some(column) if !column.nullable => NULL_IN_NOT_NULL,
                        _ => continue,
                    }
                }
                None => {
                    rest = behind.get(length..).unwrap_or_default();
                    builder.append_null();
                    TOO_LARGE
                }
            };
            self.refuse(index, reason, data, &mut refused);
        }
        if let Some(row) = refused {
            self.refusals.count_row();
            self.left_out.push(row);
        }
        Ok(())
    }

    /// Takes note of a value that its column cannot hold.
    #[cold]
    fn refuse(&mut self, index: usize, reason: &'static str, data: &[u8], refused: &mut Option<LeftOut>) {
        let fields = fields(data);
        let value = || {
            let (column, field) = (self.columns.get(index)?, fields.get(index)?);
            self.keep_values.then(|| value_text(column, field, data)).flatten()
        };
        refused.get_or_insert_with(|| LeftOut { position: self.rows, column: index, reason, value: value() });
        let name = self.columns.get(index).map_or("", |c| c.name.as_str());
        let row_in_stream = self.rows_read + 1;
        let (columns, key) = (&self.columns, &self.key);
        self.refusals.add(name, reason, || Refusal { row_in_stream, key: key_text(columns, key, &fields, data) });
    }

    /// Why a stream cannot be read any further.
    #[cold]
    fn broken(&self, index: usize, reject: Reject) -> Error {
        let name = self.columns.get(index).map_or("", |c| c.name.as_str());
        match reject {
            Reject::BatchFull => {
                Error::internal("a batch has more than 2 GiB in one column").with_context("column", name)
            }
            _ => malformed(name, self.rows_read + 1),
        }
    }
}

/// Where the values of a whole row are.
fn fields(data: &[u8]) -> Vec<Field> {
    let mut found = Vec::new();
    let mut start = 2;
    while let Some(length) = data.get(start..).and_then(|rest| rest.first_chunk::<4>()) {
        start += 4;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        found.push(Field { start, length });
        start += length.unwrap_or(0);
    }
    found
}

fn builders(columns: &[Column], rows: usize) -> Result<Vec<ColumnBuilder>> {
    columns.iter().map(|c| ColumnBuilder::new(&c.column_type, rows)).collect()
}

/// A refused value as text: a number as PostgreSQL writes it, a text with its bad bytes escaped, else its bytes.
fn value_text(column: &Column, field: &Field, data: &[u8]) -> Option<String> {
    let bytes = data.get(field.start..field.start + field.length?)?;
    let bytes = bytes.get(..VALUE_KEPT_BYTES).unwrap_or(bytes);
    Some(match column.column_type {
        ColumnType::Numeric { .. } => match super::numeric::text(bytes) {
            Some(text) => text,
            None => hex(bytes),
        },
        ColumnType::Text | ColumnType::Json | ColumnType::Jsonb | ColumnType::Uuid => bytes.escape_ascii().to_string(),
        _ => hex(bytes),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_string(), |text, byte| text + &format!("{byte:02x}"))
}

/// The key of a row as `name=value` pairs, for people.
fn key_text(columns: &[Column], key: &[usize], fields: &[Field], data: &[u8]) -> String {
    let pair = |index: &usize| {
        let (column, field) = (columns.get(*index)?, fields.get(*index)?);
        let value = match field.length {
            None => "null".to_string(),
            Some(length) => {
                // Showing a zone takes a database of zones; the number behind it is UTC in any case.
                let shown_as = match &column.column_type {
                    ColumnType::TimestampTz => &ColumnType::Timestamp,
                    other => other,
                };
                let mut builder = ColumnBuilder::new(shown_as, 1).ok()?;
                match builder.append(data.get(field.start..field.start + length)?) {
                    Ok(()) => {
                        let array = builder.finish().ok()?;
                        let options = FormatOptions::default();
                        ArrayFormatter::try_new(&array, &options).ok()?.value(0).try_to_string().ok()?
                    }
                    Err(_) => "?".to_string(),
                }
            }
        };
        Some(format!("{}={}", column.name, printable(&value)))
    };
    key.iter().filter_map(pair).collect::<Vec<_>>().join(", ")
}

fn damaged(detail: String) -> Error {
    Error::data("a stream of rows from PostgreSQL is damaged")
        .with_detail(detail)
        .with_hint("run again; if it persists, report it")
}

fn malformed(column: &str, row: u64) -> Error {
    damaged(format!("the value of column `{column}` in row {row} is not in the form of its type"))
        .with_context("column", column)
}
