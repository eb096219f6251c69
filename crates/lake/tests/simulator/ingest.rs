//! Ingest as the product does it, step by step (`starlift/src/ingest.rs`), over the simulated source.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::capture::{self, CaptureMode, Read};
use starlift_core::manifest::{FileMode, Manifest, Origin, Proof, Relation, RelationRun};
use starlift_core::relation::{self, Pass};
use starlift_core::xid::XidWindow;
use starlift_core::{Error, Micros, Result, succession};
use starlift_lake::{Head, claim};

use crate::files;
use crate::planted::Planted;
use crate::run::{Ended, Run};
use crate::source::Snapshot;
use crate::tables::{Row, Rows, TABLES, Table};
use crate::world::World;

/// Reads these tables; `standby` is how many commits the standby lags that is read instead of the primary.
pub(crate) async fn ingest(run: Run, tables: Vec<Table>, standby: Option<usize>) -> Result<Ended> {
    let port = &run.port;
    let head = run.head(run.lake).await?;
    if let Some(done) = run.find_run(run.lake, &head).await? {
        return Ok(Ended::Replayed(done.seq()));
    }
    port.database("connecting to the source").await?;
    let snapshot = port.with(|w| match standby {
        Some(lag) => w.source.standby(lag, &mut w.random),
        None => w.source.snapshot(),
    });
    let newest = head.manifest();
    port.note(|| {
        let of = newest.map_or(0, |m| m.seq);
        format!("snapshot {}:{} after manifest {of}", snapshot.source.xmin, snapshot.source.xmax)
    });
    let is_late = port.planted(Planted::LagCheckedAfter);
    let lsn_before = if is_late { snapshot.source.lsn } else { snapshot.lsn_before };
    capture::check_lag(newest, &snapshot.source, Some(lsn_before))?;
    let write_id = port.with(World::new_id);
    let (now, owner) = port.with(|w| (w.now(), w.new_id()));
    let at = claim(&run.store(run.lake), now, newest.map(|m| m.at), &owner).await?;

    let mut relations = succession::carried(newest, |name| TABLES.iter().any(|table| table.name() == name));
    let seq = succession::next_seq(newest);
    for table in &tables {
        let task = Task { run: &run, head: &head, newest, snapshot: &snapshot, table: *table, at, seq };
        relations.insert(table.name().into(), task.read().await?);
    }
    plant(&run, &snapshot, &write_id, &mut relations);
    let images = tables.iter().map(|table| (*table, snapshot.image(*table))).collect();
    port.with(|w| {
        w.record.images.insert(write_id.clone(), images);
        w.record.snapshots.insert(write_id.clone(), snapshot.lsn_of_snapshot);
    });
    run.commit(run.lake, &head, write_id, at, Origin::Ingest { source: snapshot.source }, relations).await
}

fn plant(run: &Run, snapshot: &Snapshot, write_id: &str, relations: &mut BTreeMap<String, Relation>) {
    run.port.with(|w| w.running_at.insert(write_id.into(), snapshot.running.clone()));
    for relation in relations.values_mut() {
        let Some(capture) = &mut relation.capture else { continue };
        if run.port.planted(Planted::OneWatermark) {
            (capture.watermark, capture.xmax) = (snapshot.source.xmin, snapshot.source.xmax);
        }
    }
}

/// One table of one ingest (`starlift/src/ingest/table.rs`).
struct Task<'a> {
    run: &'a Run,
    head: &'a Head,
    newest: Option<&'a Manifest>,
    snapshot: &'a Snapshot,
    table: Table,
    at: Micros,
    seq: u64,
}

/// What reading came to.
struct Written {
    rows: Rows,
    gone: Vec<i32>,
    proof: Proof,
}

