//! Verify: source, lake and warehouse compared, table by table and model by model.
//!
//! # What is compared
//!
//! | comparison | left | right |
//! | --- | --- | --- |
//! | `source-lake` | each captured table at one snapshot of the source | its state in the lake |
//! | `star-warehouse` | each model's state as of the star manifest that the ledger names | its view `current_<model>` |
//! | `lake-warehouse` | a table as of the ingest manifest which that star covers | the model that has one row for each of its rows |
//!
//! Counts, key sets and content: of every row a digest of its key and one of its columns, made by PostgreSQL on one side
//! and from the Parquet files on the other, from texts that are equal exactly when the values are. The models are not
//! evaluated, so a fault of the evaluation shows in the third comparison. For a fact the stored versions are looked
//! at too, and the calendar is checked against the rules of a calendar.
//!
//! # What counts as a difference
//!
//! The source moves on while it is compared. Rows at or after a table's watermark and keys that are gone since are
//! `pending`: the next run will look at them, or, of a large table, the next xid pass (docs/capture.md). So is what star manifests bring that are not loaded yet. All else that
//! differs is a difference; [`VerifyReport::equal`] says whether there is any.
//!
//! With `settle` the stages run first, with an xid pass of every table. What the source commits between the snapshot of that ingest and the one of the
//! comparison is told by its `xmin` and stays pending. A delete leaves no such mark, so a key that only the lake has is
//! looked at again: the stages run once more, which must take it away if it really is gone from the source. Only a
//! key that was in the lake alone in each of three such rounds is a difference. In a source that stands still the
//! first round decides.
//!
//! # Limits
//!
//! Memory: what does not fit is put aside (`matching.rs`); the values of a table that an inner join looks for, and keys that are gone, are held. The
//! source's snapshot and its `ACCESS SHARE` locks are held until its last table is compared. A view of the source does
//! not show which of its rows changed, so what differs there is pending for ever, unless the source stands still.
//!
//! Nothing is written but what the stages write with `settle`, and what [`repair`] mends. No value of a row leaves the databases and files but
//! those of keys; a crash leaves nothing behind.

mod calendar;
mod lake_side;
mod lake_warehouse;
mod matching;
mod model_view;
mod repair;
mod report;
mod row_digest;
mod side;
mod source_lake;
mod spine;
mod sql_side;
mod star_warehouse;
mod versions;
mod warehouse_view;

use std::collections::{BTreeSet, HashSet};

use starlift_core::manifest::{Manifest, Origin};
use starlift_core::model::{ModelKind, nearest};
use starlift_core::{Error, ErrorKind, Micros, Result, event};
use starlift_lake::{Head, manifests};

pub use repair::{Repair, repair};
pub use report::{ASIDE, Comparison, ComparisonKind, EXAMPLES, Example, NOT_COMPARED, Verdict, VerifyReport};

use self::lake_warehouse::{Covered, Past};
use self::model_view::Later;
use self::source_lake::{Gone, SourceView};
use self::star_warehouse::Loaded;
use self::warehouse_view::WarehouseView;
use crate::context::{Context, now};
use crate::load::LoadRequest;
use crate::report::{Outcome, StageReport};
use crate::secrets;

const STAGE: &str = "verify";
/// How often, with `settle`, a key that only the lake has is looked at before it counts as a difference.
const ROUNDS: usize = 3;
/// How a note begins that tells of a stage which could not settle.
const STOPPED: &str = "a stage stopped: ";
/// How often an ingest is tried that another run supersedes.
const ATTEMPTS: usize = 3;

/// What verify is asked to do.
#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// Run ingest, transform and load first, so that what differs afterwards is a difference.
    pub settle: bool,
    /// Tables and models to compare; all where it is empty. A model is compared with the star and the lake, not its
    /// tables with the source.
    pub only: Vec<String>,
}

/// Compares source, lake and warehouse.
///
/// A difference is a result, not an error: see [`VerifyReport::equal`]. Errors: Config for an unknown name in `only`, and
/// where ledger and star disagree; Data for a damaged file or manifest; Permission and Unavailable as the stages; with
/// `settle` those of the stages.
pub async fn verify(ctx: &Context, request: &VerifyRequest) -> Result<VerifyReport> {
    compare(ctx, request, Settling::Strict).await
}

/// What happens to data that a stage refuses while it settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    /// It stops verify.
    Strict,
    /// It becomes a note: what is damaged may be the reason, and it is about to be mended.
    Tolerant,
}

async fn compare(ctx: &Context, request: &VerifyRequest, settling: Settling) -> Result<VerifyReport> {
    let mut report = VerifyReport {
        run_id: ctx.run_id.clone(),
        settled: request.settle,
        ingest_seq: None,
        loaded_seq: None,
        comparisons: Vec::new(),
        notes: Vec::new(),
    };
    source_and_lake(ctx, request, settling, &mut report).await?;
    star_and_warehouse(ctx, request, &mut report).await?;
    report.comparisons.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    for comparison in &report.comparisons {
        tracing::info!(
            stage = STAGE,
            run_id = report.run_id,
            comparison = comparison.kind.name(),
            table = comparison.name,
            verdict = comparison.verdict.name(),
            pending = comparison.pending,
            differences = comparison.differences,
            "compared"
        );
    }
    Ok(report)
}

