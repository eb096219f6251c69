//! What has to hold whatever happened, found without the code that is under test: from the objects as they lie there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use starlift_core::digest::sha256_hex;
use starlift_core::key;
use starlift_core::manifest::{DataFile, LiveFile, Manifest, Relation};

use crate::files::{self, Format};
use crate::record::Shown;
use crate::run::Run;
use crate::tables::{self, Rows, TABLES, model};
use crate::world::World;

/// States by name, as of one manifest.
type States = BTreeMap<String, Rows>;

/// A lake or star as far as it was looked at.
#[derive(Default)]
struct Read {
    bytes: Vec<Bytes>,
    manifests: Vec<Manifest>,
    /// As of each manifest.
    states: Vec<States>,
    live: BTreeMap<String, Vec<LiveFile>>,
    named: BTreeMap<String, DataFile>,
}

/// Looks at what a schedule left.
pub(crate) struct Check {
    run: Run,
    lake: Read,
    star: Read,
}

impl Check {
    pub(crate) fn new(world: &Arc<Mutex<World>>) -> Check {
        Check { run: Run::new(world, u32::MAX, "check".into()), lake: Read::default(), star: Read::default() }
    }

    async fn look(&mut self) {
        let lake = std::mem::take(&mut self.lake);
        self.lake = self.read_on(self.run.lake, lake).await;
        let star = std::mem::take(&mut self.star);
        self.star = self.read_on(self.run.star, star).await;
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        self.run.port.with(work)
    }

    fn demand(&self, holds: bool, text: impl FnOnce() -> String) {
        self.with(|w| w.record.demand(holds, text));
    }

    /// The work is finished: lake, star and warehouse hold the source as it is.
    pub(crate) async fn settled(&mut self) {
        self.look().await;
        let (source, versions) = self.with(|w| (w.source.image(), w.project.versions.clone()));
        let none = States::new();
        let (lake, star) = (self.lake.states.last().unwrap_or(&none), self.star.states.last().unwrap_or(&none));
        for table in TABLES {
            self.equal("the lake", table.name(), lake.get(table.name()), &source[table.name()]);
        }
        for (model, rows) in &tables::star(&versions, &source) {
            self.equal("the star", model.name(), star.get(model.name()), rows);
            let current = self.with(|w| w.warehouse.content().current(*model));
            self.equal("the warehouse", model.name(), Some(&current), rows);
        }
    }

    fn equal(&self, place: &str, name: &str, found: Option<&Rows>, expected: &Rows) {
        self.demand(found == Some(expected), || format!("{place} holds of {name} {found:?}, and not {expected:?}"));
    }

    /// Every manifest and every commit of the warehouse was right when it was made, and still says so.
    pub(crate) async fn history(&mut self) {
        self.look().await;
        for (manifest, states) in self.lake.manifests.iter().zip(&self.lake.states) {
            let images = self.with(|w| w.record.images.get(&manifest.write_id).cloned()).unwrap_or_default();
            for (table, image) in &images {
                self.equal(&format!("the lake as of {}", manifest.seq), table.name(), states.get(table.name()), image);
            }
        }
        // A compaction holds what the manifest before it holds, under another name.
        let of_runs: Vec<&Manifest> = self.lake.manifests.iter().filter(|manifest| !manifest.compaction).collect();
        for pair in of_runs.windows(2) {
            self.never_back(pair[0], pair[1]);
        }
        let mut run = None;
        for (manifest, states) in self.star.manifests.iter().zip(&self.star.states) {
            run = Some(manifest).filter(|manifest| !manifest.compaction).or(run);
            self.star_as_of(manifest, run.map_or("", |run| &run.write_id), states);
        }
        for shown in self.with(|w| w.record.shown.clone()) {
            self.shown(&shown);
        }
        for reported in self.with(|w| w.record.reported.clone()) {
            let read = if reported.bucket == self.run.lake { &self.lake } else { &self.star };
            let position = reported.seq as usize - 1;
            let is_there = read.manifests.get(position).is_some_and(|m| m.write_id == reported.write_id)
                && sha256_hex(&read.bytes[position]) == reported.sha256;
            self.demand(is_there, || format!("manifest {} was reported as committed, and is not", reported.seq));
        }
        for (bucket, read) in [(self.run.lake, &self.lake), (self.run.star, &self.star)] {
            for file in read.named.values() {
                let stored = self.with(|w| w.buckets[bucket].stored.get(&file.key).cloned());
                let is_whole = stored.is_some_and(|content| sha256_hex(&content) == file.sha256);
                self.demand(is_whole, || format!("data file `{}` is missing or altered", file.key));
            }
        }
    }

    /// On one timeline no run shows an older source than the run before it.
    fn never_back(&self, before: &Manifest, after: &Manifest) {
        let is_one = before.source().map(|s| &s.identity) == after.source().map(|s| &s.identity);
        let [before_lsn, after_lsn] =
            [before, after].map(|m| self.with(|w| w.record.snapshots.get(&m.write_id).copied()));
        self.demand(!is_one || before_lsn <= after_lsn, || {
            format!("the lake goes back from {before_lsn:?} to {after_lsn:?} with manifest {}", after.seq)
        });
    }

    /// What readers of the warehouse saw after one of its commits is the star as of the ledger's newest manifest.
    fn shown(&self, shown: &Shown) {
        let is_ours = |id: &String| self.star.manifests.first().is_some_and(|first| first.id == *id);
        let seq = shown.head.as_ref().filter(|(id, _)| is_ours(id)).map_or(0, |(_, seq)| *seq as usize);
        let Some(states) = seq.checked_sub(1).and_then(|position| self.star.states.get(position)) else {
            return self.demand(false, || format!("the warehouse shows rows of star manifest {seq}, which is none"));
        };
        for (name, rows) in states {
            let found = model(name).and_then(|model| shown.current.get(&model));
            self.equal(&format!("the warehouse as of star manifest {seq}"), name, found, rows);
        }
    }

