//! A schedule: the seed decides, step by step, who goes on, what fails, who dies and what happens meanwhile.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use starlift_core::{ErrorKind, Result};

use crate::ingest::ingest;
use crate::invariants::Check;
use crate::keep::compact;
use crate::load::load;
use crate::planted::Planted;
use crate::port::Port;
use crate::run::{Ended, Run, Stage};
use crate::tables::{MODELS, TABLES, Table};
use crate::transform::transform;
use crate::vacuum::vacuum;
use crate::world::World;

/// What came of a schedule.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// Names everything that happened: two schedules with the same are the same.
    pub(crate) steps: usize,
}

/// A run on its way.
struct Active {
    name: String,
    port: Port,
    future: Pin<Box<dyn Future<Output = Result<Ended>>>>,
}

struct Schedule {
    world: Arc<Mutex<World>>,
    active: Vec<Active>,
    runs: u32,
    /// Ids of earlier runs, which may come again.
    ids: Vec<(Stage, String)>,
}

/// Plays a schedule to its end and looks at what it left. `limit` ends the disturbances early.
pub(crate) async fn play(seed: u64, planted: Option<Planted>, limit: Option<usize>, traced: bool) -> Outcome {
    let world = Arc::new(Mutex::new(World::new(seed, planted, traced)));
    let mut schedule = Schedule { world, active: Vec::new(), runs: 0, ids: Vec::new() };
    let steps = schedule.with(|w| w.settings.steps);
    for _ in 0..limit.unwrap_or(steps).min(steps) {
        schedule.step().await;
    }
    schedule.settle().await;
    let left = Arc::clone(&schedule.world);
    drop(schedule);
    let mut world = left.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let record = &mut world.record;
    Outcome {
        violations: std::mem::take(&mut record.violations),
        trace: record.trace.take().unwrap_or_default(),
        steps: record.steps,
    }
}

impl Schedule {
    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn step(&mut self) {
        let (mut choice, settings) = self.with(|w| {
            w.tick();
            (w.random.below(1000) as u32, w.settings.clone())
        });
        let mut is = |share: u32| {
            let chosen = choice < share;
            choice = choice.saturating_sub(share);
            chosen
        };
        if is(settings.source) {
            self.with(|w| {
                let upheaval = w.random.chance(w.settings.upheaval);
                let what = if upheaval { w.source.upheaval(&mut w.random) } else { w.source.work(&mut w.random) };
                w.record.note(|| what.into());
            });
        } else if is(settings.start) && self.active.len() < settings.runs_at_once {
            self.start();
        } else if is(settings.crash) {
            self.crash();
        } else if is(settings.around) {
            self.with(around);
        } else if is(20) {
            self.with(|w| {
                let position = w.random.below(8);
                for bucket in &mut w.buckets {
                    if let Some(key) = bucket.deliver(position) {
                        w.record.note(|| format!("a put arrives late: {key}"));
                    }
                }
                w.warehouse.finish_late(&mut w.record);
            });
        } else if !self.active.is_empty() {
            let (position, points) =
                self.with(|w| (w.random.below(self.active.len()), 1 + w.random.below(w.settings.stride)));
            for _ in 0..points {
                if self.advance(position).await.is_some() {
                    break;
                }
            }
        } else {
            self.start();
        }
    }

    fn start(&mut self) {
        use Stage::{Compact, Ingest, Load, Transform, Vacuum};
        let stages = [Ingest, Ingest, Ingest, Ingest, Transform, Transform, Load, Load, Load, Vacuum];
        let stage = self.with(|w| {
            let compacts = w.settings.keeps && w.random.chance(120);
            if compacts { Compact } else { w.random.one_of(&stages) }
        });
        self.start_stage(stage);
    }

    fn start_stage(&mut self, stage: Stage) {
        self.runs += 1;
        let earlier: Vec<&String> = self.ids.iter().filter(|(of, _)| *of == stage).map(|(_, id)| id).collect();
        let run_id = self.with(|w| {
            let again = !earlier.is_empty() && w.has_faults && w.random.chance(w.settings.replay);
            // One of the newest: further back than sixteen manifests an id is forgotten.
            let newest = &earlier[earlier.len().saturating_sub(3)..];
            if again { newest[w.random.below(newest.len())].clone() } else { format!("run-{}", self.runs) }
        });
        self.ids.push((stage, run_id.clone()));
        let name = format!("{stage:?} {} as {run_id}", self.runs);
        let run = Run::new(&self.world, self.runs, run_id);
        let port = run.port.clone();
        let (tables, standby, bucket) = self.with(|w| {
            w.record.note(|| format!("starts {name}"));
            let narrowed = w.has_faults && w.random.chance(w.settings.narrowed);
            let tables: Vec<Table> = TABLES.into_iter().filter(|_| !narrowed || w.random.chance(500)).collect();
            let standby = (w.has_faults && w.random.chance(w.settings.standby)).then(|| w.random.below(5));
            let bucket = w.random.one_of(&[w.lake, w.star]);
            (if tables.is_empty() { vec![Table::Sale] } else { tables }, standby, bucket)
        });
        let future: Pin<Box<dyn Future<Output = Result<Ended>>>> = match stage {
            Stage::Ingest => Box::pin(ingest(run, tables, standby)),
            Stage::Transform => Box::pin(transform(run)),
            Stage::Load => Box::pin(load(run)),
            Stage::Vacuum => Box::pin(vacuum(run, bucket)),
            Stage::Compact => Box::pin(compact(run, bucket)),
        };
        self.active.push(Active { name, port, future });
    }

