//! What comes out of a model: its columns in starlift's types, and each batch brought to exactly these.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, SchemaRef, Time64NanosecondType, TimeUnit, TimestampNanosecondType};
use datafusion::common::DFSchema;
use starlift_core::model::Model;
use starlift_core::{Column, ColumnType, Error, ErrorKind, Result, TableSchema};

/// The columns that a model yields.
///
/// Errors: Config where two columns have one name or a key column is missing; Unsupported where starlift cannot carry a
/// column's type.
pub(crate) fn table_schema(model: &Model, yields: &DFSchema) -> Result<TableSchema> {
    let name = &model.name;
    let config = |detail: String, hint: String| {
        Error::config(format!("model `{name}` yields columns that cannot be used"))
            .with_detail(detail)
            .with_hint(hint)
            .with_context("model", name.clone())
    };
    let mut columns: Vec<Column> = Vec::with_capacity(yields.fields().len());
    let mut seen = BTreeSet::new();
    for field in yields.fields() {
        if !seen.insert(field.name().as_str()) {
            let column = field.name();
            return Err(config(
                format!("two columns have the name `{column}`"),
                format!("name one of them otherwise: `… as other_{column}`"),
            ));
        }
        let Some(column_type) = ColumnType::from_field(&carried(field)) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("column `{}` of model `{name}` has a type that starlift does not carry", field.name()),
            )
            .with_detail(format!("its type is {}", field.data_type()))
            .with_hint(format!("cast it in `{name}.sql` to a type of docs/types.md, such as `::text`"))
            .with_context("model", name.clone())
            .with_context("column", field.name().clone()));
        };
        let nullable = field.is_nullable();
        columns.push(Column { name: field.name().clone(), column_type, nullable, declared: None, labels: vec![] });
    }
    for (position, key) in model.header.key.iter().enumerate() {
        if !seen.contains(key.as_str()) {
            let known: Vec<String> = columns.iter().map(|column| format!("`{}`", column.name)).collect();
            return Err(config(
                format!("its key names `{key}`, and it yields {}", known.join(", ")),
                format!("select `{key}`, or mend the line `-- key:` of `{name}.sql`"),
            ));
        }
        if model.header.key[..position].contains(key) {
            return Err(config(
                format!("its key names `{key}` twice"),
                format!("mend the line `-- key:` of `{name}.sql`"),
            ));
        }
    }
    Ok(TableSchema { columns, key: model.header.key.clone(), oid: None, partitions: vec![], attributes: vec![] })
}

/// The field with the encodings taken off that say nothing about its values.
fn carried(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        DataType::RunEndEncoded(_, values) => values.data_type().clone(),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Date32,
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

/// Brings the first columns of a batch to the types of a schema, exactly.
///
/// Errors: Data where a value does not fit (`created_at` with nanoseconds), Internal where a cast is not possible.
pub(crate) fn normalise(model: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let fields = schema.fields().iter().zip(batch.columns());
    fields.map(|(field, array)| to_type(model, field, array)).collect()
}

fn to_type(model: &str, field: &Field, array: &ArrayRef) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(array.clone());
    }
    let column = field.name();
    if !is_whole_micros(array) {
        return Err(Error::data(format!("column `{column}` of model `{model}` cannot be stored without loss"))
            .with_detail("it holds parts of a microsecond, which PostgreSQL does not")
            .with_hint(format!("cut it in `{model}.sql`: `date_trunc('microsecond', …)`"))
            .with_context("model", model)
            .with_context("column", column.clone()));
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, field.data_type(), &exact).map_err(|_| {
        // Arrow's text is left out: it may hold the value.
        Error::data(format!("column `{column}` of model `{model}` cannot be stored without loss"))
            .with_detail(format!("a value of type {} does not fit {}", array.data_type(), field.data_type()))
            .with_hint(format!("cast it in `{model}.sql`"))
            .with_context("model", model)
            .with_context("column", column.clone())
    })
}

/// Whether no time in an array has a part of a microsecond.
fn is_whole_micros(array: &dyn Array) -> bool {
    let whole = |nanos: Option<i64>| nanos.is_none_or(|nanos| nanos % 1000 == 0);
    match array.data_type() {
        DataType::Time64(TimeUnit::Nanosecond) => array.as_primitive::<Time64NanosecondType>().iter().all(whole),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().iter().all(whole)
        }
        DataType::List(_) => is_whole_micros(array.as_list::<i32>().values()),
        DataType::LargeList(_) => is_whole_micros(array.as_list::<i64>().values()),
        _ => true,
    }
}
