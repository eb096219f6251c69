//! Load as the product does it, step by step (`starlift/src/load.rs`, `postgres/src/load.rs`), over the simulated warehouse.

use std::collections::BTreeMap;

use starlift_core::load_plan::{self, Aim, LedgerHead, LoadPlan, Planned, Turn};
use starlift_core::manifest::FileMode;
use starlift_core::{Error, Result};
use starlift_lake::{Head, Stored, manifests};

use crate::files;
use crate::planted::Planted;
use crate::port::Port;
use crate::run::{Ended, Run};
use crate::tables::{LOAD_ORDER, Model, Rows};
use crate::warehouse::Content;

const ATTEMPTS: u32 = 5;
/// How often a lock that is taken is asked for again, before the wait is given up.
const PATIENCE: u32 = 3;

pub(crate) async fn load(run: Run) -> Result<Ended> {
    let head = run.head(run.star).await?;
    if head.newest().is_none() {
        return Ok(Ended::Nothing);
    }
    let (mut ended, mut attempt, mut unsure) = (Ended::Nothing, 1, None);
    loop {
        match load_next(&run, &head, &mut unsure).await {
            Ok(None) => return Ok(ended),
            Ok(Some(seq)) => (ended, attempt) = (Ended::Committed(seq), 1),
            Err(error) if error.kind().policy().retry && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A transaction of the warehouse. Dropping it, as a crash does, rolls it back and gives the lock back.
struct Transaction<'a> {
    port: &'a Port,
    content: Content,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.port.with(|w| w.warehouse.locked_by = w.warehouse.locked_by.filter(|run| *run != self.port.run));
    }
}

impl<'a> Transaction<'a> {
    /// Begins, and takes the lock of the pipeline.
    async fn begin(port: &'a Port) -> Result<Transaction<'a>> {
        for _ in 0..PATIENCE {
            port.database("beginning a transaction").await?;
            let content = port.with(|w| {
                let free = w.warehouse.is_free();
                free.then(|| {
                    w.warehouse.locked_by = Some(port.run);
                    w.warehouse.content().clone()
                })
            });
            if let Some(content) = content {
                return Ok(Transaction { port, content });
            }
        }
        Err(Error::unavailable("another load holds the lock"))
    }

    /// Whether it is known to be committed.
    async fn commit(self) -> Result<bool> {
        let port = self.port;
        port.database("before COMMIT").await?;
        let is_known = !port.fails(|w| w.settings.commit_fault);
        port.with(|w| {
            let fate = if is_known { 1 } else { w.random.below(3) };
            w.record.note(|| format!("run {}: COMMIT, known {is_known}, fate {fate}", port.run));
            match fate {
                0 => {}
                1 => w.warehouse.commit(self.content.clone(), &mut w.record),
                _ => w.warehouse.late = Some(self.content.clone()),
            }
        });
        Ok(is_known)
    }
}

/// Loads one manifest; none when the warehouse holds them all. `unsure` is the seq of a transaction before that nobody
/// could say of whether it is committed.
async fn load_next(run: &Run, head: &Head, unsure: &mut Option<u64>) -> Result<Option<u64>> {
    let port = &run.port;
    let Some(star_id) = head.manifest().map(|m| m.id.clone()) else { return Ok(None) };
    port.database("reading the ledger").await?;
    if let Some(seq) = *unsure
        && port.with(|w| w.warehouse.content().run_at(&star_id, seq)) == Some(run.run_id.clone())
    {
        return Ok(unsure.take());
    }
    let ledger = port.with(|w| w.warehouse.content().head(&star_id));
    let newer = match &ledger {
        Some(ledger) if Some(ledger.seq) > head.manifest().map(|m| m.seq) => Some(run.head(run.star).await?),
        _ => None,
    };
    let head = newer.as_ref().unwrap_or(head);
    let Some(newest) = head.newest() else { return Ok(None) };
    let Some((mut seq, adopt)) = plan(run, newest, ledger.as_ref()).await?.next() else { return Ok(None) };
    if port.planted(Planted::OnlyNewestLoaded) {
        seq = newest.seq();
    }
    let store = run.store(run.star);
    let stored = if seq == newest.seq() { newest.clone() } else { manifests::read(&store, seq).await? };
    let aim = if adopt { Aim::Adopt } else { Aim::Follow };
    let planned = Planned { seq, manifest_sha256: &stored.sha256, aim, head: ledger.as_ref() };
    let is_new = ledger.as_ref().is_none_or(|head| head.seq < seq);
    port.note(|| format!("loads star manifest {seq}{}", if adopt { " by adoption" } else { "" }));

    let mut transaction = Transaction::begin(port).await?;
    let now = transaction.content.head(&star_id);
    let at_seq = transaction.content.sha256_at(&star_id, seq);
    let is_ignored = port.planted(Planted::OnlyNewestLoaded);
    match load_plan::turn(planned, now.as_ref(), at_seq.as_deref()) {
        Turn::Go => {}
        Turn::AlreadyLoaded | Turn::Moved if is_ignored => {}
        Turn::AlreadyLoaded | Turn::Moved => return Ok(Some(seq)),
    }
    let brought = bring(run, head, &stored, adopt).await?;
    for (model, rows) in brought.iter().filter(|(model, _)| !model.is_fact()) {
        apply(port, &mut transaction.content, *model, rows);
    }
    if port.planted(Planted::FactsAfterCommit) {
        transaction.commit().await?;
        transaction = Transaction::begin(port).await?;
    }
    for (model, rows) in brought.iter().filter(|(model, _)| model.is_fact()) {
        apply(port, &mut transaction.content, *model, rows);
    }
    if port.planted(Planted::LedgerAfterCommit) {
        transaction.commit().await?;
        transaction = Transaction::begin(port).await?;
    }
    let row = LedgerHead { seq, manifest_sha256: stored.sha256.clone() };
    transaction.content.record(&star_id, row.clone(), &run.run_id, adopt);
    if transaction.commit().await? {
        *unsure = None;
        return Ok(Some(seq));
    }
    if port.planted(Planted::UnknownSentAgain) {
        let mut again = Transaction::begin(port).await?;
        for (model, rows) in &brought {
            apply(port, &mut again.content, *model, rows);
        }
        again.content.record(&star_id, row, &run.run_id, adopt);
        again.commit().await?;
        return Ok(Some(seq));
    }
    *unsure = is_new.then_some(seq);
    Err(Error::unavailable("the connection broke during COMMIT"))
}

async fn plan(run: &Run, newest: &Stored, head: Option<&LedgerHead>) -> Result<LoadPlan> {
    let newest_seq = Some(newest.seq());
    let sha256_at_head = match head {
        Some(head) if Some(head.seq) == newest_seq => Some(newest.sha256.clone()),
        Some(head) if Some(head.seq) < newest_seq => {
            Some(manifests::read(&run.store(run.star), head.seq).await?.sha256)
        }
        _ => None,
    };
    load_plan::plan(head, newest_seq, sha256_at_head.as_deref(), false)
}

/// Rows and gone keys of one model.
struct Brought {
    rows: Rows,
    gone: Vec<i32>,
    /// Whether the rows are the whole state.
    is_whole: bool,
}

/// What a manifest brings, or on adoption the whole state, dimensions first.
async fn bring(run: &Run, head: &Head, stored: &Stored, adopt: bool) -> Result<BTreeMap<Model, Brought>> {
    let mut brought = BTreeMap::new();
    for model in LOAD_ORDER {
        let Some(relation) = stored.manifest.relations.get(model.name()) else { continue };
        run.port.database("staging a model").await?;
        let is_whole = adopt || stored.manifest.replaces(model.name());
        let mut of_model = Brought { rows: Rows::new(), gone: Vec::new(), is_whole };
        if adopt {
            of_model.rows = files::state(run, run.star, &relation.schema, &head.live_of(model.name())).await?;
        } else {
            for file in stored.manifest.files_of(model.name()) {
                let is_deleted = file.file.mode == FileMode::Deleted;
                let rows = files::rows(run, run.star, &relation.schema, file).await?;
                if is_deleted {
                    of_model.gone.extend(rows.into_iter().map(|row| row[0]));
                } else {
                    of_model.rows.extend(rows);
                }
            }
        }
        brought.insert(model, of_model);
    }
    Ok(brought)
}

/// The statements of one model (`postgres/src/load/transaction.rs`).
fn apply(port: &Port, content: &mut Content, model: Model, brought: &Brought) {
    if model.is_fact() {
        let always = port.planted(Planted::FactsNotCompared) || port.planted(Planted::UnknownSentAgain);
        content.append(model, &brought.rows, always);
    } else {
        content.upsert(model, &brought.rows);
    }
    if brought.is_whole {
        let stays: Vec<i32> = brought.rows.iter().map(|row| row[0]).collect();
        let unknown: Vec<i32> = content.keys(model).into_iter().filter(|key| !stays.contains(key)).collect();
        if !port.planted(Planted::AdoptionKeepsAll) {
            content.retract(model, unknown);
        }
    } else if !port.planted(Planted::RetractionsIgnored) {
        content.retract(model, brought.gone.iter().copied());
    }
    content.give_back(model, &brought.rows);
}
