//! PostgreSQL as the oracle: its values go through COPY, decode, encode and COPY again, and must be the same to it.

use bytes::BytesMut;
use futures::{SinkExt, TryStreamExt};
use starlift_core::{Column, ColumnType, ErrorKind};
use starlift_postgres::catalog::{ColumnSetting, TableSettings};
use starlift_postgres::ident::quote_ident;
use starlift_postgres::{BatchEncoder, BatchLimits};

use crate::support::{Database, database, session, version};

/// Every carried type with literals of it, the extremes first; `{i}` is the number of a generated row.
const TYPES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false", "({i} % 3 = 0)"]),
    ("smallint", &["-32768", "32767", "0", "(random() * 60000 - 30000)::int2"]),
    ("integer", &["-2147483648", "2147483647", "(random() * 2e9)::int4"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "(random() * 9e18)::int8"]),
    (
        "real",
        &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.17549435e-38", "3.4028235e38", "(random() * 1e6)::real"],
    ),
    (
        "double precision",
        &["'NaN'", "'Infinity'", "'-0'", "2.2250738585072014e-308", "1.7976931348623157e308", "random() * 1e9"],
    ),
    (
        "numeric(38,10)",
        &[
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
            "0",
            "0.0000000001",
            "-0.1",
            "(random() * 1e12)::numeric(38,10)",
        ],
    ),
    (
        "numeric",
        &["552548.62", "-0.0000000001", "1e27", "100", "1000000000000", "0.00010", "(random() * 1e9)::numeric(20,4)"],
    ),
    ("numeric(38,38)", &["0.99999999999999999999999999999999999999", "-0.00000000000000000000000000000000000001"]),
    ("numeric(38,37)", &["9.9999999999999999999999999999999999999", "-1.0000000000000000000000000000000000001"]),
    ("numeric(38,0)", &["99999999999999999999999999999999999999", "10000", "10000000000000000"]),
    ("numeric(5,2)", &["999.99", "-0.01", "1.10", "{i} % 1000"]),
    ("price", &["99999999.99", "0", "{i} / 7.0"]),
    (
        "text",
        &[
            "''",
            "'ü 😀 \u{200d} \u{202e}'",
            "E'tab\\t, \"quote\", \\\\ and\\nline'",
            "repeat('x', {i} % 300)",
            "md5({i}::text)",
        ],
    ),
    ("varchar(7)", &["'1234567'", "'  '", "left(md5({i}::text), 5)"]),
    ("char(5)", &["'ab'", "'abcde'"]),
    ("name", &["'pg_catalog'"]),
    ("\"char\"", &["'x'", "''"]),
    ("mood", &["'sad'", "'ok''ish'"]),
    ("deep", &["'abc'"]),
    ("bytea", &["''", "'\\x00ff'", "decode(md5({i}::text), 'hex')"]),
    ("date", &["'infinity'", "'-infinity'", "'4714-11-24 BC'", "'5874897-12-31'", "date '1999-12-31' + {i}"]),
    ("time", &["'00:00'", "'24:00'", "'23:59:59.999999'", "time '00:00' + {i} * interval '1.234567 s'"]),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'4714-11-24 00:00:00 BC'",
            "'294246-12-31 23:59:59.999999'",
            "timestamp '1969-12-31 23:59:59.999999' + {i} * interval '1 h 0.000001 s'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'infinity'",
            "'-infinity'",
            "'2024-03-31 02:30:00+02'",
            "'4714-11-24 00:00:00+00 BC'",
            "timestamptz '1970-01-01 00:00+00' + {i} * interval '1.000001 s'",
        ],
    ),
    (
        "uuid",
        &["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'", "md5({i}::text)::uuid"],
    ),
    ("json", &["'{\"b\" : 1, \"a\":[1,  2]}'", "'\"\\u0000\"'", "'null'", "to_json({i})"]),
    ("jsonb", &["'{\"b\" : 1, \"a\":[1,  2]}'", "'\"\\u00e4\"'", "to_jsonb({i})"]),
    ("integer[]", &["'{}'", "'{1,NULL,3}'", "'{NULL}'", "array[{i}]"]),
    ("text[]", &["'{\"\",NULL,\"NULL\",\"a,b\",\"ü\"}'", "array_fill('x'::text, array[{i} % 9])"]),
    ("numeric(10,2)[]", &["'{1.10,-99999999.99,NULL}'"]),
    ("numeric[]", &["'{1.10,NULL}'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("bytea[]", &["array['\\x00'::bytea, null]"]),
    ("uuid[]", &["array[md5({i}::text)::uuid]"]),
    ("date[]", &["'{2024-02-29,NULL,infinity}'"]),
    ("time[]", &["'{23:59:59.999999}'"]),
    ("timestamp[]", &["'{2024-02-29 12:00:00.000001,NULL}'"]),
    ("timestamptz[]", &["'{2024-02-29 12:00:00.000001+02}'"]),
    ("double precision[]", &["'{NaN,-0,1.5}'"]),
    ("jsonb[]", &["array['{\"a\": 1}'::jsonb, null]"]),
    ("json[]", &["array['{\"a\":1}'::json, null]"]),
    ("mood[]", &["'{sad,NULL}'"]),
    ("price[]", &["'{1.10,NULL}'"]),
    ("prices", &["'{1.10,NULL}'"]),
    (
        "interval",
        &["'1 year 2 mons -3 days 04:05:06.000007'", "'-170000000 years'", "make_interval(secs => {i} * 1.000001)"],
    ),
    ("timetz", &["'23:59:59.999999-15:59'", "'24:00:00+02'", "timetz '00:00+01' + {i} * interval '1.234567 s'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'", "'10.0.0.0/8'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("money", &["'92233720368547758.07'", "'-92233720368547758.08'", "{i} / 7.0"]),
    ("bit(3)", &["B'101'", "({i} % 8)::bit(3)"]),
    ("bit varying", &["B''", "{i}::bit(32)"]),
    ("bit varying(9)", &["B'101'"]),
    ("int4range", &["'empty'", "'(,)'", "int4range({i}, {i} + 3)"]),
    ("int8range", &["'[1,9223372036854775807)'"]),
    ("numrange", &["'[1.10,2.2]'", "'(,0.000000000001)'"]),
    ("daterange", &["'[2024-01-01,infinity)'"]),
    ("tsrange", &["'[2024-01-01 00:00:00.000001,)'"]),
    ("tstzrange", &["'[2024-01-01 00:00:00.000001+02,infinity]'"]),
    ("int4multirange", &["'{}'", "'{[1,3),[5,7)}'"]),
    ("int8multirange", &["'{[1,3),[5,7)}'"]),
    ("nummultirange", &["'{[1.10,2.2],(3,)}'"]),
    ("datemultirange", &["'{[2024-01-01,2024-02-01)}'"]),
    ("tsmultirange", &["'{[2024-01-01,2024-02-01 00:00:00.5)}'"]),
    ("tstzmultirange", &["'{[2024-01-01 00:00+02,2024-02-01 00:00+00)}'"]),
    ("price_range", &["'[1.10,2.20)'"]),
    ("point", &["'(1.5,-2e-300)'", "point({i} / 3.0, {i})"]),
    ("line", &["'{1,-1,0.1}'"]),
    ("lseg", &["'[(0,0),(1.1,2)]'"]),
    ("box", &["'(1.1,1),(0,0)'"]),
    ("path", &["'[(0,0),(1.1,2)]'", "'((0,0),(1.1,2))'"]),
    ("polygon", &["'((0,0),(1.1,2),(3,3))'"]),
    ("circle", &["'<(0.1,0),1e10>'"]),
    ("oid", &["0", "4294967295::bigint", "{i}"]),
    ("xid", &["'4294967295'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("cid", &["'4294967295'"]),
    ("tid", &["'(4294967295,65535)'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"1\">x &amp; y</a>'"]),
    ("tsvector", &["'a:1 fat:2A ''it'':3'"]),
    ("tsquery", &["'fat & (rat | !cat:*)'"]),
    ("refcursor", &["'c'"]),
    ("int2vector", &["'1 2 3'"]),
    ("oidvector", &["'1 2 3'"]),
    ("pair", &["row({i}, 'a \"b\\\", c')", "row(null, null)", "row(1.10, '')"]),
    ("pair[]", &["array[row({i}, 'x')::pair, null]", "'{}'"]),
    ("inet[]", &["'{10.0.0.1,NULL}'"]),
    ("interval[]", &["'{1 day,NULL}'"]),
    ("money[]", &["'{1.10,NULL}'"]),
    ("oid[]", &["'{4294967295,NULL}'"]),
    ("integer[][]", &["'{{1,2},{3,NULL}}'", "'[2:3]={7,8}'", "'{}'"]),
    ("grid[]", &["array['{1,2}'::grid, null]"]),
];

/// Types that are carried as documents: what they are made into, and what makes them again.
const DOCUMENTS: [(&str, &str); 2] = [
    ("pair", "json_populate_record(null::pair, {b})"),
    (
        "pair[]",
        "array(select case when json_typeof(e) <> 'null' then json_populate_record(null::pair, e) end \
         from json_array_elements({b}) e)",
    ),
];

const GENERATED: usize = 400;

/// Those of [`TYPES`] that the server has: multiranges came with 14.
async fn types() -> Vec<&'static (&'static str, &'static [&'static str])> {
    let is_13 = version().await < 140_000;
    TYPES.iter().filter(|(name, _)| !(is_13 && name.ends_with("multirange"))).collect()
}

/// A table with a column for each type, named after it, and rows of its literals, nulls and generated values.
pub(crate) async fn table_of_every_type() -> Database {
    let db = database(
        "create type mood as enum ('sad', 'ok''ish');
         create domain price as numeric(10,2);
         create domain prices as price[];
         create domain shallow as varchar(3);
         create domain deep as shallow check (value <> 'zzz');
         create domain grid as int[];
         create type price_range as range (subtype = numeric);
         create type pair as (a numeric, b text);
         select setseed(0.42)",
    )
    .await;
    let types = types().await;
    let columns: Vec<String> = types.iter().map(|(name, _)| format!("{} {name}", quote_ident(name))).collect();
    db.owner.batch_execute(&format!("create table t (id int primary key, {})", columns.join(", "))).await.unwrap();
    for row in 0..GENERATED {
        let values: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(index, (name, literals))| match row {
                // Nulls in every column, and each literal at least once, then any.
                0 => "null".to_string(),
                _ if (row + index) % 17 == 0 => "null".to_string(),
                _ => format!(
                    "({})::{name}",
                    literals[(row + index / 7) % literals.len()].replace("{i}", &row.to_string())
                ),
            })
            .collect();
        let sql = format!("insert into t values ({row}, {})", values.join(", "));
        db.owner.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    db
}

/// Copies batches into a fresh staging table of the columns' own types.
async fn stage(db: &Database, columns: &[Column], batches: &[arrow::array::RecordBatch]) {
    let list: Vec<String> =
        columns.iter().map(|c| format!("{} {}", quote_ident(&c.name), c.column_type.postgres_type())).collect();
    db.owner.batch_execute(&format!("create table staged ({})", list.join(", "))).await.unwrap();
    let sink = db.owner.copy_in("copy staged from stdin (format binary)").await.unwrap();
    futures::pin_mut!(sink);
    let mut encoder = BatchEncoder::new(columns).unwrap();
    let mut out = BytesMut::new();
    encoder.header(&mut out);
    for batch in batches {
        encoder.encode(batch, &mut out).unwrap();
        sink.send(out.split().freeze()).await.unwrap();
    }
    encoder.trailer(&mut out);
    sink.send(out.split().freeze()).await.unwrap();
    sink.finish().await.unwrap();
}

#[tokio::test]
async fn every_type_comes_back_as_the_same_value() {
    let db = table_of_every_type().await;
    let mut session = db.session().await.with_limits(BatchLimits { rows: 64, ..BatchLimits::default() });
    let table = crate::support::table(&session, "t").await;
    assert_eq!(table.schema.columns.len(), types().await.len() + 1);
    session.begin(&["t".into()]).await.unwrap();
    let mut stream = session.copy_rows(&table, None).await.unwrap();
    let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    assert!(stream.finish("t").unwrap() > 50_000);
    assert!(batches.len() > GENERATED / 65, "{}", batches.len());
    stage(&db, &table.schema.columns, &batches).await;

    let count: i64 = db.owner.query_one("select count(*) from staged", &[]).await.unwrap().get(0);
    assert_eq!(count as usize, GENERATED);
    for column in &table.schema.columns {
        let name = quote_ident(&column.name);
        let kind = column.column_type.postgres_type();
        // Types without equality are compared as text; floats by their bits, because -0 equals 0.
        let same_as = match kind.trim_end_matches("[]") {
            "json" => ["a.{n}::text", "b.{n}::text"],
            "real" | "double precision" => ["a.{n}::text", "b.{n}::text"],
            // Enums, domains, names and char(n) become what they are carried as.
            _ => ["a.{n}::{k}", "b.{n}"],
        };
        let same_as = if is_document(&column.name) { ["to_json(a.{n})::text", "b.{n}::text"] } else { same_as };
        let [left, right] = same_as.map(|side| side.replace("{n}", &name).replace("{k}", &kind));
        let sql =
            format!("select count(*) from t a full join staged b using (id) where {left} is distinct from {right}");
        let different: i64 = db.owner.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(different, 0, "column {name}");
        assert_eq!(lost_on_the_way_back(&db, &column.name, &kind).await, 0, "column {name}");
        let nulls: i64 = db.owner.query_one(&format!("select count({name}) from staged"), &[]).await.unwrap().get(0);
        assert!(nulls > 100, "column {name} is hardly filled: {nulls}");
    }
}

fn is_document(column: &str) -> bool {
    DOCUMENTS.iter().any(|(name, _)| *name == column)
}

/// Rows whose text or document does not become an equal value of the type that the column is named after.
async fn lost_on_the_way_back(db: &Database, column: &str, kind: &str) -> i64 {
    let name = quote_ident(column);
    let value = match DOCUMENTS.iter().find(|(of, _)| *of == column) {
        Some((_, made)) => made.replace("{b}", &format!("b.{name}")),
        None if column == "id" || kind.trim_end_matches("[]") != "text" => return 0,
        None => format!("b.{name}::{column}"),
    };
    let sql = format!(
        "select count(*) from t a join staged b using (id) \
         where b.{name} is not null and a.{name}::text is distinct from ({value})::text"
    );
    db.owner.query_one(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
}

#[tokio::test]
async fn the_comparison_sees_one_changed_value() {
    let db = database("create table t (id int primary key, v numeric); insert into t values (1, 1.5), (2, 2.5)").await;
    let mut session = db.session().await;
    let table = crate::support::table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let batch = crate::support::rows(&session, &table, None).await;
    stage(&db, &table.schema.columns, &[batch]).await;
    let sql = "select count(*) from t a full join staged b using (id) where a.v is distinct from b.v";
    let different = async || -> i64 { db.owner.query_one(sql, &[]).await.unwrap().get(0) };
    assert_eq!(different().await, 0);
    db.owner.batch_execute("update staged set v = 2.4 where id = 2").await.unwrap();
    assert_eq!(different().await, 1);
    db.owner.batch_execute("delete from staged where id = 2").await.unwrap();
    assert_eq!(different().await, 1);
}

#[tokio::test]
async fn numerics_arrive_without_trailing_zeros() {
    let db =
        database("create table t (id int primary key, v numeric); insert into t values (1, 552548.62), (2, 10)").await;
    let mut session = db.session().await;
    let table = crate::support::table(&session, "t").await;
    assert_eq!(table.schema.columns[1].column_type, ColumnType::Numeric { precision: 38, scale: 10 });
    session.begin(&["t".into()]).await.unwrap();
    let batch = crate::support::rows(&session, &table, None).await;
    stage(&db, &table.schema.columns, &[batch]).await;
    let texts: Vec<String> =
        db.owner.query("select v::text from staged order by id", &[]).await.unwrap().iter().map(|r| r.get(0)).collect();
    assert_eq!(texts, ["552548.62", "10"]);
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_by_column_reason_and_key() {
    // Numerics are infinite since 14.
    let infinite = if version().await < 140_000 { "NaN" } else { "Infinity" };
    let db = database(&format!(
        "create table t (id int primary key, n numeric, p numeric(30,2), d date, ts timestamp, tz timestamptz, a int[], x int);
         insert into t (id, x) values (1, 1);
         insert into t (id, n) values (2, 'NaN'), (3, '{infinite}'), (4, 0.00000000001), (5, 1e30), (6, '{}');
         insert into t (id, p) values (7, 'NaN');
         insert into t (id, d) values (8, 'infinity'), (9, '-infinity');
         insert into t (id, ts) values (10, 'infinity'), (11, '294276-12-31 23:59:59.999999');
         insert into t (id, tz) values (12, '-infinity');
         insert into t (id, a) values (13, '{{{{1,2}},{{3,4}}}}'), (14, '[0:1]={{1,2}}');
         insert into t (id, x) values (15, 15)",
        infinite.replace("Inf", "-Inf")
    ))
    .await;
    let mut session = db.session().await;
    let table = crate::support::table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let mut stream = session.copy_rows(&table, None).await.unwrap();
    let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 6, "infinite dates are dates");
    assert_eq!(stream.refusals().rows(), 9);
    let found: Vec<(String, &str, u64)> =
        stream.refusals().groups().iter().map(|g| (g.column.clone(), g.reason, g.rows)).collect();
    let (not_numbers, infinites) = if infinite == "NaN" { (3, 0) } else { (1, 2) };
    let expected = [
        ("n", "it is NaN", not_numbers),
        ("n", "it is infinite", infinites),
        ("n", "it has more decimals than the column carries", 1),
        ("n", "it has more digits than the column carries", 1),
        ("p", "it is NaN", 1),
        ("ts", "it is out of the range that the column carries", 1),
        ("a", "it is an array of more than one dimension", 1),
        ("a", "it is an array that does not start at 1", 1),
    ]
    .map(|(column, reason, rows)| (column.to_string(), reason, rows));
    assert_eq!(found, expected.into_iter().filter(|(.., rows)| *rows > 0).collect::<Vec<_>>());
    assert_eq!(stream.refusals().groups()[0].examples[0].key, "id=2");
    let error = stream.finish("public.t").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let said = format!("`n` in {not_numbers} of 15 rows: it is NaN (id=2");
    assert!(error.detail().unwrap().contains(&said), "{error:?}");
}

#[tokio::test]
async fn a_setting_carries_as_text_what_no_decimal_holds() {
    let db = database(
        "create table t (id int primary key, n numeric, m money, i interval, a int[][], r int4range);
         insert into t values (1, 'NaN', 1.5, '1 day 2 s', '{{1,2}}', '[1,3)'), (2, 1e40, null, null, null, 'empty')",
    )
    .await;
    let mut session = db.session().await;
    let text = |name: &str| (name.to_string(), ColumnSetting::AsText);
    let columns = [("n".to_string(), ColumnSetting::NumericText), text("m"), text("i"), text("a"), text("r")];
    let settings = TableSettings::from([("t".to_string(), columns.into())]);
    let catalog = session.catalog(&settings, &[]).await.unwrap();
    catalog.check_types(&["t".into()]).unwrap();
    let table = catalog.table("t").unwrap().clone();
    session.begin(&["t".into()]).await.unwrap();
    let batch = crate::support::rows(&session, &table, None).await;
    let shown: Vec<String> =
        batch.columns().iter().map(|a| arrow::util::display::array_value_to_string(a, 0).unwrap()).collect();
    assert_eq!(shown, ["1", "NaN", "$1.50", "1 day 00:00:02", "{{1,2}}", "[1,3)"]);
    let big = arrow::util::display::array_value_to_string(batch.column(1), 1).unwrap();
    assert_eq!(big, format!("1{}", "0".repeat(40)));
}

#[tokio::test]
async fn rows_of_a_database_that_checks_no_encoding_are_refused_not_mangled() {
    let cluster = starlift_sandbox::shared().unwrap();
    let admin = cluster.connect("postgres").await.unwrap();
    admin.batch_execute("create database ascii encoding 'SQL_ASCII' template template0 locale 'C'").await.unwrap();
    let owner = cluster.connect("ascii").await.unwrap();
    owner
        .batch_execute("create table t (id int primary key, v text); insert into t values (1, 'plain'), (2, E'\\xff')")
        .await
        .unwrap();
    let options = starlift_postgres::ConnectOptions::from_url(&cluster.superuser_url("ascii")).unwrap();
    let mut session = session(&options).await;
    let table = crate::support::table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let mut stream = session.copy_rows(&table, None).await.unwrap();
    let batches: Vec<_> = (&mut stream).try_collect().await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
    assert_eq!(stream.refusals().groups()[0].reason, "it is not valid UTF-8");
}
