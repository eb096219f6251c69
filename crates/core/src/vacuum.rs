//! What of a lake or star nobody can need any more: decided from its manifests and from the keys of its objects.
//!
//! **Readers** open what a manifest names, and nothing that any manifest names is ever garbage, however old it is.
//!
//! **Writers.** A run claims a time that is later than that of the manifest which it starts from, and names its files by
//! it; times grow from manifest to manifest. So a run whose time is not later than the newest manifest's started from an
//! older manifest than that one, and the seq that it will ask for is taken: it is superseded, whatever it still does,
//! also where it wakes up in a week. What it wrote is in no manifest and will be in none. Files and claims that are
//! *later* than the newest manifest may belong to a run that commits next; they stay until a manifest is later than
//! they are. No clock takes part in this.
//!
//! **Age** is asked for besides, as a second guard: for tools that look at a lake without reading its manifests, and for
//! whoever wants to see what a dead run left.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::key::{self, Kind};
use crate::manifest::Manifest;
use crate::time::Micros;

/// What separates the name of an object from the number of a file that is staged for it, in a folder.
pub const STAGING_MARK: char = '#';

/// What all manifests of a lake or star name together.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Hashes of keys, which take a tenth of the memory. Two keys with the same keep garbage, and remove nothing.
    named: HashSet<u64>,
    /// Times whose claims go on protecting the keys of their manifest.
    claimed: HashSet<Micros>,
    newest: Option<Micros>,
}

/// What is to become of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// A manifest names it, or is one.
    Named,
    /// It may belong to a run that is on its way.
    Running,
    /// It is garbage, and not old enough.
    Young,
    /// It is not one of starlift's objects, or one that only a person should judge.
    Foreign,
    /// It is garbage.
    Garbage(Garbage),
}

/// Which kind of garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Garbage {
    /// Rows that no manifest names.
    Data,
    /// Tombstones or retractions that no manifest names.
    Deleted,
    /// Refused rows that no manifest names.
    Refused,
    /// Merged files that no manifest names.
    Merged,
    /// Parts of the key index that no manifest names.
    Index,
    /// The claim of a run that committed nothing.
    Claim,
    /// A file that was on its way into its place in a folder.
    Staging,
}

impl Garbage {
    /// The word that people and machines read.
    pub fn name(self) -> &'static str {
        match self {
            Garbage::Data => "data",
            Garbage::Deleted => "deleted",
            Garbage::Refused => "refused",
            Garbage::Merged => "merged",
            Garbage::Index => "index",
            Garbage::Claim => "claim",
            Garbage::Staging => "staging",
        }
    }
}

impl Known {
    /// Takes in a manifest; every one of the chain has to be, in any order.
    pub fn add(&mut self, manifest: &Manifest) {
        let runs = manifest.relations.values().filter_map(|relation| relation.run.as_ref());
        // Chunks of a base that is not finished, also of one that never will be, are named like all else.
        let chunks = manifest.unfinished.values().filter_map(|base| base.run.as_ref());
        let files = runs.chain(chunks).flat_map(|run| run.all_files());
        let listed = manifest.live.iter().chain(&manifest.chunks).flat_map(|live| live.values());
        let live = listed.chain(manifest.index.values()).flatten().map(|live| &live.file);
        self.named.extend(files.chain(live).map(|file| hash(&file.key)));
        self.claimed.insert(manifest.at);
        self.newest = self.newest.max(Some(manifest.at));
    }

    /// Judges an object by its key. Garbage has to be older than `limit`: its claimed time has to be before it.
    pub fn judge(&self, key: &str, limit: Micros) -> Verdict {
        // A staged file is never what a manifest names: that is the object of the name before the mark.
        let (object, is_staged) = key.rsplit_once(STAGING_MARK).map_or((key, false), |(object, _)| (object, true));
        if !is_staged && key::manifest_seq(object).is_some_and(|seq| key::manifest(seq) == object) {
            return Verdict::Named;
        }
        let Some((kind, at)) = key::parse(object) else { return Verdict::Foreign };
        let is_named = match kind {
            Kind::Claim => self.claimed.contains(&at),
            Kind::Data | Kind::Deleted | Kind::Refused | Kind::Merged | Kind::Index => {
                self.named.contains(&hash(object))
            }
        };
        if is_named && !is_staged {
            Verdict::Named
        } else if self.newest.is_none_or(|newest| at > newest) {
            Verdict::Running
        } else if at >= limit {
            Verdict::Young
        } else if is_staged {
            Verdict::Garbage(Garbage::Staging)
        } else {
            Verdict::Garbage(match kind {
                Kind::Data => Garbage::Data,
                Kind::Deleted => Garbage::Deleted,
                Kind::Refused => Garbage::Refused,
                Kind::Merged => Garbage::Merged,
                Kind::Index => Garbage::Index,
                Kind::Claim => Garbage::Claim,
            })
        }
    }
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{DataFile, FileMode, LiveFile, Origin, Relation, RelationRun};
    use crate::schema::TableSchema;
    use crate::succession;

    fn file(key: String, mode: FileMode) -> DataFile {
        DataFile { key, rows: 1, bytes: 1, sha256: String::new(), mode, tail: None }
    }

