//! The soak: the zoo of writers writes, runs follow and overtake one another, and in the end nothing is lost, stale or a
//! ghost.
//!
//! `make test` runs it for ten seconds; `make soak MINUTES=30` for as long as you like. `STARLIFT_SOAK_SECONDS` and
//! `STARLIFT_SOAK_SEED` say the same to the test itself.
//!
//! Beside starlift reads the usual cursor, `last_updated > max seen`, at the same beat: it must lose rows, or the zoo would
//! prove nothing.
//!
//! Where tables follow their stamps, no xid pass is made while the zoo writes: what honest stamps show must be there all the
//! same, and after one pass everything.

mod amounts;
mod cursor;
mod honesty;
mod lake;

use std::time::Duration;

use starlift::config::Environment;
use starlift::verify::{VerifyRequest, verify};
use starlift::{Context, Outcome};
use starlift_core::{Error, ErrorKind};
use starlift_sandbox::totesys::Zoo;
use starlift_sandbox::{Cluster, ClusterOptions};
use tokio::time::{Instant, sleep};

use self::cursor::Cursor;
use crate::world::World;

/// What a reader has in the end, beside the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Rows of the source that it does not have.
    pub(crate) lost: u64,
    /// Rows that it has with values which are not the source's.
    pub(crate) stale: u64,
    /// Rows that it has and the source does not.
    pub(crate) ghosts: u64,
}

/// However busy the machine is, so many windows follow one another.
const LEAST: u64 = 3;
/// How many row versions a full soak writes.
const WANTED_VERSIONS: u64 = 100_000;

/// How the tables are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    /// By the xid window, as small tables are.
    Xids,
    /// By their stamps, as `auto` would have it if all of them were large and indexed, with no pass that is due.
    Stamps,
}

/// How long, and which zoo.
struct Plan {
    seconds: u64,
    seed: u64,
}

/// Runs that follow one another from 0.1 to 0.5 s after the one before.
#[derive(Debug, Default)]
struct Beat {
    committed: u64,
    superseded: u64,
    again: u64,
}

