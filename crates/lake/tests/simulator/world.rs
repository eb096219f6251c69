//! Everything outside of the runs: the source, the stores, the warehouse, the project, the clocks.

use starlift_core::Micros;

use crate::objects::Objects;
use crate::planted::Planted;
use crate::random::Random;
use crate::record::Record;
use crate::settings::Settings;
use crate::source::Source;
use crate::tables::Project;
use crate::warehouse::Warehouse;

/// 2024-11-20 11:35:00 UTC.
const START: i64 = 1_732_102_500_000_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) settings: Settings,
    pub(crate) planted: Option<Planted>,
    /// Runs go straight through.
    pub(crate) is_calm: bool,
    pub(crate) has_faults: bool,
    clock: i64,
    ids: u64,
    /// Lakes and stars, old ones included.
    pub(crate) buckets: Vec<Objects>,
    pub(crate) lake: usize,
    pub(crate) star: usize,
    pub(crate) source: Source,
    pub(crate) warehouse: Warehouse,
    pub(crate) project: Project,
    pub(crate) record: Record,
    /// For planted bugs: what a file's name would tell of the snapshot behind it.
    pub(crate) snapshot_of_name: std::collections::BTreeMap<Micros, (u64, u64)>,
    /// For planted bugs: the transactions that were running at a manifest's snapshot.
    pub(crate) running_at: std::collections::BTreeMap<String, Vec<u64>>,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, traced: bool) -> World {
        let mut random = Random::new(seed);
        let settings = Settings::of(seed, &mut random);
        let source = Source::new(settings.first_xid, &mut random);
        World {
            random,
            settings,
            planted,
            is_calm: false,
            has_faults: true,
            clock: START,
            ids: 0,
            buckets: vec![Objects::default(), Objects::default()],
            lake: 0,
            star: 1,
            source,
            warehouse: Warehouse::default(),
            project: Project::new(),
            record: Record { trace: traced.then(Vec::new), ..Record::default() },
            snapshot_of_name: Default::default(),
            running_at: Default::default(),
        }
    }

    /// The clock of the source and of every machine: it moves on, stands still or steps back.
    pub(crate) fn tick(&mut self) {
        self.record.steps += 1;
        self.clock += match self.random.below(100) {
            0 => -(self.random.below(2_000) as i64),
            1..=40 if !self.settings.slow_clock => 1 + self.random.below(3_000) as i64,
            _ => 0,
        };
    }

    pub(crate) fn now(&self) -> Micros {
        Micros(self.clock)
    }

    /// An id that is given once.
    pub(crate) fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("id-{}", self.ids)
    }
}
