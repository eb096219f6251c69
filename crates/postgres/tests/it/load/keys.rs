//! Keys of every type that a table may have: what is gone stays out of the views, whatever a reader's settings are, wherever the type
//! comes from, and whichever version wrote it down.

use starlift_core::ErrorKind;
use starlift_postgres::load::{ModelTable, create_support};

use super::fixture::*;

/// Settings of readers; the last are those of ours.
const READERS: [&str; 4] = [
    "set timezone = 'America/New_York'; set intervalstyle = 'postgres'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape'",
    "set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'; set datestyle = 'German'; set extra_float_digits = -15",
    "set timezone = 'America/New_York'; set intervalstyle = 'sql_standard'; set datestyle = 'Postgres, MDY'",
    "set timezone = 'UTC'; set intervalstyle = 'postgres'; set datestyle = 'ISO, YMD'; set bytea_output = 'hex'; \
     set extra_float_digits = 1",
];

/// Types of the model and of the table, with a key that goes and one that stays.
const KEYS: [(&str, &str, &str, &str); 11] = [
    ("text", "interval", "1 year 2 mons -3 days 04:05:06.7", "2 days"),
    ("text", "tstzrange", "[2024-07-01 12:00:00+00,)", "[2024-08-01 12:00:00+00,2025-01-01 00:00:00.5+00)"),
    ("text", "tsrange", "[2024-07-01 12:00:00,)", "(,2024-07-01 12:00:00]"),
    ("text", "daterange", "[2024-07-01,2024-08-02)", "empty"),
    ("text", "numrange", "[1.0,2)", "[1.5,3)"),
    ("text", "inet", "10.0.0.1", "10.0.0.0/8"),
    ("text", "floatrange", "[0.1,0.30000000000000004)", "[0.1,0.3)"),
    ("timestamptz[]", "timestamptz[]", "2024-07-01T12:00:00Z", "2024-08-01T12:00:00Z"),
    ("float8[]", "float8[]", "0.30000000000000004", "0.3"),
    ("date[]", "date[]", "2024-07-01", "2024-08-01"),
    ("int4[]", "int4[]", "1", "2"),
];
const TYPES: &str = "create type floatrange as range (subtype = float8)";

fn models(number: usize, key: &str) -> [ModelTable; 2] {
    let columns = format!("k {key}, n int4");
    [dimension(&format!("dim_{number}"), &columns), fact(&format!("fact_{number}"), &columns)]
}

/// A dimension and a fact for each of the keys.
fn wanted() -> impl Iterator<Item = (usize, [ModelTable; 2], &'static str, &'static str)> {
    KEYS.iter().enumerate().map(|(number, (model, _, gone, stays))| (number, models(number, model), *gone, *stays))
}

async fn warehouse() -> Warehouse {
    let tables = wanted().map(|(number, ..)| {
        let key = KEYS[number].1;
        format!(
            "create table dim_{number} (k {key} primary key, n int);
             create table fact_{number} (record_id serial primary key, k {key}, n int)"
        )
    });
    Warehouse::with(&format!("{TYPES}; {}", tables.collect::<Vec<_>>().join(";"))).await
}

/// One manifest brings both keys of each model, and the next one takes the first away.
async fn loaded() -> Warehouse {
    let mut w = warehouse().await;
    let of = |model: ModelTable, gone, stays| change(&model, &[&[gone, "1"], &[stays, "2"]]);
    let first = wanted().flat_map(|(_, models, gone, stays)| models.map(|model| of(model, gone, stays)));
    w.next(first.collect()).await.unwrap();
    let then = wanted().flat_map(|(_, models, gone, _)| models.map(|model| change(&model, &[]).gone(&[&[gone]])));
    w.next(then.collect()).await.unwrap();
    w
}

async fn assert_gone_for_every_reader(w: &Warehouse) {
    for reader in READERS {
        w.execute(reader).await;
        for (number, ..) in wanted() {
            for kind in ["dim", "fact"] {
                let shown = w.rows(&format!("select n from current_{kind}_{number}")).await;
                assert_eq!(shown, ["2"], "{kind} with key {} for a reader with {reader}", KEYS[number].1);
            }
        }
    }
}

fn nothing_new() -> Vec<Change> {
    wanted().flat_map(|(_, models, ..)| models.map(|model| change(&model, &[]))).collect()
}

