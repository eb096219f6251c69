//! Habits whose stamps mislead whoever orders rows by them.

use super::statements::{insert_payments, insert_sales, update_payments, update_purchases, update_sales};
use super::writer::{Sql, Writer};

/// Several commits, one after the other, that share one stamp: a reader which has seen it asks for later ones.
pub(super) async fn ties(w: &mut Writer) -> Sql<()> {
    let stamp = w.ask("select quote_literal(date_trunc('milliseconds', localtimestamp)) || '::timestamp'").await?;
    for _ in 0..w.random.between(2, 5) {
        let (count, salt) = (w.random.between(1, 5), w.random.between(0, 9_999));
        let first = w.ids(count);
        let sql = if w.random.chance(50) {
            insert_sales(w, first, count, salt, &stamp)
        } else {
            insert_payments(w, first, count, 1, salt, &stamp)
        };
        w.at_once(&sql).await?;
        w.rest(20, 250).await;
    }
    Ok(())
}

/// Stamps of another clock, cut short, from days ago, or left as they were.
pub(super) async fn lies(w: &mut Writer) -> Sql<()> {
    let stamp = match w.random.below(5) {
        0 | 1 => format!("localtimestamp + interval '{} ms'", w.random.between(-800, 800)),
        2 => "date_trunc('second', localtimestamp)".to_string(),
        3 => format!("localtimestamp - interval '{} minutes'", w.random.between(5, 5_000)),
        _ => "last_updated".to_string(),
    };
    let count = w.random.between(1, 8);
    let sql = match w.random.below(4) {
        // A new row has no stamp that could be left as it was.
        0 if stamp != "last_updated" => {
            let (first, salt) = (w.ids(count), w.random.between(0, 9_999));
            insert_sales(w, first, count, salt, &stamp)
        }
        1 => update_purchases(w, count, &stamp),
        2 => update_payments(w, count, &stamp),
        _ => update_sales(w, count, &stamp),
    };
    w.at_once(&sql).await
}
