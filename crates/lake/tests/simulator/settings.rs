//! What a schedule is made of. Each seed has its own mixture, with much of it often left out: faults that hide one another
//! in an even mixture come out alone ("swarm testing", Groce and others, 2012).

use crate::files::Format;
use crate::random::Random;

/// Chances are in a thousand.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Steps before the schedule is brought to its end.
    pub(crate) steps: usize,
    pub(crate) runs_at_once: usize,
    /// How many points a run may pass in one step.
    pub(crate) stride: usize,
    /// Of a put: that its answer is lost, wrong or late.
    pub(crate) put_fault: u32,
    /// Of a get or a listing: that it fails.
    pub(crate) read_fault: u32,
    /// Of an operation on a database: that the connection breaks.
    pub(crate) database_fault: u32,
    /// Of a COMMIT: that its outcome is not known.
    pub(crate) commit_fault: u32,
    /// Of a step: that a run dies.
    pub(crate) crash: u32,
    /// Of a step: that the source does something.
    pub(crate) source: u32,
    /// Of a step: that a run starts, where another one may.
    pub(crate) start: u32,
    /// Of a step: that something happens around the pipeline (a changed model, a cleared warehouse, …).
    pub(crate) around: u32,
    /// Of a run: that it has the id of an earlier one.
    pub(crate) replay: u32,
    /// Of an ingest: that it reads only some tables.
    pub(crate) narrowed: u32,
    /// Of an ingest: that it reads from a standby.
    pub(crate) standby: u32,
    /// Of a source step: that a table is altered, or the source is restored, or its clock or xids jump.
    pub(crate) upheaval: u32,
    /// Whether the clock stands still most of the time, so that runs want the same time.
    pub(crate) slow_clock: bool,
    /// The first transaction id.
    pub(crate) first_xid: u64,
    pub(crate) format: Format,
    /// Whether runs look after files, and compactions come between them.
    pub(crate) keeps: bool,
}

impl Settings {
    pub(crate) fn of(seed: u64, random: &mut Random) -> Settings {
        let mut often =
            |half: u32, much: u32| if random.chance(500) { 0 } else { half.max(random.below(much as usize) as u32) };
        Settings {
            put_fault: often(40, 500),
            read_fault: often(3, 40),
            database_fault: often(10, 100),
            commit_fault: often(250, 800),
            crash: often(3, 25),
            source: 80 + often(60, 250),
            around: often(15, 80),
            replay: often(100, 500),
            narrowed: often(100, 600),
            standby: often(200, 700),
            upheaval: often(30, 200),
            steps: if random.chance(100) { 300 } else { 30 + random.below(110) },
            runs_at_once: 1 + random.below(4),
            start: 60 + random.below(250) as u32,
            stride: random.one_of(&[1, 3, 8, 20]),
            slow_clock: random.chance(500),
            // Half of all schedules cross 2^32, or the same two circles later.
            first_xid: match random.below(4) {
                0 => (1 << 32) - 5 - random.below(40) as u64,
                1 => 3 * (1 << 32) - 5 - random.below(40) as u64,
                _ => 1_000,
            },
            // Real Parquet files take twenty times as long.
            format: if seed % 64 == 7 { Format::Parquet } else { Format::Plain },
            keeps: !seed.is_multiple_of(3),
        }
    }
}
