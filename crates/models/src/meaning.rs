//! Makes expressions mean what they mean in PostgreSQL where the engine would take them for something else.
//!
//! The rule comes after type coercion, so that implied casts are there to be seen, and before the optimizer, which would change
//! the meaning:
//!
//! - a `case` evaluates nothing but the branch that is taken ([`guarded_case`]);
//! - a cast that rounds does so beside a literal too ([`kept_cast`]);
//! - `round` has one type from here on ([`rounding`]);
//! - a text in the place of a `bytea` is read as PostgreSQL reads it ([`bytea`]).
//!
//! What cannot be made right is refused: see `dialect`.

mod bytea;
mod guarded_case;
mod kept_cast;
mod rounding;

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;

use crate::rewriting::everywhere;

pub(crate) use rounding::functions;

/// The rule.
#[derive(Debug)]
pub(crate) struct Meaning;

impl AnalyzerRule for Meaning {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        everywhere(plan, |expr, schema| {
            let mut changed = false;
            let mut expr = expr;
            for rule in [bytea::literal, rounding::pinned, kept_cast::kept, guarded_case::guarded] {
                let rewritten = rule(expr, schema)?;
                changed |= rewritten.transformed;
                expr = rewritten.data;
            }
            Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
        })
    }

    fn name(&self) -> &str {
        "meaning"
    }
}