    /// A manifest at this time, whose run wrote rows and tombstones of `t`.
    fn manifest(at: i64) -> Manifest {
        let at = Micros(at);
        let run = RelationRun {
            files: vec![file(key::data("t", at, 1), FileMode::Window), file(key::data("t", at, 2), FileMode::Window)],
            deleted: vec![file(key::deleted("t", at, 1), FileMode::Deleted)],
            refused: vec![file(key::refused("t", at, 1), FileMode::Refused)],
            ..RelationRun::default()
        };
        let relation = Relation {
            schema: TableSchema { columns: vec![], key: vec![], oid: None, partitions: vec![], attributes: vec![] },
            fingerprint: String::new(),
            rows: 1,
            refused: 0,
            last_change: 1,
            base: 1,
            capture: None,
            model: None,
            run: Some(run),
        };
        let draft = succession::Draft {
            pipeline: "p".into(),
            new_id: "lake".into(),
            run_id: "r".into(),
            write_id: "w".into(),
            version: "0".into(),
            at,
            started: at,
            finished: at,
            origin: Origin::Transform { lake_id: "l".into(), after: 0, upto: 0, upto_sha256: None },
            relations: [("t".to_string(), relation)].into(),
            upkept: Default::default(),
            compaction: false,
        };
        succession::next(None, Default::default(), draft)
    }

    const SECOND: i64 = 1_000_000;
    /// Long after everything.
    const OLD: Micros = Micros(1 << 50);

    fn known() -> Known {
        let mut known = Known::default();
        known.add(&manifest(20 * SECOND));
        known.add(&manifest(10 * SECOND));
        known
    }

    fn judge(key: String) -> Verdict {
        known().judge(&key, OLD)
    }

    #[test]
    fn what_any_manifest_names_stays_however_old_it_is() {
        for at in [Micros(10 * SECOND), Micros(20 * SECOND)] {
            for key in [key::data("t", at, 1), key::deleted("t", at, 1), key::refused("t", at, 1), key::claim(at)] {
                assert_eq!(judge(key.clone()), Verdict::Named, "{key}");
            }
        }
        assert_eq!(judge(key::manifest(7)), Verdict::Named);
        let mut known = Known::default();
        let mut checkpoint = manifest(20 * SECOND);
        let of_old = LiveFile::new(1, file(key::data("t", Micros(SECOND), 1), FileMode::Full));
        let part = LiveFile::new(1, file(key::index("t", Micros(SECOND), 1), FileMode::Index));
        checkpoint.live = Some([("t".to_string(), vec![of_old])].into());
        checkpoint.index = [("t".to_string(), vec![part])].into();
        known.add(&checkpoint);
        assert_eq!(known.judge(&key::data("t", Micros(SECOND), 1), OLD), Verdict::Named);
        assert_eq!(known.judge(&key::index("t", Micros(SECOND), 1), OLD), Verdict::Named);
        assert_eq!(known.judge(&key::index("t", Micros(SECOND), 2), OLD), Verdict::Garbage(Garbage::Index));
    }

    #[test]
    fn what_superseded_and_dead_runs_left_is_garbage() {
        let at = Micros(15 * SECOND);
        assert_eq!(judge(key::data("t", at, 1)), Verdict::Garbage(Garbage::Data));
        assert_eq!(judge(key::data("t", Micros(20 * SECOND), 3)), Verdict::Garbage(Garbage::Data));
        assert_eq!(judge(key::deleted("t", at, 1)), Verdict::Garbage(Garbage::Deleted));
        assert_eq!(judge(key::refused("t", at, 1)), Verdict::Garbage(Garbage::Refused));
        assert_eq!(judge(key::claim(at)), Verdict::Garbage(Garbage::Claim));
        assert_eq!(judge(format!("{}#1", key::data("t", at, 1))), Verdict::Garbage(Garbage::Staging));
        // Its object is named, and the staging name is only another name of it.
        assert_eq!(judge(format!("{}#1", key::data("t", Micros(20 * SECOND), 1))), Verdict::Garbage(Garbage::Staging));
    }

    #[test]
    fn what_is_later_than_the_newest_manifest_may_be_a_runs_that_commits_next() {
        let at = Micros(20 * SECOND + 1);
        for key in [key::data("t", at, 1), key::deleted("t", at, 1), key::claim(at), format!("{}#1", key::claim(at))] {
            assert_eq!(judge(key.clone()), Verdict::Running, "{key}");
        }
        let nothing = Known::default();
        assert_eq!(nothing.judge(&key::data("t", Micros(0), 1), OLD), Verdict::Running, "before the first commit");
    }

    #[test]
    fn garbage_has_to_be_of_age() {
        let key = key::data("t", Micros(15 * SECOND), 1);
        assert_eq!(known().judge(&key, Micros(15 * SECOND)), Verdict::Young);
        assert_eq!(known().judge(&key, Micros(15 * SECOND + 1)), Verdict::Garbage(Garbage::Data));
    }

    #[test]
    fn what_is_not_ours_is_left_to_its_owner() {
        for key in ["notes.txt", "_claims/probe-1", "_quarantine/t.parquet", "a#b", "#"] {
            assert_eq!(judge(key.into()), Verdict::Foreign, "{key}");
        }
        assert_eq!(judge(format!("{}#1", key::manifest(1))), Verdict::Foreign, "nor is anything among the manifests");
        assert_eq!(judge("_manifests/odd.json".into()), Verdict::Foreign);
    }
}