impl Beat {
    fn count(&mut self, outcome: Result<Outcome, Error>, is_standby: bool) {
        match outcome {
            Ok(Outcome::Superseded) => self.superseded += 1,
            Ok(_) => self.committed += 1,
            // Replay may cancel what reads a standby: the run says so, and the next one does its work.
            Err(error) if is_standby && error.kind() == ErrorKind::Unavailable => {
                println!("soak: to be tried again: {}", error.render().replace('\n', "; "));
                self.again += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn rest(&self, seed: u64) {
        let number = self.committed + self.superseded + self.again;
        sleep(Duration::from_millis(100 + (number * 7919 + seed * 104_729) % 400)).await;
    }
}

#[allow(clippy::disallowed_methods, reason = "a test is a shell: it is told by its environment how long to soak")]
fn plan() -> Plan {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    Plan { seconds: number("STARLIFT_SOAK_SECONDS", 10), seed: number("STARLIFT_SOAK_SEED", 1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_stale_or_a_ghost_while_the_zoo_writes() {
    let world = World::of_scale(0.1).await;
    soak(&world, world.cluster, &plan(), Capture::Xids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_follow_their_stamps_lose_nothing_honest_and_one_pass_heals_the_rest() {
    let world = World::of_scale(0.1).await;
    honesty::watch(&world).await;
    soak(&world, world.cluster, &plan(), Capture::Stamps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_hot_standby_nothing_is_lost_either() {
    let own = || Cluster::start(ClusterOptions::default());
    let primary = tokio::task::spawn_blocking(own).await.unwrap().unwrap();
    // It ends with the process, as the shared one does.
    let primary: &'static Cluster = Box::leak(Box::new(primary));
    let world = World::on(primary, 0.1).await;
    let standby = tokio::task::spawn_blocking(|| primary.standby()).await.unwrap().unwrap();
    soak(&world, &standby, &plan(), Capture::Xids).await;
}

/// Writes to the world's source and reads it on `read`: the same server, or a standby of it.
async fn soak(world: &World, read: &Cluster, plan: &Plan, capture: Capture) {
    let mut overrides = world.overrides();
    overrides.source_url = Some(world.source_url_on(read));
    let environment = match capture {
        Capture::Xids => Environment::default(),
        Capture::Stamps => {
            Environment::of([("STARLIFT_SOURCE_LARGE_FROM_MB", "0"), ("STARLIFT_SOURCE_XID_PASS_EVERY", "1000000")])
        }
    };
    let context = world.try_context(overrides, environment).unwrap();
    let is_standby = read.port() != world.cluster.port();
    world.create_warehouse().await;
    caught_up(world, read).await;
    assert_eq!(run(&context).await.unwrap(), Outcome::Committed);

    let mut cursor = Cursor::open(read, &world.source).await;
    let zoo = Zoo::release(world.cluster, &world.source, plan.seed).await.unwrap();
    let until = Instant::now() + Duration::from_secs(plan.seconds);
    // Whole runs, and beside them ingests alone, because a transform may take longer than many windows: they overtake one
    // another, as runs do that somebody starts by hand.
    let whole = async {
        let mut beat = Beat::default();
        while Instant::now() < until || beat.committed < LEAST {
            beat.count(run(&context).await, is_standby);
            beat.rest(plan.seed).await;
        }
        beat
    };
    let ingests = async {
        let mut beat = Beat::default();
        while Instant::now() < until || beat.committed < LEAST {
            cursor.poll().await;
            let report = starlift::ingest(&context.for_new_run(), None).await;
            beat.count(report.map(|report| report.outcome), is_standby);
            beat.rest(plan.seed + 1).await;
        }
        beat
    };
    let (whole, ingests) = tokio::join!(whole, ingests);
    let written = zoo.quiet().await.unwrap();
    caught_up(world, read).await;
    cursor.poll().await;
    assert_eq!(run(&context).await.unwrap(), Outcome::Committed);

    for habit in &written.habits {
        println!("{habit:?}");
    }
    if capture == Capture::Stamps {
        let before = lake::findings(world, &context).await;
        let honest = honesty::findings(world).await;
        println!("soak: before the pass starlift has {before:?}, of these honest {honest:?}");
        assert_eq!((honest.lost, honest.stale), (0, 0), "what honest stamps show is lost or stale");
        assert!(before.stale > 0 && before.ghosts > 0, "the zoo was too tame: {before:?}");
        let settled = verify(&context, &VerifyRequest { settle: true, ..VerifyRequest::default() }).await.unwrap();
        assert!(settled.equal(), "{settled:?}");
    }
    let ours = lake::findings(world, &context).await;
    let theirs = cursor.findings().await;
    println!(
        "soak: seed {}, {} s, {} row versions and {} deletes in {} transactions\n\
         soak: {} whole runs and {} ingests committed, {} superseded, {} to be tried again\n\
         soak: starlift has {} lost, {} stale, {} ghosts\n\
         soak: a last_updated cursor has {} lost, {} stale, {} ghosts",
        plan.seed,
        plan.seconds,
        written.versions(),
        written.deletes(),
        written.habits.iter().map(|h| h.commits).sum::<u64>(),
        whole.committed,
        ingests.committed,
        whole.superseded + ingests.superseded,
        whole.again + ingests.again,
        ours.lost,
        ours.stale,
        ours.ghosts,
        theirs.lost,
        theirs.stale,
        theirs.ghosts,
    );
    assert_eq!(ours, Findings::default());
    assert!(theirs.lost > 0 && theirs.stale > 0 && theirs.ghosts > 0, "the zoo was too tame: {theirs:?}");
    for habit in &written.habits {
        assert!(habit.versions > 0, "{habit:?}");
    }
    assert!(written.deletes() > 0);

    let verified = verify(&context, &VerifyRequest::default()).await.unwrap();
    let unequal: Vec<_> = verified.comparisons.iter().filter(|c| c.differences + c.pending > 0).collect();
    assert!(verified.equal() && unequal.is_empty(), "{unequal:?}");
    world.assert_star_equals_source().await;
    let figure = match capture {
        Capture::Stamps => "row versions, read by their stamps",
        Capture::Xids if is_standby => "row versions, read on a standby",
        Capture::Xids => "row versions, read on the primary",
    };
    result(figure, written.versions(), WANTED_VERSIONS, plan.seconds);
}

/// Adds a line to what `scripts/soak` collects; a soak that failed has none, and counts as failed there.
#[allow(clippy::disallowed_methods, reason = "a test is a shell: it is told by its environment where its result goes")]
pub(crate) fn result(figure: &str, reached: u64, wanted: u64, seconds: u64) {
    let Some(path) = std::env::var_os("STARLIFT_SOAK_RESULTS") else { return };
    let line = format!("{figure}\t{reached}\t{wanted}\t{seconds}\tok\n");
    let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, line.as_bytes()).unwrap();
}

/// One whole run: how its ingest ended, or what failed.
async fn run(context: &Context) -> Result<Outcome, Error> {
    let mut report = starlift::run(&context.for_new_run()).await;
    match report.failures.pop() {
        None => Ok(report.stages[0].outcome),
        Some(failure) => Err(failure.error),
    }
}

/// Waits until a standby has replayed all that the primary has written.
async fn caught_up(world: &World, read: &Cluster) {
    if read.port() != world.cluster.port() {
        read.await_replay(world.cluster).await.unwrap();
    }
}
