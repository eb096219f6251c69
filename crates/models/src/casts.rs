//! Warns about casts that can fail or lose: DataFusion reads `20240102` as a date and rounds decimals, PostgreSQL and
//! our strict functions do not. And about quotients and averages of decimals, which DataFusion cuts off after a few digits.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator};

use crate::functions::StrictFunction;

/// One line for each cast of a plan that can fail or lose, written or implied, with the strict function to use.
///
/// The plan has to be analysed, so that implied casts are in it. Casts of constants are the model's own text and are
/// not warned about.
pub(crate) fn warnings(model: &str, plan: &LogicalPlan) -> Result<Vec<String>> {
    let mut lines = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        let mut position = 0;
        node.apply_expressions(|expr| {
            let place = place(node, position);
            position += 1;
            expr.apply(|expr| {
                if let Some(advice) = lossy(expr, &schema).or_else(|| cut(expr, &schema)) {
                    lines.insert(format!("model `{model}`: {place}: {advice}"));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(lines.into_iter().collect())
}

/// Where an expression of a node stands, as the author of the model would say it.
fn place(node: &LogicalPlan, position: usize) -> String {
    match node {
        LogicalPlan::Projection(projection) if position < projection.schema.fields().len() => {
            format!("column `{}`", projection.schema.field(position).name())
        }
        LogicalPlan::Filter(_) => "a filter".into(),
        LogicalPlan::Join(_) => "a join condition".into(),
        LogicalPlan::Aggregate(_) => "an aggregate".into(),
        LogicalPlan::Sort(_) => "an order".into(),
        _ => "an expression".into(),
    }
}

fn lossy(expr: &Expr, schema: &DFSchema) -> Option<String> {
    let (inner, target, tries) = match expr {
        Expr::Cast(cast) => (&cast.expr, cast.field.data_type(), false),
        Expr::TryCast(cast) => (&cast.expr, cast.field.data_type(), true),
        _ => return None,
    };
    if matches!(inner.as_ref(), Expr::Literal(..)) {
        return None;
    }
    let source = inner.get_type(schema).ok()?;
    if keeps_every_value(&source, target) {
        return None;
    }
    let effect = if tries { "turns what it cannot read into null" } else { "can fail, or change a value" };
    let advice = match strict_function(target) {
        Some(function) => format!("use `{}`", function.usage()),
        None => "compare or store the column as it is".into(),
    };
    Some(format!("`{expr}` {effect}; {advice}"))
}

/// What is said of a quotient or an average that is cut off.
fn cut(expr: &Expr, schema: &DFSchema) -> Option<String> {
    match expr {
        Expr::BinaryExpr(binary) if binary.op == Operator::Divide => {}
        Expr::AggregateFunction(call) if call.func.name() == "avg" => {}
        _ => return None,
    }
    let decimals = scale_of(&expr.get_type(schema).ok()?)?;
    Some(format!(
        "`{expr}` is cut off after {decimals} decimals; cast what it is made of to double precision for others"
    ))
}

/// Digits behind the point of a decimal type; none of any other type.
fn scale_of(data_type: &DataType) -> Option<i8> {
    whole_digits(data_type).map(|_| scale(data_type))
}

/// The strict function that yields a type.
fn strict_function(target: &DataType) -> Option<StrictFunction> {
    Some(match target {
        DataType::Date32 | DataType::Date64 => StrictFunction::ParseDate,
        DataType::Time32(_) | DataType::Time64(_) => StrictFunction::ParseTime,
        DataType::Timestamp(..) => StrictFunction::ParseTimestamp,
        DataType::Int64 | DataType::UInt64 | DataType::UInt32 => StrictFunction::ToBigint,
        integer if integer.is_integer() => StrictFunction::ToInt,
        number if number.is_numeric() => StrictFunction::ToDecimal,
        _ => return None,
    })
}

/// Whether a cast carries every value of a type exactly. A timestamp becomes its date or its time on purpose.
pub(crate) fn keeps_every_value(source: &DataType, target: &DataType) -> bool {
    use DataType::*;
    let text = |data_type: &DataType| matches!(data_type, Utf8 | LargeUtf8 | Utf8View);
    match (source, target) {
        (same, other) if same == other => true,
        (Null, _) => true,
        (Dictionary(_, value), target) => keeps_every_value(value, target),
        (source, Dictionary(_, value)) => keeps_every_value(source, value),
        (source, _) if text(source) => text(target),
        (_, target) if text(target) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), _) => target.is_binary(),
        (Boolean, _) => true,
        (source, target) if source.is_integer() && target.is_integer() => {
            let (from, to) = (integer_range(source), integer_range(target));
            to.0 <= from.0 && from.1 <= to.1
        }
        (source, Float64) if source.is_integer() => source.primitive_width().is_some_and(|bytes| bytes <= 4),
        (source, Float32) if source.is_integer() => source.primitive_width().is_some_and(|bytes| bytes <= 2),
        (source, target) if source.is_integer() && whole_digits(target).is_some() => {
            let (low, high) = integer_range(source);
            let digits = low.unsigned_abs().max(high.unsigned_abs()).to_string().len() as i16;
            whole_digits(target).is_some_and(|whole| whole >= digits)
        }
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (source, target) if whole_digits(source).is_some() && whole_digits(target).is_some() => {
            whole_digits(target) >= whole_digits(source) && scale(target) >= scale(source)
        }
        (source, target) if source.is_temporal() => target.is_temporal() || target.is_integer(),
        (List(from) | LargeList(from), List(to) | LargeList(to)) => keeps_every_value(from.data_type(), to.data_type()),
        _ => false,
    }
}

/// Whether a cast takes digits behind the point off, so that several values become one.
pub(crate) fn rounds(source: &DataType, target: &DataType) -> bool {
    let is_number = target.is_integer() || whole_digits(target).is_some();
    whole_digits(source).is_some() && is_number && scale(source) > scale(target).max(0)
}

fn integer_range(integer: &DataType) -> (i128, i128) {
    let bits = integer.primitive_width().unwrap_or(8) as u32 * 8;
    if integer.is_unsigned_integer() { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }
}

/// Digits before the point of a decimal type.
fn whole_digits(decimal: &DataType) -> Option<i16> {
    match decimal {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Some(i16::from(*precision) - i16::from(*scale)),
        _ => None,
    }
}

fn scale(decimal: &DataType) -> i8 {
    match decimal {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn casts_that_keep_every_value_are_told_from_those_that_do_not() {
        use DataType::*;
        let micros = || Timestamp(TimeUnit::Microsecond, None);
        let kept = [
            (Int32, Int64),
            (Int32, Utf8),
            (Int32, Float64),
            (Int32, Decimal128(10, 0)),
            (Int64, Decimal128(38, 10)),
            (Decimal128(10, 2), Decimal128(38, 10)),
            (Utf8, Utf8View),
            (micros(), Date32),
            (micros(), Time64(TimeUnit::Nanosecond)),
            (Null, Date32),
        ];
        for (source, target) in kept {
            assert!(keeps_every_value(&source, &target), "{source} -> {target}");
        }
        let lossy = [
            (Utf8, Date32),
            (Utf8, micros()),
            (Utf8, Int32),
            (Utf8, Decimal128(10, 2)),
            (Int64, Int32),
            (Int64, Float64),
            (Int64, Decimal128(10, 0)),
            (UInt64, Int64),
            (Float64, Int32),
            (Float64, Decimal128(38, 10)),
            (Float64, Float32),
            (Decimal128(38, 10), Decimal128(10, 2)),
            (Decimal128(38, 10), Decimal128(38, 12)),
            (Decimal128(10, 2), Float64),
            (Decimal128(10, 2), Int64),
        ];
        for (source, target) in lossy {
            assert!(!keeps_every_value(&source, &target), "{source} -> {target}");
        }
    }
}
