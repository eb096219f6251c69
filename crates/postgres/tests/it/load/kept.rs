//! Tables that would lose or hide rows are refused with what mends them; rows that a trigger or rule skips stand aside.

use starlift_core::model::ModelKind;
use starlift_core::{Error, ErrorKind};
use starlift_postgres::load::{LoadReport, ModelTable, create_support};
use tokio_postgres::NoTls;

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name text);
    create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int references dim_shop, amount int)";
/// Returns no row for the name or amount that says so.
const NO: &str = "create function no() returns trigger language plpgsql as \
    $$ begin return case when to_jsonb(new) ->> tg_argv[0] = tg_argv[1] then null else new end; end $$";

fn shop() -> ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> ModelTable {
    fact("fact_sale", "sale_id int4, shop_id int4, amount int4")
}

fn changes(shops: &[&[&str]], sales: &[&[&str]]) -> Vec<Change> {
    vec![change(&shop(), shops), change(&sale(), sales)]
}

/// The statement of a hint that begins so.
fn statement<'a>(error: &'a Error, begins: &str) -> &'a str {
    assert_eq!(error.kind(), ErrorKind::Config, "{}", text(error));
    let mut quoted = error.hint().unwrap_or_default().split('`').skip(1).step_by(2);
    quoted.find(|sql| sql.starts_with(begins)).unwrap_or_else(|| panic!("no {begins}: {}", text(error)))
}

#[tokio::test]
async fn an_unlogged_table_is_refused_with_the_statement_that_mends_it() {
    let partitioned = "create table fact_sale (record_id serial, sale_id int not null, shop_id int, amount int,
            primary key (record_id, sale_id)) partition by list (sale_id);
        create unlogged table \"Odd part\" partition of fact_sale for values in (1);
        create table fact_sale_rest partition of fact_sale default";
    let (dim, fact) = SQL.split_once(';').unwrap();
    let unlogged = SQL.replace("create table", "create unlogged table");
    let of_starlift = format!("{SQL}; create schema starlift; create unlogged table starlift.refused (pipeline text)");
    for (sql, named, tables) in [
        (unlogged.as_str(), "public.dim_shop", 2),
        (&format!("{dim};{}", fact.replace("create table", "create unlogged table")), "public.fact_sale", 1),
        (&format!("{dim};{partitioned}"), "public.fact_sale", 1),
        (&of_starlift, "starlift.refused", 1),
    ] {
        let mut w = Warehouse::with(sql).await;
        // One statement after the other, as a person would run them, until nothing is unlogged.
        for number in 0..tables {
            let error = w.next(changes(&[&["1", "a"]], &[&["1", "1", "5"]])).await.unwrap_err();
            assert!(
                number > 0 || text(&error).contains(&format!("table {named} of the warehouse is unlogged")),
                "{sql}"
            );
            let mends = statement(&error, "alter table").to_string();
            w.execute(&mends).await;
        }
        assert_eq!(w.one("select count(*) from pg_class where relpersistence = 'u' and relkind = 'r'").await, "0");
        if named != "starlift.refused" {
            w.next(changes(&[&["1", "a"]], &[&["1", "1", "5"]])).await.unwrap();
        }
    }
}

/// A warehouse with one row in each table, and a session of a role that may load into it but does not own it.
async fn loaded_by_another_role() -> (Warehouse, Warehouse) {
    let mut owner = Warehouse::with(SQL).await;
    create_support(&mut owner.client, PIPELINE, "public", &[shop(), sale()]).await.unwrap();
    let role = format!("loader_{}", owner.database);
    owner
        .execute(&format!(
            "create role \"{role}\" login; grant usage on schema starlift to \"{role}\"; \
             grant all on all tables in schema starlift, public to \"{role}\"; \
             grant usage on all sequences in schema public to \"{role}\""
        ))
        .await;
    let url = starlift_sandbox::shared().unwrap().url(&owner.database, &role);
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut loader = Warehouse { client, ..owner.again().await };
    loader.next(changes(&[&["1", "a"]], &[&["1", "1", "5"]])).await.unwrap();
    (owner, loader)
}

