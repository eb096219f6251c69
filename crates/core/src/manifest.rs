//! The manifest: the create-only document that commits one run of ingest or transform. docs/format.md shows one.
//!
//! Guarantees that readers rely on:
//! * a data file that no manifest names does not exist;
//! * manifest n+1 holds the SHA-256 of manifest n, and each holds a checksum of itself;
//! * a manifest carries everything that the next run starts from: the state of every table or model, also of those
//!   that its run did not read;
//! * a checkpoint lists the live files of every table or model. Every manifest is one while these are few, which merging
//!   keeps them, so that a run needs the newest manifest alone; else every hundredth is, so that no reader needs more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::{Horizon, SafeTime};
use crate::digest::sha256_hex;
use crate::error::{Error, Result};
use crate::index::{Covers, Tail};
use crate::schema::TableSchema;
use crate::time::Micros;
use crate::unfinished::Unfinished;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// A manifest whose seq is a multiple of this is a checkpoint.
pub const CHECKPOINT_EVERY: u64 = 100;
/// And so is one with at most so many live files.
pub const CHECKPOINT_FILES: usize = 1_000;
/// How many runs before its own a manifest names, compactions not counted.
pub const RUNS_KEPT: usize = 15;

/// One committed run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The id of this lake or star, born with its first manifest.
    pub id: String,
    /// 1, 2, 3, … without gaps.
    pub seq: u64,
    /// The run that committed it.
    pub run_id: String,
    /// Made up for this one write, so that a run recognises its own manifest after an ambiguous answer.
    pub write_id: String,
    /// SHA-256 of the manifest before, as stored; none in the first.
    pub previous_sha256: Option<String>,
    /// The version of starlift that wrote it.
    pub version: String,
    /// End of the window: names the run's files; later than in the manifest before.
    pub at: Micros,
    /// When the run started, by the clock of the machine that ran it.
    pub started: Micros,
    /// When the run had written its files, by the same clock.
    pub finished: Micros,
    /// The newest seq with changes, this one included.
    pub newest_change: u64,
    /// SHA-256 of the manifest that `newest_change` names; none where that is this one, or was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_change_sha256: Option<String>,
    /// The newest checkpoint, this one included; 0 before the first.
    pub checkpoint: u64,
    /// The runs of the manifests before, newest first, at most [`RUNS_KEPT`], with an empty place for each compaction; none in a
    /// manifest from before they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs_before: Option<Vec<String>>,
    /// What a run that only looked after files did: the manifest holds what the one before it holds.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compaction: bool,
    /// What ingest or transform adds.
    pub origin: Origin,
    /// Every table (ingest) or model (transform) by name.
    pub relations: BTreeMap<String, Relation>,
    /// In a checkpoint: the live files by table or model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<BTreeMap<String, Vec<LiveFile>>>,
    /// In a checkpoint: the parts of the key index by table or model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub index: BTreeMap<String, Vec<LiveFile>>,
    /// Tables that are being read in chunks: what will replace their state. No reader of states sees it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfinished: BTreeMap<String, Unfinished>,
    /// Where there are such tables: the newest seq before at which there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<u64>,
    /// In a checkpoint: the files of the chunks so far, by table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<BTreeMap<String, Vec<LiveFile>>>,
    /// What the stage printed: name to first file.
    pub result: BTreeMap<String, String>,
    /// SHA-256 of this document with an empty checksum: an altered manifest is refused even when it is the newest.
    pub checksum: String,
}

/// What ingest or transform adds to a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Origin {
    /// Written by ingest.
    Ingest {
        /// Where the rows came from.
        source: Source,
    },
    /// Written by transform.
    Transform {
        /// The id of the lake that it read.
        lake_id: String,
        /// The ingest seq that the star covered before; 0 when coverage starts.
        after: u64,
        /// The ingest seq that the star covers now: every model is as of this manifest.
        upto: u64,
        /// The SHA-256 of that ingest manifest, by which a lake that was put back or forked is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upto_sha256: Option<String>,
    },
}

/// The source database at the snapshot of one ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which cluster and database it is; xids of another one mean nothing.
    pub identity: String,
    /// Whether it was a standby.
    pub in_recovery: bool,
    /// `server_version_num`, such as 150018.
    pub server_version: u32,
    /// The database's name.
    pub database: String,
    /// The schema that was read.
    pub schema: String,
    /// The snapshot's `xmin`.
    #[serde(with = "decimal_text")]
    pub xmin: u64,
    /// The snapshot's `xmax`.
    #[serde(with = "decimal_text")]
    pub xmax: u64,
    /// The WAL position that was read after the snapshot, in bytes.
    #[serde(with = "decimal_text")]
    pub lsn: u64,
    /// Every table of the schema that the pipeline captures, also those that this run did not read, sorted.
    #[serde(default)]
    pub tables: Vec<String>,
    /// What is known of the stamps of rows that the snapshot did not see; none where no table follows a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
}

