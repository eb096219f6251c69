//! The first load of one large fact, beside drop, COPY and add by `psql` in one transaction.

use starlift_sandbox::Cluster;
use starlift_sandbox::totesys::WAREHOUSE_SQL;

use crate::Error;
use crate::measure::Several;
use crate::options::Options;
use crate::rows::Shares;
use crate::table::{Goal, Table};
use crate::totesys::{Reload, Totesys};

const FACT: &str = "fact_sales_order";

pub(crate) async fn bench(cluster: &Cluster, options: &Options) -> Result<Table, Error> {
    let totesys = Totesys::of(cluster, "load", Shares::sales(options.load_rows)).await?;
    totesys.first_run()?;
    let reload = Reload::of(&totesys, FACT).await?;
    let dimensions = Reload::of(&totesys, "dim_").await?;
    let postgres = cluster.connect("postgres").await?;
    // The tables as the project makes them, with the rows of the dimensions and nothing of ours: for both the same.
    postgres.batch_execute("create database filled").await?;
    cluster.connect("filled").await?.batch_execute(WAREHOUSE_SQL).await?;
    dimensions.run(&totesys, "filled")?;
    let (mut limit, mut whole) = (Several::default(), Several::default());
    let count = format!("select count(*) from {FACT}");
    for round in 0..=options.pairs {
        for database in ["by_psql", "by_starlift"] {
            postgres.batch_execute(&format!("drop database if exists {database} with (force)")).await?;
            postgres.batch_execute(&format!("create database {database} template filled")).await?;
        }
        postgres.batch_execute("checkpoint").await?;
        let by_psql = reload.run(&totesys, "by_psql")?;
        postgres.batch_execute("checkpoint").await?;
        let by_starlift = totesys.starlift_with(&["load"], "by_starlift")?;
        for database in ["by_psql", "by_starlift"] {
            let rows: i64 = cluster.connect(database).await?.query_one(&count, &[]).await?.get(0);
            if rows.unsigned_abs() != options.load_rows {
                return Err(format!("{database} has {rows} rows of {FACT}").into());
            }
        }
        if round > 0 {
            limit.push(by_psql);
            whole.push(by_starlift);
        }
    }
    let mut table =
        Table::new(format!("First load of {} rows into `{FACT}` with its nine foreign keys", options.load_rows));
    table.limit("limit: `psql` drops the keys, COPYs, adds them, in one transaction", &limit);
    table.line("`starlift load`", &whole, &limit, Some(Goal::Ratio(1.15)));
    table.note(
        "Both begin with the dimensions filled. The limit copies the fact into a table with its primary key. The load also compares \
         the dimensions, checks every value, builds the index on (business key, record id), and makes its schema and views.",
    );
    totesys.drop().await?;
    Ok(table)
}