/// Compares the source with the lake, with `settle` in as many rounds as it takes.
async fn source_and_lake(
    ctx: &Context,
    request: &VerifyRequest,
    settling: Settling,
    report: &mut VerifyReport,
) -> Result<()> {
    if request.settle {
        settle(ctx, settling, &mut report.notes).await?;
    }
    let none = BTreeSet::new();
    let (mut comparisons, mut gone) = round(ctx, request, &none, &Gone::new(), report).await?;
    for number in 2..=ROUNDS {
        gone.retain(|_, keys| !keys.is_empty());
        if !request.settle || gone.is_empty() {
            break;
        }
        if !settle(ctx, settling, &mut report.notes).await? {
            report.notes.push("keys that only the lake has are pending: other runs kept committing first".into());
            break;
        }
        let again: BTreeSet<String> = gone.keys().cloned().collect();
        // Before the last round no key is confirmed: it only narrows what was gone all the time.
        let confirmed = if number == ROUNDS { gone.clone() } else { Gone::new() };
        let (newer, still_gone) = round(ctx, request, &again, &confirmed, report).await?;
        comparisons.retain(|c| !again.contains(&c.name));
        comparisons.extend(newer);
        for (name, keys) in &mut gone {
            let still: HashSet<_> = still_gone.get(name).cloned().unwrap_or_default();
            keys.retain(|key| still.contains(key));
        }
    }
    report.comparisons.extend(comparisons);
    Ok(())
}

/// One comparison of the source with the lake: of the tables `again`, or, where there are none, of all that are wanted.
async fn round(
    ctx: &Context,
    request: &VerifyRequest,
    again: &BTreeSet<String>,
    confirmed: &Gone,
    report: &mut VerifyReport,
) -> Result<(Vec<Comparison>, Gone)> {
    let store = ctx.lake()?;
    // The lake first: what the source commits after it is then in the window.
    let lake = ctx.lake_head().await?;
    report.ingest_seq = lake.manifest().map(|m| m.seq);
    let source = SourceView::open(ctx, lake.manifest()).await?;
    let in_lake = lake.manifest().into_iter().flat_map(|m| m.relations.keys().cloned());
    let mut tables: BTreeSet<String> = source.tables().iter().cloned().chain(in_lake).collect();
    check_names(ctx, &request.only, &tables)?;
    tables.retain(|name| {
        let wanted = request.only.is_empty() || request.only.contains(name);
        wanted && (again.is_empty() || again.contains(name))
    });
    let (mut comparisons, mut gone) = (Vec::new(), Gone::new());
    let none = HashSet::new();
    for name in tables {
        let begun = begin(ctx, &name);
        let confirmed = confirmed.get(&name).unwrap_or(&none);
        let compared = source.compare(&name, &store, &lake, request.settle, confirmed).await;
        let (comparison, only_lake) = compared.map_err(|e| e.with_context("table", name.clone()))?;
        gone.insert(name, only_lake);
        comparisons.push(finish(ctx, comparison, begun));
    }
    source.close().await?;
    Ok((comparisons, gone))
}

/// Compares star and lake with the warehouse.
async fn star_and_warehouse(ctx: &Context, request: &VerifyRequest, report: &mut VerifyReport) -> Result<()> {
    let store = ctx.star()?;
    let newest = ctx.star_head().await?;
    let Some(star_id) = newest.manifest().map(|m| m.id.clone()) else {
        let models = ctx.project.graph.models().iter().map(|m| m.name.clone());
        report.comparisons.extend(nothing_loaded(request, models, "the star is empty: run `starlift transform`"));
        return Ok(());
    };
    let warehouse = WarehouseView::open(ctx, &star_id).await?;
    let Some(ledger) = warehouse.head.clone() else {
        let models = newest.manifest().into_iter().flat_map(|m| m.relations.keys().cloned());
        let note = "the warehouse holds nothing of this star: run `starlift load`";
        report.comparisons.extend(nothing_loaded(request, models, note));
        return warehouse.close().await;
    };
    report.loaded_seq = Some(ledger.seq);
    // Loads that came after the star was read are in the warehouse's snapshot too.
    let newest_seq = newest.manifest().map_or(0, |m| m.seq).max(ledger.seq);
    let head = match manifests::newest(&store).await? {
        Some(now) if now.seq() >= ledger.seq => Head::at(&store, &ctx.config.pipeline, ledger.seq).await?,
        _ => return Err(warehouse_view::disagrees(ledger.seq)),
    };
    if head.newest().map(|s| &s.sha256) != Some(&ledger.manifest_sha256) {
        return Err(warehouse_view::disagrees(ledger.seq));
    }
    let later = Later::read(&store, &warehouse, ledger.seq, newest_seq).await?;
    let loaded =
        Loaded { pipeline: &ctx.config.pipeline, star: &store, head: &head, warehouse: &warehouse, later: &later };
    let Some(manifest) = head.manifest() else { return Err(warehouse_view::disagrees(ledger.seq)) };

    let lake = ctx.lake()?;
    let lake_head = covered(ctx, manifest, report).await?;
    for (name, relation) in manifest.relations.iter().filter(|(name, _)| wanted(request, name)) {
        let at = |e: Error| e.with_context("model", name.clone());
        let begun = begin(ctx, name);
        let comparison = star_warehouse::model(&loaded, name, relation).await.map_err(at)?;
        report.comparisons.push(finish(ctx, comparison, begun));
        let model = ctx.project.graph.get(name).filter(|m| m.header.kind != ModelKind::Calendar);
        if let (Some(lake_head), Some(model)) = (&lake_head, model) {
            let begun = begin(ctx, name);
            let covered = Covered { lake: &lake, head: lake_head };
            match lake_warehouse::model(ctx, &loaded, &covered, model, relation).await.map_err(at)? {
                Past::Compared(comparison) => report.comparisons.push(finish(ctx, comparison, begun)),
                Past::Not(why) => {
                    ctx.progress.finished(STAGE, name);
                    report.notes.push(format!("model `{name}` is not compared with the lake: {why}"));
                }
            }
        }
    }
    for model in ctx.project.graph.models().iter().filter(|m| wanted(request, &m.name)) {
        if !manifest.relations.contains_key(&model.name) {
            report.notes.push(format!("model `{}` is not in the warehouse yet: run `starlift run`", model.name));
        }
    }
    warehouse.close().await
}

