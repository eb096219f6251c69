//! Master data that change under the dimensions which are joined from them: a counterparty shows its address, a member
//! of staff shows the department, and neither row of their own changes.

use super::statements::BEGUN;
use super::writer::{Sql, Writer};

/// One change of an address, a department, or of who belongs to them; or new ones.
pub(super) async fn turn(w: &mut Writer) -> Sql<()> {
    let stamp = if w.random.chance(60) { BEGUN } else { "last_updated" };
    let salt = w.random.between(0, 999_999);
    let (address, other) = (w.random.between(1, w.masters.addresses), w.random.between(1, w.masters.addresses));
    let department = w.random.between(1, w.departments);
    let (counterparty, staff) = (w.random.between(1, w.masters.counterparties), w.random.between(1, w.masters.staff));
    let design = w.random.between(1, w.masters.designs);
    let sql = match w.random.below(8) {
        0 | 1 => format!(
            "update address set city = 'Zooville {salt}', phone = '{salt:06}', district = null, last_updated = {stamp} \
             where address_id = {address}"
        ),
        2 => format!(
            "update department set department_name = 'Keepers {salt}', last_updated = {stamp} \
             where department_id = {department}"
        ),
        3 => format!(
            "update department set location = {}, last_updated = {stamp} where department_id = {department}",
            if salt % 2 == 0 { "null".to_string() } else { format!("'Cage {salt}'") }
        ),
        4 => format!(
            "update counterparty set legal_address_id = {other}, last_updated = {stamp} \
             where counterparty_id = {counterparty}"
        ),
        5 => format!("update staff set department_id = {department}, last_updated = {stamp} where staff_id = {staff}"),
        6 => format!(
            "update design set design_name = 'Stripes {salt}', last_updated = {stamp} where design_id = {design}"
        ),
        _ => return newcomers(w, salt).await,
    };
    w.at_once(&sql).await
}

/// A counterparty with an address of its own, in one transaction.
async fn newcomers(w: &mut Writer, salt: i64) -> Sql<()> {
    let id = w.ids(1);
    w.begin().await?;
    w.write(&format!(
        "insert into address values ({id}, '{salt} Cage Lane', null, null, 'Zooville', 'ZO{salt}', 'Nowhere', '{salt:06}', \
         {BEGUN}, {BEGUN})"
    ))
    .await?;
    w.rest(0, 500).await;
    w.write(&format!(
        "insert into counterparty values ({id}, 'Beasts {salt} Ltd', {id}, null, null, {BEGUN}, {BEGUN})"
    ))
    .await?;
    w.commit().await
}
