//! Refuses functions whose answer depends on more than their arguments: a model is evaluated over its inputs as of a
//! manifest, and twice the same inputs have to give the same rows. And `similar to`, which the engine takes for a search by a
//! regular expression: a pattern of SQL would find other rows, or none, without a word.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility, WindowFunctionDefinition};
use starlift_core::model::Model;
use starlift_core::{Error, Result};

use crate::failure;

/// Errors: Config that names the first function of the plan that is not immutable (`now`, `random`, `uuid`, …), or
/// `similar to`.
pub(crate) fn check(model: &Model, plan: &LogicalPlan) -> Result<()> {
    let mut found: Option<String> = None;
    let mut is_similar = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                found = impure(expr);
                is_similar |= matches!(expr, Expr::SimilarTo(_));
                Ok(if found.is_some() || is_similar { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    })
    .map_err(|error| failure::planning(model, error))?;
    if is_similar {
        return Err(Error::config(format!("model `{}` uses `similar to`, which a model may not", model.name))
            .with_detail("the engine reads its pattern as a regular expression, and not as SQL does")
            .with_hint(format!("use `like`, or `~` with a regular expression, in `{}.sql`", model.name))
            .with_context("model", model.name.clone()));
    }
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
