//! A model of the source: rows with the id of the transaction that wrote them, open transactions with savepoints, snapshots,
//! a standby, and what befalls a database.
//!
//! A transaction's writes take effect when it commits, with the ids that they were made under: so a snapshot is what is
//! committed, and its `xmin` and `xmax` are those of PostgreSQL's `pg_current_snapshot()`.

use std::collections::{BTreeMap, VecDeque};

use starlift_core::manifest;

use crate::random::Random;
use crate::tables::{Row, Rows, TABLES, Table};

const CIRCLE: u64 = 1 << 32;
/// Earlier states that a standby may show or a backup hold.
const PAST: usize = 6;

/// A row as it is stored. Its place, not its `id`, is its identity in a table without a key.
#[derive(Debug, Clone, Copy)]
struct Stored {
    row: Row,
    xmin: u64,
}

type Place = (Table, i32);

/// What is committed at one moment.
#[derive(Debug, Clone)]
struct Moment {
    rows: BTreeMap<Place, Stored>,
    alterations: BTreeMap<Table, u32>,
    xmin: u64,
    xmax: u64,
    next_xid: u64,
    lsn: u64,
}

/// A transaction that has written and is not over.
#[derive(Debug)]
struct Transaction {
    first: u64,
    last: u64,
    writes: BTreeMap<Place, Option<Stored>>,
}

/// What one ingest sees.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) source: manifest::Source,
    /// Every row of each table with its `xmin` as PostgreSQL shows it: 32 bits.
    pub(crate) rows: BTreeMap<Table, Vec<(Row, u32)>>,
    pub(crate) alterations: BTreeMap<Table, u32>,
    /// The WAL position that was read before the snapshot.
    pub(crate) lsn_before: u64,
    /// The WAL position of the snapshot itself, which no query can tell.
    pub(crate) lsn_of_snapshot: u64,
    /// Transactions that were running, without their subtransactions.
    pub(crate) running: Vec<u64>,
}

impl Snapshot {
    /// The image of a table.
    pub(crate) fn image(&self, table: Table) -> Rows {
        let mut rows: Rows = self.rows[&table].iter().map(|(row, _)| *row).collect();
        rows.sort_unstable();
        rows
    }
}

#[derive(Debug)]
pub(crate) struct Source {
    rows: BTreeMap<Place, Stored>,
    alterations: BTreeMap<Table, u32>,
    open: Vec<Transaction>,
    next_xid: u64,
    /// One past the newest transaction that is over.
    xmax: u64,
    lsn: u64,
    timeline: u32,
    past: VecDeque<Moment>,
}

impl Source {
    pub(crate) fn new(first_xid: u64, random: &mut Random) -> Source {
        let alterations = TABLES.iter().map(|t| (*t, 0)).collect();
        let mut source = Source {
            rows: BTreeMap::new(),
            alterations,
            open: Vec::new(),
            next_xid: first_xid,
            xmax: first_xid,
            lsn: 1_000,
            timeline: 1,
            past: VecDeque::new(),
        };
        for _ in 0..random.below(6) {
            source.begin_or_write(random);
            source.end_one(random, true);
        }
        source
    }

