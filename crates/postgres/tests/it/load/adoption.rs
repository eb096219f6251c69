//! A warehouse that exists is taken over, not doubled.

use starlift_postgres::load::{LoadOutcome, entries};

use super::fixture::*;

const SQL: &str = "create domain email_address as varchar;
    create table dim_staff (staff_id int primary key, name varchar not null, email email_address);
    create table fact_sale (sales_record_id serial primary key, sale_id int not null, staff_id int not null \
        references dim_staff (staff_id), amount numeric(10,2) not null);
    insert into dim_staff values (1, 'stale', 'old@x'), (2, 'same', 'same@x'), (9, 'not in the star', 'n@x');
    insert into fact_sale (sale_id, staff_id, amount) values
        (10, 1, 5), (10, 1, 6), (11, 2, 7), (12, 9, 8), (13, 1, 9), (13, 1, 9)";

fn staff() -> starlift_postgres::load::ModelTable {
    dimension("dim_staff", "staff_id int4, name text, email text")
}

fn sale() -> starlift_postgres::load::ModelTable {
    refers(fact("fact_sale", "sale_id int4, staff_id int4, amount numeric(38,10)"), "staff_id", "dim_staff")
}

fn state() -> Vec<Change> {
    vec![
        change(&staff(), &[&["1", "new", "new@x"], &["2", "same", "same@x"], &["3", "hired", "h@x"]]),
        // 10: the newest stored version is equal. 11: it differs. 13: doubled, and equal. 14: new. 12 is gone.
        change(&sale(), &[&["10", "1", "6"], &["11", "2", "7.5"], &["13", "1", "9"], &["14", "3", "1"]]),
    ]
}

#[tokio::test]
async fn stale_rows_are_replaced_and_unknown_keys_retracted() {
    let mut w = Warehouse::with(SQL).await;
    let done = w.next(state()).await.unwrap();
    let (staff, sale) = (report(&done, "dim_staff").clone(), report(&done, "fact_sale").clone());
    assert_eq!((staff.inserted, staff.updated, staff.unchanged, staff.retracted), (1, 1, 1, 1));
    assert_eq!((sale.inserted, sale.unchanged, sale.retracted), (2, 2, 1));
    assert_eq!(
        w.rows("select staff_id, name, email from current_dim_staff order by 1").await,
        ["1|new|new@x", "2|same|same@x", "3|hired|h@x"]
    );
    assert_eq!(
        w.rows("select sale_id, staff_id, amount from current_fact_sale order by 1").await,
        ["10|1|6.00", "11|2|7.50", "13|1|9.00", "14|3|1.00"]
    );
    assert_eq!(w.one("select count(*) from dim_staff").await, "4", "nothing is deleted");
    assert_eq!(w.one("select count(*) from fact_sale").await, "8");
}

#[tokio::test]
async fn adopting_again_writes_nothing_new_and_drops_retractions_that_are_over() {
    let mut w = Warehouse::with(SQL).await;
    w.next(state()).await.unwrap();
    let done = w.next(vec![change(&staff(), &[]), change(&sale(), &[]).gone(&[&["10"]])]).await.unwrap();
    assert_eq!(report(&done, "fact_sale").retracted, 1);
    let head = w.head().await;
    let LoadOutcome::Loaded(done) = w.run(2, true, head, state()).await.unwrap() else { panic!("not loaded") };
    let sale = report(&done, "fact_sale");
    assert_eq!((sale.inserted, sale.retracted, sale.returned), (0, 0, 1));
    assert_eq!(w.rows("select sale_id from current_fact_sale order by 1").await, ["10", "11", "13", "14"]);
    let keys = w.rows("select model, key from starlift.retracted order by 1").await;
    assert_eq!(keys, ["dim_staff|{\"staff_id\": 9}", "fact_sale|{\"sale_id\": 12}"]);
}

#[tokio::test]
async fn an_empty_state_retracts_everything() {
    let mut w = Warehouse::with(SQL).await;
    let done = w.next(vec![change(&staff(), &[]), change(&sale(), &[])]).await.unwrap();
    assert_eq!((report(&done, "dim_staff").retracted, report(&done, "fact_sale").retracted), (3, 4));
    assert_eq!(w.one("select count(*) from current_fact_sale").await, "0");
}

#[tokio::test]
async fn a_star_that_is_put_back_is_adopted_at_its_older_seq() {
    let mut w = Warehouse::with(SQL).await;
    w.next(state()).await.unwrap();
    for amount in ["20", "21"] {
        w.next(vec![change(&staff(), &[]), change(&sale(), &[&["14", "3", amount]])]).await.unwrap();
    }
    let head = w.head().await;
    assert_eq!(head.as_ref().map(|h| h.seq), Some(3));
    let outcome = w.run(2, true, head, state()).await.unwrap();
    assert!(matches!(outcome, LoadOutcome::Loaded(_)));
    assert_eq!(w.head().await.map(|h| h.seq), Some(2));
    assert_eq!(w.one("select amount from current_fact_sale where sale_id = 14").await, "1.00");
    let seqs: Vec<u64> = entries(&w.client, PIPELINE, 10).await.unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(seqs, [2, 1]);
}

#[tokio::test]
async fn another_star_takes_the_ledger_over_so_that_the_first_must_adopt_again() {
    let mut w = Warehouse::with(SQL).await;
    w.next(state()).await.unwrap();
    w.execute("update starlift.ledger set star_id = 'star-0'").await;
    assert_eq!(w.head().await, None);
    let outcome = w.run(1, true, None, state()).await.unwrap();
    assert!(matches!(outcome, LoadOutcome::Loaded(_)));
    assert_eq!(w.rows("select star_id from starlift.ledger").await, [STAR]);
}

#[tokio::test]
async fn a_model_that_brings_its_whole_state_while_others_follow_takes_its_table_over() {
    let mut w = Warehouse::with(SQL).await;
    w.next(vec![change(&staff(), &[])]).await.unwrap();
    let head = w.head().await;
    let changes = vec![change(&staff(), &[&["1", "new", "new@x"]]), change(&sale(), &[&["10", "1", "6.5"]])];
    let LoadOutcome::Loaded(done) = w.run_whole(2, head, changes, &["fact_sale"]).await.unwrap() else {
        panic!("not loaded")
    };
    assert_eq!((report(&done, "fact_sale").inserted, report(&done, "fact_sale").retracted), (1, 3));
    assert_eq!(report(&done, "dim_staff").retracted, 0);
    assert_eq!(w.rows("select sale_id, amount from current_fact_sale").await, ["10|6.50"]);
}
