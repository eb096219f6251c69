//! Questions that an analyst asks the warehouse of ToteSys.

use starlift_core::Result;
use tokio_postgres::Client;

use crate::failure;

/// What was sold in one month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    /// The month, `YYYY-MM`.
    pub month: String,
    /// Tote bags.
    pub units: u64,
    /// Whole pounds, of the orders in GBP; nothing is converted.
    pub pounds: u64,
}

/// Sales by month of the order's creation, oldest first, from the current rows of the warehouse.
pub async fn sales_by_month(warehouse: &Client) -> Result<Vec<Month>> {
    let failed = |e| failure::postgres("cannot ask the warehouse for its sales", e);
    let sql = "select to_char(o.created_date, 'YYYY-MM') as month, sum(o.units_sold)::bigint as units, \
               coalesce(trunc(sum(o.units_sold * o.unit_price) filter (where c.currency_code = 'GBP')), 0)::bigint \
               from current_fact_sales_order o join current_dim_currency c on c.currency_id = o.currency_id \
               group by 1 order by 1";
    let rows = warehouse.query(sql, &[]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let number = |column: usize| row.try_get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
            Ok(Month { month: row.try_get(0)?, units: number(1)?, pounds: number(2)? })
        })
        .collect::<std::result::Result<_, tokio_postgres::Error>>()
        .map_err(failed)
}

/// How many of these sales orders the current rows of the warehouse have.
pub async fn orders_present(warehouse: &Client, orders: &[i64]) -> Result<u64> {
    let failed = |e| failure::postgres("cannot ask the warehouse for its sales orders", e);
    let ids: Vec<i32> = orders.iter().filter_map(|id| i32::try_from(*id).ok()).collect();
    let sql = "select count(distinct sales_order_id) from current_fact_sales_order where sales_order_id = any($1)";
    let row = warehouse.query_one(sql, &[&ids]).await.map_err(failed)?;
    row.try_get::<_, i64>(0).map(|n| u64::try_from(n).unwrap_or(0)).map_err(failed)
}
