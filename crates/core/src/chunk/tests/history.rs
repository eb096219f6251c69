//! A table in pages under transactions, read by the real decisions; also one whose partitions come, go and return.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// xorshift64: the same history for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A row version; it stays in its page.
#[derive(Debug, Clone)]
struct Version {
    key: u64,
    value: u64,
    xmin: u64,
    deleted_by: Option<u64>,
    page: u32,
    partition: u32,
}

/// By what a partition belongs to its table: the id of who attached it, and the file that it has.
#[derive(Debug, Clone, Copy)]
struct Link {
    xmin: u64,
    file: u32,
}

/// Transactions by the ids that they and their savepoints have.
struct Table {
    versions: Vec<Version>,
    pages: u32,
    /// Each with its ids, the first of which is the oldest.
    open: Vec<Vec<u64>>,
    aborted: BTreeSet<u64>,
    next_xid: u64,
    next_value: u64,
    lsn: u64,
    /// Partitions that are attached.
    links: BTreeMap<u32, Link>,
    /// The files of those that are not.
    away: BTreeMap<u32, u32>,
}

/// What is committed at a moment.
struct Snapshot {
    now: Source,
    rows: Vec<Version>,
    pages: u32,
    links: BTreeMap<u32, Link>,
}

const ROWS_OF_A_PAGE: usize = 4;

impl Table {
    /// With so many partitions.
    fn new(random: &mut Random, partitions: u32) -> Table {
        // Around 2^32, so that the ids of rows wrap.
        let next_xid = 3 * (1 << 32) - 40 + random.below(60);
        let (versions, open) = (Vec::new(), Vec::new());
        let aborted = BTreeSet::new();
        let links = (0..partitions).map(|p| (p, Link { xmin: next_xid - 9, file: 0 })).collect();
        let away = BTreeMap::new();
        let mut table = Table { versions, pages: 1, open, aborted, next_xid, next_value: 0, lsn: 1, links, away };
        for _ in 0..20 {
            table.live(random);
        }
        table
    }

    fn is_over(&self, xid: u64) -> bool {
        !self.open.iter().any(|ids| ids.contains(&xid))
    }

    /// Whether a version is there for all, as the last transaction that is over left it.
    fn is_live(&self, version: &Version) -> bool {
        self.links.contains_key(&version.partition) && self.is_kept(version)
    }

    /// The same, also in a partition that is away.
    fn is_kept(&self, version: &Version) -> bool {
        let committed = |xid: u64| self.is_over(xid) && !self.aborted.contains(&xid);
        committed(version.xmin) && !version.deleted_by.is_some_and(committed)
    }

    /// Whether another transaction than the one with these ids may not touch the key now.
    fn is_locked(&self, key: u64) -> bool {
        self.versions
            .iter()
            .filter(|v| v.key == key && self.links.contains_key(&v.partition))
            .any(|v| !self.is_over(v.xmin) || v.deleted_by.is_some_and(|x| !self.is_over(x)))
    }

    fn put(&mut self, key: u64, xid: u64, random: &mut Random) {
        self.next_value += 1;
        // Any page with room, or a new one at the end.
        let page = random.below(u64::from(self.pages) + 1) as u32;
        let partitions: Vec<u32> = self.links.keys().copied().collect();
        let partition =
            partitions[if partitions.len() > 1 { random.below(partitions.len() as u64) as usize } else { 0 }];
        let room = self.versions.iter().filter(|v| v.page == page && v.partition == partition).count() < ROWS_OF_A_PAGE;
        let page = if room { page } else { self.pages };
        self.pages = self.pages.max(page + 1);
        self.versions.push(Version { key, value: self.next_value, xmin: xid, deleted_by: None, page, partition });
    }

    fn live(&mut self, random: &mut Random) {
        self.lsn += 1;
        let is_parted = self.links.len() + self.away.len() > 1;
        match random.below(if is_parted { 12 } else { 10 }) {
            10.. => self.repartition(random),
            0..=5 => {
                if self.open.is_empty() || (self.open.len() < 4 && random.below(2) == 0) {
                    self.open.push(vec![self.next_xid]);
                    self.next_xid += 1;
                }
                let position = random.below(self.open.len() as u64) as usize;
                if random.below(3) == 0 {
                    self.open[position].push(self.next_xid);
                    self.next_xid += 1;
                }
                let xid = *self.open[position].last().unwrap();
                let key = random.below(30);
                if self.is_locked(key) {
                    return;
                }
                let there = self.versions.iter().position(|v| v.key == key && self.is_live(v));
                let Some(there) = there else { return self.put(key, xid, random) };
                self.versions[there].deleted_by = Some(xid);
                match random.below(4) {
                    0 => {}
                    1 => {
                        let other = random.below(30);
                        let taken = self.versions.iter().any(|v| v.key == other && self.is_live(v));
                        if !taken && !self.is_locked(other) {
                            self.put(other, xid, random);
                        }
                    }
                    _ => self.put(key, xid, random),
                }
            }
            6..=8 => {
                if !self.open.is_empty() {
                    let ids = self.open.remove(random.below(self.open.len() as u64) as usize);
                    if random.below(5) == 0 {
                        self.aborted.extend(ids);
                    }
                }
            }
            // Vacuum: room for others. What a snapshot may still see stays; chunks hold none between their passes.
            _ => {
                let committed = |t: &Table, xid: u64| t.is_over(xid) && !t.aborted.contains(&xid);
                let dead: Vec<bool> = (self.versions.iter())
                    .map(|v| self.aborted.contains(&v.xmin) || v.deleted_by.is_some_and(|x| committed(self, x)))
                    .collect();
                let mut dead = dead.into_iter();
                self.versions.retain(|_| !dead.next().unwrap());
            }
        }
    }

