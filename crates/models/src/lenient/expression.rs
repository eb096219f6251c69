//! The reason of one expression: null, or why a strict call in it refuses its value.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{Expr, lit};

use crate::functions::{Answer, strict_call};

/// What is known of the reasons within an expression.
enum Found {
    /// There is no strict call in it.
    Nothing,
    /// The expression that gives the reason.
    Reason(Expr),
    /// A strict call stands where we cannot say whether it is evaluated.
    Unclear,
}

/// The expression that gives the reason why strict calls within an expression refuse; none where there is no strict
/// call, or where it has to stay strict.
pub(super) fn reason(expr: &Expr) -> Result<Option<Expr>> {
    Ok(match find(expr)? {
        Found::Reason(reason) => Some(reason),
        Found::Nothing | Found::Unclear => None,
    })
}

/// The expression with null where a strict call refuses.
pub(super) fn or_null(expr: Expr) -> Result<Expr> {
    let replaced = expr.transform_up(|expr| match strict_call(&expr) {
        Some((strict, arguments)) => {
            let call = call(strict.function.answering(Answer::ValueOrNull), arguments.to_vec());
            Ok(Transformed::yes(call))
        }
        None => Ok(Transformed::no(expr)),
    })?;
    Ok(replaced.data)
}

/// The first reason that is not null.
pub(super) fn first_reason(mut reasons: Vec<Expr>) -> Option<Expr> {
    if reasons.len() > 1 { Some(coalesce(reasons)) } else { reasons.pop() }
}

fn find(expr: &Expr) -> Result<Found> {
    if !has_strict_call(expr) {
        return Ok(Found::Nothing);
    }
    if let Some((strict, arguments)) = strict_call(expr) {
        let lenient = arguments.iter().cloned().map(or_null).collect::<Result<Vec<_>>>()?;
        let own = call(strict.function.answering(Answer::Reason), lenient);
        return all(arguments.iter(), Some(own));
    }
    match expr {
        Expr::Case(case) => in_case(case),
        Expr::ScalarFunction(function) => match function.func.name() {
            "coalesce" | "nvl" => in_coalesce(&function.args),
            _ if function.func.short_circuits() => Ok(Found::Unclear),
            _ => all(function.args.iter(), None),
        },
        Expr::Lambda(_) | Expr::HigherOrderFunction(_) => Ok(Found::Unclear),
        _ => {
            let mut children = Vec::new();
            expr.apply_children(|child| {
                children.push(child.clone());
                Ok(TreeNodeRecursion::Continue)
            })?;
            all(children.iter(), None)
        }
    }
}

/// Expressions that are all evaluated: the first reason of any of them, then `last`.
fn all<'a>(exprs: impl Iterator<Item = &'a Expr>, last: Option<Expr>) -> Result<Found> {
    let mut reasons = Vec::new();
    for expr in exprs {
        match find(expr)? {
            Found::Nothing => {}
            Found::Reason(reason) => reasons.push(reason),
            Found::Unclear => return Ok(Found::Unclear),
        }
    }
    reasons.extend(last);
    Ok(first_reason(reasons).map_or(Found::Nothing, Found::Reason))
}

/// A `case` has the reason of the branch that it takes.
fn in_case(case: &Case) -> Result<Found> {
    let mut conditions = case.expr.iter().chain(case.when_then_expr.iter().map(|(when, _)| when));
    // Whether a later condition is evaluated depends on the ones before it.
    if conditions.any(|condition| has_strict_call(condition)) {
        return Ok(Found::Unclear);
    }
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    for (when, then) in &case.when_then_expr {
        let Some(reason) = reason_or_null(then)? else { return Ok(Found::Unclear) };
        branches.push((when.clone(), Box::new(reason)));
    }
    let otherwise = match &case.else_expr {
        None => None,
        Some(expr) => match reason_or_null(expr)? {
            Some(reason) => Some(Box::new(reason)),
            None => return Ok(Found::Unclear),
        },
    };
    Ok(Found::Reason(Expr::Case(Case::new(case.expr.clone(), branches, otherwise))))
}

/// An argument of `coalesce` is evaluated where all before it are null.
fn in_coalesce(arguments: &[Expr]) -> Result<Found> {
    let mut reasons = Vec::new();
    let mut before: Option<Expr> = None;
    for argument in arguments {
        match (find(argument)?, before.clone()) {
            (Found::Nothing, _) => {}
            (Found::Unclear, _) => return Ok(Found::Unclear),
            (Found::Reason(reason), None) => reasons.push(reason),
            (Found::Reason(reason), Some(all_null)) => {
                let taken = (Box::new(all_null), Box::new(reason));
                reasons.push(Expr::Case(Case::new(None, vec![taken], None)));
            }
        }
        let null = Expr::IsNull(Box::new(or_null(argument.clone())?));
        before = Some(match before {
            None => null,
            Some(all_null) => all_null.and(null),
        });
    }
    Ok(first_reason(reasons).map_or(Found::Nothing, Found::Reason))
}

/// The reason of an expression, null where it has none; nothing where that is unclear.
fn reason_or_null(expr: &Expr) -> Result<Option<Expr>> {
    Ok(match find(expr)? {
        Found::Reason(reason) => Some(reason),
        Found::Nothing => Some(lit(ScalarValue::Utf8(None))),
        Found::Unclear => None,
    })
}

fn has_strict_call(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(strict_call(expr).is_some())).unwrap_or(true)
}

fn call(function: datafusion::logical_expr::ScalarUDF, arguments: Vec<Expr>) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), arguments))
}
