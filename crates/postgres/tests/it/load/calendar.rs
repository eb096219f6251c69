//! The calendar reaches every date that a row refers to.

use starlift_core::ErrorKind;
use starlift_core::model::ModelKind;
use starlift_postgres::load::ModelTable;

use super::fixture::*;

const SQL: &str = "create table dim_date (date_id date primary key, year int not null, month int not null, \
        day int not null, day_of_week int not null, day_name varchar not null, month_name varchar not null, \
        quarter int not null);
    create table fact_sale (record_id serial primary key, sale_id int not null, \
        sold date references dim_date (date_id), delivered date)";

fn calendar() -> ModelTable {
    model(
        "dim_date",
        ModelKind::Calendar,
        "date_id date, year int4, month int4, day int4, day_of_week int4, day_name text, month_name text, quarter int4",
    )
}

fn sale() -> ModelTable {
    // `sold` refers by the warehouse's foreign key, `delivered` by the model's header.
    refers(fact("fact_sale", "sale_id int4, sold date, delivered date"), "delivered", "dim_date")
}

async fn span(w: &Warehouse) -> String {
    w.one(
        "select min(date_id), max(date_id), count(*), max(date_id) - min(date_id) + 1 = count(*) as whole from dim_date",
    )
    .await
}

#[tokio::test]
async fn it_grows_in_both_directions_by_whole_years_without_a_gap() {
    let mut w = Warehouse::with(SQL).await;
    let days: &[&[&str]] = &[&["2024-05-01", "2024", "5", "1", "2", "Wednesday", "May", "2"]];
    let done = w.next(vec![change(&calendar(), days), change(&sale(), &[])]).await.unwrap();
    assert_eq!((done.dates_added, span(&w).await), (0, "2024-05-01|2024-05-01|1|t".into()));

    let rows: &[&[&str]] = &[&["1", "2026-02-03", NULL], &["2", NULL, "2021-12-31"]];
    let done = w.next(vec![change(&calendar(), &[]), change(&sale(), rows)]).await.unwrap();
    assert_eq!(done.dates_added, 6 * 365 + 1 - 1);
    assert_eq!(span(&w).await, "2021-01-01|2026-12-31|2191|t");

    let done = w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["3", "2029-06-01", NULL]])]).await.unwrap();
    assert_eq!(done.dates_added, 365 + 366 + 365);
    let done = w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["4", "2018-06-01", NULL]])]).await.unwrap();
    assert_eq!(done.dates_added, 365 + 365 + 366);
    assert_eq!(span(&w).await, "2018-01-01|2029-12-31|4383|t");
    let done = w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["5", "2024-02-29", NULL]])]).await.unwrap();
    assert_eq!(done.dates_added, 0);
    assert_eq!(w.one("select count(*) from current_dim_date").await, "4383");
}

#[tokio::test]
async fn it_grows_to_the_dates_of_rows_that_were_copied_straight_into_their_table() {
    let sql = SQL.replace("delivered date)", "delivered date references dim_date (date_id))");
    let sales: Vec<Vec<String>> = (0..10_400)
        .map(|id| {
            let sold = format!("{}-0{}-17", 2019 + id % 5, 1 + id % 9);
            vec![id.to_string(), sold, if id == 9_999 { "2031-02-03".into() } else { NULL.into() }]
        })
        .collect();
    for bulk in [true, false] {
        let mut w = Warehouse::with(&sql).await;
        w.bulk = bulk;
        let rows = Change { model: sale(), rows: sales.clone(), gone: vec![] };
        let done = w.next(vec![change(&calendar(), &[]), rows]).await.unwrap();
        assert_eq!((report(&done, "fact_sale").inserted, done.dates_added), (10_400, 4_748));
        assert_eq!(span(&w).await, "2019-01-01|2031-12-31|4748|t");
    }
}

#[tokio::test]
async fn its_days_have_their_numbers_and_english_names() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["1", "2024-02-29", NULL]])]).await.unwrap();
    assert_eq!(
        w.rows("select * from dim_date where date_id in ('2024-02-29', '2024-09-02', '2024-12-29') order by 1").await,
        [
            "2024-02-29|2024|2|29|3|Thursday|February|1",
            "2024-09-02|2024|9|2|0|Monday|September|3",
            "2024-12-29|2024|12|29|6|Sunday|December|4"
        ]
    );
}

#[tokio::test]
async fn a_date_beyond_1900_to_2199_is_refused_by_key() {
    let mut w = Warehouse::with(SQL).await;
    for day in ["1899-12-31", "2200-01-01", "9999-12-31"] {
        let error = w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["8", NULL, day]])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let said = text(&error);
        assert!(said.contains("beyond the calendar's bounds 1900 to 2199") && said.contains("sale_id=8"), "{said}");
    }
    assert_eq!(w.one("select count(*) from dim_date").await, "0");
    let edges: &[&[&str]] = &[&["1", "1900-01-01", "2199-12-31"]];
    let done = w.next(vec![change(&calendar(), &[]), change(&sale(), edges)]).await.unwrap();
    assert_eq!(done.dates_added, 109_573);
}

#[tokio::test]
async fn days_that_exist_and_far_dates_of_others_are_left_alone() {
    let mut w = Warehouse::with(SQL).await;
    w.execute(
        "insert into dim_date select d, 0, 0, 0, 0, 'kept', '', 0 from unnest(array['2023-07-01', '2023-07-03', \
         '9999-12-31']::date[]) d",
    )
    .await;
    w.next(vec![change(&calendar(), &[]), change(&sale(), &[&["1", "2024-03-01", "2023-01-01"]])]).await.unwrap();
    assert_eq!(w.rows("select count(*) from dim_date where day_name = 'kept'").await, ["3"]);
    assert_eq!(w.one("select count(*) from dim_date").await, (365 + 366 + 1).to_string());
    assert_eq!(w.one("select count(*) from starlift.retracted").await, "0", "a calendar is never retracted");
}
