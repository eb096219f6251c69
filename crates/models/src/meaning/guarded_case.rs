//! A `case` that yields a boolean guards as any other does.
//!
//! The optimizer makes `(x and a) or (not x and b)` of `case when x then a else b end` where `a` and `b` are booleans, and takes a
//! comparison with a literal into branches that are literals first. Both evaluate every part for every row: a division by zero
//! that a condition keeps away would end the evaluation. `case true when x then a else b end` means the same, is left alone, and
//! is evaluated as lazily as a `case` of numbers.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, lit};

use crate::casts::keeps_every_value;

/// Keeps a `case` as it is where one of its branches can fail, and what the optimizer would only make a `case` of.
pub(super) fn guarded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Case(case) if case.expr.is_none() => {
            let kept = may_be_spread(&case, schema) && lazy_parts(&case).any(|part| can_fail(part, schema));
            let expr = if kept { Some(Box::new(lit(true))) } else { None };
            Ok(Transformed::new_transformed(Expr::Case(Case { expr, ..case }), kept))
        }
        Expr::ScalarFunction(call) => {
            let lazy = match (call.func.name(), call.args.as_slice()) {
                ("coalesce" | "nvl", [_, lazy @ ..]) | ("nvl2", [_, lazy @ ..]) => lazy,
                _ => return Ok(Transformed::no(Expr::ScalarFunction(call))),
            };
            let is_boolean = lazy.first().is_some_and(|part| is_boolean(part, schema));
            if is_boolean && lazy.iter().any(|part| can_fail(part, schema)) {
                Ok(Transformed::yes(Expr::Case(as_case(call))))
            } else {
                Ok(Transformed::no(Expr::ScalarFunction(call)))
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The `case` that such a call means.
fn as_case(call: ScalarFunction) -> Case {
    let is_nvl2 = call.func.name() == "nvl2";
    let mut args = call.args;
    let otherwise = args.pop().map(Box::new);
    let there = |expr: &Expr| Box::new(expr.clone().is_not_null());
    let when_then_expr = if is_nvl2 {
        let value = args.pop();
        args.iter().zip(value).map(|(tested, value)| (there(tested), Box::new(value))).collect()
    } else {
        args.into_iter().map(|arg| (there(&arg), Box::new(arg))).collect()
    };
    Case { expr: Some(Box::new(lit(true))), when_then_expr, else_expr: otherwise }
}

/// Whether the optimizer may make terms of `and` and `or` of it.
fn may_be_spread(case: &Case, schema: &DFSchema) -> bool {
    let mut outputs = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    outputs.all(|output| matches!(output.as_ref(), Expr::Literal(..)))
        || case.when_then_expr.iter().any(|(_, then)| is_boolean(then, schema))
}

fn is_boolean(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type == DataType::Boolean)
}

/// What is evaluated for some rows alone: all but the first condition.
fn lazy_parts(case: &Case) -> impl Iterator<Item = &Expr> {
    let conditions = case.when_then_expr.iter().skip(1).map(|(when, _)| when);
    let outputs = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    conditions.chain(outputs).map(AsRef::as_ref)
}

/// Whether an expression can fail on a row. Only what is known not to is left out.
fn can_fail(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|part| Ok(!is_safe(part, schema))).unwrap_or(true)
}

/// Whether an expression never fails where its parts do not.
fn is_safe(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::InList(_)
        | Expr::Like(_)
        | Expr::Case(_)
        // Whether a subquery fails does not depend on the branch.
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::TryCast(_) => true,
        Expr::Cast(cast) => {
            let source = cast.expr.get_type(schema);
            source.is_ok_and(|source| cast_never_fails(&source, cast.field.data_type()))
        }
        Expr::BinaryExpr(binary) => match binary.op {
            Operator::And
            | Operator::Or
            | Operator::StringConcat
            | Operator::BitwiseAnd
            | Operator::BitwiseOr
            | Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch => true,
            Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch => matches!(binary.right.as_ref(), Expr::Literal(..)),
            Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide => {
                [&binary.left, &binary.right].iter().all(|side| side.get_type(schema).is_ok_and(|t| t.is_floating()))
            }
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => true,
            _ => false,
        },
        Expr::ScalarFunction(call) => matches!(
            call.func.name(),
            "coalesce"
                | "nvl"
                | "nvl2"
                | "nullif"
                | "greatest"
                | "least"
                | "lower"
                | "upper"
                | "btrim"
                | "ltrim"
                | "rtrim"
                | "character_length"
                | "octet_length"
                | "starts_with"
                | "ends_with"
                | "contains"
                | "strpos"
                | "left"
                | "right"
                | "replace"
                | "concat"
                | "iszero"
                | "isnan"
        ),
        _ => false,
    }
}

