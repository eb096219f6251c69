//! Small inputs written as text, and rows read back as text.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use starlift_core::model::Model;
use starlift_core::refused::RefusedRows;
use starlift_core::{Column, Error, Result, TableSchema};
use starlift_models::{InputSource, PreparedModel, Session, SessionOptions, TestFound};

/// What stands for null in rows.
pub(crate) const NULL: &str = "~";

/// A schema from `name type` or `name type null`, one a comma; the first column is the key.
pub(crate) fn schema(columns: &str) -> TableSchema {
    let columns: Vec<Column> = columns
        .split(", ")
        .map(|column| {
            let words: Vec<&str> = column.split(' ').collect();
            Column {
                name: words[0].into(),
                column_type: words[1].parse().unwrap(),
                nullable: words.get(2) == Some(&"null"),
                declared: None,
                labels: vec![],
            }
        })
        .collect();
    TableSchema { key: vec![columns[0].name.clone()], columns, oid: None, partitions: vec![], attributes: vec![] }
}

/// Rows from lines of fields separated by `|`.
pub(crate) fn rows(schema: &TableSchema, lines: &[&str]) -> RecordBatch {
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.columns.iter().enumerate().map(|(position, column)| {
        let texts: ArrayRef = Arc::new(StringArray::from_iter(lines.iter().map(|line| {
            let field = line.split('|').nth(position).unwrap();
            (field != NULL).then_some(field)
        })));
        cast_with_options(&texts, &column.column_type.to_arrow(), &exact).unwrap()
    });
    RecordBatch::try_new(schema.to_arrow(), columns.collect()).unwrap()
}

/// Rows as sorted lines of fields separated by `|`.
pub(crate) fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let form = FormatOptions::new().with_null(NULL);
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &form).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let fields: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(fields.join("|"));
        }
    }
    lines.sort();
    lines
}

/// A source that yields the same batches each time, and counts how often it was opened.
pub(crate) fn source(batches: Vec<RecordBatch>) -> (InputSource, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let source: InputSource = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        futures::stream::iter(batches.clone()).map(Ok).boxed()
    });
    (source, opened)
}

/// A session with inputs, each `(name, columns, rows)`.
pub(crate) fn session(inputs: &[(&str, &str, &[&str])]) -> Session {
    let session = Session::new(SessionOptions::default()).unwrap();
    for (name, columns, lines) in inputs {
        let schema = schema(columns);
        let (source, _) = source(vec![rows(&schema, lines)]);
        session.register_input(name, &schema, source).unwrap();
    }
    session
}

/// A dimension with a key and a query.
pub(crate) fn model(key: &str, sql: &str) -> Model {
    Model::parse("m", &format!("-- kind: dimension\n-- key: {key}\n\n{sql}")).unwrap()
}

/// What an evaluation gave.
#[derive(Debug)]
pub(crate) struct Evaluated {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: Vec<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) refusals: RefusedRows,
    /// Tests that rows failed, with how many and the keys of some.
    pub(crate) failed_tests: Vec<(String, u64, Vec<String>)>,
}

/// Evaluates a prepared model to its end.
pub(crate) async fn collect(prepared: &PreparedModel) -> Result<Evaluated> {
    let mut evaluation = prepared.evaluate().await?;
    let mut tests = prepared.row_tests();
    let (mut batches, mut refused) = (Vec::new(), Vec::new());
    while let Some(batch) = evaluation.next_batch().await? {
        assert_eq!(batch.rows.schema(), prepared.schema().to_arrow());
        assert_eq!(batch.refused.schema(), prepared.refused_schema().to_arrow());
        tests.check(&batch.rows);
        batches.push(batch.rows);
        refused.push(batch.refused);
    }
    let refusals = evaluation.refusals().clone();
    let failed = tests.found().filter(|found| found.failed.rows() > 0);
    let keys = |found: &TestFound<'_>| found.failed.groups().flat_map(|group| group.examples.clone()).collect();
    let failed_tests = failed.map(|found| (found.test.to_string(), found.failed.rows(), keys(&found))).collect();
    Ok(Evaluated { rows: lines(&batches), refused: lines(&refused), batches, refusals, failed_tests })
}

/// Prepares and evaluates.
pub(crate) async fn evaluate(session: &Session, model: &Model) -> Result<Evaluated> {
    collect(&session.prepare(model).await?).await
}

/// The error of a model that cannot be prepared or evaluated.
pub(crate) async fn failure(session: &Session, model: &Model) -> Error {
    match evaluate(session, model).await {
        Ok(evaluated) => panic!("it yields {:?}", evaluated.rows),
        Err(error) => error,
    }
}
