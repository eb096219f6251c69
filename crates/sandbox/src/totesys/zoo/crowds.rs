//! Habits that meet others at the same rows, or move rows about under them.

use super::statements::{BEGUN, date, insert_payments};
use super::writer::{Sql, Writer};

/// MERGE came with it.
const OLDEST_WITH_MERGE: i64 = 150_000;
/// Beyond 64, PostgreSQL does not list the subtransactions of a session in its snapshots any more.
const MANY: i64 = 64;

/// Payments that are there, or were deleted by somebody, or are being changed by somebody: inserted or updated, whichever it comes to.
pub(super) async fn upserts(w: &mut Writer) -> Sql<()> {
    let (count, salt) = (w.random.between(1, 12), w.random.between(0, 9_999));
    let first = w.random.between(1, (w.old_payments - count).max(1));
    let insert = insert_payments(w, first, count, 1, salt, BEGUN);
    let version = w.ask("select current_setting('server_version_num')").await?;
    let merges = version.parse().is_ok_and(|version: i64| version >= OLDEST_WITH_MERGE);
    let sql = if merges && w.random.chance(40) {
        format!(
            "merge into payment p using (select g as id from generate_series({first}, {}) g) s on p.payment_id = s.id \
             when matched and s.id % 3 = 0 then do nothing \
             when matched then update set payment_amount = payment_amount + 0.01, paid = not paid, last_updated = {BEGUN}",
            first + count - 1
        )
    } else {
        format!(
            "{insert} on conflict (payment_id) do update set payment_amount = excluded.payment_amount, \
             paid = excluded.paid, last_updated = excluded.last_updated where payment.payment_id % 4 > 0"
        )
    };
    w.begin().await?;
    w.write(&sql).await?;
    w.rest(0, 300).await;
    w.commit().await
}

/// Holds rows that others change, so that both are in the `xmax` of one row, and changes some under many subtransactions, of
/// which a third is taken back.
pub(super) async fn holds(w: &mut Writer) -> Sql<()> {
    let subtransactions = w.random.between(2, 2 * MANY);
    let first = w.random.between(1, (w.old_sales - subtransactions).max(1));
    let held = format!("sales_order_id between {first} and {}", first + subtransactions);
    w.begin().await?;
    w.ask(&format!(
        "select count(*)::text from (select from sales_order where {held} order by sales_order_id for key share) held"
    ))
    .await?;
    w.rest(0, 300).await;
    for id in first..first + subtransactions {
        let before = w.mark();
        w.run("savepoint s", 0).await?;
        let units = w.random.between(1, 90_000);
        w.write(&format!(
            "update sales_order set units_sold = {units}, agreed_delivery_date = {}, last_updated = {BEGUN} \
             where sales_order_id = {id}",
            date(units)
        ))
        .await?;
        if w.random.chance(33) {
            w.run("rollback to savepoint s", 0).await?;
            w.back_to(before);
        }
    }
    w.rest(0, 300).await;
    w.commit().await
}

/// Changes some rows and then does what an administrator does at night: other pages for all rows, other marks on them, and nothing
/// that a reader may notice.
pub(super) async fn tidies(w: &mut Writer) -> Sql<()> {
    let id = w.random.between(1, w.old_sales);
    w.at_once(&format!(
        "update sales_order set units_sold = units_sold + 1, last_updated = {BEGUN} where sales_order_id = {id}"
    ))
    .await?;
    // Who waits for such a lock holds up everybody behind it.
    w.run("set lock_timeout = '300ms'", 0).await?;
    let sql = match w.random.below(5) {
        0 => "vacuum (freeze) payment",
        1 => "vacuum (freeze) sales_order",
        2 => "vacuum full purchase_order",
        3 => "vacuum full sales_order",
        _ => "cluster payment using payment_pkey",
    };
    w.run(sql, 0).await?;
    w.rest(1_000, 3_000).await;
    Ok(())
}
