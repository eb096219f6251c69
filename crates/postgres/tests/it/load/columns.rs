//! Tables that do not go with their models, and types that travel in different clothes.

use starlift_core::ErrorKind;

use super::fixture::*;

#[tokio::test]
async fn a_missing_table_column_or_value_is_named_with_what_mends_it() {
    let shop = dimension("dim_shop", "shop_id int4, name text, area numeric(38,10)");
    for (sql, parts) in [
        ("select 1", &["table `dim_shop` is missing", "starlift warehouse create"][..]),
        (
            "create table dim_shop (shop_id int primary key)",
            &[
                "no column `name`",
                "alter table \"public\".\"dim_shop\" add column \"name\" text, add column \"area\" numeric;",
            ],
        ),
        (
            "create table dim_shop (shop_id int primary key, name text, area numeric, owner text not null)",
            &["column `owner`", "does not yield"],
        ),
        (
            "create table dim_shop (shop_id int primary key, name int, area numeric)",
            &[
                "column `name` of table `dim_shop`",
                "yields text",
                "declares integer",
                "drop view if exists \"public\".\"current_dim_shop\"; alter table \"public\".\"dim_shop\" alter column \"name\" type text",
                "grants on it have to be given again",
            ],
        ),
        (
            "create table dim_shop (shop_id int primary key, name text, area date)",
            &["declares date", "cast it in the model, or change the type in the warehouse"],
        ),
        (
            "create table dim_shop (shop_id int primary key, name text, area numeric generated always as (1) stored)",
            &["column `area`", "PostgreSQL alone"],
        ),
        ("create view dim_shop as select 1", &["is no table"]),
    ] {
        let mut w = Warehouse::with(sql).await;
        let error = w.next(vec![change(&shop, &[&["1", "a", "1"]])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}");
        for part in parts {
            assert!(text(&error).contains(part), "{part}: {}", text(&error));
        }
    }
}

#[tokio::test]
async fn columns_that_fill_themselves_are_left_to_the_warehouse() {
    let mut w = Warehouse::with(
        "create domain kind as text default 'plain' not null;
         create table dim_shop (key serial primary key, shop_id int unique, name text, kind kind, extra text, \
         at timestamptz not null default now(), twice int generated always as (shop_id * 2) stored)",
    )
    .await;
    let shop = dimension("dim_shop", "shop_id int4, name text");
    w.next(vec![change(&shop, &[&["2", "b"], &["1", "a"]])]).await.unwrap();
    w.execute("update dim_shop set extra = 'by hand'").await;
    w.next(vec![change(&shop, &[&["2", "B"]])]).await.unwrap();
    assert_eq!(
        w.rows("select key, shop_id, name, kind, extra, twice from current_dim_shop order by 1").await,
        ["1|1|a|plain|by hand|2", "2|2|B|plain|by hand|4"]
    );
}

#[tokio::test]
async fn names_that_need_quotes_are_quoted_everywhere() {
    let mut w = Warehouse::with(
        "create schema \"Ware house\"; create table \"Ware house\".\"Fact; \"\"drop\" (\"record Id\" serial primary key, \
         \"order\" int not null, \"it's\" text, \"select\" numeric(5,2))",
    )
    .await;
    w.schema = "Ware house".into();
    let odd = || fact("Fact; \"drop", "order int4, it's text, select numeric(38,10)");
    w.next(vec![change(&odd(), &[&["1", "a", "1"]])]).await.unwrap();
    w.next(vec![change(&odd(), &[&["1", "b", "1"]]).gone(&[&["7"]])]).await.unwrap();
    assert_eq!(w.rows("select * from \"Ware house\".\"current_Fact; \"\"drop\"").await, ["2|1|b|1.00"]);
    let error = w.next(vec![change(&odd(), &[&["1", "b", "0.001"]])]).await.unwrap_err();
    assert!(text(&error).contains("`select` (numeric(5,2))") && text(&error).contains("order=1"), "{}", text(&error));
}

#[tokio::test]
async fn enums_uuids_arrays_and_other_types_take_what_fits() {
    let mut w = Warehouse::with(
        "create type mood as enum ('sad', 'fine');
         create table dim_odd (id uuid primary key, mood mood, place point, net inet, doc jsonb, tags varchar(3)[], \
         raw bytea, big numeric)",
    )
    .await;
    let odd = dimension("dim_odd", "id text, mood text, place text, net text, doc jsonb, big int8");
    let id = "2e0b5f6e-5b0a-4a39-8f0c-3f1d5a6b7c8d";
    let row: &[&str] = &[id, "fine", "(1,2)", "10.0.0.0/8", "{\"b\": 1, \"a\": [1, 2]}", "9223372036854775807"];
    w.next(vec![change(&odd, &[row])]).await.unwrap();
    let done = w.next(vec![change(&odd, &[row])]).await.unwrap();
    assert_eq!(report(&done, "dim_odd").unchanged, 1);
    assert_eq!(w.one("select id, mood, place, net from current_dim_odd").await, format!("{id}|fine|(1,2)|10.0.0.0/8"));
    for (position, value, reason) in [(1, "glad", "is not one of the enum's labels"), (0, "2e0b5f6e", "is not a uuid")]
    {
        let mut bad = row.to_vec();
        bad[position] = value;
        let error = w.next(vec![change(&odd, &[&bad])]).await.unwrap_err();
        assert!(text(&error).contains(reason), "{}", text(&error));
    }
    let mut bad = row.to_vec();
    bad[3] = "no address";
    let error = w.next(vec![change(&odd, &[&bad])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(!text(&error).contains("no address"), "{}", text(&error));
}

#[tokio::test]
async fn equal_values_that_read_differently_are_written_in_keys_too() {
    let mut w = Warehouse::with(
        "create extension citext;
         create table dim_odd (x float8 primary key, name citext, doc jsonb, span interval, y real);
         create table fact_odd (record_id serial primary key, name citext, x float8);
         create table fact_zero (record_id serial primary key, x float8)",
    )
    .await;
    let odd = dimension("dim_odd", "x float8, name text, doc jsonb, span text, y float4");
    let named = fact("fact_odd", "name text, x float8");
    let zero = fact("fact_zero", "x float8");
    let first = [
        change(&odd, &[&["0", "abc", "1.0", "1 day", "0"]]),
        change(&named, &[&["abc", "0"]]),
        change(&zero, &[&["0"]]),
    ];
    w.next(first.into()).await.unwrap();
    let steps: [(&[&str], &str); 5] = [
        (&["-0", "abc", "1.0", "1 day", "0"], "-0|abc|1.0|1 day|0"),
        (&["0", "ABC", "1.0", "1 day", "0"], "0|ABC|1.0|1 day|0"),
        (&["0", "ABC", "1.00", "1 day", "0"], "0|ABC|1.00|1 day|0"),
        (&["0", "ABC", "1.00", "24:00:00", "0"], "0|ABC|1.00|24:00:00|0"),
        (&["0", "ABC", "1.00", "24:00:00", "-0"], "0|ABC|1.00|24:00:00|-0"),
    ];
    for (row, stored) in steps {
        let done = w.next(vec![change(&odd, &[row])]).await.unwrap();
        assert_eq!(report(&done, "dim_odd").updated, 1, "{stored}");
        assert_eq!(w.rows("table current_dim_odd").await, [stored]);
        let again = w.next(vec![change(&odd, &[row])]).await.unwrap();
        assert_eq!(report(&again, "dim_odd").unchanged, 1, "{stored}");
    }
    w.next(vec![change(&named, &[&["ABC", "-0"]]).gone(&[&["abc"]]), change(&zero, &[&["-0"]])]).await.unwrap();
    assert_eq!(w.rows("select name, x from current_fact_odd").await, ["ABC|-0"]);
    assert_eq!(w.rows("select x from current_fact_zero").await, ["-0"]);
    // It is one key all the same: what goes, goes.
    w.next(vec![change(&zero, &[]).gone(&[&["0"]])]).await.unwrap();
    assert!(w.rows("select x from current_fact_zero").await.is_empty());
}

#[tokio::test]
async fn a_key_that_is_only_spelt_anew_stays_current() {
    let mut w = Warehouse::with(
        "create extension citext; create table dim_code (code citext primary key, n int);
         create table fact_code (record_id serial primary key, code citext, n int)",
    )
    .await;
    let models = [dimension("dim_code", "code text, n int4"), fact("fact_code", "code text, n int4")];
    let mut next = async |row: &[&str], gone: &[&[&str]]| {
        w.next(models.iter().map(|model| change(model, &[row]).gone(gone)).collect()).await.unwrap();
        [w.rows("table current_dim_code").await, w.rows("select code, n from current_fact_code").await]
    };
    assert_eq!(next(&["C7", "1"], &[]).await, [["C7|1"], ["C7|1"]]);
    // The source's keys are two: one is gone, and the other is new.
    assert_eq!(next(&["c7", "1"], &[&["C7"]]).await, [["c7|1"], ["c7|1"]]);
    assert_eq!(next(&["C7", "2"], &[&["c7"]]).await, [["C7|2"], ["C7|2"]]);
}

#[tokio::test]
async fn a_column_whose_fields_or_bounds_would_be_cut_or_rounded_without_a_word_takes_no_text() {
    let types = "create type pair as (v numeric(10,2), c varchar(3)); create domain odd_pair as pair;
        create domain money2 as numeric(10,2); create type prices as range (subtype = money2); create domain many as int[]";
    let versions = Warehouse::with("select").await;
    let multirange = match versions.one("select current_setting('server_version_num')::int >= 140000").await.as_str() {
        "t" => "prices_multirange",
        _ => "prices",
    };
    for (yielded, declared) in [
        ("text", "pair"),
        ("text", "odd_pair"),
        ("text", "prices"),
        ("text", multirange),
        ("text[]", "pair[]"),
        ("text[]", "odd_pair[]"),
        ("text[]", "prices[]"),
        ("text[]", "many[]"),
    ] {
        let sql = format!("{types}; create table dim_odd (id int primary key, odd {declared})");
        let mut w = Warehouse::with(&sql).await;
        let odd = dimension("dim_odd", &format!("id int4, odd {yielded}"));
        let error = w.next(vec![change(&odd, &[])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{declared}");
        let expected = format!("the model yields {yielded}, the warehouse declares {declared}");
        assert!(text(&error).contains(&expected), "{}", text(&error));
        if yielded == "text" {
            let statements = error.hint().unwrap_or_default().split('`').nth(1).unwrap().to_string();
            w.execute(&statements).await;
            w.next(vec![change(&odd, &[&["1", "(1.239,abcd)"]])]).await.unwrap();
            assert_eq!(w.rows("table current_dim_odd").await, ["1|(1.239,abcd)"]);
        }
    }
}

#[tokio::test]
async fn the_settings_of_a_role_do_not_change_what_is_loaded() {
    let mut w = Warehouse::with(
        "create table fact_sale (record_id serial primary key, sale_id int, at timestamptz, day date, x float8)",
    )
    .await;
    w.execute(
        "set timezone = 'America/New_York'; set datestyle = 'SQL, DMY'; set extra_float_digits = -15; \
         set default_transaction_isolation = 'serializable'; set search_path = pg_catalog",
    )
    .await;
    let sale = fact("fact_sale", "sale_id int4, at timestamptz, day date, x float8");
    let row: &[&str] = &["1", "2024-03-10T07:30:00Z", "2024-03-10", "0.30000000000000004"];
    w.next(vec![change(&sale, &[row])]).await.unwrap();
    let done = w.next(vec![change(&sale, &[row])]).await.unwrap();
    assert_eq!(report(&done, "fact_sale").unchanged, 1);
    w.execute("set timezone = 'UTC'; set datestyle = 'ISO'; set extra_float_digits = 3").await;
    assert_eq!(
        w.one("select at, day, x from public.fact_sale").await,
        "2024-03-10 07:30:00+00|2024-03-10|0.30000000000000004"
    );
}
