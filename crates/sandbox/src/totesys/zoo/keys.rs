//! Habits that change what a key stands for: updates, deletes, keys that return, keys that change.

use super::statements::{BEGUN, insert_payments, insert_sales, update_payments, update_purchases, update_sales};
use super::writer::{Gone, Sql, Writer};

/// How far a changed key moves: beyond what a writer uses up, and within its range.
const FAR: i64 = 20_000_000;
/// More deleted keys than this are not remembered.
const REMEMBERED: usize = 200;

/// Rows that have been there for long get other values, some of them twice in one transaction.
pub(super) async fn updates(w: &mut Writer) -> Sql<()> {
    let count = w.random.between(1, 12);
    w.begin().await?;
    let sql = match w.random.below(3) {
        0 => update_sales(w, count, BEGUN),
        1 => update_purchases(w, count, BEGUN),
        _ => update_payments(w, count, BEGUN),
    };
    w.write(&sql).await?;
    if w.random.chance(20) {
        w.write(&sql).await?;
    }
    w.commit().await
}

/// Inserts payments, deletes some (of the history too), and brings deleted keys back, with the values that they had or
/// with others.
pub(super) async fn returns(w: &mut Writer) -> Sql<()> {
    match w.random.below(4) {
        0 => {
            let (count, salt) = (w.random.between(2, 6), w.random.between(0, 9_999));
            let first = w.ids(count);
            let stamp = w.ask("select quote_literal(localtimestamp) || '::timestamp'").await?;
            let sql = insert_payments(w, first, count, 1, salt, &stamp);
            w.at_once(&sql).await?;
            w.rest(0, 400).await;
            // Half of them go again; a reader may have seen them, or not.
            w.begin().await?;
            w.delete(&format!("delete from payment where payment_id between {first} and {}", first + count / 2))
                .await?;
            w.commit().await?;
            let gone = (first..=first + count / 2).map(|id| Gone { id, salt, stamp: stamp.clone() });
            w.gone.extend(gone);
            let forget = w.gone.len().saturating_sub(REMEMBERED);
            w.gone.drain(..forget);
            Ok(())
        }
        1 => {
            let id = w.random.between(1, w.old_payments);
            w.begin().await?;
            w.delete(&format!("delete from payment where payment_id = {id}")).await?;
            w.rest(0, 300).await;
            w.commit().await
        }
        2 => {
            // Deleted and inserted again within one transaction: the key never goes, and the row is another one.
            let (id, salt) = (w.ids(1), w.random.between(0, 9_999));
            let sql = insert_sales(w, id, 1, salt, BEGUN);
            w.at_once(&sql).await?;
            w.rest(0, 300).await;
            w.begin().await?;
            w.delete(&format!("delete from sales_order where sales_order_id = {id}")).await?;
            let sql = insert_sales(w, id, 1, salt + 1, BEGUN);
            w.write(&sql).await?;
            w.commit().await
        }
        _ => {
            let Some(position) = w.random.below(w.gone.len() as u64).try_into().ok().filter(|p| *p < w.gone.len())
            else {
                return Ok(());
            };
            let Gone { id, salt, stamp } = w.gone.swap_remove(position);
            let (salt, stamp) = if w.random.chance(50) { (salt, stamp.as_str()) } else { (salt + 7, BEGUN) };
            let sql = insert_payments(w, id, 1, 1, salt, stamp);
            w.at_once(&sql).await
        }
    }
}

/// Payments whose key changes, and perhaps changes back, with a stamp or without.
pub(super) async fn key_changes(w: &mut Writer) -> Sql<()> {
    let (count, salt) = (w.random.between(1, 4), w.random.between(0, 9_999));
    let first = w.ids(count);
    let sql = insert_payments(w, first, count, 1, salt, BEGUN);
    w.at_once(&sql).await?;
    w.rest(0, 400).await;
    let stamp = if w.random.chance(50) { BEGUN } else { "last_updated" };
    let change = |from: i64, by: i64| {
        format!(
            "update payment set payment_id = payment_id + {by}, last_updated = {stamp} \
             where payment_id between {from} and {}",
            from + count - 1
        )
    };
    w.at_once(&change(first, FAR)).await?;
    w.rest(0, 400).await;
    if w.random.chance(40) {
        w.at_once(&change(first + FAR, -FAR)).await?;
    }
    Ok(())
}