/// Leaves the warehouse as earlier versions did: entries as their session read the key, views that compare with the reader's text.
async fn make_old(w: &Warehouse) {
    w.execute(READERS[3]).await;
    w.execute("set extra_float_digits = 3").await;
    for (number, ..) in wanted() {
        for kind in ["dim", "fact"] {
            let name = format!("{kind}_{number}");
            let current = match kind {
                "fact" => format!("(select distinct on (t.k) t.* from {name} t order by t.k desc, t.record_id desc)"),
                _ => name.clone(),
            };
            w.execute(&format!(
                "delete from starlift.retracted where model = '{name}';
                 insert into starlift.retracted select '{PIPELINE}', '{name}', jsonb_build_object('k', k), 2 from {name} where n = 1;
                 create or replace view current_{name} as select v.* from {current} v where not exists (select from starlift.retracted r
                     where r.pipeline = '{PIPELINE}' and r.model = '{name}' and r.key = jsonb_build_object('k', v.k));
                 comment on view current_{name} is 'starlift: the current rows of {name} (definition 0123456789abcdef)'"
            ))
            .await;
        }
    }
}

const ENTRIES: &str = "select model, key, seq, xmin from starlift.retracted order by 1, 2";
const COMMENTS: &str = "select c.relname, obj_description(c.oid), c.xmin from pg_class c where c.relkind = 'v' and c.relname like 'current%' order by 1";

#[tokio::test]
async fn what_is_gone_stays_gone_whatever_a_reader_has_set() {
    let w = loaded().await;
    assert_gone_for_every_reader(&w).await;
    // What reads the same everywhere is held as people read it.
    let held = |number: usize| format!("select key ->> 'k' from starlift.retracted where model = 'dim_{number}'");
    for (number, (_, key, gone, _)) in KEYS.iter().enumerate().filter(|(_, key)| ["numrange", "inet"].contains(&key.1))
    {
        assert_eq!(w.one(&held(number)).await, *gone, "{key}");
    }
}

#[tokio::test]
async fn entries_and_views_of_earlier_versions_come_right_once_and_a_load_that_ends_half_way_changes_neither() {
    let mut w = loaded().await;
    make_old(&w).await;
    w.execute(READERS[1]).await;
    assert_eq!(w.one("select count(*) from current_dim_0").await, "2", "it is a warehouse of an earlier version");
    w.execute(READERS[3]).await;
    // An older spelling that is gone, beside a version that took its place: the old view showed it.
    w.execute(
        "insert into fact_0 (k, n) values ('48:00:00', 2);
         insert into starlift.retracted select 'shop', 'fact_0', jsonb_build_object('k', k), 1 from fact_0 where k::text = '2 days';
         insert into starlift.retracted values ('shop', 'dim_0', '{\"k\": \"7 days\"}', 1), ('other', 'dim_0', '{\"k\": \"2 days\"}', 1)",
    )
    .await;
    let (entries, views) = (w.rows(ENTRIES).await, w.rows(COMMENTS).await);

    // It ends after the views were made and the entries written.
    let mut bad = nothing_new();
    bad[0].rows = vec![vec!["no span".into(), "1".into()]];
    w.next(bad).await.unwrap_err();
    assert_eq!((w.rows(ENTRIES).await, w.rows(COMMENTS).await), (entries.clone(), views));

    w.next(nothing_new()).await.unwrap();
    assert_gone_for_every_reader(&w).await;
    // What had one text is as it was, and nothing is written twice.
    let of = |rows: &[String], number: usize| -> Vec<String> {
        rows.iter().filter(|row| row.starts_with(&format!("dim_{number}|"))).cloned().collect()
    };
    let now = w.rows(ENTRIES).await;
    for (number, ..) in wanted() {
        let stays = ["numrange", "inet", "date[]", "int4[]"].contains(&KEYS[number].1);
        assert_eq!(of(&now, number) == of(&entries, number), stays, "{}", KEYS[number].1);
    }
    assert_eq!(w.one("select key from starlift.retracted where pipeline = 'other'").await, "{\"k\": \"2 days\"}");
    let views = w.rows(COMMENTS).await;
    w.next(nothing_new()).await.unwrap();
    assert_eq!((w.rows(ENTRIES).await, w.rows(COMMENTS).await), (now, views));
}

