//! Verify finds what is wrong, names it by key, and takes for pending what the next run will look at.

mod repair;
mod values;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use starlift::verify::{Comparison, ComparisonKind, Verdict, VerifyReport, VerifyRequest, verify};
use starlift_core::manifest::{FileMode, RelationRun};
use starlift_core::{Micros, TableSchema, state, succession};
use starlift_lake::{Commit, FileWriter, State, Store, WriterOptions, commit, manifests};
use starlift_sandbox::totesys::{self, SOURCE_TABLES, STAR_TABLES};

use crate::world::World;

const SOURCE_LAKE: ComparisonKind = ComparisonKind::SourceLake;
const STAR_WAREHOUSE: ComparisonKind = ComparisonKind::StarWarehouse;
const LAKE_WAREHOUSE: ComparisonKind = ComparisonKind::LakeWarehouse;

impl World {
    /// A world whose warehouse holds everything.
    async fn loaded() -> World {
        let world = World::new().await;
        world.make_tables().await;
        world.run().await;
        world
    }

    /// The tables of the warehouse and nothing else: load makes the rest.
    async fn make_tables(&self) {
        totesys::create_warehouse(&self.warehouse_client().await).await.unwrap();
    }

    async fn verify(&self, request: VerifyRequest) -> VerifyReport {
        verify(&self.context(), &request).await.unwrap()
    }

    async fn look(&self) -> VerifyReport {
        self.verify(VerifyRequest::default()).await
    }

    async fn settle(&self) -> VerifyReport {
        self.verify(VerifyRequest { settle: true, ..VerifyRequest::default() }).await
    }

    async fn in_warehouse(&self, sql: &str) {
        self.warehouse_client().await.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Commits an ingest manifest that brings a file which the source knows nothing of: a fault of ingest.
    async fn tamper_with_lake(
        &self,
        table: &str,
        mode: FileMode,
        change: impl Fn(RecordBatch, &TableSchema) -> RecordBatch,
    ) {
        tamper(&self.lake(), table, mode, change).await;
    }

    /// The same for the star and a model: a fault of transform.
    async fn tamper_with_star(
        &self,
        model: &str,
        mode: FileMode,
        change: impl Fn(RecordBatch, &TableSchema) -> RecordBatch,
    ) {
        tamper(&self.star(), model, mode, change).await;
    }
}

async fn tamper(place: &Path, table: &str, mode: FileMode, change: impl Fn(RecordBatch, &TableSchema) -> RecordBatch) {
    let store = Store::open(&place.to_string_lossy(), &Default::default()).unwrap();
    let newest = manifests::newest(&store).await.unwrap().unwrap();
    let chain: Vec<_> = manifests::chain(&store, &newest).await.unwrap().into_iter().map(|s| s.manifest).collect();
    let live = state::live_files(&chain).unwrap();
    let before = &newest.manifest;
    let at = Micros(before.at.0 + 1_000_000);
    let schema = before.relations[table].schema.clone();
    let rows = State::new(&store, schema.clone(), live[table].clone()).unwrap();
    let batches: Vec<RecordBatch> = rows.scan(None).try_collect().await.unwrap();
    let batch = change(concat_batches(&batches[0].schema(), &batches).unwrap(), &schema);
    let mut writer = FileWriter::new(&store, table, at, batch.schema(), mode, WriterOptions::default()).unwrap();
    writer.write(&batch).await.unwrap();
    let files = writer.finish().await.unwrap();
    let (files, deleted) = if mode == FileMode::Deleted { (vec![], files) } else { (files, vec![]) };

    let mut relations = before.relations.clone();
    relations.values_mut().for_each(|r| r.run = None);
    let relation = relations.get_mut(table).unwrap();
    relation.last_change = before.seq + 1;
    relation.run = Some(RelationRun { mode: "window".into(), files, deleted, ..RelationRun::default() });
    let draft = succession::Draft {
        pipeline: before.pipeline.clone(),
        new_id: String::new(),
        run_id: "tampered".into(),
        write_id: format!("tampered {}", before.seq + 1),
        version: before.version.clone(),
        at,
        started: at,
        finished: at,
        origin: before.origin.clone(),
        relations,
        upkept: Default::default(),
        compaction: false,
    };
    let manifest = succession::next(Some((before, &newest.sha256)), live, draft);
    assert!(matches!(commit(&store, manifest).await.unwrap(), Commit::Committed(_)));
}

fn of<'a>(report: &'a VerifyReport, kind: ComparisonKind, name: &str) -> &'a Comparison {
    let found = report.comparisons.iter().find(|c| c.kind == kind && c.name == name);
    found.unwrap_or_else(|| panic!("{} {name} is not in the report", kind.name()))
}

