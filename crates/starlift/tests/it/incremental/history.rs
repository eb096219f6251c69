//! Four small tables that live: a lake is written as ingest would write it, with random inserts, updates, deletes, rows that
//! come back, rows that are set aside, and now and then a table that is emptied or read anew. Files are merged and indexed at random, also
//! those that no transform has seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use starlift::Head;
use starlift_core::index::Extent;
use starlift_core::manifest::{CaptureState, DataFile, FileMode, LiveFile, Origin, RelationRun, Source};
use starlift_core::relation::{self, Pass};
use starlift_core::{Column, ColumnType, Micros, TableSchema, succession};
use starlift_lake::{Commit, FileWriter, Store, WriterOptions, commit, upkeep};

use super::random::Random;

/// What a column of a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int4,
    Int8,
    Text,
    /// Texts of which some are dates.
    Due,
}

/// A table: its name, its columns, and how many of the first are its key.
type Table = (&'static str, &'static [(&'static str, Kind)], usize);

pub(super) const TABLES: [Table; 4] = [
    ("a", &[("id", Kind::Int4), ("b", Kind::Int4), ("c", Kind::Int8), ("kind", Kind::Text), ("due", Kind::Due)], 1),
    ("b", &[("id", Kind::Int4), ("c", Kind::Int4), ("twin", Kind::Int4), ("name", Kind::Text)], 1),
    ("c", &[("id", Kind::Int8), ("grp", Kind::Int4), ("label", Kind::Text)], 1),
    ("d", &[("x", Kind::Int4), ("y", Kind::Int4), ("a", Kind::Int4), ("v", Kind::Text)], 2),
];
/// Of them the one without others in it.
const C: usize = 2;
/// Keys are from 1 to this, so that rows meet.
const IDS: usize = 9;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Null,
    Number(i64),
    Text(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Row(Vec<Value>),
    Refused,
}

type Key = Vec<i64>;

/// The tables as they are now, and the lake that follows them.
pub(super) struct History {
    lake: Store,
    tables: Vec<BTreeMap<Key, Entry>>,
}

impl History {
    pub(super) fn new(lake: &Store) -> History {
        History { lake: lake.clone(), tables: vec![BTreeMap::new(); TABLES.len()] }
    }

    /// The tables change, and the lake takes it in: one manifest.
    pub(super) async fn step(&mut self, random: &mut Random) {
        let head = Head::read(&self.lake, "p").await.unwrap();
        let seq = succession::next_seq(head.manifest());
        let first = seq == 1;
        let before = self.tables.clone();
        let mut read = BTreeMap::new();
        for (number, table) in self.tables.iter_mut().enumerate() {
            if !first && random.chance(400) {
                continue;
            }
            if !first && random.chance(80) {
                table.clear();
            } else {
                let changes = if first { 6 + random.below(6) } else { 1 + random.below(3) };
                for _ in 0..changes {
                    change(random, number, table, first);
                }
            }
            read.insert(number, first || random.chance(30));
        }
        let mut keeps = BTreeMap::new();
        for number in 0..TABLES.len() {
            if read.get(&number) != Some(&true) && random.chance(400) {
                keeps.insert(number, Extent::new(seq - u64::from(random.chance(500)), random.chance(300)));
            }
        }
        self.commit(&head, &before, &read, &keeps).await;
    }

    /// Table `c` holds these rows from now on, and the lake takes it in, with upkeep of what came before the manifest.
    pub(super) async fn set_c(&mut self, rows: &[(i64, &'static str)]) {
        let head = Head::read(&self.lake, "p").await.unwrap();
        let seq = succession::next_seq(head.manifest());
        let before = self.tables.clone();
        let row = |(id, label): &(i64, &'static str)| {
            (vec![*id], Entry::Row(vec![Value::Number(*id), Value::Number(1), Value::Text(label)]))
        };
        self.tables[C] = rows.iter().map(row).collect();
        let keeps = BTreeMap::from([(C, Extent::of_run(seq - 1))]);
        self.commit(&head, &before, &BTreeMap::from([(C, seq == 1)]), &keeps).await;
    }

    /// Which seqs the live files of table `c` are of.
    pub(super) async fn live_of_c(&self) -> Vec<(u64, u64)> {
        let live = Head::read(&self.lake, "p").await.unwrap().live_of(TABLES[C].0);
        live.iter().map(|file| (file.from(), file.seq)).collect()
    }

    /// One manifest in which these tables were read, some of them anew, and the files of some were looked after.
    async fn commit(
        &self,
        head: &Head,
        before: &[BTreeMap<Key, Entry>],
        read: &BTreeMap<usize, bool>,
        keeps: &BTreeMap<usize, Extent>,
    ) {
        let previous = head.newest().map(|stored| (&stored.manifest, stored.sha256.as_str()));
        let seq = succession::next_seq(head.manifest());
        let at = Micros(1_732_102_500_000_000 + seq as i64 * 1_000_000);
        let mut relations = succession::carried(head.manifest(), |_| true);
        for (number, replaced) in read {
            let (table, nothing) = (&self.tables[*number], BTreeMap::new());
            let old = if *replaced { &nothing } else { &before[*number] };
            let run = write(&self.lake, *number, at, old, table, *replaced).await;
            let pass = Pass {
                rows: table.len() as u64,
                refused: table.values().filter(|entry| **entry == Entry::Refused).count() as u64,
                replaced: *replaced,
                run,
            };
            let name = TABLES[*number].0;
            let capture = CaptureState {
                mode: "xid".into(),
                identity: "i".into(),
                watermark: seq,
                xmax: seq,
                lsn: seq,
                read_at: at,
                names: None,
                passes: None,
            };
            let relation = relation::table(relations.get(name), schema(*number), capture, seq, pass);
            relations.insert(name.into(), relation);
        }
        let mut upkept = BTreeMap::new();
        for (number, extent) in keeps {
            let name = TABLES[*number].0;
            let mut live = head.live_of(name);
            let run = relations.get(name).and_then(|relation| relation.run.as_ref());
            live.extend(run.into_iter().flat_map(|run| run.all_files()).map(|file| LiveFile::new(seq, file.clone())));
            let done = upkeep(&self.lake, (name, at), &schema(*number), &live, *extent).await.unwrap();
            upkept.extend(done.map(|done| (name.to_string(), done.live)));
        }
        let draft = succession::Draft {
            pipeline: "p".into(),
            new_id: "lake".into(),
            run_id: format!("ingest-{seq}"),
            write_id: format!("write-{seq}"),
            version: "0".into(),
            at,
            started: at,
            finished: at,
            origin: Origin::Ingest { source: source() },
            relations,
            upkept,
            compaction: false,
        };
        let next = succession::next(previous, head.live.clone(), draft);
        assert!(matches!(commit(&self.lake, next).await.unwrap(), Commit::Committed(_)));
    }
}

fn source() -> Source {
    Source {
        identity: "i".into(),
        in_recovery: false,
        server_version: 150_000,
        database: "p".into(),
        schema: "public".into(),
        xmin: 1,
        xmax: 1,
        lsn: 1,
        tables: TABLES.iter().map(|(name, ..)| name.to_string()).collect(),
        horizon: None,
    }
}

fn schema(number: usize) -> TableSchema {
    let (_, columns, key) = TABLES[number];
    let column = |(position, (name, kind)): (usize, &(&str, Kind))| Column {
        name: name.to_string(),
        column_type: match kind {
            Kind::Int4 => ColumnType::Int4,
            Kind::Int8 => ColumnType::Int8,
            Kind::Text | Kind::Due => ColumnType::Text,
        },
        nullable: position >= key,
        declared: None,
        labels: vec![],
    };
    TableSchema {
        columns: columns.iter().enumerate().map(column).collect(),
        key: columns[..key].iter().map(|(name, _)| name.to_string()).collect(),
        oid: None,
        partitions: vec![],
        attributes: vec![],
    }
}

fn change(random: &mut Random, number: usize, table: &mut BTreeMap<Key, Entry>, only_insert: bool) {
    let (_, columns, width) = TABLES[number];
    let key: Key = (0..width).map(|_| 1 + random.below(IDS) as i64).collect();
    match random.below(100) {
        0..25 if !only_insert => {
            // A key that is there, most of the time.
            let there = table.keys().nth(random.below(table.len())).cloned();
            table.remove(&there.unwrap_or(key));
        }
        25..30 if !only_insert => {
            table.insert(key, Entry::Refused);
        }
        what => {
            let mut row: Vec<Value> = key.iter().map(|id| Value::Number(*id)).collect();
            row.extend(columns[width..].iter().map(|(_, kind)| value(random, *kind)));
            // Some updates change one column alone.
            if let (true, Some(Entry::Row(old))) = (what < 70, table.get(&key)) {
                let column = width + random.below(columns.len() - width);
                let new = row[column].clone();
                row.clone_from(old);
                row[column] = new;
            }
            table.insert(key, Entry::Row(row));
        }
    }
}

fn value(random: &mut Random, kind: Kind) -> Value {
    if random.chance(150) {
        return Value::Null;
    }
    match kind {
        Kind::Int4 | Kind::Int8 => Value::Number(1 + random.below(IDS) as i64),
        Kind::Text => Value::Text(random.one_of::<&str>(&["x", "y", "z"])),
        Kind::Due => Value::Text(random.one_of::<&str>(&["2024-11-20", "2025-01-31", "2024-02-29", "31/12/2024"])),
    }
}

/// Writes what differs from `old`, as the files of one run.
async fn write(
    lake: &Store,
    number: usize,
    at: Micros,
    old: &BTreeMap<Key, Entry>,
    new: &BTreeMap<Key, Entry>,
    replaced: bool,
) -> RelationRun {
    let schema = schema(number);
    let differs = |(key, entry): &(&Key, &Entry)| old.get(*key) != Some(*entry);
    let changed: Vec<(&Key, &Entry)> = new.iter().filter(differs).collect();
    let rows: Vec<&Vec<Value>> =
        changed.iter().filter_map(|(_, e)| if let Entry::Row(row) = e { Some(row) } else { None }).collect();
    let numbers = |key: &Key| key.iter().map(|id| Value::Number(*id)).collect::<Vec<_>>();
    let refused: Vec<Vec<Value>> = changed
        .iter()
        .filter(|(_, entry)| **entry == Entry::Refused)
        .map(|(key, _)| [numbers(key), vec![Value::Text("b"), Value::Text("it is NaN"), Value::Null]].concat())
        .collect();
    let gone: Vec<Vec<Value>> = old.keys().filter(|key| !new.contains_key(*key)).map(numbers).collect();
    let mode = if replaced { FileMode::Full } else { FileMode::Window };
    RelationRun {
        mode: if replaced { "full" } else { "window" }.into(),
        files: file(lake, number, at, mode, schema.to_arrow(), &rows).await,
        deleted: file(lake, number, at, FileMode::Deleted, schema.key_to_arrow(), &gone.iter().collect::<Vec<_>>())
            .await,
        refused: file(
            lake,
            number,
            at,
            FileMode::Refused,
            schema.refused_to_arrow(),
            &refused.iter().collect::<Vec<_>>(),
        )
        .await,
        ..RelationRun::default()
    }
}

async fn file(
    lake: &Store,
    number: usize,
    at: Micros,
    mode: FileMode,
    schema: SchemaRef,
    rows: &[&Vec<Value>],
) -> Vec<DataFile> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut writer =
        FileWriter::new(lake, TABLES[number].0, at, schema.clone(), mode, WriterOptions::default()).unwrap();
    let number = |value: &Value| if let Value::Number(number) = value { Some(*number) } else { None };
    let text = |value: &Value| if let Value::Text(text) = value { Some(*text) } else { None };
    let column = |position: usize| -> ArrayRef {
        use arrow::datatypes::DataType;
        let values = rows.iter().map(|row| &row[position]);
        match schema.field(position).data_type() {
            DataType::Int32 => {
                Arc::new(values.map(|value| number(value).map(|number| number as i32)).collect::<Int32Array>())
            }
            DataType::Int64 => Arc::new(values.map(number).collect::<Int64Array>()),
            _ => Arc::new(values.map(text).collect::<StringArray>()),
        }
    };
    let columns = (0..schema.fields().len()).map(column).collect();
    writer.write(&RecordBatch::try_new(schema.clone(), columns).unwrap()).await.unwrap();
    writer.finish().await.unwrap()
}