#[tokio::test]
async fn entries_come_right_whoever_makes_the_views() {
    let mut w = loaded().await;
    make_old(&w).await;
    let models: Vec<ModelTable> = wanted().flat_map(|(_, models, ..)| models).collect();
    create_support(&mut w.client, PIPELINE, "public", &models).await.unwrap();
    assert_gone_for_every_reader(&w).await;

    // An owner ran the statements of the views by hand, before a load that may not.
    let views = w.rows("select pg_get_viewdef(c.oid), c.relname, obj_description(c.oid) from pg_class c where c.relkind = 'v' and c.relname like 'current%'").await;
    make_old(&w).await;
    for view in views {
        let [definition, name, comment] = view.splitn(3, '|').collect::<Vec<_>>()[..] else { panic!("{view}") };
        w.execute(&format!("create or replace view {name} as {definition} comment on view {name} is '{comment}'"))
            .await;
    }
    w.next(nothing_new()).await.unwrap();
    assert_gone_for_every_reader(&w).await;
}

#[tokio::test]
async fn types_of_extensions_are_compared_by_their_own_operator_wherever_they_are() {
    let mut w = Warehouse::with(
        "create extension citext; create extension ltree; create schema dw;
         create table dw.dim_code (code citext primary key, n int);
         create table dw.fact_code (record_id serial primary key, code public.citext references dw.dim_code, n int);
         create table dw.dim_path (code ltree primary key, n int);
         create table dw.fact_path (record_id serial primary key, code ltree references dw.dim_path, n int)",
    )
    .await;
    w.schema = "dw".into();
    w.aside.rows = 1;
    let columns = "code text, n int4";
    let names = ["code", "path"];
    let models: Vec<ModelTable> = names
        .iter()
        .flat_map(|name| [dimension(&format!("dim_{name}"), columns), fact(&format!("fact_{name}"), columns)])
        .map(|model| match model.name.as_str() {
            "fact_path" => refers(model, "code", "dim_path"),
            _ => model,
        })
        .collect();
    let load = |codes: &[&[&str]], gone: &[&[&str]], paths: &[&[&str]], gone_paths: &[&[&str]]| {
        let of = |model: &ModelTable| match model.name.ends_with("code") {
            true => change(model, codes).gone(gone),
            false => change(model, paths).gone(gone_paths),
        };
        models.iter().map(of).collect::<Vec<_>>()
    };
    w.next(load(&[&["c7", "1"], &["x", "1"]], &[], &[&["a.b", "1"], &["a.c", "1"]], &[])).await.unwrap();
    w.next(load(&[&["C7", "2"]], &[&["c7"]], &[&["a.b", "2"]], &[&["a.c"]])).await.unwrap();
    for kind in ["dim", "fact"] {
        let codes = format!("select code, n from dw.current_{kind}_code order by code");
        assert_eq!(w.rows(&codes).await, ["C7|2", "x|1"], "{kind}");
        let paths = format!("select code, n from dw.current_{kind}_path order by code");
        assert_eq!(w.rows(&paths).await, ["a.b|2"], "{kind}");
    }
    assert_eq!(w.rows("select code, n from dw.dim_code order by code").await, ["C7|2", "x|1"]);
    // A twin is one, whatever the search path.
    w.aside.rows = 2;
    w.next(load(&[&["c7", "3"]], &[], &[], &[])).await.unwrap();
    assert_eq!(w.rows("select code, n from dw.current_fact_code order by code").await, ["C7|2", "x|1"]);
}

#[tokio::test]
async fn a_key_of_which_no_steady_form_is_known_is_refused_with_what_mends_it() {
    for (make, key) in [
        ("create extension cube", "cube"),
        ("select 1", "point"),
        ("select 1", "regconfig"),
        ("create type pair as (a int, b timestamptz)", "pair"),
        ("create extension cube; create domain place as cube", "place"),
    ] {
        let mut w = Warehouse::with(&format!("{make}; create table dim_k (k {key}, n int)")).await;
        let model = dimension("dim_k", "k text, n int4");
        let error = w.next(vec![change(&model, &[&["1", "1"]])]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{key}: {}", text(&error));
        let mend = "alter table \"public\".\"dim_k\" alter column \"k\" type text using \"k\"::text;";
        assert!(text(&error).contains(mend), "{key}: {}", text(&error));
        w.execute("alter table dim_k alter column k type text using k::text").await;
        w.next(vec![change(&model, &[&["1", "1"]])]).await.unwrap();
    }
    // An array is no text.
    let mut w = Warehouse::with("create table dim_k (k char(3)[] primary key)").await;
    let error = w.next(vec![change(&dimension("dim_k", "k text[]"), &[&["a"]])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text(&error).contains("take a column of another type into the key"), "{}", text(&error));
}