#[tokio::test]
async fn a_table_whose_rows_are_hidden_from_our_role_is_refused_until_a_policy_shows_all_of_them() {
    let (owner, mut loader) = loaded_by_another_role().await;
    let again = || changes(&[&["1", "b"]], &[&["1", "1", "5"]]);
    for table in ["public.dim_shop", "public.fact_sale", "starlift.retracted"] {
        owner
            .execute(&format!(
                "alter table {table} enable row level security; create policy little on {table} using (false) with check (true)"
            ))
            .await;
        let error = loader.next(again()).await.unwrap_err();
        let hidden = format!("row-level security hides rows of table {table} from our role");
        assert!(text(&error).contains(&hidden), "{}", text(&error));
        owner.execute(statement(&error, "create policy starlift")).await;
        loader.next(again()).await.unwrap_or_else(|e| panic!("{table}: {}", text(&e)));
        // One that restricts them all is not outdone by a policy.
        owner.execute(&format!("create policy less on {table} as restrictive using (current_date is null)")).await;
        let error = loader.next(again()).await.unwrap_err();
        owner.execute(statement(&error, "alter table")).await;
        loader.next(again()).await.unwrap();
    }
    assert_eq!(owner.rows("select sale_id, amount from fact_sale").await, ["1|5"], "no version twice");
    assert_eq!(owner.rows("table dim_shop").await, ["1|b"]);
}

#[tokio::test]
async fn a_policy_counts_for_its_role_and_its_statement_alone() {
    let (owner, mut loader) = loaded_by_another_role().await;
    let role =
        owner.one("select quote_ident(rolname) from pg_roles where rolname = 'loader_' || current_database()").await;
    let sql =
        "alter table dim_shop enable row level security; create policy others on dim_shop to pg_monitor using (true)";
    owner.execute(sql).await;
    assert!(loader.next(changes(&[&["1", "b"]], &[])).await.is_err());
    owner.execute(&format!("create policy reads on dim_shop for select to {role} using (true)")).await;
    assert!(loader.next(changes(&[&["1", "b"]], &[])).await.is_err(), "an update would find no row");
    owner.execute(&format!("create policy writes on dim_shop for update to {role} using (true)")).await;
    loader.next(changes(&[&["1", "b"]], &[])).await.unwrap();
    assert_eq!(owner.rows("table dim_shop").await, ["1|b"]);
    // A fact is never updated.
    let sql =
        "alter table fact_sale enable row level security; create policy reads on fact_sale for select using (true);
               create policy adds on fact_sale for insert with check (true)";
    owner.execute(sql).await;
    loader.next(changes(&[], &[&["1", "1", "5"], &["2", "1", "6"]])).await.unwrap();
    assert_eq!(owner.rows("select sale_id, amount from fact_sale order by 1").await, ["1|5", "2|6"]);
}

/// New rows that were set aside, and all that stand aside afterwards.
fn aside(done: &LoadReport, model: &str) -> (u64, u64) {
    let of_model = report(done, model);
    (of_model.refused.rows(), of_model.aside)
}

const REASONS: &str = "select distinct column_name, reason, value from starlift.refused where waits_for is null";
const SKIPPED: [&str; 1] = ["?|a trigger or rule of the warehouse skipped it|~"];