/// Everything but equal, as `kind name: verdict key (what)`.
fn findings(report: &VerifyReport) -> Vec<String> {
    let unequal = report.comparisons.iter().filter(|c| c.verdict != Verdict::Equal);
    unequal
        .map(|c| {
            let examples: Vec<String> = c.examples.iter().map(|e| format!("{} ({})", e.key, e.what)).collect();
            format!("{} {}: {} {}", c.kind.name(), c.name, c.verdict.name(), examples.join("; ")).trim_end().to_string()
        })
        .collect()
}

/// The row of a batch whose first key column has this value.
fn row_of(batch: &RecordBatch, schema: &TableSchema, key: i32) -> RecordBatch {
    let keys = batch.column(schema.key_positions()[0]).as_primitive::<Int32Type>();
    let row = keys.values().iter().position(|value| *value == key).unwrap_or_else(|| panic!("no key {key}"));
    batch.slice(row, 1)
}

/// The batch of one row with a number in place of what a column held.
fn with_number(batch: &RecordBatch, column: &str, number: i32) -> RecordBatch {
    let position = batch.schema().index_of(column).unwrap();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns[position] = Arc::new(Int32Array::from(vec![number]));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// A world whose tables follow their stamps, or are left alone between passes, from its second run on.
async fn large_world() -> World {
    let world = World::new().await.with_own_project();
    world
        .change("create index on payment (last_updated); create index on sales_order (last_updated); create index on design (last_updated)")
        .await;
    let path = world.project.join("starlift.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let large = "[source]\nlarge_from_mb = 0\nxid_pass_every = 100\n";
    std::fs::write(&path, text.replace("[source]\n", large)).unwrap();
    world.make_tables().await;
    world.run().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cursor_cannot_see_is_pending_and_settling_makes_an_xid_pass() {
    let world = large_world().await;
    world.change("update payment set payment_amount = payment_amount + 1 where payment_id = 1; delete from payment where payment_id = 2").await;
    world.run().await;
    let looked = world.look().await;
    let payment = of(&looked, SOURCE_LAKE, "payment");
    assert_eq!((payment.verdict, payment.pending, payment.differences), (Verdict::Pending, 2, 0), "{payment:?}");
    let settled = world.settle().await;
    assert!(settled.equal(), "{settled:?}");
    let payment = of(&settled, SOURCE_LAKE, "payment");
    assert_eq!((payment.verdict, payment.pending), (Verdict::Equal, 0), "{payment:?}");
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fact_whose_dimension_no_stamp_has_shown_finds_it_in_the_same_run_without_a_foreign_key_too() {
    let world = large_world().await;
    world.change("alter table sales_order drop constraint sales_order_design_id_fkey").await;
    world
        .change(
            "begin;
             insert into design select max(design_id) + 1, 'late', '/usr', 'late.json', now() - interval '1 day', now() - interval '1 day' from design;
             update sales_order set design_id = (select max(design_id) from design), last_updated = now() at time zone 'UTC'
             where sales_order_id = 1;
             commit",
        )
        .await;
    let report = world.run().await;
    let design = crate::world::of(&report.stages[0], "design");
    assert_eq!((design.mode.as_str(), design.rows_written), ("window", 1), "{design:?}");
    assert_eq!(crate::world::of(&report.stages[0], "sales_order").mode, "cursor");
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_run_every_table_and_model_is_equal_on_all_sides() {
    let world = World::loaded().await;
    let report = world.look().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    assert!(report.equal());
    assert_eq!((report.ingest_seq, report.loaded_seq, report.notes.len()), (Some(1), Some(1), 0));

    let names =
        |kind| -> Vec<&str> { report.comparisons.iter().filter(|c| c.kind == kind).map(|c| c.name.as_str()).collect() };
    let sorted = |names: &[&'static str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    assert_eq!(names(SOURCE_LAKE), sorted(&SOURCE_TABLES.map(|(name, _)| name)));
    assert_eq!(names(STAR_WAREHOUSE), sorted(&STAR_TABLES));
    let with_spine: Vec<&str> = STAR_TABLES.into_iter().filter(|name| *name != "dim_date").collect();
    assert_eq!(names(LAKE_WAREHOUSE), sorted(&with_spine));
    for comparison in &report.comparisons {
        assert!(comparison.rows_left > 0 && comparison.columns > 0, "{comparison:?}");
        assert_eq!((comparison.differences, comparison.pending), (0, 0), "{comparison:?}");
        if comparison.name != "dim_date" {
            assert_eq!(comparison.rows_left, comparison.rows_right, "{comparison:?}");
        }
    }
    // All but the created and updated stamps and the agreed dates, which the model casts.
    assert_eq!(of(&report, LAKE_WAREHOUSE, "fact_sales_order").columns, 8);
    assert_eq!(of(&report, SOURCE_LAKE, "payment").columns, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_the_warehouse_is_found_by_key() {
    let world = World::loaded().await;
    world.in_warehouse("create schema saved; create table saved.payment as select * from fact_payment").await;
    let columns = "payment_id, created_date, created_time, last_updated_date, last_updated_time, transaction_id, \
                   counterparty_id, payment_amount, currency_id, payment_type_id, paid, payment_date";
    for (damage, repair, expected) in [
        (
            "update fact_sales_order set units_sold = units_sold + 1 where sales_order_id = 5".to_string(),
            "update fact_sales_order set units_sold = units_sold - 1 where sales_order_id = 5".to_string(),
            vec![
                "star-warehouse fact_sales_order: differs sales_order_id=5 (differs in column units_sold)",
                "lake-warehouse fact_sales_order: differs sales_order_id=5 (differs in column units_sold)",
            ],
        ),
        (
            "update fact_payment set payment_amount = payment_amount + 0.0000000001, paid = not paid, \
             payment_date = payment_date - 1 where payment_id in (3, 12)"
                .into(),
            "update fact_payment p set payment_amount = s.payment_amount, paid = s.paid, payment_date = s.payment_date \
             from saved.payment s where s.payment_record_id = p.payment_record_id"
                .into(),
            vec![
                "star-warehouse fact_payment: differs \
                 payment_id=3 (differs in columns payment_amount, paid, payment_date); \
                 payment_id=12 (differs in columns payment_amount, paid, payment_date)",
                "lake-warehouse fact_payment: differs payment_id=3 (differs in columns payment_amount, paid); \
                 payment_id=12 (differs in columns payment_amount, paid)",
            ],
        ),
        (
            "delete from fact_payment where payment_id = 3".into(),
            "insert into fact_payment select * from saved.payment where payment_id = 3".into(),
            vec![
                "star-warehouse fact_payment: differs payment_id=3 (only in star)",
                "lake-warehouse fact_payment: differs payment_id=3 (only in lake)",
            ],
        ),
        (
            format!("insert into fact_payment ({columns}) select {columns} from fact_payment where payment_id = 3"),
            "delete from fact_payment where payment_record_id not in (select payment_record_id from saved.payment)".into(),
            vec!["star-warehouse fact_payment: differs payment_id=3 (twice in warehouse)"],
        ),
        (
            "insert into dim_design values (99999, 'SECRET', 'SECRET', 'SECRET')".into(),
            "delete from dim_design where design_id = 99999".into(),
            vec![
                "star-warehouse dim_design: differs design_id=99999 (only in warehouse)",
                "lake-warehouse dim_design: differs design_id=99999 (only in warehouse)",
            ],
        ),
        (
            "alter table dim_payment_type drop constraint dim_payment_type_pkey cascade; \
             insert into dim_payment_type select * from dim_payment_type where payment_type_id = 2"
                .into(),
            "delete from dim_payment_type where ctid = \
             (select max(ctid) from dim_payment_type where payment_type_id = 2)"
                .into(),
            vec![
                "star-warehouse dim_payment_type: differs payment_type_id=2 (twice in warehouse)",
                "lake-warehouse dim_payment_type: differs payment_type_id=2 (twice in warehouse)",
            ],
        ),
        (
            "alter view current_dim_location rename to elsewhere".into(),
            "alter view elsewhere rename to current_dim_location".into(),
            vec!["star-warehouse dim_location: missing", "lake-warehouse dim_location: missing"],
        ),
    ] {
        world.in_warehouse(&damage).await;
        let report = world.look().await;
        assert_eq!(findings(&report), expected, "{damage}");
        assert!(!report.equal(), "{damage}");
        assert!(!serde_json::to_string(&report).unwrap().contains("SECRET"), "no value of a row is reported");
        world.in_warehouse(&repair).await;
    }
    assert_eq!(findings(&world.look().await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calendar_is_held_to_its_rules_where_load_extended_it() {
    let world = World::loaded().await;
    world.change("update sales_order set agreed_delivery_date = '2034-05-06' where sales_order_id = 5").await;
    world.run().await;
    assert!(world.look().await.equal());
    for (damage, repair, expected) in [
        (
            "update dim_date set day_of_week = 9, day_name = 'SECRET' where date_id = '2034-07-08'",
            "update dim_date set day_of_week = 5, day_name = 'Saturday' where date_id = '2034-07-08'",
            "date_id=2034-07-08 (differs from the calendar in day_of_week, day_name)",
        ),
        (
            "update dim_date set quarter = 9 where date_id = '2024-02-29'",
            "update dim_date set quarter = 1 where date_id = '2024-02-29'",
            "date_id=2024-02-29 (differs in column quarter)",
        ),
        (
            "delete from dim_date where date_id = '2034-07-08'",
            "insert into dim_date values ('2034-07-08', 2034, 7, 8, 5, 'Saturday', 'July', 3)",
            "the calendar as a whole (has a gap)",
        ),
        (
            "insert into dim_date values ('2035-01-01', 2035, 1, 1, 0, 'Monday', 'January', 1)",
            "delete from dim_date where date_id = '2035-01-01'",
            "the calendar as a whole (does not hold whole years)",
        ),
    ] {
        world.in_warehouse(damage).await;
        let report = world.look().await;
        assert_eq!(findings(&report), [format!("star-warehouse dim_date: differs {expected}")], "{damage}");
        world.in_warehouse(repair).await;
    }
    assert!(world.look().await.equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_should_be_gone_is_found_when_its_retraction_is_lost() {
    let world = World::loaded().await;
    world.change("delete from payment where payment_id = 3").await;
    world.run().await;
    assert_eq!(findings(&world.look().await), Vec::<String>::new());
    world.in_warehouse("delete from starlift.retracted where model = 'fact_payment'").await;
    let expected = [
        "star-warehouse fact_payment: differs payment_id=3 (only in warehouse)",
        "lake-warehouse fact_payment: differs payment_id=3 (only in warehouse)",
    ];
    assert_eq!(findings(&world.look().await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_next_run_will_look_at_is_pending_and_settles() {
    let world = World::loaded().await;
    world.change("update sales_order set units_sold = units_sold + 1 where sales_order_id in (5, 6)").await;
    world.change("delete from payment where payment_id = 3").await;
    world
        .change("insert into design select 7777, 'n', 'l', 'f', created_at, created_at from design where design_id = 1")
        .await;
    let report = world.look().await;
    let expected = ["source-lake design: pending", "source-lake payment: pending", "source-lake sales_order: pending"];
    assert_eq!(findings(&report), expected);
    assert_eq!(of(&report, SOURCE_LAKE, "sales_order").pending, 2);
    assert_eq!(of(&report, SOURCE_LAKE, "payment").pending, 1);
    assert!(report.equal() && report.differences() == 0 && report.pending() == 4);

    let report = world.settle().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    assert!(report.settled);
    assert_eq!((report.ingest_seq, report.loaded_seq), (Some(2), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_open_transaction_did_is_pending_when_it_commits_after_the_run() {
    let world = World::new().await;
    world.make_tables().await;
    let open = world.source_client().await;
    open.batch_execute(
        "begin; update payment set paid = not paid where payment_id = 3; delete from payment where payment_id = 4",
    )
    .await
    .unwrap();
    world.run().await;
    assert_eq!(findings(&world.look().await), Vec::<String>::new());
    open.batch_execute("commit").await.unwrap();
    let report = world.look().await;
    assert_eq!(findings(&report), ["source-lake payment: pending"]);
    assert_eq!(of(&report, SOURCE_LAKE, "payment").pending, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn star_manifests_that_are_not_loaded_yet_are_pending() {
    let world = World::loaded().await;
    world.change("update sales_order set units_sold = units_sold + 1 where sales_order_id in (5, 6)").await;
    world.ingest().await;
    world.transform().await;
    let report = world.look().await;
    let expected = ["star-warehouse fact_sales_order: pending", "lake-warehouse fact_sales_order: pending"];
    assert_eq!(findings(&report), expected);
    let comparison = of(&report, STAR_WAREHOUSE, "fact_sales_order");
    assert_eq!((comparison.pending, &comparison.notes), (2, &vec!["star manifest 2 is not loaded yet".to_string()]));
    assert!(report.equal());
    // A row that those manifests do not touch is none of theirs.
    world.in_warehouse("update fact_sales_order set units_sold = units_sold + 1 where sales_order_id = 8").await;
    assert!(!world.look().await.equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_a_missing_and_a_surplus_row_of_the_lake_are_found() {
    let changed = World::loaded().await;
    changed
        .tamper_with_lake("payment", FileMode::Window, |batch, schema| {
            with_number(&row_of(&batch, schema, 3), "company_ac_number", -1)
        })
        .await;
    let expected = ["source-lake payment: differs payment_id=3 (differs in column company_ac_number)"];
    assert_eq!(findings(&changed.look().await), expected);

    let missing = World::loaded().await;
    missing
        .tamper_with_lake("payment", FileMode::Deleted, |batch, schema| {
            row_of(&batch, schema, 3).project(&schema.key_positions()).unwrap()
        })
        .await;
    assert_eq!(findings(&missing.look().await), ["source-lake payment: differs payment_id=3 (only in source)"]);

    let surplus = World::loaded().await;
    surplus
        .tamper_with_lake("payment", FileMode::Window, |batch, schema| {
            with_number(&row_of(&batch, schema, 3), "payment_id", 999_999)
        })
        .await;
    // The source has moved on, so this could be a row that was deleted meanwhile; once settled it cannot.
    surplus.change("update design set file_name = file_name where design_id = 1").await;
    assert_eq!(findings(&surplus.look().await), ["source-lake design: pending", "source-lake payment: pending"][1..]);
    let report = surplus.settle().await;
    assert_eq!(findings(&report), ["source-lake payment: differs payment_id=999999 (only in lake)"]);
    assert!(!report.equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_are_compared_by_how_often_they_are_there() {
    let world = World::new().await;
    world.change("create table note (body text, at timestamp); grant select on note to public").await;
    world.change("insert into note values ('a', null), ('a', null), ('b|~', '2024-01-01 12:00'), (null, null)").await;
    world.make_tables().await;
    world.run().await;
    let report = world.look().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    assert_eq!(of(&report, SOURCE_LAKE, "note").rows_right, 4);

    world.change("insert into note values ('a', null)").await;
    let report = world.look().await;
    assert_eq!((findings(&report), report.pending()), (vec!["source-lake note: pending".to_string()], 1));
    world.run().await;
    world
        .tamper_with_lake("note", FileMode::Window, |batch, _| {
            let is_null = |row: &usize| batch.column(0).is_null(*row);
            batch.slice((0..batch.num_rows()).find(is_null).unwrap(), 1)
        })
        .await;
    // The next ingest would see that the rows are others than the lake's, so nothing is settled here.
    let note = of(&world.look().await, SOURCE_LAKE, "note").clone();
    assert_eq!((note.rows_left, note.rows_right, note.differences + note.pending), (5, 6, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_run_everything_is_missing() {
    let world = World::new().await;
    let report = world.look().await;
    assert!(report.comparisons.iter().all(|c| c.verdict == Verdict::Missing));
    assert_eq!(report.comparisons.len(), SOURCE_TABLES.len() + STAR_TABLES.len());
    assert!(!report.equal());
    world.make_tables().await;
    world.ingest().await;
    world.transform().await;
    let report = world.look().await;
    assert!(report.comparisons.iter().all(|c| (c.verdict == Verdict::Missing) == (c.kind == STAR_WAREHOUSE)));
    assert!(world.settle().await.equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_versions_from_before_a_warehouse_was_taken_over_are_a_note() {
    let world = World::loaded().await;
    let columns = "payment_id, created_date, created_time, last_updated_date, last_updated_time, transaction_id, \
                   counterparty_id, payment_amount, currency_id, payment_type_id, paid, payment_date";
    let double =
        format!("insert into fact_payment ({columns}) select {columns} from fact_payment where payment_id = 3");
    world.in_warehouse(&double).await;
    world.in_warehouse("drop schema starlift cascade").await;
    world.run().await;
    let report = world.look().await;
    assert_eq!(findings(&report), Vec::<String>::new());
    let notes = &of(&report, STAR_WAREHOUSE, "fact_payment").notes;
    assert_eq!(notes, &["1 keys have equal versions from before this star was loaded"]);
    world.in_warehouse(&double).await;
    assert_eq!(
        findings(&world.look().await),
        ["star-warehouse fact_payment: differs payment_id=3 (twice in warehouse)"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_models_can_be_chosen_and_unknown_names_are_refused() {
    let world = World::loaded().await;
    let only = |names: &[&str]| VerifyRequest { settle: false, only: names.iter().map(|n| n.to_string()).collect() };
    let report = world.verify(only(&["payment", "fact_payment"])).await;
    let found: Vec<_> = report.comparisons.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(found, [(SOURCE_LAKE, "payment"), (STAR_WAREHOUSE, "fact_payment"), (LAKE_WAREHOUSE, "fact_payment")]);
    let error = verify(&world.context(), &only(&["fact_paymnt"])).await.unwrap_err();
    assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
    assert_eq!(error.hint(), Some("did you mean `fact_payment`?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_new_columns_is_pending_until_it_is_read_anew() {
    let world = World::loaded().await;
    world.change("alter table design add column colour text default 'blue'").await;
    let report = world.look().await;
    assert_eq!(findings(&report), ["source-lake design: pending"]);
    let notes = &of(&report, SOURCE_LAKE, "design").notes;
    let expected = "its columns or key changed: the next ingest reads the table in full";
    assert_eq!(notes, &[expected]);
    world
        .change(
            "create table extra (id int primary key); insert into extra values (1); grant select on extra to public",
        )
        .await;
    let report = world.look().await;
    assert_eq!(of(&report, SOURCE_LAKE, "extra").verdict, Verdict::Pending);
    assert_eq!(findings(&world.settle().await), Vec::<String>::new());
}