fn cast_never_fails(source: &DataType, target: &DataType) -> bool {
    use DataType::{LargeUtf8, Timestamp, Utf8, Utf8View};
    match (source, target) {
        (source, Utf8 | LargeUtf8 | Utf8View) if source.is_binary() => false,
        // Of nanoseconds there are too few for all dates.
        (Timestamp(TimeUnit::Nanosecond, _), _) => true,
        (_, Timestamp(TimeUnit::Nanosecond, _)) => false,
        (source, target) => keeps_every_value(source, target),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::datatypes::{Field, Schema};
    use datafusion::functions::core::expr_fn::{coalesce, nvl};
    use datafusion::logical_expr::{cast, col, when};

    use super::*;

    fn columns() -> DFSchema {
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        let fields = vec![
            field("b", DataType::Boolean),
            field("c", DataType::Boolean),
            field("i", DataType::Int32),
            field("f", DataType::Float64),
            field("t", DataType::Utf8),
        ];
        DFSchema::from_unqualified_fields(Schema::new(fields).fields, HashMap::new()).unwrap()
    }

    fn is_rewritten(expr: Expr) -> bool {
        let rewritten = guarded(expr.clone(), &columns()).unwrap();
        assert_eq!(rewritten.transformed, rewritten.data != expr, "{expr}");
        assert_eq!(rewritten.data.get_type(&columns()).unwrap(), expr.get_type(&columns()).unwrap());
        rewritten.transformed
    }

    #[test]
    fn what_needs_no_guard_is_left_to_the_optimizer() {
        let quotient = || lit(10) / col("i");
        for expr in [
            when(col("b"), col("c")).otherwise(lit(false)),
            when(col("b"), col("i").eq(lit(1))).when(col("c"), col("t").like(lit("a%"))).end(),
            when(col("b"), col("f").gt(col("f") / lit(2.0))).end(),
            when(col("b"), cast(col("i"), DataType::Int64).gt(lit(1_i64))).end(),
            // The first condition is evaluated for every row.
            when(quotient().gt(lit(1)), col("b")).end(),
            // The optimizer leaves these as they are.
            when(col("b"), quotient()).otherwise(lit(0)),
            when(quotient().gt(lit(1)), col("t")).otherwise(lit("a")),
            Ok(coalesce(vec![col("b"), col("c")])),
            Ok(coalesce(vec![col("i"), quotient()])),
        ] {
            let expr = expr.unwrap();
            assert!(!is_rewritten(expr.clone()), "{expr}");
        }
    }

    #[test]
    fn what_can_fail_in_a_branch_is_guarded() {
        let positive = || (lit(10) / col("i")).gt(lit(0));
        for expr in [
            when(col("b"), positive()).end(),
            when(col("b"), col("c")).otherwise(positive()),
            when(col("b"), col("c")).when(positive(), col("b")).end(),
            when(col("b"), lit("x")).when(positive(), lit("y")).otherwise(lit("z")),
            when(col("b"), cast(col("t"), DataType::Int32).eq(lit(1))).end(),
            when(col("b"), cast(col("i"), DataType::Int16).eq(lit(1_i16))).end(),
            Ok(coalesce(vec![col("b"), col("c"), positive()])),
            Ok(nvl(col("b"), positive())),
        ] {
            let expr = expr.unwrap();
            assert!(is_rewritten(expr.clone()), "{expr}");
        }
    }
}