#[tokio::test]
async fn a_row_that_a_trigger_or_rule_skips_stands_aside_and_hides_the_older_one_until_it_is_let_through() {
    let of = |event: &str, shop: &str, sale: &str| {
        format!(
            "{NO}; create trigger no before {event} on dim_shop for each row execute function no('name', '{shop}');
             create trigger no before {event} on fact_sale for each row execute function no('amount', '{sale}')"
        )
    };
    let rules = "create rule none as on insert to dim_shop where new.name = 'no' do instead nothing;
        create rule stays as on update to dim_shop where new.name = 'no' do instead nothing;
        create rule none as on insert to fact_sale where new.amount = 9 do instead nothing";
    let end_of_rules = "drop rule none on dim_shop; drop rule stays on dim_shop; drop rule none on fact_sale";
    let end_of_triggers = "drop function no cascade";
    for (mark, end) in [
        (of("insert or update", "no", "9"), end_of_triggers),
        (
            format!("{}; alter table fact_sale enable always trigger no", of("insert or update", "no", "9")),
            end_of_triggers,
        ),
        (rules.to_string(), end_of_rules),
    ] {
        let mut w = Warehouse::with(&format!("{SQL}; {mark}")).await;
        let first =
            changes(&[&["1", "a"], &["2", "b"], &["3", "no"]], &[&["1", "1", "5"], &["2", "2", "9"], &["4", "2", "4"]]);
        w.next(first).await.unwrap_err();
        w.aside.rows = 2;
        let first =
            changes(&[&["1", "a"], &["2", "b"], &["3", "no"]], &[&["1", "1", "5"], &["2", "2", "9"], &["4", "2", "4"]]);
        let done = w.next(first).await.unwrap();
        for model in ["dim_shop", "fact_sale"] {
            let of_model = report(&done, model);
            assert_eq!((of_model.inserted, of_model.unchanged, aside(&done, model)), (2, 0, (1, 1)), "{mark}");
        }
        assert_eq!(w.rows(REASONS).await, SKIPPED);

        // What was there is not taken for what was sent; the fact of a shop that is away waits.
        let done = w.next(changes(&[&["1", "no"], &["2", "bb"]], &[&["4", "2", "9"]])).await.unwrap();
        assert_eq!((report(&done, "dim_shop").updated, aside(&done, "dim_shop")), (1, (1, 2)), "{mark}");
        assert_eq!(aside(&done, "fact_sale").0, 1, "{mark}");
        assert_eq!(w.rows("table current_dim_shop").await, ["2|bb"], "{mark}");
        assert_eq!(w.rows("select sale_id from current_fact_sale").await, Vec::<String>::new(), "{mark}");
        assert_eq!(w.rows("select * from dim_shop order by 1").await, ["1|a", "2|bb"]);

        // More than may stand aside stop the load, by key, with what mends it.
        w.aside.rows = 0;
        let error = w.next(changes(&[&["2", "no"]], &[])).await.unwrap_err();
        let said = text(&error);
        for part in ["1 row of model `dim_shop`", "skipped it (1 row: shop_id=2)", "let the trigger return these rows"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        w.execute(end).await;
        let done = w.retry(&[&shop(), &sale()]).await.unwrap();
        assert_eq!((aside(&done, "dim_shop"), aside(&done, "fact_sale")), ((0, 0), (0, 0)), "{mark}");
        assert_eq!(w.rows("select * from current_dim_shop order by 1").await, ["1|no", "2|bb", "3|no"]);
        let current = "select sale_id, amount from current_fact_sale order by 1";
        assert_eq!(w.rows(current).await, ["1|5", "2|9", "4|9"], "{mark}");
    }
}

#[tokio::test]
async fn a_trigger_that_changes_a_row_or_writes_it_elsewhere_skips_none() {
    let shop_of_texts = dimension("dim_shop", "shop_id int4, name text");
    for mark in [
        "create function f() returns trigger language plpgsql as 'begin new.name := lower(new.name); return new; end';
         create trigger t before insert or update on dim_shop for each row execute function f()",
        "create table elsewhere () inherits (dim_shop);
         create function f() returns trigger language plpgsql as 'begin insert into elsewhere values (new.*); return null; end';
         create trigger t before insert on dim_shop for each row execute function f()",
        "create trigger t before update on dim_shop for each row execute function suppress_redundant_updates_trigger()",
        "create function f() returns trigger language plpgsql as 'begin return null; end';
         create trigger t after insert or update on dim_shop for each row execute function f();
         create trigger u before insert on dim_shop for each statement execute function f();
         create trigger v before insert on dim_shop for each row execute function f(); alter table dim_shop disable trigger v",
    ] {
        let mut w = Warehouse::with(&format!("{SQL}; {mark}")).await;
        for names in [["A", "B"], ["A", "C"]] {
            let rows: &[&[&str]] = &[&["1", names[0]], &["2", names[1]]];
            let done = w.next(vec![change(&shop_of_texts, rows)]).await.unwrap_or_else(|e| panic!("{mark}: {}", text(&e)));
            assert_eq!(aside(&done, "dim_shop"), (0, 0), "{mark}");
            let found = w.rows("select upper(name) from current_dim_shop order by shop_id").await;
            assert_eq!(found, names, "{mark}");
        }
    }
}

#[tokio::test]
async fn a_trigger_of_a_partition_that_skips_is_seen_and_a_day_of_the_calendar_never_is_skipped() {
    let sql = format!(
        "create table dim_shop (shop_id int, name text, primary key (shop_id, name)) partition by list (name);
         create table dim_shop_a partition of dim_shop for values in ('a');
         create table dim_shop_b partition of dim_shop for values in ('b');
         create function f() returns trigger language plpgsql as 'begin return null; end';
         create trigger t before delete on dim_shop_a for each row execute function f();
         {NO}; create table dim_date (date_id date primary key, year int not null);
         create trigger no before insert on dim_date for each row execute function no('year', '2025')"
    );
    let mut w = Warehouse::with(&sql).await;
    w.aside.rows = 9;
    let day = model("dim_date", ModelKind::Calendar, "date_id date, year int4");
    w.next(vec![change(&day, &[&["2024-01-01", "2024"]]), change(&shop(), &[&["1", "a"], &["2", "a"]])]).await.unwrap();
    // A row that moves to another partition is deleted from its own.
    let done = w.next(vec![change(&day, &[]), change(&shop(), &[&["1", "b"]])]).await.unwrap();
    assert_eq!(aside(&done, "dim_shop"), (1, 1));
    assert_eq!(w.rows("table current_dim_shop").await, ["2|a"]);
    let error = w.next(vec![change(&day, &[&["2025-01-01", "2025"]])]).await.unwrap_err();
    assert!(text(&error).contains("days of calendar `dim_date` were not written"), "{}", text(&error));
}

#[tokio::test]
async fn a_record_id_that_counts_downwards_is_refused_with_the_statement_that_mends_it() {
    let serial = "create table fact_sale (record_id serial primary key, sale_id int not null, shop_id int, amount int)";
    let down = "alter sequence fact_sale_record_id_seq increment by -1 minvalue -1000 start with 700 restart";
    let identity = "generated by default as identity (increment by -1)";
    let other = "create sequence \"Odd one\" as int increment by -1; {}; alter table fact_sale alter record_id set default \
                 nextval('\"Odd one\"')";
    for sql in
        [format!("{serial}; {down}"), serial.replace("serial", &format!("int {identity}")), other.replace("{}", serial)]
    {
        let mut w = Warehouse::with(&sql).await;
        // Versions that somebody else's load has left: the newest has the lowest id.
        for amount in [5, 6] {
            w.execute(&format!("insert into fact_sale (sale_id, amount) values (1, {amount})")).await;
        }
        let error = w.next(vec![change(&sale(), &[&["1", NULL, "6"]])]).await.unwrap_err();
        assert!(text(&error).contains("the record id of fact `fact_sale` counts downwards"), "{}", text(&error));
        w.execute(statement(&error, "alter sequence")).await;
        for amount in ["6", "7"] {
            w.next(vec![change(&sale(), &[&["1", NULL, amount]])])
                .await
                .unwrap_or_else(|e| panic!("{sql}: {}", text(&e)));
            assert_eq!(w.rows("select sale_id, amount from current_fact_sale").await, [format!("1|{amount}")], "{sql}");
        }
    }
}

#[tokio::test]
async fn a_trigger_that_rewrites_the_key_of_a_fact_skips_none_and_one_that_drops_rows_beside_it_does() {
    let sql = "create table fact_code (record_id serial primary key, code text not null, n int);
        create function upper_code() returns trigger language plpgsql as
            $$ begin if new.n = 9 then return null; end if; new.code := upper(new.code); return new; end $$;
        create trigger t before insert on fact_code for each row execute function upper_code()";
    let model = fact("fact_code", "code text, n int4");
    let mut w = Warehouse::with(sql).await;
    let done = w.next(vec![change(&model, &[&["ab", "1"], &["cd", "2"]])]).await.unwrap();
    assert_eq!((report(&done, "fact_code").inserted, aside(&done, "fact_code")), (2, (0, 0)));
    assert_eq!(w.rows("select code, n from fact_code order by 1").await, ["AB|1", "CD|2"]);
    let error = w.next(vec![change(&model, &[&["ef", "9"]])]).await.unwrap_err();
    assert!(text(&error).contains("skipped it"), "{}", text(&error));
}