/// One table or model as of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relation {
    /// Its columns and key.
    #[serde(flatten)]
    pub schema: TableSchema,
    /// Names the version of a table's schema and settings, or of a model's SQL, header, seeds and evaluation.
    pub fingerprint: String,
    /// Rows of its state: for a table, what `count(*)` said at the snapshot of its last xid pass or full read, and the keys that
    /// its cursor brought since.
    pub rows: u64,
    /// Refused rows among them: entries of the state that no reader of its rows sees.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// The newest seq that changed it; 0 if none did.
    pub last_change: u64,
    /// The seq whose files replaced everything before (a full read); 0 if none did.
    pub base: u64,
    /// What ingest keeps for the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureState>,
    /// What transform keeps about a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelState>,
    /// What this run did with it; none where this run did not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RelationRun>,
}

/// What ingest keeps about a table for the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureState {
    /// How the table is captured: `xid`, `cursor` or `full`.
    pub mode: String,
    /// Which cluster and database the watermark belongs to.
    pub identity: String,
    /// How far the lake is complete: the `xmin` of the snapshot of the last xid pass or full read.
    #[serde(with = "decimal_text")]
    pub watermark: u64,
    /// The `xmax` of the newest snapshot that the table was read at; the same one, unless it was read by its cursor since.
    #[serde(with = "decimal_text")]
    pub xmax: u64,
    /// The WAL position that was read after that one. Each table has its own: a run may read some tables and not others. A lake
    /// that was written before it was kept has 0, until the table is read again.
    #[serde(default, with = "decimal_text")]
    pub lsn: u64,
    /// When the table was last read, by the source's clock.
    pub read_at: Micros,
    /// Which version the labels and fields have that its values show ([`names_digest`](crate::schema::names_digest)); none where
    /// they show none, and in manifests from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// Of a table that not every run reads completely; none of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<Passes>,
}

/// What ingest keeps about a table that not every run reads completely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passes {
    /// The seq of its last xid pass or full read.
    pub seq: u64,
    /// When that was, by the source's clock.
    pub at: Micros,
    /// The next one is due this many runs later.
    pub every: u32,
    /// Why the table is captured so, in words.
    pub why: String,
    /// Up to when the stamps are known, in mode `cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<SafeTime>,
}

impl Passes {
    /// The seq of the run that makes the next pass, if none is made before.
    pub fn due(&self) -> u64 {
        self.seq.saturating_add(self.every.into())
    }
}

/// What transform keeps about a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelState {
    /// `dimension`, `fact` or `calendar`.
    pub kind: String,
    /// The tables, seeds and models that it reads.
    pub inputs: Vec<String>,
    /// Columns that refer to the key of another model: column to model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub references: BTreeMap<String, String>,
    /// What the tests of its header last found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestVerdict>,
}

/// What one test of a model's header found when rows last went through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestVerdict {
    /// The test as the header has it, such as `not_null(price)`.
    pub test: String,
    /// Whether rows that fail are only counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
    /// The star's seq of the run that tested them.
    pub seq: u64,
    /// Rows that were tested: those that were new or differed.
    pub rows: u64,
    /// Those that failed.
    pub failed: u64,
}

/// What one run did with one table or model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct RelationRun {
    /// `full`, `window` or `cursor` for a table; `whole` or `incremental` for a model.
    pub mode: String,
    /// Why it was read in full or evaluated; none for an ordinary window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Rows that came from the source, or that the evaluation of the model yielded.
    pub rows_read: u64,
    /// Bytes that came from the source.
    #[serde(default)]
    pub bytes_read: u64,
    /// Time that it took.
    pub millis: u64,
    /// What an ingest proved about the table before it committed; none for a model, for a table that was read by its cursor,
    /// which proves no count, and in manifests from before there
    /// was such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Data files, in the order of their parts.
    #[serde(default)]
    pub files: Vec<DataFile>,
    /// Tombstones of a table, retractions of a model.
    #[serde(default)]
    pub deleted: Vec<DataFile>,
    /// Refused rows, which hide older rows of their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<DataFile>,
}