/// The lake as of the manifest that a star covers; none where the lake is another one by now.
async fn covered(ctx: &Context, star: &Manifest, report: &mut VerifyReport) -> Result<Option<Head>> {
    let Origin::Transform { lake_id, upto, .. } = &star.origin else { return Ok(None) };
    let store = ctx.lake()?;
    let newest = manifests::newest(&store).await?;
    let is_same = newest.is_some_and(|newest| newest.manifest.id == *lake_id && newest.seq() >= *upto);
    if !is_same {
        report.notes.push("the warehouse was loaded from another lake: it is not compared with this one".into());
        return Ok(None);
    }
    Head::at(&store, &ctx.config.pipeline, *upto).await.map(Some)
}

/// Runs the stages; whether the ingest was our own, so that what the source held before it started is in the lake.
async fn settle(ctx: &Context, settling: Settling, notes: &mut Vec<String>) -> Result<bool> {
    let mut is_ours = false;
    for _ in 0..ATTEMPTS {
        match tolerated(crate::ingest::ingest_complete(&ctx.for_new_run()).await, settling, notes)? {
            Some(report) if report.outcome != Outcome::Committed => {}
            committed => {
                is_ours = committed.is_some();
                break;
            }
        }
    }
    let run = ctx.for_new_run();
    tolerated(crate::transform(&run, None).await, settling, notes)?;
    tolerated(crate::load(&run, &LoadRequest::default()).await, settling, notes)?;
    Ok(is_ours)
}

/// What a stage came to; none where it refused data and that is tolerated.
fn tolerated(done: Result<StageReport>, settling: Settling, notes: &mut Vec<String>) -> Result<Option<StageReport>> {
    match done {
        Err(error) if settling == Settling::Tolerant && error.kind() == ErrorKind::Data => {
            let note = format!("{STOPPED}{}", secrets::message(&error));
            if !notes.contains(&note) {
                notes.push(note);
            }
            Ok(None)
        }
        done => done.map(Some),
    }
}

fn nothing_loaded(request: &VerifyRequest, models: impl Iterator<Item = String>, note: &str) -> Vec<Comparison> {
    let missing = |name: String| {
        Comparison::new(ComparisonKind::StarWarehouse, &name).with_verdict(Verdict::Missing).with_note(note)
    };
    models.filter(|name| wanted(request, name)).map(missing).collect()
}

fn wanted(request: &VerifyRequest, name: &str) -> bool {
    request.only.is_empty() || request.only.iter().any(|only| only == name)
}

/// Whether every name that is asked for is a table or a model.
fn check_names(ctx: &Context, only: &[String], tables: &BTreeSet<String>) -> Result<()> {
    let models = ctx.project.graph.models().iter().map(|m| m.name.as_str());
    let known: BTreeSet<&str> = tables.iter().map(String::as_str).chain(models).collect();
    match only.iter().find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::config(format!("there is no table or model `{}`", event::printable(name))).with_hint(
            match nearest(name, known.into_iter()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "`starlift status` lists tables and models".to_string(),
            },
        )),
    }
}

fn begin(ctx: &Context, name: &str) -> Micros {
    ctx.progress.started(STAGE, name);
    now()
}

fn finish(ctx: &Context, mut comparison: Comparison, begun: Micros) -> Comparison {
    comparison.millis = now().millis_since(begun);
    let rows = comparison.rows_left + comparison.rows_right;
    ctx.progress.advanced(STAGE, &comparison.name, rows, 0);
    ctx.progress.finished(STAGE, &comparison.name);
    comparison
}
