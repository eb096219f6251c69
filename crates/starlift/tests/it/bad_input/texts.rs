//! Rows 7 to 12: texts, large values and arrays.

use starlift_core::{Column, ColumnType, ErrorKind};
use starlift_postgres::RowDecoder;
use starlift_sandbox::shared;

use super::transform_fails;
use crate::capture::lab::Lab;
use crate::world::{World, of};

const NO_DATES: [&str; 6] = ["", "2024-02-30", "31/12/2024", " 2024-01-02 ", "n/a", "20240102"];

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_07_a_text_that_is_no_iso_date_is_refused_by_key_and_never_guessed() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.run().await;
    let before = world.count_in_warehouse("select count(*) from fact_sales_order").await;
    for (position, text) in NO_DATES.iter().enumerate() {
        let key = position + 1;
        world
            .change(&format!("update sales_order set agreed_delivery_date = '{text}' where sales_order_id = {key}"))
            .await;
        world.ingest().await;
        let key = format!("sales_order_id={key}");
        transform_fails(&world, ErrorKind::Data, &["fact_sales_order", "agreed_delivery_date", &key]).await;
        world.change("update sales_order set agreed_delivery_date = '2024-02-29' where sales_order_id < 7").await;
    }
    assert_eq!(world.count_in_warehouse("select count(*) from fact_sales_order").await, before);
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_08_every_text_that_postgresql_holds_arrives_byte_for_byte() {
    let texts = [
        r"E'\x01\x02\x1f\x7f'",
        "E'tab\\tline\\nreturn\\rquote\\'\\\\'",
        "'😀 👩‍👩‍👧 \u{202e}עברית\u{202c} e\u{301}'",
        "E'\\u200d\\ufeff\\uffff'",
        "'\u{10ffff}'",
        "''",
        "' '",
    ];
    let lab = Lab::new("create table word (id int primary key, t text, c char(4), j json, b jsonb)").await;
    let zero = lab.owner.batch_execute(r"insert into word values (0, E'a\x00')").await.unwrap_err();
    assert_eq!(zero.code().unwrap().code(), "22021", "PostgreSQL itself takes no zero byte");
    for (id, text) in texts.iter().enumerate() {
        lab.run(&format!(
            "insert into word values ({id}, {text}, 'a', '{{\"a\":  \"\\u0000\"}}', to_jsonb({text}::text))"
        ))
        .await;
    }
    lab.catch_up().await;

    let world = World::new().await;
    world.create_warehouse().await;
    for (id, text) in texts.iter().enumerate() {
        world.change(&format!("update design set design_name = {text} where design_id = {}", id + 1)).await;
    }
    world.run().await;
    world.assert_star_equals_source().await;
    let emoji = "select count(*) from dim_design where design_name like '%👩‍👩‍👧%'";
    assert_eq!(world.count_in_warehouse(emoji).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_09_bytes_that_are_no_text_are_refused_and_latin_1_is_translated() {
    let cluster = shared().unwrap();
    let admin = cluster.connect("postgres").await.unwrap();
    for (name, encoding) in [("bad_input_ascii", "SQL_ASCII"), ("bad_input_latin", "LATIN1")] {
        let create = format!("create database {name} encoding '{encoding}' template template0 locale 'C'");
        admin.batch_execute(&create).await.unwrap();
    }
    let table = "create table t (id int primary key, v text); insert into t values (1, 'plain'), (2, ";
    let lab = Lab::in_database(cluster, "bad_input_ascii".into(), &format!("{table} E'caf\\xe9')")).await;
    lab.ingest_fails(ErrorKind::Data, &["`t`", "`v`", "UTF-8", "id=2"]).await;
    lab.run("update t set v = E'caf\\xc3\\xa9' where id = 2").await;
    lab.catch_up().await;

    let lab = Lab::in_database(cluster, "bad_input_latin".into(), &format!("{table} chr(233))")).await;
    assert_eq!(lab.number("select octet_length(v)::int8 from t where id = 2").await, 1, "one byte in LATIN1");
    assert_eq!(of(&lab.catch_up().await, "t").rows_written, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_10_a_value_of_more_than_64_mib_is_refused_by_key() {
    let lab = Lab::new("create table page (id int primary key, v text); insert into page values (1, 'short')").await;
    lab.catch_up().await;
    lab.run("insert into page values (2, repeat('x', 64 * 1024 * 1024 + 1))").await;
    let error = lab.ingest_fails(ErrorKind::Data, &["`page`", "`v`", "larger than the limit", "id=2"]).await;
    assert!(error.render().len() < 1_000, "the value is not in the message");
    lab.run("update page set v = repeat('x', 1024 * 1024) where id = 2").await;
    lab.catch_up().await;
}

/// A server that claims such lengths cannot be had: PostgreSQL ends at 1 GiB. So they are claimed in a stream.
#[tokio::test]
async fn bad_input_11_lengths_near_two_to_the_31_are_not_believed() {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        nullable: true,
        declared: None,
        labels: vec![],
    };
    let columns = [column("t", ColumnType::Text), column("a", ColumnType::Array(Box::new(ColumnType::Int4)))];
    let stream = |lengths: &[i32], rest: &[u8]| {
        let mut stream = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02".to_vec();
        stream.extend(lengths.iter().flat_map(|length| length.to_be_bytes()));
        stream.extend_from_slice(rest);
        stream
    };
    let outcome = |bytes: &[u8]| {
        let mut decoder = RowDecoder::new(&columns, &[]).unwrap();
        decoder.push(bytes).and_then(|()| decoder.finish()).unwrap_err()
    };
    // Nothing is set aside for what is only claimed: the stream ends before it.
    for claimed in [i32::MAX, i32::MAX - 1, 1 << 30] {
        assert!(outcome(&stream(&[claimed], b"x")).detail().unwrap().contains("ended before its trailer"));
    }
    for claimed in [-2, i32::MIN] {
        assert_eq!(outcome(&stream(&[claimed], b"x")).kind(), ErrorKind::Data);
    }
    // An array of 2^31 elements in 20 bytes, and one of 2^31 dimensions.
    let array: Vec<u8> = [1, 0, 23, i32::MAX, 1].iter().flat_map(|word| word.to_be_bytes()).collect();
    let whole = |value: &[u8]| stream(&[-1, 20], &[value, b"\xff\xff"].concat());
    assert_eq!(outcome(&whole(&array)).kind(), ErrorKind::Data);
    let cube = [&i32::MAX.to_be_bytes()[..], &array[4..]].concat();
    let mut decoder = RowDecoder::new(&columns, &[]).unwrap();
    decoder.push(&whole(&cube)).unwrap();
    assert_eq!((decoder.rows_buffered(), decoder.refusals().rows()), (0, 1), "refused for its dimensions");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_12_an_array_keeps_its_dimensions_or_is_refused() {
    let lab = Lab::new(
        "create table list (id int primary key, a int[], grid int[][]);
         insert into list values (1, '{1,null,3}', '{{1,2},{3,null}}'), (2, '{}', null), (3, '{null}', '{}')",
    )
    .await;
    lab.refuses_arrays(&[("'{{1,2},{3,4}}'", "more than one dimension"), ("'[0:1]={1,2}'", "does not start at 1")])
        .await;
    lab.run("update list set a = '[0:1]={1,2}' where id = 2; update list set a = '{{1},{2}}' where id = 1").await;
    lab.configure("[source.tables.list]\ncolumns.a = { as = \"text\" }");
    lab.catch_up().await;
}

impl Lab {
    async fn refuses_arrays(&self, values: &[(&str, &str)]) {
        self.catch_up().await;
        for (value, reason) in values {
            self.run(&format!("update list set a = {value} where id = 2")).await;
            self.ingest_fails(ErrorKind::Data, &["`list`", "`a`", reason, "id=2"]).await;
            self.run("update list set a = '{7}' where id = 2").await;
            self.catch_up().await;
        }
    }
}