    /// A partition comes, goes, or goes and returns, and may be another one meanwhile.
    fn repartition(&mut self, random: &mut Random) {
        // It waits for all others who have touched the table; and who does it may have begun long ago.
        if self.open.len() > 1 {
            return;
        }
        let xid = self.open.pop().and_then(|ids| ids.last().copied()).unwrap_or(self.next_xid);
        self.next_xid = self.next_xid.max(xid + 1);
        let partition = random.below((self.links.len() + self.away.len()) as u64) as u32;
        if let Some(link) = self.links.get(&partition).copied()
            && self.links.len() > 1
        {
            self.links.remove(&partition);
            self.away.insert(partition, link.file);
            self.lives_elsewhere(partition, random);
        }
        if random.below(2) == 0 {
            self.attach(partition, xid);
        }
    }

    fn attach(&mut self, partition: u32, xid: u64) {
        let keys = |table: &Table, here: bool| -> BTreeSet<u64> {
            let of = |v: &&Version| if here { table.is_live(v) } else { v.partition == partition && table.is_kept(v) };
            table.versions.iter().filter(of).map(|v| v.key).collect()
        };
        if let Some(file) = self.away.get(&partition).copied()
            && keys(self, true).is_disjoint(&keys(self, false))
        {
            self.away.remove(&partition);
            self.links.insert(partition, Link { xmin: xid, file });
        }
    }

    /// What happens to a partition that is no part of the table.
    fn lives_elsewhere(&mut self, partition: u32, random: &mut Random) {
        let kept: Vec<usize> = (0..self.versions.len())
            .filter(|at| self.versions[*at].partition == partition && self.is_kept(&self.versions[*at]))
            .collect();
        match random.below(4) {
            // A column that is dropped and added again: other values, and no trace.
            0 => kept.iter().for_each(|at| {
                self.next_value += 1;
                self.versions[*at].value = self.next_value;
            }),
            // It is written anew: the rows are in other pages of another file.
            1 => {
                self.away.entry(partition).and_modify(|file| *file += 1);
                kept.iter().for_each(|at| self.versions[*at].page = random.below(u64::from(self.pages)) as u32);
            }
            2 => kept.iter().take(1).for_each(|at| {
                self.versions[*at].deleted_by = Some(self.next_xid);
                self.next_xid += 1;
            }),
            _ => {}
        }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.next_xid;
        let xmin = self.open.iter().filter_map(|ids| ids.first()).copied().min().unwrap_or(xmax);
        let rows = self.versions.iter().filter(|v| self.is_live(v)).cloned().collect();
        Snapshot { now: source(xmin, xmax, self.lsn), rows, pages: self.pages, links: self.links.clone() }
    }
}

impl Snapshot {
    /// Whether a row is read with a window: it is in it, or in a partition that was attached in it.
    fn is_in(&self, window: XidWindow, row: &Version) -> bool {
        let is_new = self.links.get(&row.partition).is_some_and(|link| window.contains(link.xmin as u32));
        window.contains(row.xmin as u32) || is_new
    }

    fn heap(&self) -> Heap {
        let files: Vec<(u32, u32)> = self.links.iter().map(|(partition, link)| (*partition, link.file)).collect();
        Heap { storage: format!("{files:?}"), files, ..heap(self.pages) }
    }
}

type Rows = BTreeMap<u64, u64>;

fn image(rows: &[Version]) -> Rows {
    rows.iter().map(|v| (v.key, v.value)).collect()
}

