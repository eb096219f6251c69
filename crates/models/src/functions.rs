//! Strict functions: conversions that carry a value exactly or refuse it with a reason.
//!
//! DataFusion's own casts take `20240102` for a date and round decimals. These functions do neither: what is not in the
//! stated form is refused. Null in gives null out.
//!
//! Each function exists three times. As a model calls it, a refused value is an error. Where the call makes an output
//! column, the evaluation puts two others in its place (see `lenient`): one that gives null instead of an error, and
//! one that gives the reason, which is fixed text and never holds the value.

mod parse_date;
mod parse_time;
mod parse_timestamp;
mod strict;
mod to_decimal;
mod to_int;

pub(crate) use strict::{Answer, BEFORE_VALUE, Refused, StrictFunction, strict_call};

use datafusion::logical_expr::ScalarUDF;

/// The functions that a session offers to its models.
pub(crate) fn all() -> impl Iterator<Item = ScalarUDF> {
    StrictFunction::ALL.into_iter().map(|function| function.answering(Answer::Value))
}