/// What one ingest proved about one table: the lake holds as many rows as the source counted in the same snapshot.
///
/// After a window the lake's keys include the source's, so an equal number means equal sets; where it differed, the keys
/// themselves were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Rows of the table that the source counted at the snapshot.
    pub counted: u64,
    /// Keys (rows, of a table without a key) that the lake knows after this manifest.
    pub known: u64,
    /// Whether the keys were compared one by one, in both directions.
    pub reconciled: bool,
}

impl Proof {
    /// Whether the two sides have the same number. No manifest is committed where they have not.
    pub fn agrees(&self) -> bool {
        self.counted == self.known
    }
}

impl RelationRun {
    /// Rows in the data files.
    pub fn rows_written(&self) -> u64 {
        self.files.iter().map(|f| f.rows).sum()
    }

    /// Tombstones or retractions.
    pub fn rows_deleted(&self) -> u64 {
        self.deleted.iter().map(|f| f.rows).sum()
    }

    /// Refused rows that were set aside anew.
    pub fn rows_refused(&self) -> u64 {
        self.refused.iter().map(|f| f.rows).sum()
    }

    /// Every file of the run: rows, tombstones or retractions, refused rows.
    pub fn all_files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.iter().chain(&self.deleted).chain(&self.refused)
    }

    /// Bytes of all files.
    pub fn bytes_written(&self) -> u64 {
        self.all_files().map(|f| f.bytes).sum()
    }
}

/// Whether a file replaces the state before it or adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileMode {
    /// Part of a full read: with its sibling parts it is the whole table.
    Full,
    /// Rows that are new or differ.
    Window,
    /// Keys that are gone.
    Deleted,
    /// Keys whose row was refused, with the reason.
    Refused,
    /// A part of the key index: it says where entries are, and holds none.
    Index,
}

/// One immutable Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its object key.
    pub key: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// What it does to the state before.
    pub mode: FileMode,
    /// Its last bytes, by which parts of it can be read; none in files from before there were such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
}

/// A file that is part of a state, with the seq that committed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFile {
    /// The manifest that named it; of merged files the newest one.
    pub seq: u64,
    /// The oldest manifest of merged files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// What a part of the key index covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers: Option<Covers>,
    /// The file.
    #[serde(flatten)]
    pub file: DataFile,
}

impl LiveFile {
    /// A file that the manifest of this seq named.
    pub fn new(seq: u64, file: DataFile) -> LiveFile {
        LiveFile { seq, from: None, covers: None, file }
    }

    /// The oldest seq whose entries it holds or covers.
    pub fn from(&self) -> u64 {
        self.from.unwrap_or(self.seq)
    }
}

impl Manifest {
    /// The stored form: indented JSON with its checksum filled in.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut sealed = self.clone();
        sealed.checksum = String::new();
        sealed.checksum = sha256_hex(&encode(&sealed)?);
        encode(&sealed)
    }

    /// Reads the stored form.
    ///
    /// Errors: Config for a format of another version; Data where the document is truncated, altered or not a
    /// manifest. `key` names it in the message.
    pub fn from_bytes(key: &str, bytes: &[u8]) -> Result<Manifest> {
        let damaged = |detail: String| {
            Error::data(format!("manifest `{key}` is damaged"))
                .with_detail(detail)
                .with_hint("restore this object from a backup or an older version of the bucket; nothing was committed")
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let manifest = match serde_json::from_slice::<Manifest>(bytes) {
            Ok(manifest) if manifest.format == FORMAT => manifest,
            // Another format may have other fields: what it says of itself counts before what is wrong with it.
            read => {
                let format: Format = serde_json::from_slice(bytes).map_err(|e| damaged(syntax(&e)))?;
                if format.format != FORMAT {
                    return Err(Error::config(format!(
                        "manifest `{key}` has format {}, and this starlift reads {FORMAT}",
                        format.format
                    ))
                    .with_hint("use the version of starlift that wrote it, or a newer one"));
                }
                read.map_err(|e| damaged(syntax(&e)))?
            }
        };
        // Over the stored bytes, not over what this version would write: a later one may add fields.
        if without_checksum(bytes, &manifest.checksum).map(|blank| sha256_hex(&blank))
            != Some(manifest.checksum.clone())
        {
            return Err(damaged("its checksum does not fit its content".into()));
        }
        Ok(manifest)
    }

    /// The ingest seq that this manifest of a star covers; none for a lake's manifest.
    pub fn covers_upto(&self) -> Option<u64> {
        match self.origin {
            Origin::Transform { upto, .. } => Some(upto),
            Origin::Ingest { .. } => None,
        }
    }

    /// The source that this manifest of a lake was read from; none for a star's manifest.
    pub fn source(&self) -> Option<&Source> {
        match &self.origin {
            Origin::Ingest { source } => Some(source),
            Origin::Transform { .. } => None,
        }
    }

    /// Whether the files of this manifest are the whole state of a table or model: what was there before is replaced.
    pub fn replaces(&self, name: &str) -> bool {
        self.relations.get(name).is_some_and(|relation| relation.base == self.seq)
    }

    /// The files of the chunk that this manifest adds to the unfinished base of a table, with their seq.
    pub fn chunk_of(&self, name: &str) -> Vec<LiveFile> {
        let run = self.unfinished.get(name).and_then(|base| base.run.as_ref());
        run.map(|run| run.all_files().map(|file| LiveFile::new(self.seq, file.clone())).collect()).unwrap_or_default()
    }

    /// The files that this manifest adds to a table or model, with their seq.
    pub fn files_of(&self, name: &str) -> Vec<LiveFile> {
        let run = self.relations.get(name).and_then(|r| r.run.as_ref());
        run.map(|run| run.all_files().map(|file| LiveFile::new(self.seq, file.clone())).collect()).unwrap_or_default()
    }
}

