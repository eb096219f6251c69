//! What DataFusion's errors mean to a user: the one place where they are classified.
//!
//! Before an input is opened, an error can only quote the model's own text, and DataFusion's words are kept. Later it
//! may quote values of rows (`Cannot cast string 'abc' …`), so that its words are left out and ours take their place;
//! nor is the foreign error kept as a source, which would print it.

use std::error::Error as StdError;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use starlift_core::model::{Model, nearest};
use starlift_core::{Error, ErrorKind};

use crate::functions::Refused;
use crate::ties;

/// The error of a model that cannot be planned. No input is open yet.
pub(crate) fn planning(model: &Model, error: DataFusionError) -> Error {
    let (kind, mend) = match root(&error) {
        DataFusionError::NotImplemented(_) => (ErrorKind::Unsupported, "write"),
        DataFusionError::Internal(_) => (ErrorKind::Internal, "write"),
        _ => (ErrorKind::Config, "mend"),
    };
    // What is around the innermost error names rules of the engine.
    let text = root(&error).strip_backtrace();
    let mut detail = text.lines().next().unwrap_or_default().trim();
    for prefix in ["Error during planning: ", "Schema error: ", "SQL error: ", "Invalid or Unsupported Configuration: "]
    {
        detail = detail.strip_prefix(prefix).unwrap_or(detail);
    }
    let hint = match find(&error, &|error| match error {
        DataFusionError::SchemaError(schema, _) => nearest_column(schema),
        _ => None,
    }) {
        Some(name) => format!("did you mean `{name}`? `{}.sql` has to be mended", model.name),
        None => format!("{mend} `{}.sql` in the SQL of DataFusion; `starlift doctor` checks it", model.name),
    };
    Error::new(kind, format!("model `{}` cannot be planned", model.name))
        .with_detail(detail)
        .with_hint(hint)
        .with_context("model", model.name.clone())
}

/// The error of a model that was being evaluated. An error of an input comes out as it went in.
pub(crate) fn execution(model: &str, warnings: &[String], error: &DataFusionError) -> Error {
    if let Some(ours) = find_foreign::<Error>(error) {
        return again(ours);
    }
    let failed = || Error::data(format!("model `{model}` cannot be evaluated")).with_context("model", model);
    if let Some(refused) = find_foreign::<Refused>(error) {
        return failed().with_detail(refused.to_string()).with_hint(format!(
            "`{}` sets single rows aside only where its result goes to a column of the model; elsewhere (filters, \
             joins, aggregates) every value has to be good: filter bad rows out by their text first",
            refused.function
        ));
    }
    // This text names parts of the plan and bytes, never a value.
    if let Some(exhausted) = out_of_memory(error) {
        return Error::config(format!("model `{model}` needs more memory than it may use"))
            .with_detail(exhausted.lines().next().unwrap_or_default())
            .with_hint("raise `memory_mb` under `[transform]` in starlift.toml")
            .with_context("model", model);
    }
    if find(error, &|error| matches!(error, DataFusionError::IoError(_)).then_some(())).is_some() {
        return Error::unavailable(format!("model `{model}` cannot use its spill folder"))
            .with_hint("look whether the disk is full and whether the folder can be written")
            .with_context("model", model);
    }
    let hint =
        match warnings.iter().find(|warning| !warning.contains("` is cut off after ") && !ties::is_warning(warning)) {
            Some(warning) => warning.clone(),
            None => format!("look at the arithmetic and the casts of `{model}.sql`"),
        };
    match find(error, &|error| cause(error)) {
        Some(cause) => failed().with_detail(cause).with_hint(hint),
        None if find(error, &|error| matches!(error, DataFusionError::Internal(_)).then_some(())).is_some() => {
            Error::internal(format!("model `{model}` cannot be evaluated"))
                .with_detail("DataFusion met a state that it takes for a bug")
                .with_context("model", model)
        }
        None => failed()
            .with_detail("an expression failed on a row (the engine's words are left out, they may hold its values)")
            .with_hint(hint),
    }
}

/// Whether an evaluation hit its memory limit.
pub(crate) fn is_out_of_memory(error: &DataFusionError) -> bool {
    out_of_memory(error).is_some()
}

fn out_of_memory(error: &DataFusionError) -> Option<&str> {
    find(error, &|error| match error {
        DataFusionError::ResourcesExhausted(text) => Some(text.as_str()),
        _ => None,
    })
}

/// The error of a panic. Its text is not kept: it may hold values.
pub(crate) fn panicked(model: &str) -> Error {
    Error::internal(format!("the evaluation of model `{model}` panicked")).with_context("model", model)
}

/// The same error again: DataFusion may share one between partitions, so that it cannot be taken out.
fn again(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.message());
    if let Some(detail) = error.detail() {
        copy = copy.with_detail(detail);
    }
    if let Some(hint) = error.hint() {
        copy = copy.with_hint(hint);
    }
    error.context().iter().fold(copy, |copy, (name, value)| copy.with_context(name, value.clone()))
}

/// What went wrong, in words without values.
fn cause(error: &DataFusionError) -> Option<String> {
    match error {
        DataFusionError::ArrowError(error, _) => arrow_cause(error),
        DataFusionError::Execution(text) if text.contains("more than one row") => {
            Some("a subquery that stands for one value yields more than one row".into())
        }
        _ => None,
    }
}

fn arrow_cause(error: &ArrowError) -> Option<String> {
    let text = match error {
        ArrowError::DivideByZero => return Some("a division by zero".into()),
        ArrowError::ArithmeticOverflow(_) => return Some("arithmetic on whole numbers or decimals overflows".into()),
        ArrowError::CastError(text) => text,
        ArrowError::InvalidArgumentError(text) if text.contains(" to store in a Decimal") => {
            return Some("a number does not fit its decimal type".into());
        }
        _ => return None,
    };
    // Arrow ends its texts with the type; only what reads as one is repeated.
    let target = ["to value of ", "to type "].iter().find_map(|before| {
        let target = text.rsplit_once(before)?.1;
        target.strip_suffix(" type").unwrap_or(target).parse::<DataType>().ok()
    });
    Some(match target {
        Some(target) => format!("a value cannot be cast to {target}"),
        None => "a value cannot be cast".into(),
    })
}

/// The column that a mistyped one probably meant.
fn nearest_column(error: &SchemaError) -> Option<String> {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return None };
    nearest(&field.name, valid_fields.iter().map(Column::name)).map(str::to_string)
}

/// The innermost error of DataFusion's own.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        _ => error,
    }
}

/// The first answer of any error in a chain of DataFusion's and Arrow's errors.
fn find<'a, T>(error: &'a DataFusionError, ask: &dyn Fn(&'a DataFusionError) -> Option<T>) -> Option<T> {
    if let Some(answer) = ask(error) {
        return Some(answer);
    }
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => find(inner, ask),
        DataFusionError::Shared(inner) => find(inner, ask),
        DataFusionError::Collection(errors) => errors.iter().find_map(|error| find(error, ask)),
        DataFusionError::External(inner) => inner.downcast_ref::<DataFusionError>().and_then(|error| find(error, ask)),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => {
                inner.downcast_ref::<DataFusionError>().and_then(|error| find(error, ask))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The first foreign error of a type in such a chain.
fn find_foreign<T: StdError + 'static>(error: &DataFusionError) -> Option<&T> {
    find(error, &|error| match error {
        DataFusionError::External(inner) => inner.downcast_ref::<T>(),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => inner.downcast_ref::<T>(),
            _ => None,
        },
        _ => None,
    })
}
