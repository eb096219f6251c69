//! A warehouse of a test's own, models in a line of text, and rows as texts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use futures::StreamExt;
use starlift_core::load_plan::LedgerHead;
use starlift_core::model::ModelKind;
use starlift_core::{Column, ColumnType, Error, Result, TableSchema};
use starlift_postgres::load::{
    self, Again, Ahead, BatchStream, LoadLimits, LoadOutcome, LoadReport, LoadRun, MaySetAside, ModelLoad, ModelReport,
    ModelTable,
};
use tokio_postgres::Client;

pub(crate) const PIPELINE: &str = "shop";
pub(crate) const STAR: &str = "star-1";
/// How a row writes null.
pub(crate) const NULL: &str = "~";

/// A model with the rows and the retracted keys of one manifest.
pub(crate) struct Change {
    pub(crate) model: ModelTable,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) gone: Vec<Vec<String>>,
}

impl Change {
    pub(crate) fn gone(mut self, keys: &[&[&str]]) -> Change {
        self.gone = owned(keys);
        self
    }
}

/// A model whose first column is its key, such as `dimension("dim_shop", "shop_id int4, name text")`.
pub(crate) fn dimension(name: &str, columns: &str) -> ModelTable {
    model(name, ModelKind::Dimension, columns)
}

pub(crate) fn fact(name: &str, columns: &str) -> ModelTable {
    model(name, ModelKind::Fact, columns)
}

pub(crate) fn model(name: &str, kind: ModelKind, columns: &str) -> ModelTable {
    // The comma of numeric(10,2) is none between columns.
    let columns: Vec<Column> = columns
        .split(", ")
        .map(|column| {
            let (name, column_type) = column.trim().split_once(' ').expect("a name and a type");
            Column {
                name: name.into(),
                column_type: column_type.parse().expect("a type of starlift"),
                nullable: true,
                declared: None,
                labels: vec![],
            }
        })
        .collect();
    let key = vec![columns[0].name.clone()];
    ModelTable {
        name: name.into(),
        kind,
        schema: TableSchema { columns, key, oid: None, partitions: vec![], attributes: vec![] },
        references: BTreeMap::new(),
    }
}

pub(crate) fn refers(mut model: ModelTable, column: &str, to: &str) -> ModelTable {
    model.references.insert(column.into(), to.into());
    model
}

pub(crate) fn change(model: &ModelTable, rows: &[&[&str]]) -> Change {
    Change { model: model.clone(), rows: owned(rows), gone: vec![] }
}

fn owned(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|v| v.to_string()).collect()).collect()
}

/// Rows of texts as a batch of these columns; Arrow reads the texts.
pub(crate) fn batch(columns: &[Column], rows: &[Vec<String>]) -> RecordBatch {
    let schema =
        TableSchema { columns: columns.to_vec(), key: vec![], oid: None, partitions: vec![], attributes: vec![] }
            .to_arrow();
    let arrays: Vec<ArrayRef> = columns
        .iter()
        .enumerate()
        .map(|(position, column)| {
            let texts: StringArray =
                rows.iter().map(|row| Some(row[position].as_str()).filter(|text| *text != NULL)).collect();
            let array = parse(&texts, &column.column_type);
            let lost = (0..rows.len()).any(|i| array.is_null(i) && rows[i][position] != NULL);
            assert!(!lost, "Arrow cannot read a value of column {}", column.name);
            array
        })
        .collect();
    RecordBatch::try_new(schema, arrays).expect("a batch")
}

fn parse(texts: &StringArray, column_type: &ColumnType) -> ArrayRef {
    if let (ColumnType::Array(element), DataType::List(field)) = (column_type, column_type.to_arrow()) {
        // An array of the one element that the text is.
        let lengths = OffsetBuffer::from_lengths(std::iter::repeat_n(1, texts.len()));
        return Arc::new(ListArray::new(field, lengths, parse(texts, element), None));
    }
    if *column_type == ColumnType::TimestampTz {
        // Arrow knows the zone UTC only by its offset when it reads a text.
        let naive = cast(texts, &ColumnType::Timestamp.to_arrow()).expect("a timestamp");
        return Arc::new(naive.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC"));
    }
    cast(texts, &column_type.to_arrow()).expect("a value of its type")
}

fn stream(columns: Vec<Column>, rows: Vec<Vec<String>>) -> BatchStream<'static> {
    // Two batches, so that every test crosses the border between them.
    let (first, second) = rows.split_at(rows.len() / 2);
    let batches = [first, second].map(|rows| Ok(batch(&columns, rows)));
    Box::pin(futures::stream::iter(batches))
}