fn encode(manifest: &Manifest) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|e| Error::internal("a manifest cannot be written as JSON").with_source(e))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The stored bytes with the checksum's value cut out; none where it is not at the end, where it belongs.
fn without_checksum(bytes: &[u8], checksum: &str) -> Option<Vec<u8>> {
    let end = bytes.strip_suffix(b"\"\n}\n")?.strip_suffix(checksum.as_bytes())?;
    Some([end, b"\"\n}\n"].concat())
}

/// serde_json quotes offending values in some messages; the position is enough to find them.
fn syntax(error: &serde_json::Error) -> String {
    format!("not a complete manifest at line {} column {}", error.line(), error.column())
}

pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// 64-bit numbers as text: JSON readers in other languages lose digits beyond 2^53.
mod decimal_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn sample() -> Manifest {
        Manifest {
            format: FORMAT,
            pipeline: "p".into(),
            id: "lake".into(),
            seq: 1,
            run_id: "r".into(),
            write_id: "w".into(),
            previous_sha256: None,
            version: "0".into(),
            at: Micros(5),
            started: Micros(1),
            finished: Micros(2),
            newest_change: 0,
            newest_change_sha256: None,
            checkpoint: 0,
            runs_before: None,
            compaction: false,
            origin: Origin::Transform { lake_id: "l".into(), after: 0, upto: u64::MAX, upto_sha256: None },
            relations: BTreeMap::new(),
            live: None,
            index: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            complete: None,
            chunks: None,
            result: BTreeMap::new(),
            checksum: String::new(),
        }
    }

    #[test]
    fn a_manifest_survives_its_bytes() {
        let bytes = sample().to_bytes().unwrap();
        let read = Manifest::from_bytes("k", &bytes).unwrap();
        assert_eq!(read.checksum.len(), 64);
        assert_eq!(Manifest { checksum: String::new(), ..read }, sample());
    }

    #[test]
    fn every_altered_or_missing_byte_is_noticed() {
        let bytes = sample().to_bytes().unwrap();
        for position in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[position] ^= 1;
            assert!(Manifest::from_bytes("k", &altered).is_err(), "byte {position}");
            assert!(Manifest::from_bytes("k", &bytes[..position]).is_err(), "cut at {position}");
        }
    }

    #[test]
    fn a_run_of_an_older_version_has_no_proof_and_is_written_as_it_was() {
        let before = r#"{"mode":"window","rows_read":3,"bytes_read":9,"millis":1,"files":[],"deleted":[]}"#;
        let run: RelationRun = serde_json::from_str(before).unwrap();
        assert_eq!(run.proof, None);
        assert_eq!(serde_json::to_string(&run).unwrap(), before);
        let proof = Proof { counted: 7, known: 7, reconciled: true };
        let run = RelationRun { proof: Some(proof), ..run };
        let text = serde_json::to_string(&run).unwrap();
        assert!(text.contains(r#""proof":{"counted":7,"known":7,"reconciled":true}"#), "{text}");
        assert_eq!(serde_json::from_str::<RelationRun>(&text).unwrap(), run);
        assert!(proof.agrees() && !Proof { known: 6, ..proof }.agrees());
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let error = Manifest::from_bytes("k", br#"{"format": 2}"#).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert!(error.message().contains("format 2"));
    }
}
