//! Rows that stand aside, tried again although no manifest is left to load: the warehouse's tables may have changed since,
//! or a person may say so.

use starlift_core::Result;
use starlift_lake::{Store, Stored};
use starlift_postgres::Connection;
use starlift_postgres::load::{self as warehouse, LoadOutcome, LoadRun};

use super::star::{self, Brings};
use super::{Loaded, Next, order, unknown};
use crate::context::Context;

/// How reports call it.
pub(super) const MODE: &str = "again";

/// Tries them in one transaction. It is the mending of no model: the ledger's head is `newest`, and stays so.
pub(super) async fn again(
    ctx: &Context,
    star: &Store,
    newest: &Stored,
    connection: &mut Connection,
    run: &LoadRun,
) -> Result<Next> {
    let manifest = &newest.manifest;
    let names = order::load_order(manifest)?;
    let none = Default::default();
    let loads = star::model_loads(ctx, star, manifest, &names, Brings::StateOf(&none, &Default::default()))?;
    let later = star::later(star, &loads, manifest.seq, manifest.seq);
    match warehouse::mend(connection.client_mut(), run, &none, loads, &later).await? {
        LoadOutcome::Loaded(report) => {
            let mut loaded = Loaded::of(manifest.seq, MODE, &report);
            loaded.relations.retain(|r| r.rows_read + r.rows_deleted + r.rows_refused + r.refused > 0);
            Ok(Next::Again(loaded))
        }
        // Another load came in between, and tried them.
        LoadOutcome::AlreadyLoaded | LoadOutcome::Moved { .. } => Ok(Next::Nothing),
        // Again is the same, so that nobody needs to know.
        LoadOutcome::Unknown { error, .. } => Err(unknown(manifest, error)),
    }
}