/// The texts of a batch's first column.
fn texts_of_first(batch: &RecordBatch) -> Vec<String> {
    let text = |row| arrow::util::display::array_value_to_string(batch.column(0), row).expect("a text");
    (0..batch.num_rows()).map(text).collect()
}

/// A star and the warehouse that it is loaded into.
pub(crate) struct Warehouse {
    pub(crate) client: Client,
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) seq: u64,
    pub(crate) later: BTreeMap<String, Change>,
    /// Which rows its loads may set aside.
    pub(crate) aside: MaySetAside,
    /// Whether they may take the bulk path.
    pub(crate) bulk: bool,
    /// The rows that the star has of each model, as of the manifest at hand.
    pub(crate) state: BTreeMap<String, Vec<Vec<String>>>,
}

impl Warehouse {
    /// A fresh database in which `sql` has run.
    pub(crate) async fn with(sql: &str) -> Warehouse {
        let cluster = starlift_sandbox::shared().expect("a private PostgreSQL");
        let database = cluster.fresh_database("warehouse").await.expect("a database");
        let client = cluster.connect(&database).await.expect("a connection");
        client.batch_execute(sql).await.expect("the test's tables");
        Warehouse {
            client,
            database,
            schema: "public".into(),
            seq: 0,
            later: BTreeMap::new(),
            aside: MaySetAside::default(),
            bulk: true,
            state: BTreeMap::new(),
        }
    }

    /// A second session of the same star.
    pub(crate) async fn again(&self) -> Warehouse {
        let cluster = starlift_sandbox::shared().expect("a private PostgreSQL");
        let client = cluster.connect(&self.database).await.expect("a connection");
        Warehouse {
            client,
            database: self.database.clone(),
            schema: self.schema.clone(),
            seq: self.seq,
            later: BTreeMap::new(),
            aside: self.aside.clone(),
            bulk: self.bulk,
            state: self.state.clone(),
        }
    }

    pub(crate) async fn head(&self) -> Option<LedgerHead> {
        load::head(&self.client, PIPELINE, STAR).await.expect("the ledger's head")
    }

    /// Loads the next manifest as the stage does: it adopts where the ledger has no row.
    pub(crate) async fn next(&mut self, changes: Vec<Change>) -> Result<LoadReport> {
        let head = self.head().await;
        let adopt = head.is_none();
        match self.run(self.seq + 1, adopt, head, changes).await? {
            LoadOutcome::Loaded(report) => {
                self.seq += 1;
                Ok(report)
            }
            other => panic!("expected a load, got {other:?}"),
        }
    }

    pub(crate) async fn run(
        &mut self,
        seq: u64,
        adopt: bool,
        head: Option<LedgerHead>,
        changes: Vec<Change>,
    ) -> Result<LoadOutcome> {
        self.run_within(seq, adopt, head, changes, LoadLimits::default()).await
    }

    pub(crate) async fn run_with_lock_timeout(
        &mut self,
        seq: u64,
        head: Option<LedgerHead>,
        changes: Vec<Change>,
        millis: u64,
    ) -> Result<LoadOutcome> {
        let limits = LoadLimits { lock_timeout: Duration::from_millis(millis), ..LoadLimits::default() };
        self.run_within(seq, false, head, changes, limits).await
    }

    /// A manifest that follows, of which these models bring their whole state.
    pub(crate) async fn run_whole(
        &mut self,
        seq: u64,
        head: Option<LedgerHead>,
        changes: Vec<Change>,
        whole: &[&str],
    ) -> Result<LoadOutcome> {
        let whole = whole.iter().map(|name| name.to_string()).collect();
        let run = LoadRun { whole, ..self.a_run(seq, false, head) };
        self.run_of(run, changes).await
    }

