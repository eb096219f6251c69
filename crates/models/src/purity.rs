//! Refuses functions whose answer depends on more than their arguments: a model is evaluated over its inputs as of a
//! manifest, and twice the same inputs have to give the same rows.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility, WindowFunctionDefinition};
use starlift_core::model::Model;
use starlift_core::{Error, Result};

use crate::failure;

/// Errors: Config that names the first function of the plan that is not immutable (`now`, `random`, `uuid`, …).
pub(crate) fn check(model: &Model, plan: &LogicalPlan) -> Result<()> {
    let mut found: Option<String> = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = impure(expr);
                Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })
    .map_err(|error| failure::planning(model, error))?;
    let Some(function) = found else { return Ok(()) };
    Err(Error::config(format!("model `{}` calls `{function}`, which a model may not", model.name))
        .with_detail("its answer changes from run to run, so the same inputs would not give the same rows")
        .with_hint(format!(
            "take the value from a column of an input (such as `last_updated`) and remove `{function}` from `{}.sql`",
            model.name
        ))
        .with_context("model", model.name.clone()))
}

fn impure(expr: &Expr) -> Option<String> {
    let (name, volatility) = match expr {
        Expr::ScalarFunction(call) => (call.name(), call.func.signature().volatility),
        Expr::AggregateFunction(call) => (call.func.name(), call.func.signature().volatility),
        Expr::WindowFunction(call) => {
            let volatility = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => function.signature().volatility,
                WindowFunctionDefinition::WindowUDF(function) => function.signature().volatility,
            };
            (call.fun.name(), volatility)
        }
        _ => return None,
    };
    (volatility != Volatility::Immutable).then(|| name.to_string())
}
