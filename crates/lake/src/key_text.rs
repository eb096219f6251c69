//! The key of a row as people read it.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::TableSchema;

/// Characters of a key that an error names.
const SHOWN_CHARACTERS: usize = 80;

/// What an error calls a row whose key's columns are at these positions: the [text](key_text) of its key, cut where it is long.
pub fn short_key_text(schema: &TableSchema, batch: &RecordBatch, key: &[usize], row: usize) -> String {
    let text = batch.project(key).map(|keys| key_text(schema, &keys, row)).unwrap_or_default();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The key of a row as `name=value, …`, where the first columns of `keys` are those of the key; empty where there is no key.
pub fn key_text(schema: &TableSchema, keys: &RecordBatch, row: usize) -> String {
    const FORM: FormatOptions<'static> = FormatOptions::new().with_null("null").with_display_error(true);
    let value = |array: &ArrayRef| {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &FORM).ok();
        formatter.and_then(|f| f.value(row).try_to_string().ok()).unwrap_or_else(|| "?".into())
    };
    let named = schema.key.iter().zip(keys.columns());
    named.map(|(name, array)| format!("{name}={}", value(array))).collect::<Vec<_>>().join(", ")
}
