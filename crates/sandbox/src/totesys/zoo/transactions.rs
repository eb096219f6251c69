//! Habits that differ in the shape of their transactions. Stamps are honest: the beginning of the transaction.

use super::statements::{
    BEGUN, insert_payments, insert_purchases, insert_sales, insert_transactions, update_payments, update_purchases,
    update_sales,
};
use super::writer::{Sql, Writer};

/// Some rows of one kind, inserted or updated.
async fn something(w: &mut Writer) -> Sql<()> {
    let (count, salt) = (w.random.between(1, 6), w.random.between(0, 9_999));
    let sql = match w.random.below(5) {
        0 => {
            let first = w.ids(count);
            insert_sales(w, first, count, salt, BEGUN)
        }
        1 => {
            let first = w.ids(count);
            insert_purchases(w, first, count, salt, BEGUN)
        }
        2 => update_sales(w, count, BEGUN),
        3 => update_purchases(w, count, BEGUN),
        _ => update_payments(w, count, BEGUN),
    };
    w.write(&sql).await
}

/// One statement, committed at once.
pub(super) async fn short(w: &mut Writer) -> Sql<()> {
    let (count, salt) = (w.random.between(1, 10), w.random.between(0, 9_999));
    let first = w.ids(count);
    let sql = insert_sales(w, first, count, salt, BEGUN);
    w.at_once(&sql).await
}

/// An order, its transaction and its payment, together.
pub(super) async fn deal(w: &mut Writer) -> Sql<()> {
    let (count, salt) = (w.random.between(1, 4), w.random.between(0, 9_999));
    let first = w.ids(count);
    w.begin().await?;
    let sql = insert_sales(w, first, count, salt, BEGUN);
    w.write(&sql).await?;
    w.write(&insert_transactions(first, count, BEGUN)).await?;
    let sql = insert_payments(w, first, count, first, salt, BEGUN);
    w.write(&sql).await?;
    w.commit().await
}

/// Writes at its beginning, in its middle and at its end, up to two seconds later.
pub(super) async fn long(w: &mut Writer) -> Sql<()> {
    w.begin().await?;
    for part in 0..3 {
        if part > 0 {
            w.rest(50, 1_000).await;
        }
        something(w).await?;
    }
    w.commit().await
}

/// Has no transaction id when the reader takes its snapshot, and a stamp from before it when it writes.
pub(super) async fn idle_first(w: &mut Writer) -> Sql<()> {
    w.begin().await?;
    w.ask("select count(*)::text from currency").await?;
    w.rest(100, 1_500).await;
    something(w).await?;
    something(w).await?;
    w.commit().await
}

/// Rows under ids of subtransactions, one of them rolled back and two nested.
pub(super) async fn savepoints(w: &mut Writer) -> Sql<()> {
    w.begin().await?;
    if w.random.chance(50) {
        something(w).await?;
    }
    let before = w.mark();
    w.run("savepoint a", 0).await?;
    something(w).await?;
    if w.random.chance(60) {
        w.run("rollback to savepoint a", 0).await?;
        w.back_to(before);
    }
    w.run("savepoint b", 0).await?;
    something(w).await?;
    w.run("savepoint c", 0).await?;
    w.rest(0, 400).await;
    something(w).await?;
    w.run("release savepoint b", 0).await?;
    w.commit().await
}

/// The same out of PL/pgSQL: each block with an exception clause is a subtransaction.
pub(super) async fn exceptions(w: &mut Writer) -> Sql<()> {
    let salt = w.random.between(0, 9_999);
    let first = w.ids(4);
    let row = |w: &Writer, id: i64| insert_sales(w, id, 1, salt, BEGUN);
    let (kept, lost, instead, last) = (row(w, first), row(w, first + 1), row(w, first + 2), row(w, first + 3));
    let block = format!(
        "do $$ begin \
             begin {kept}; exception when division_by_zero then null; end; \
             begin {lost}; perform 1 / 0; exception when division_by_zero then {instead}; end; \
             {last}; \
         end $$"
    );
    w.begin().await?;
    w.run(&block, 3).await?;
    w.tally.rolled_back += 1;
    w.rest(0, 300).await;
    w.commit().await
}

/// Prepared transactions show in no list of sessions, and their rows stay unseen until somebody commits them.
pub(super) async fn prepared(w: &mut Writer) -> Sql<()> {
    let name = w.name.replace('\'', "''");
    w.begin().await?;
    something(w).await?;
    something(w).await?;
    w.run(&format!("prepare transaction '{name}'"), 0).await?;
    w.rest(50, 1_200).await;
    if w.random.chance(25) {
        let nothing = Default::default();
        w.run(&format!("rollback prepared '{name}'"), 0).await?;
        w.back_to(nothing);
        return Ok(());
    }
    w.run(&format!("commit prepared '{name}'"), 0).await?;
    w.committed();
    Ok(())
}

/// Burns transaction ids and leaves dead rows.
pub(super) async fn rolls_back(w: &mut Writer) -> Sql<()> {
    w.begin().await?;
    something(w).await?;
    w.rest(0, 200).await;
    something(w).await?;
    if w.random.chance(70) { w.roll_back().await } else { w.commit().await }
}