    /// What is committed now.
    pub(crate) fn image(&self) -> BTreeMap<&'static str, Rows> {
        let mut image: BTreeMap<&'static str, Rows> = TABLES.iter().map(|t| (t.name(), Vec::new())).collect();
        for ((table, _), stored) in &self.rows {
            image.entry(table.name()).or_default().push(stored.row);
        }
        image.values_mut().for_each(|rows| rows.sort_unstable());
        image
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let moment = self.moment();
        let running = self.open.iter().map(|t| t.first).filter(|xid| *xid < moment.xmax).collect();
        self.seen(&moment, false, running)
    }

    /// What a standby shows that lags by so many commits, and replays some more while it is asked. It does not know which
    /// transactions are running.
    pub(crate) fn standby(&self, lag: usize, random: &mut Random) -> Snapshot {
        let now = self.moment();
        let of = |lag: usize| self.past.iter().rev().nth(lag).unwrap_or(&now);
        let mut seen = self.seen(of(lag), true, Vec::new());
        seen.lsn_before = of(lag + random.below(2)).lsn.min(seen.lsn_before);
        seen.source.lsn = of(random.below(lag + 1)).lsn.max(seen.source.lsn);
        seen
    }

    fn seen(&self, moment: &Moment, in_recovery: bool, running: Vec<u64>) -> Snapshot {
        let source = manifest::Source {
            identity: format!("1/{}/db", self.timeline),
            in_recovery,
            server_version: 150_000,
            database: "db".into(),
            schema: "public".into(),
            xmin: moment.xmin,
            xmax: moment.xmax,
            lsn: moment.lsn,
            tables: TABLES.iter().map(|t| t.name().to_string()).collect(),
            horizon: None,
        };
        let mut rows: BTreeMap<Table, Vec<(Row, u32)>> = TABLES.iter().map(|t| (*t, Vec::new())).collect();
        for ((table, _), stored) in &moment.rows {
            rows.entry(*table).or_default().push((stored.row, (stored.xmin % CIRCLE) as u32));
        }
        Snapshot {
            source,
            rows,
            alterations: moment.alterations.clone(),
            lsn_before: moment.lsn,
            lsn_of_snapshot: moment.lsn,
            running,
        }
    }

    fn moment(&self) -> Moment {
        let oldest = self.open.iter().map(|t| t.first).min().unwrap_or(u64::MAX);
        Moment {
            rows: self.rows.clone(),
            alterations: self.alterations.clone(),
            xmin: oldest.min(self.xmax),
            xmax: self.xmax,
            next_xid: self.next_xid,
            lsn: self.lsn,
        }
    }

    /// One ordinary thing that applications do: begin, write, set a savepoint, commit or roll back.
    pub(crate) fn work(&mut self, random: &mut Random) -> &'static str {
        match random.below(10) {
            0..=5 => self.begin_or_write(random),
            6..=8 => self.end_one(random, true),
            _ => self.end_one(random, false),
        }
    }

    /// A write in a new transaction, or one more in an open one.
    fn begin_or_write(&mut self, random: &mut Random) -> &'static str {
        let is_new = self.open.is_empty() || (self.open.len() < 3 && random.chance(400));
        let position = if is_new { self.open.len() } else { random.below(self.open.len()) };
        if is_new {
            let xid = self.give_xid();
            self.open.push(Transaction { first: xid, last: xid, writes: BTreeMap::new() });
        }
        for _ in 0..=random.below(3) {
            self.write(position, random);
        }
        "an open transaction writes"
    }

    fn write(&mut self, position: usize, random: &mut Random) {
        let place = (random.one_of(&TABLES), 1 + random.below(7) as i32);
        let is_locked = self.open.iter().enumerate().any(|(n, t)| n != position && t.writes.contains_key(&place));
        if is_locked {
            return;
        }
        let in_savepoint = random.chance(300);
        let xid = if in_savepoint { self.give_xid() } else { self.open[position].first };
        self.open[position].last = self.open[position].last.max(xid);
        if in_savepoint && random.chance(200) {
            return; // Rolled back to the savepoint: an id is used up, and nothing else.
        }
        let row = match place.0 {
            Table::Person => [place.1, 1 + random.below(3) as i32, random.below(5) as i32],
            Table::Sale => [place.1, 1 + random.below(7) as i32, random.below(9) as i32],
            // Without a key equal rows may be there twice.
            Table::Rate => [random.below(4) as i32, random.below(2) as i32, 1],
        };
        let delete = random.chance(250);
        self.open[position].writes.insert(place, (!delete).then_some(Stored { row, xmin: xid }));
    }

    fn end_one(&mut self, random: &mut Random, commit: bool) -> &'static str {
        if self.open.is_empty() {
            return "nothing is open in the source";
        }
        let transaction = self.open.remove(random.below(self.open.len()));
        self.xmax = self.xmax.max(transaction.last + 1);
        if !commit {
            return "a transaction rolls back";
        }
        for (place, write) in transaction.writes {
            match write {
                Some(stored) => self.rows.insert(place, stored),
                None => self.rows.remove(&place),
            };
        }
        self.log();
        "a transaction commits"
    }

    /// Everybody goes home.
    pub(crate) fn quiesce(&mut self, random: &mut Random) {
        while !self.open.is_empty() {
            let commit = random.chance(700);
            self.end_one(random, commit);
        }
    }

    /// What happens to a database now and then.
    pub(crate) fn upheaval(&mut self, random: &mut Random) -> &'static str {
        match random.below(4) {
            0 => self.alter(random.one_of(&TABLES)),
            1 => self.restore(random),
            2 if self.open.is_empty() => {
                let far = random.one_of(&[1 << 20, (1 << 31) - 40, (1 << 31) + 40]);
                self.next_xid += far;
                self.give_xid();
                self.xmax = self.next_xid;
                self.log();
                "xids jump"
            }
            _ => {
                // All of a table in one transaction.
                let table = random.one_of(&TABLES);
                if self.open.iter().any(|t| t.writes.keys().any(|(other, _)| *other == table)) {
                    return "a table is locked";
                }
                self.rows.retain(|(of, _), _| *of != table);
                let xid = self.give_xid();
                self.xmax = self.xmax.max(xid + 1);
                self.log();
                "a table is emptied"
            }
        }
    }

    /// `add column … default`: every row has other values, and no `xmin` shows it.
    fn alter(&mut self, table: Table) -> &'static str {
        if self.open.iter().any(|t| t.writes.keys().any(|(of, _)| *of == table)) {
            return "a table is locked";
        }
        *self.alterations.entry(table).or_default() += 1;
        self.rows.iter_mut().filter(|((of, _), _)| *of == table).for_each(|(_, stored)| stored.row[2] += 1);
        let xid = self.give_xid();
        self.xmax = self.xmax.max(xid + 1);
        self.log();
        "a table is altered"
    }

    /// A standby that lagged becomes the primary, or a backup is put back: what came later never happened, its ids are given
    /// again, and the timeline is another one.
    fn restore(&mut self, random: &mut Random) -> &'static str {
        let Some(moment) = self.past.iter().rev().nth(random.below(4)).cloned() else { return "no backup" };
        self.open.clear();
        self.past.clear();
        self.rows = moment.rows;
        self.alterations = moment.alterations;
        (self.next_xid, self.xmax) = (moment.next_xid, moment.next_xid);
        // Its WAL may by now be shorter or longer than the old one.
        self.lsn = moment.lsn + random.below(400) as u64;
        self.timeline += 1;
        "the source is restored"
    }

    /// The WAL grows, and the moment can be shown by a standby.
    fn log(&mut self) {
        self.lsn += 100;
        let moment = self.moment();
        self.past.push_back(moment);
        if self.past.len() > PAST {
            self.past.pop_front();
        }
    }

    /// The low half of an id is never 0, 1 or 2.
    fn give_xid(&mut self) -> u64 {
        if self.next_xid % CIRCLE < 3 {
            self.next_xid += 3 - self.next_xid % CIRCLE;
        }
        self.next_xid += 1;
        self.next_xid - 1
    }
}
