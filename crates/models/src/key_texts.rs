//! The keys of rows as people read them.

use arrow::array::ArrayRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use starlift_core::TableSchema;

/// The keys of the rows of one batch, as `name=value, …`.
pub(crate) struct KeyTexts<'a> {
    columns: Vec<(&'a str, Option<ArrayFormatter<'a>>)>,
}

impl<'a> KeyTexts<'a> {
    /// Of rows with the columns of a schema.
    pub(crate) fn new(schema: &'a TableSchema, columns: &'a [ArrayRef]) -> KeyTexts<'a> {
        const FORM: FormatOptions<'static> = FormatOptions::new().with_null("null").with_display_error(true);
        let text = |position: usize| {
            let name = schema.columns.get(position).map_or("", |column| column.name.as_str());
            (name, columns.get(position).and_then(|array| ArrayFormatter::try_new(array.as_ref(), &FORM).ok()))
        };
        KeyTexts { columns: schema.key_positions().into_iter().map(text).collect() }
    }

    /// Of one row.
    pub(crate) fn of(&self, row: usize) -> String {
        let value = |text: &Option<ArrayFormatter<'_>>| {
            text.as_ref().and_then(|text| text.value(row).try_to_string().ok()).unwrap_or_else(|| "?".into())
        };
        let columns: Vec<String> = self.columns.iter().map(|(name, text)| format!("{name}={}", value(text))).collect();
        columns.join(", ")
    }
}
