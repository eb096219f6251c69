//! Load: one star manifest into the warehouse, in one transaction.
//!
//! Guarantees, on PostgreSQL 13 and newer:
//! * **One transaction.** Rows, retractions, calendar days and the ledger row of a manifest become visible together.
//!   Dimensions are written before facts, so a reader never sees a fact without them.
//! * **Once.** A load goes on only while the ledger, read under an advisory lock, is where the load was planned from.
//!   Two that race: one wins, the other finds the manifest there ([`LoadOutcome::AlreadyLoaded`]).
//! * **Exact.** Every staged value is checked against its column before anything is written. A row that the column would
//!   round, cut or refuse, or that a constraint refuses, is set aside with column, reason and key (`starlift.refused`), or
//!   stops the load ([`starlift_core::ErrorKind::Data`]) where more rows are refused than [`MaySetAside`] lets through.
//!   One that a later manifest replaces or retracts is passed over.
//! * **Nothing stale.** What the warehouse holds of the key of a refused row is retracted, rows that refer to it wait with
//!   it, and all of them come back once.
//! * **Nothing is deleted.** A dimension keeps one row per key, a fact every version. Retracted keys are listed in
//!   `starlift.retracted`, and the views `current_<model>` leave them out.
//! * **Bounded.** Memory holds one batch; the comparison with what is stored is the server's work.
//!
//! A crash at any moment, of this process, the network or the server, leaves the warehouse as it was or holding the
//! whole manifest; temporary tables end with their session. Only a connection that is lost during COMMIT leaves the
//! question which of the two it is ([`LoadOutcome::Unknown`]): the ledger answers it ([`entry`]).
//!
//! The parts, and where they are: `target_catalog` reads the tables and `key_catalog` what their keys are made of (`key_type`), `target` compares them with the models, `kept` refuses those that would lose or hide rows, `support` makes what is
//! missing beside them, `stage` copies the rows into temporary tables (`encoding` looks at their texts before), or `direct` into an empty table itself (with `fits` and `ranks`; `set_wise` takes foreign keys and indexes off meanwhile), `check` and `fit` find what does not fit, `twins` what is one key to the warehouse alone, `halving`, `isolate` and `block` what the server refuses, `skipped` what it takes and does not write,
//! `aside` and `refusing` set it aside, `standing` tries it again, `refused` is its table, `calendar`, `dimension`, `fact`, `reference` and `retraction` write, `ledger` records. What a transaction is for, to follow,
//! adopt or mend, is told in `purpose`.

mod aside;
mod block;
mod calendar;
mod check;
mod dimension;
mod direct;
mod encoding;
mod fact;
mod fit;
mod fits;
mod halving;
mod isolate;
mod kept;
mod key_catalog;
mod key_type;
mod ledger;
mod model;
mod pair;
mod purpose;
mod ranks;
mod record_id;
mod reference;
mod refused;
mod refusing;
mod rehearsal;
mod retraction;
mod session;
mod set_wise;
mod skipped;
mod stage;
mod standing;
mod statistics;
mod support;
mod table_sql;
mod target;
mod target_catalog;
mod target_type;
mod transaction;
mod twins;
mod unique;
mod view;
mod warehouse;

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::load_plan::{LedgerHead, Planned, Turn, turn};
use starlift_core::{Error, Result, fault};
use tokio_postgres::Client;

pub use self::direct::COPIED_INTO;
pub use self::ledger::{LedgerEntry, Position, current_rows, entries, entry, head, last_loaded_at, position};
pub use self::model::{
    Again, Ahead, BatchStream, LoadLimits, LoadOutcome, LoadReport, LoadRun, LookAhead, MaySetAside, ModelLoad,
    ModelReport, ModelTable, nothing_later,
};
pub use self::refused::{RefusedEntry, refused_counts, refused_entries, refused_keys};
pub use self::rehearsal::{hazards, rehearse_names, rehearse_support};
pub use self::support::{Statement, create_support, missing_support};
pub use self::target_catalog::owned_sequences;
pub use self::unique::Hazard;
pub use self::view::view_name;
pub use self::warehouse::{Cleared, clear, count_rows, create};

use self::key_catalog::read_keys;
use self::pair::Pair;
use self::purpose::Purpose;
use self::target::TargetTable;
use self::target_catalog::read_tables;
use crate::sqlstate::{Retry, classify, classify_of_rows, commit_retry};

/// Loads one star manifest.
///
/// `models` are all models of the star, also those that this manifest does not change (with empty streams), each after
/// the models that it refers to. Their streams are read once, one model after the other. On any outcome but [`LoadOutcome::Loaded`] the
/// warehouse is as it was (or, for [`LoadOutcome::Unknown`], perhaps loaded).
///
/// # Errors
/// * Config: a table or column is missing or does not go with its model; a name is taken.
/// * Permission: a privilege or a part is missing; the hint holds the statements for an owner.
/// * Data: rows that do not fit, refer to nothing, or come twice.
/// * Unavailable: a lock that is not free, a lost connection: run again.
/// * whatever the streams return.
pub async fn load(
    client: &mut Client,
    run: &LoadRun,
    models: Vec<ModelLoad<'_>>,
    look_ahead: &LookAhead<'_>,
) -> Result<LoadOutcome> {
    let purpose = if run.adopt { Purpose::Adopt } else { Purpose::Follow(&run.whole) };
    write(client, run, purpose, models, look_ahead).await
}