    async fn run_within(
        &mut self,
        seq: u64,
        adopt: bool,
        head: Option<LedgerHead>,
        changes: Vec<Change>,
        limits: LoadLimits,
    ) -> Result<LoadOutcome> {
        let run = LoadRun { limits, ..self.a_run(seq, adopt, head) };
        self.run_of(run, changes).await
    }

    /// Tries the rows again that stand aside, with no manifest to load.
    pub(crate) async fn retry(&mut self, models: &[&ModelTable]) -> Result<LoadReport> {
        let run = self.a_run(self.seq, false, self.head().await);
        let loads = self.loads(models.iter().map(|model| change(model, &[])).collect());
        match load::mend(&mut self.client, &run, &BTreeSet::new(), loads, &load::nothing_later).await? {
            LoadOutcome::Loaded(report) => Ok(report),
            other => panic!("expected a load, got {other:?}"),
        }
    }

    /// What a manifest brings, with the star's state behind it.
    fn loads(&mut self, changes: Vec<Change>) -> Vec<ModelLoad<'static>> {
        let load = |change: Change| {
            let state = self.state.entry(change.model.name.clone()).or_default();
            let has = |rows: &[Vec<String>], row: &[String]| rows.iter().any(|other| other[0] == row[0]);
            state.retain(|row| !has(&change.rows, row) && !has(&change.gone, row));
            let (columns, brought) = (change.model.schema.columns.clone(), change.rows.clone());
            let others = state.clone();
            state.extend(change.rows.iter().cloned());
            let again: Again<'static> = Box::new(move |upserts, keys| {
                let wanted: Vec<String> = keys.iter().flat_map(texts_of_first).collect();
                let rows = others.into_iter().filter(|row| wanted.contains(&row[0]) && !has(&brought, row));
                let rows = batch(&columns, &rows.collect::<Vec<_>>());
                Box::pin(upserts.chain(futures::stream::iter([Ok(rows)])))
            });
            ModelLoad {
                ahead: Some(Ahead {
                    rows: change.rows.len() as u64,
                    keys: {
                        let (columns, rows) = (change.model.schema.columns.clone(), change.rows.clone());
                        Box::new(move || stream(columns, rows))
                    },
                }),
                upserts: stream(change.model.schema.columns.clone(), change.rows),
                retractions: stream(change.model.schema.key_columns().cloned().collect(), change.gone),
                again: Some(again),
                model: change.model,
            }
        };
        changes.into_iter().map(load).collect()
    }

    async fn run_of(&mut self, run: LoadRun, changes: Vec<Change>) -> Result<LoadOutcome> {
        let models = self.loads(changes);
        let later = &self.later;
        let look_ahead = |model: &str| -> BatchStream<'_> {
            match later.get(model) {
                Some(c) => stream(c.model.schema.key_columns().cloned().collect(), c.rows.clone()),
                None => load::nothing_later(model),
            }
        };
        load::load(&mut self.client, &run, models, &look_ahead).await
    }

    /// The run of a manifest.
    pub(crate) fn a_run(&self, seq: u64, adopt: bool, head: Option<LedgerHead>) -> LoadRun {
        LoadRun {
            pipeline: PIPELINE.into(),
            star_id: STAR.into(),
            seq,
            manifest_sha256: format!("hash {seq}"),
            run_id: "run".into(),
            schema: self.schema.clone(),
            adopt,
            whole: BTreeSet::new(),
            head,
            aside: self.aside.clone(),
            bulk: self.bulk,
            limits: LoadLimits::default(),
        }
    }

    /// Says which keys of a model later manifests have.
    pub(crate) fn later(&mut self, model: &ModelTable, keys: &[&[&str]]) {
        self.later.insert(model.name.clone(), change(model, keys));
    }

    /// A query's rows, values as text and separated by `|`.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        rows(&self.client, sql).await
    }

    pub(crate) async fn one(&self, sql: &str) -> String {
        self.rows(sql).await.into_iter().next().unwrap_or_default()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.expect(sql);
    }
}

pub(crate) async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.expect(sql);
    messages
        .into_iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or(NULL)).collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect()
}

/// What was done with one model.
pub(crate) fn report<'a>(report: &'a LoadReport, model: &str) -> &'a ModelReport {
    report.models.iter().find(|m| m.model == model).expect("the model's report")
}

/// All that a person reads of an error.
pub(crate) fn text(error: &Error) -> String {
    error.render()
}