    fn star_as_of(&self, manifest: &Manifest, write_id: &str, states: &States) {
        let versions = self.with(|w| w.record.versions.get(write_id).cloned()).unwrap_or_default();
        let upto = manifest.covers_upto().unwrap_or(0) as usize;
        let Some(covered) = upto.checked_sub(1).and_then(|position| self.lake.states.get(position)) else {
            return self.demand(false, || format!("star manifest {} covers a manifest that is none", manifest.seq));
        };
        let covered = TABLES.iter().map(|t| (t.name(), covered.get(t.name()).cloned().unwrap_or_default())).collect();
        let expected = tables::star(&versions, &covered);
        for (name, rows) in states {
            match model(name).and_then(|model| expected.get(&model)) {
                Some(expected) => self.equal(&format!("the star as of {}", manifest.seq), name, Some(rows), expected),
                None => self.demand(false, || format!("star manifest {} has the unknown model {name}", manifest.seq)),
            }
        }
    }

    /// Reads the manifests that are new since the last look, each link checked, and the states as of them.
    async fn read_on(&self, bucket: usize, mut read: Read) -> Read {
        let stored: Vec<(String, Bytes)> = self.with(|w| {
            let manifests = w.buckets[bucket].stored.iter().rev();
            manifests.filter(|(k, _)| k.starts_with(key::MANIFESTS)).map(|(k, b)| (k.clone(), b.clone())).collect()
        });
        for (position, (key, bytes)) in stored.into_iter().enumerate() {
            let seq = position as u64 + 1;
            if let Some(before) = read.bytes.get(position) {
                self.demand(*before == bytes, || format!("manifest {seq} was replaced"));
                continue;
            }
            let manifest = match Manifest::from_bytes(&key, &bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.demand(false, || error.render());
                    break;
                }
            };
            let follows = key == key::manifest(seq)
                && manifest.seq == seq
                && manifest.previous_sha256 == read.bytes.last().map(|bytes| sha256_hex(bytes))
                && read.manifests.last().is_none_or(|last| last.id == manifest.id && last.at < manifest.at)
                && read.manifests.iter().all(|earlier| earlier.run_id != manifest.run_id);
            self.demand(follows, || format!("manifest {seq} does not follow the one before it, or its run came twice"));
            self.take_in(bucket, &mut read, &manifest).await;
            read.bytes.push(bytes);
            read.manifests.push(manifest);
        }
        read
    }

    async fn take_in(&self, bucket: usize, read: &mut Read, manifest: &Manifest) {
        let mut now = read.states.last().cloned().unwrap_or_default();
        read.live.retain(|name, _| manifest.relations.contains_key(name));
        now.retain(|name, _| manifest.relations.contains_key(name));
        for (name, relation) in &manifest.relations {
            let files = read.live.entry(name.clone()).or_default();
            if relation.base == manifest.seq {
                files.clear();
            }
            for new in manifest.files_of(name) {
                let named = read.named.insert(new.file.key.clone(), new.file.clone());
                self.demand(named.is_none(), || format!("manifest {} names a file for the second time", manifest.seq));
                files.push(new);
            }
            if relation.run.is_some() {
                let rows = self.rows(bucket, relation, files).await;
                let text = || format!("{name} has {} rows as of {}, not {}", rows.len(), manifest.seq, relation.rows);
                self.demand(rows.len() as u64 == relation.rows, text);
                now.insert(name.clone(), rows);
            }
            self.listed(bucket, read, manifest, name, now.get(name)).await;
        }
        read.states.push(now);
    }

    /// What a manifest lists of merged files says the same as all that the manifests before it named.
    async fn listed(&self, bucket: usize, read: &mut Read, manifest: &Manifest, name: &str, state: Option<&Rows>) {
        let (Some(live), Some(relation)) = (&manifest.live, manifest.relations.get(name)) else { return };
        let list = live.get(name).cloned().unwrap_or_default();
        let parts = manifest.index.get(name).cloned().unwrap_or_default();
        let merged = list.iter().filter(|file| file.from.is_some());
        for file in merged.chain(&parts) {
            read.named.insert(file.file.key.clone(), file.file.clone());
        }
        let plain = read.live.get(name).map(Vec::as_slice).unwrap_or_default();
        if list != plain || !parts.is_empty() {
            let rows = self.rows(bucket, relation, &[list, parts].concat()).await;
            let place = format!("the list of manifest {}", manifest.seq);
            self.equal(&place, name, Some(&rows), state.unwrap_or(&Rows::new()));
        }
    }

    async fn rows(&self, bucket: usize, relation: &Relation, files: &[LiveFile]) -> Rows {
        let read = if self.run.format == Format::Parquet {
            files::state(&self.run, bucket, &relation.schema, files).await
        } else {
            let content = |file: &LiveFile| self.with(|w| w.buckets[bucket].stored.get(&file.file.key).cloned());
            let contents: starlift_core::Result<Vec<_>> =
                files.iter().map(|file| Ok((file.clone(), files::plain(&file.file, content(file))?))).collect();
            contents.map(|contents| files::newest(contents, !relation.schema.key.is_empty()))
        };
        read.unwrap_or_else(|error| {
            self.demand(false, || error.render());
            Rows::new()
        })
    }
}