/// Reads a table to the end of its base while it lives, and says how the lake differs from the source at the closing snapshot.
fn read_in_chunks(seed: u64, partitions: u32) -> Result<u32, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..10 {
        random.below(2);
    }
    let mut table = Table::new(&mut random, partitions);
    let mut base: Option<Unfinished> = None;
    let mut chunks: Rows = Rows::new();
    for seq in 1.. {
        let seen = table.snapshot();
        let heap = seen.heap();
        let step = next(
            base.as_ref(),
            &schema().fingerprint(),
            None,
            Some(&heap),
            &seen.now,
            8_192 * (1 + seed % 3),
            seed.is_multiple_of(2),
        );
        match step {
            Step::AtOnce => return Ok(0),
            Step::Chunk(chunk) => {
                if chunk.begins {
                    chunks.clear();
                }
                let of_chunk = |v: &&Version| (chunk.from..chunk.to).contains(&v.page);
                let read: Vec<&Version> =
                    seen.rows.iter().filter(of_chunk).filter(|v| !seen.is_in(chunk.left_out, v)).collect();
                for version in &read {
                    if chunks.insert(version.key, version.value).is_some() {
                        return Err(format!("key {} is in two chunks", version.key));
                    }
                }
                let came = ChunkRead { heap, ..super::read(&seen.now, seen.pages, read.len() as u64) };
                base = Some(Unfinished::with(base.as_ref(), chunk, came, seq));
            }
            Step::Close(window) => {
                let now = image(&seen.rows);
                let read: Rows = seen.rows.iter().filter(|v| seen.is_in(window, v)).map(|v| (v.key, v.value)).collect();
                let base = base.unwrap();
                let new = read.keys().filter(|key| !chunks.contains_key(key)).count();
                let known = base.rows as usize + new;
                let mut lake = chunks;
                lake.extend(read);
                if known != now.len() {
                    lake.retain(|key, _| now.contains_key(key));
                }
                if lake == now {
                    return Ok(base.chunks);
                }
                return Err(format!("the lake has {lake:?}, the source {now:?}"));
            }
        }
        for _ in 0..random.below(12) {
            table.live(&mut random);
        }
    }
    unreachable!("the pages of the first snapshot come to an end")
}

#[test]
fn the_chunks_and_the_closing_window_are_the_image_whatever_happens_meanwhile() {
    let mut in_chunks = 0;
    for seed in 1..=4_000 {
        match read_in_chunks(seed, 1) {
            Ok(chunks) => in_chunks += u32::from(chunks > 2),
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    assert!(in_chunks > 2_000, "only {in_chunks} histories had more than two chunks");
}

#[cfg(debug_assertions)]
#[test]
fn closing_from_the_last_chunk_loses_rows_and_leaves_others_stale() {
    let run = || (1..=200).filter_map(|seed| read_in_chunks(seed, 1).err()).count();
    let harmed = crate::fault::with_planted("closing_from_last_chunk", run);
    assert!(harmed > 50, "only {harmed} of 200 histories show it");
}

#[test]
fn partitions_may_come_go_and_return_between_chunks() {
    let mut in_chunks = 0;
    for seed in 1..=4_000 {
        match read_in_chunks(seed, 4) {
            Ok(chunks) => in_chunks += u32::from(chunks > 2),
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    assert!(in_chunks > 1_000, "only {in_chunks} histories had more than two chunks");
}

/// Reads a table with partitions at once and then by windows, where `is_new` says which partitions are read as a whole.
fn read_by_windows(seed: u64, is_new: fn(XidWindow, &Link, bool) -> bool) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut table = Table::new(&mut random, 4);
    let mut before = table.snapshot();
    let mut lake = image(&before.rows);
    for _ in 0..8 {
        for _ in 0..random.below(12) {
            table.live(&mut random);
        }
        let seen = table.snapshot();
        let window = XidWindow::new(before.now.xmin, seen.now.xmax).unwrap();
        let is_read = |row: &&Version| {
            let link = &seen.links[&row.partition];
            window.contains(row.xmin as u32) || is_new(window, link, before.links.contains_key(&row.partition))
        };
        let now = image(&seen.rows);
        lake.extend(image(&seen.rows.iter().filter(is_read).cloned().collect::<Vec<_>>()));
        if lake.len() != now.len() {
            lake.retain(|key, _| now.contains_key(key));
        }
        if lake != now {
            return Err(format!("the lake has {lake:?}, the source {now:?}"));
        }
        before = seen;
    }
    Ok(())
}

#[test]
fn windows_find_the_rows_of_partitions_that_came_by_when_they_were_attached() {
    let when = |window: XidWindow, link: &Link, _: bool| window.contains(link.xmin as u32);
    for seed in 1..=4_000 {
        read_by_windows(seed, when).unwrap_or_else(|difference| panic!("seed {seed}: {difference}"));
    }
    // That a partition was not there before says less: another one may have returned.
    let list = |_: XidWindow, _: &Link, was_there: bool| !was_there;
    let harmed = (1..=400).filter(|seed| read_by_windows(*seed, list).is_err()).count();
    assert!(harmed > 20, "only {harmed} of 400 histories show it");
}