impl Task<'_> {
    async fn read(&self) -> Result<Relation> {
        self.run.port.database("reading a table").await?;
        let schema = self.table.schema(self.snapshot.alterations[&self.table]);
        let before = self.newest.and_then(|m| m.relations.get(self.table.name()));
        let fingerprint = schema.fingerprint();
        let read = self.decide(before, &fingerprint);
        let is_same = before.is_some_and(|b| b.fingerprint == fingerprint);
        let live = if is_same { self.head.live_of(self.table.name()) } else { Vec::new() };
        let state = match read {
            Read::Full { replaces: true, .. } if !is_same => Rows::new(),
            _ => files::state(self.run, self.run.lake, &schema, &live).await?,
        };
        let all = self.snapshot.image(self.table);
        let counted = all.len() as u64;
        let proof = Proof { counted, known: counted, reconciled: false };
        let (written, replaced) = match read {
            Read::Window(window) => (self.window(window, &state, before.map_or(0, |b| b.rows))?, false),
            Read::Full { replaces: true, .. } if is_same && all == state => {
                (Written { rows: Rows::new(), gone: Vec::new(), proof }, false)
            }
            Read::Full { replaces: true, .. } => (Written { rows: all, gone: Vec::new(), proof }, true),
            Read::Full { replaces: false, .. } => {
                let gone = missing(&state, &all);
                (Written { rows: differing(&all, &state), gone, proof }, false)
            }
        };
        let mode = if replaced { FileMode::Full } else { FileMode::Window };
        let (run, name) = (self.run, self.table.name());
        let files = files::write(run, run.lake, name, self.at, mode, &schema, &written.rows).await?;
        if !files.is_empty() {
            let source = &self.snapshot.source;
            run.port.with(|w| w.snapshot_of_name.insert(self.at, (source.xmin, source.xmax)));
        }
        let gone: Rows = written.gone.iter().map(|id| [*id, 0, 0]).collect();
        let deleted = files::write(run, run.lake, name, self.at, FileMode::Deleted, &schema, &gone).await?;
        let pass = Pass {
            rows: written.proof.counted,
            refused: 0,
            replaced,
            run: RelationRun {
                mode: mode_of(read).into(),
                proof: Some(written.proof),
                files,
                deleted,
                ..RelationRun::default()
            },
        };
        let capture = capture::state_after(self.mode(), &self.snapshot.source, self.at);
        Ok(relation::table(before, schema, capture, self.seq, pass))
    }

    fn mode(&self) -> CaptureMode {
        if self.table.has_key() { CaptureMode::Xid } else { CaptureMode::Full }
    }

    fn decide(&self, before: Option<&Relation>, fingerprint: &str) -> Read {
        let port = &self.run.port;
        let mut before = before.cloned();
        let mut now = self.snapshot.source.clone();
        if let Some(relation) = &mut before {
            if port.planted(Planted::FingerprintIgnored) {
                relation.fingerprint = fingerprint.into();
            }
            if let Some(capture) = &mut relation.capture {
                if port.planted(Planted::RestoreIgnored) {
                    now.identity = capture.identity.clone();
                    now.xmax = now.xmax.max(capture.xmax);
                    capture.lsn = 0;
                }
                if port.planted(Planted::StateFromNames) {
                    let of_names = port.with(|w| w.snapshot_of_name.last_key_value().map(|(_, snapshot)| *snapshot));
                    (capture.watermark, capture.xmax) = of_names.unwrap_or((capture.watermark, capture.xmax));
                }
            }
        }
        let shape = capture::Shape { has_key: self.table.has_key(), fingerprint, names: None };
        capture::decide_read(self.mode(), shape, before.as_ref(), &now)
    }

    /// The rows of the window that differ from the state; then the count; then, where it differs, the keys.
    fn window(&self, window: XidWindow, state: &Rows, rows_before: u64) -> Result<Written> {
        let source = &self.snapshot.rows[&self.table];
        let read: Rows = source.iter().filter(|(_, xmin)| self.is_read(window, *xmin)).map(|(row, _)| *row).collect();
        let mut rows = differing(&read, state);
        let known: BTreeSet<i32> = state.iter().map(|row| row[0]).collect();
        let new: BTreeSet<i32> = read.iter().map(|row| row[0]).filter(|id| !known.contains(id)).collect();
        let counted = source.len() as u64;
        let proof = Proof { counted, known: rows_before + new.len() as u64, reconciled: false };
        if proof.agrees() || self.run.port.planted(Planted::CountsIgnored) {
            return Ok(Written { rows, gone: Vec::new(), proof });
        }
        let all = self.snapshot.image(self.table);
        let gone = missing(state, &all);
        let unknown: Rows =
            all.iter().filter(|row| !known.contains(&row[0]) && !new.contains(&row[0])).copied().collect();
        let kept = state.len() - gone.len();
        let proof = Proof { known: (kept + new.len() + unknown.len()) as u64, reconciled: true, ..proof };
        rows.extend(unknown);
        if !proof.agrees() {
            return Err(Error::data(format!("table `{}` does not add up: {proof:?}", self.table.name())));
        }
        Ok(Written { rows, gone, proof })
    }

    fn is_read(&self, window: XidWindow, xmin: u32) -> bool {
        let port = &self.run.port;
        if port.planted(Planted::TopLevelXids) {
            let newest = self.newest.map_or("", |m| m.write_id.as_str());
            let running = port.with(|w| w.running_at.get(newest).cloned()).unwrap_or_default();
            let before = self.newest.and_then(Manifest::source).map_or(0, |s| s.xmax);
            let is_running = running.iter().any(|xid| (*xid % (1 << 32)) as u32 == xmin);
            let since = XidWindow::new(before.min(self.snapshot.source.xmax), self.snapshot.source.xmax);
            return is_running || since.is_some_and(|since| since.contains(xmin));
        }
        window.contains(xmin)
    }
}

fn mode_of(read: Read) -> &'static str {
    match read {
        Read::Window(_) => "window",
        Read::Full { .. } => "full",
    }
}

/// Rows that are new or differ from their row in the state.
pub(crate) fn differing(rows: &[Row], state: &[Row]) -> Rows {
    let known: BTreeMap<i32, &Row> = state.iter().map(|row| (row[0], row)).collect();
    rows.iter().filter(|row| known.get(&row[0]) != Some(row)).copied().collect()
}

/// Keys of the state that are not among the rows.
pub(crate) fn missing(state: &[Row], rows: &[Row]) -> Vec<i32> {
    let there: BTreeSet<i32> = rows.iter().map(|row| row[0]).collect();
    state.iter().map(|row| row[0]).filter(|id| !there.contains(id)).collect()
}
