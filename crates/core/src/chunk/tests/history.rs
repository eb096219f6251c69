//! A table in pages under transactions, read by the real decisions.

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
}

/// What is committed at a moment.
struct Snapshot {
    now: Source,
    rows: Vec<Version>,
    pages: u32,
}

const ROWS_OF_A_PAGE: usize = 4;

impl Table {
    fn new(random: &mut Random) -> Table {
        // Around 2^32, so that the ids of rows wrap.
        let next_xid = 3 * (1 << 32) - 40 + random.below(60);
        let (versions, open) = (Vec::new(), Vec::new());
        let aborted = BTreeSet::new();
        let mut table = Table { versions, pages: 1, open, aborted, next_xid, next_value: 0, lsn: 1 };
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
        let committed = |xid: u64| self.is_over(xid) && !self.aborted.contains(&xid);
        committed(version.xmin) && !version.deleted_by.is_some_and(committed)
    }

    /// Whether another transaction than the one with these ids may not touch the key now.
    fn is_locked(&self, key: u64) -> bool {
        self.versions
            .iter()
            .filter(|v| v.key == key)
            .any(|v| !self.is_over(v.xmin) || v.deleted_by.is_some_and(|x| !self.is_over(x)))
    }

    fn put(&mut self, key: u64, xid: u64, random: &mut Random) {
        self.next_value += 1;
        // Any page with room, or a new one at the end.
        let page = random.below(u64::from(self.pages) + 1) as u32;
        let room = self.versions.iter().filter(|v| v.page == page).count() < ROWS_OF_A_PAGE;
        let page = if room { page } else { self.pages };
        self.pages = self.pages.max(page + 1);
        self.versions.push(Version { key, value: self.next_value, xmin: xid, deleted_by: None, page });
    }

    fn live(&mut self, random: &mut Random) {
        self.lsn += 1;
        match random.below(10) {
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

    fn snapshot(&self) -> Snapshot {
        let xmax = self.next_xid;
        let xmin = self.open.iter().filter_map(|ids| ids.first()).copied().min().unwrap_or(xmax);
        let rows = self.versions.iter().filter(|v| self.is_live(v)).cloned().collect();
        Snapshot { now: source(xmin, xmax, self.lsn), rows, pages: self.pages }
    }
}

type Rows = BTreeMap<u64, u64>;

fn image(rows: &[Version]) -> Rows {
    rows.iter().map(|v| (v.key, v.value)).collect()
}

/// Reads a table to the end of its base while it lives, and says how the lake differs from the source at the closing snapshot.
fn read_in_chunks(seed: u64) -> Result<u32, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..10 {
        random.below(2);
    }
    let mut table = Table::new(&mut random);
    let mut base: Option<Unfinished> = None;
    let mut chunks: Rows = Rows::new();
    for seq in 1.. {
        let seen = table.snapshot();
        let heap = heap(seen.pages);
        let step =
            next(base.as_ref(), &schema().fingerprint(), Some(&heap), &seen.now, 8_192 * (1 + seed % 3), seed % 2 == 0);
        match step {
            Step::AtOnce => return Ok(0),
            Step::Chunk(chunk) => {
                let of_chunk = |v: &&Version| (chunk.from..chunk.to).contains(&v.page);
                let read: Vec<&Version> =
                    seen.rows.iter().filter(of_chunk).filter(|v| !chunk.left_out.contains(v.xmin as u32)).collect();
                for version in &read {
                    if chunks.insert(version.key, version.value).is_some() {
                        return Err(format!("key {} is in two chunks", version.key));
                    }
                }
                let came = super::read(&seen.now, seen.pages, read.len() as u64);
                base = Some(Unfinished::with(base.as_ref(), chunk, came, seq));
            }
            Step::Close(window) => {
                let now = image(&seen.rows);
                let read: Rows =
                    seen.rows.iter().filter(|v| window.contains(v.xmin as u32)).map(|v| (v.key, v.value)).collect();
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
        match read_in_chunks(seed) {
            Ok(chunks) => in_chunks += u32::from(chunks > 2),
            Err(difference) => panic!("seed {seed}: {difference}"),
        }
    }
    assert!(in_chunks > 2_000, "only {in_chunks} histories had more than two chunks");
}

#[cfg(debug_assertions)]
#[test]
fn closing_from_the_last_chunk_loses_rows_and_leaves_others_stale() {
    let run = || (1..=200).filter_map(|seed| read_in_chunks(seed).err()).count();
    let harmed = crate::fault::with_planted("closing_from_last_chunk", run);
    assert!(harmed > 50, "only {harmed} of 200 histories show it");
}
