//! The texts of both sides are equal exactly when the values are.

use starlift_core::Column;
use starlift_postgres::extract::select_expression;
use starlift_postgres::ident::quote_ident;
use starlift_postgres::render::{arrow_text, sql_text};

use crate::support::{database, rows, table};

async fn texts(client: &tokio_postgres::Client, columns: &[Column], from: &str) -> Vec<Vec<Option<String>>> {
    let list: Vec<String> = columns.iter().map(|c| sql_text(c, &format!("element.{}", quote_ident(&c.name)))).collect();
    let carried: Vec<String> =
        columns.iter().map(|c| format!("{} as {}", select_expression(c), quote_ident(&c.name))).collect();
    // An alias that the expression itself uses inside must not get in its way.
    let sql = format!(
        "select {} from (select {} from {from}) as element order by element.id",
        list.join(", "),
        carried.join(", ")
    );
    let found = client.query(&sql, &[]).await.unwrap();
    found.iter().map(|row| (0..row.len()).map(|i| row.get(i)).collect()).collect()
}

#[tokio::test]
async fn both_sides_render_every_type_alike_whatever_the_session() {
    let db = crate::round_trip::table_of_every_type().await;
    let mut session = db.session().await;
    let table = table(&session, "t").await;
    session.begin(&["t".into()]).await.unwrap();
    let batch = rows(&session, &table, None).await;
    let settings = "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set bytea_output = 'escape'; \
                    set extra_float_digits = -3; set intervalstyle = 'sql_standard'";
    db.owner.batch_execute(settings).await.unwrap();
    // Texts of other types depend on settings, which a session on the source has of its own.
    let pinned = texts(session.client(), &table.schema.columns, "public.t").await;
    assert_eq!(pinned.len(), batch.num_rows());
    let columns = table.schema.columns.iter();
    let own: Vec<Column> = columns.filter(|c| select_expression(c) == quote_ident(&c.name)).cloned().collect();
    assert!(own.len() >= 30);
    let oracle = texts(&db.owner, &own, "public.t").await;
    let mut ids: Vec<(i32, usize)> =
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column(0))
            .values()
            .iter()
            .copied()
            .enumerate()
            .map(|(row, id)| (id, row))
            .collect();
    ids.sort_unstable();
    for (columns, oracle) in [(&own, &oracle), (&table.schema.columns, &pinned)] {
        for ((_, row), expected) in ids.iter().zip(oracle) {
            for (column, expected) in columns.iter().zip(expected) {
                let array = batch.column_by_name(&column.name).unwrap();
                assert_eq!(arrow_text(array, *row), *expected, "{} in row {row}", column.name);
            }
        }
    }
}

#[tokio::test]
async fn arrays_that_look_alike_have_texts_of_their_own() {
    let db = database(
        "create table t (id int primary key, a text[], b int[]);
         insert into t values
           (1, null, null), (2, '{}', '{}'), (3, '{NULL}', '{NULL}'), (4, '{\"\"}', '{0}'), (5, '{N}', '{1}'),
           (6, '{\"a,1:b\"}', '{1,1}'), (7, '{a,b}', '{11}'), (8, '{a,b,NULL}', '{1,NULL}'), (9, '{\"NULL\"}', '{NULL,1}')",
    )
    .await;
    let session = db.session().await;
    let table = table(&session, "t").await;
    let found = texts(session.client(), &table.schema.columns, "public.t").await;
    for column in [1, 2] {
        let mut distinct: Vec<_> = found.iter().map(|row| row[column].clone()).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 9);
    }
    assert_eq!(found[5][1].as_deref(), Some("[1:1]5:a,1:b"));
    assert_eq!(found[7][1].as_deref(), Some("[1:3]1:a,1:b,N"));
}