/// Mends models in a warehouse that holds this manifest already: the ledger's head is the run's seq and hash, and stays so.
///
/// `models` are all models of the star, in the order of [`load`]; those in `mended` bring their whole state as of the
/// manifest, the others empty streams. Rows that differ from the state are upserted or appended as on adoption, keys that
/// the state does not have are retracted, and nothing is deleted; a calendar is held to its rules. The ledger stays as it
/// is. Again is the same: mending twice writes nothing more. With no model to mend, the rows that stand aside are tried
/// again, and nothing else is done.
///
/// # Errors
/// As [`load`].
pub async fn mend(
    client: &mut Client,
    run: &LoadRun,
    mended: &BTreeSet<String>,
    models: Vec<ModelLoad<'_>>,
    look_ahead: &LookAhead<'_>,
) -> Result<LoadOutcome> {
    write(client, run, Purpose::Mend(mended), models, look_ahead).await
}

async fn write(
    client: &mut Client,
    run: &LoadRun,
    purpose: Purpose<'_>,
    models: Vec<ModelLoad<'_>>,
    look_ahead: &LookAhead<'_>,
) -> Result<LoadOutcome> {
    let mut loads = models;
    for load in &mut loads {
        load.model = load.model.clone().with_keys_that_compare();
    }
    let models: Vec<ModelTable> = loads.iter().map(|load| load.model.clone()).collect();
    let models: Vec<&ModelTable> = models.iter().collect();

    let mut transaction = session::begin(client, &run.schema, run.limits).await?;
    session::lock_pipeline(transaction.client(), &run.pipeline).await?;
    fault::point("load.locked");
    let tables = checked_tables(transaction.client(), &run.schema, &models).await?;
    let pairs = pairs(&models, &tables);
    // Before the ledger, so that a role which may not read it is told what it lacks.
    let missing = support::missing(transaction.client(), &run.pipeline, &run.schema, &pairs).await?;
    missing.refuse_grants()?;
    match turn_of(transaction.client(), run, purpose).await? {
        (Turn::Go, _) => {}
        (Turn::AlreadyLoaded, _) => return Ok(LoadOutcome::AlreadyLoaded),
        (Turn::Moved, head) => return Ok(LoadOutcome::Moved { head }),
    }
    if !missing.statements.is_empty() {
        support::complete(transaction.client(), &run.pipeline, &run.schema, &pairs).await?;
    }
    support::write_anew(transaction.client(), &run.pipeline, &pairs).await?;

    let encoding = encoding::Encoding::read(transaction.client()).await?;
    let work = transaction::Work { run, purpose, look_ahead, encoding: encoding.as_ref() };
    let report = work.write(&mut transaction, &pairs, loads).await?;
    fault::point("load.before_ledger");
    let too_late = fault::planted("ledger_after_commit");
    let recorded = if too_late { Ok(()) } else { ledger::record(transaction.client(), run, purpose, &report).await };
    match recorded {
        Ok(()) => {}
        // Somebody who does not take our lock wrote this row first: what we have is taken back, and the ledger decides.
        Err(error) if ledger::is_taken(&error) => {
            transaction.rollback().await.map_err(|e| classify(e, "cannot roll a load back"))?;
            return Ok(match turn_of(client, run, purpose).await? {
                (Turn::AlreadyLoaded, _) => LoadOutcome::AlreadyLoaded,
                (_, head) => LoadOutcome::Moved { head },
            });
        }
        Err(error) => return Err(error),
    }
    fault::point("load.before_commit");
    match fault::under_way("load.commit_sent", transaction.commit()).await {
        Ok(()) => {
            fault::point("load.after_commit");
            if too_late {
                ledger::record(client, run, purpose, &report).await?;
            }
            Ok(LoadOutcome::Loaded(report))
        }
        Err(error) => {
            let unknown = commit_retry(&error) == Retry::UnknownOutcome;
            let error = classify_of_rows(error, "the commit of a load failed");
            if unknown { Ok(LoadOutcome::Unknown { error, report }) } else { Err(error) }
        }
    }
}

/// What the ledger says about a run, and its head.
async fn turn_of(client: &Client, run: &LoadRun, purpose: Purpose<'_>) -> Result<(Turn, Option<LedgerHead>)> {
    let now = head(client, &run.pipeline, &run.star_id).await?;
    let at_seq = ledger::sha256_at(client, &run.pipeline, &run.star_id, run.seq).await?;
    let planned =
        Planned { seq: run.seq, manifest_sha256: &run.manifest_sha256, aim: purpose.aim(), head: run.head.as_ref() };
    Ok((turn(planned, now.as_ref(), at_seq.as_deref()), now))
}

/// The tables of the models, each compared with its model.
async fn checked_tables(
    client: &Client,
    schema: &str,
    models: &[&ModelTable],
) -> Result<BTreeMap<String, TargetTable>> {
    let names: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
    let mut tables = read_tables(client, schema, &names).await?;
    for model in models {
        model.check()?;
        let table = tables.get(&model.name).ok_or_else(|| {
            Error::config(format!("table `{}` is missing in schema `{schema}` of the warehouse", model.name))
                .with_detail(format!("model `{}` is loaded into a table of its name", model.name))
                .with_hint("run `starlift warehouse create`")
                .with_context("model", model.name.clone())
        })?;
        table.check(model)?;
    }
    kept::check(client, schema, models, &mut tables).await?;
    read_keys(client, &mut tables, models).await?;
    for model in models {
        tables.get(&model.name).map_or(Ok(()), |table| table.check_key(model))?;
    }
    Ok(tables)
}

/// Models beside their tables, in the order of the models.
fn pairs<'a>(models: &[&'a ModelTable], tables: &'a BTreeMap<String, TargetTable>) -> Vec<Pair<'a>> {
    models.iter().filter_map(|model| Some(Pair { model, target: tables.get(&model.name)? })).collect()
}