    fn crash(&mut self) {
        if self.active.is_empty() {
            return;
        }
        let position = self.with(|w| w.random.below(self.active.len()));
        let dead = self.active.swap_remove(position);
        self.with(|w| w.record.note(|| format!("dies: {}", dead.name)));
    }

    /// Lets a run go on to its next point, or to its end.
    async fn advance(&mut self, position: usize) -> Option<Result<Ended>> {
        let active = &mut self.active[position];
        let ended = poll_fn(|context| match active.future.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if active.port.take_stopped() => Poll::Ready(None),
            // It sleeps before it tries again, or a thread works for it: whoever wakes it wakes us.
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let done = self.active.swap_remove(position);
        self.with(|w| {
            w.record.note(|| format!("ends: {}: {ended:?}", done.name));
            if let Err(error) = &ended
                && !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Permission)
            {
                w.record.violation(format!("{} stops for good: {}", done.name, error.render()));
            }
        });
        Some(ended)
    }

    /// Everything comes to rest. An undisturbed run of the stages has to finish the work, and runs that slept through all of
    /// it may wake afterwards and change nothing.
    async fn settle(&mut self) {
        self.with(|w| {
            w.has_faults = false;
            let mut random = w.random.clone();
            w.source.quiesce(&mut random);
            w.random = random;
            w.warehouse.finish_late(&mut w.record);
        });
        // The connection of a loader that sleeps with the lock breaks at last.
        let holder = self.with(|w| w.warehouse.locked_by);
        self.active.retain(|active| Some(active.port.run) != holder);
        let sleepers = std::mem::take(&mut self.active);
        self.undisturbed().await;
        let mut check = Check::new(&self.world);
        self.honestly(async |_| check.settled().await).await;
        let is_over = sleepers.is_empty() && self.with(|w| w.buckets.iter().all(|b| b.late.is_empty()));
        self.active = sleepers;
        while !self.active.is_empty() {
            let position = self.with(|w| {
                w.tick();
                let bucket = w.random.below(w.buckets.len());
                w.buckets[bucket].deliver(0);
                w.random.below(self.active.len())
            });
            self.advance(position).await;
        }
        if !is_over {
            self.with(|w| {
                w.buckets.iter_mut().for_each(|bucket| while bucket.deliver(0).is_some() {});
                w.warehouse.finish_late(&mut w.record);
            });
            self.undisturbed().await;
            self.honestly(async |_| check.settled().await).await;
        }
        self.quiet().await;
        self.honestly(async |_| check.history().await).await;
    }

    /// Calmly, and without the planted bug.
    async fn honestly(&mut self, look: impl AsyncFnOnce(&Schedule)) {
        let planted = self.with(|w| {
            w.is_calm = true;
            w.planted.take()
        });
        look(self).await;
        self.with(|w| (w.planted, w.is_calm) = (planted, false));
    }

    /// The three stages, each without faults and alone.
    async fn undisturbed(&mut self) -> BTreeMap<&'static str, Ended> {
        let mut ended = BTreeMap::new();
        self.with(|w| w.is_calm = true);
        for (name, stage) in [("ingest", Stage::Ingest), ("transform", Stage::Transform), ("load", Stage::Load)] {
            self.with(World::tick);
            self.start_stage(stage);
            match self.advance(self.active.len() - 1).await {
                Some(Ok(outcome)) => {
                    ended.insert(name, outcome);
                }
                other => self.with(|w| w.record.violation(format!("an undisturbed {name} fails: {other:?}"))),
            }
        }
        self.with(|w| w.is_calm = false);
        ended
    }

    /// Once more with nothing new: nothing is written but ingest's manifest.
    async fn quiet(&mut self) {
        let data = |w: &mut World| {
            let is_data = |key: &&String| !key.starts_with("_manifests/") && !key.starts_with("_claims/");
            w.buckets.iter().map(|b| b.stored.keys().filter(is_data).count()).sum::<usize>()
        };
        let before = self.with(data);
        let ended = self.undisturbed().await;
        let after = self.with(data);
        self.with(|w| {
            w.record.demand(before == after, || "a run with nothing new writes data files".into());
            for stage in ["transform", "load"] {
                w.record
                    .demand(ended.get(stage) == Some(&Ended::Nothing), || format!("an idle {stage} does {ended:?}"));
            }
        });
    }
}

/// What people do to a pipeline.
fn around(w: &mut World) {
    let what = match w.random.below(8) {
        0 | 1 => {
            let model = w.random.one_of(&MODELS);
            *w.project.versions.entry(model).or_default() += 1;
            "a model is changed"
        }
        2 | 3 => match w.project.versions.remove(&MODELS[2]) {
            Some(_) => "a model is dropped",
            None => {
                w.project.versions.insert(MODELS[2], 0);
                "a model is added"
            }
        },
        _ if !w.warehouse.is_free() => "the warehouse is busy",
        4 => {
            w.warehouse.clear();
            "the warehouse is cleared"
        }
        5 => {
            w.warehouse.drop_ledger();
            "the ledger is dropped"
        }
        _ => {
            let position = w.random.below(w.warehouse.backups());
            w.warehouse.restore(position);
            "the warehouse is restored"
        }
    };
    w.record.note(|| what.into());
}
