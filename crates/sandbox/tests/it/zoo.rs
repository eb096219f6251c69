//! The zoo writes, counts what it wrote, stops when it is told to, and leaves ToteSys sound.

use std::time::Duration;

use starlift_sandbox::shared;
use starlift_sandbox::totesys::{Habit, Zoo};

use crate::totesys::totesys;

#[tokio::test(flavor = "multi_thread")]
async fn the_zoo_stops_when_it_is_told_to_and_leaves_nothing_open() {
    let (database, client) = totesys(3, 0.02).await;
    // Twice: the second zoo goes on with ids that the first has not used.
    let mut orders = 0;
    for seed in [1, 2] {
        let zoo = Zoo::release(shared().unwrap(), &database, seed).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(zoo.versions() > 0);
        let written = tokio::time::timeout(Duration::from_secs(20), zoo.quiet()).await.unwrap().unwrap();
        let habits: Vec<Habit> = written.habits.iter().map(|h| h.habit).collect();
        assert_eq!(habits, Habit::ALL);
        assert!(written.habits.iter().all(|h| h.commits + h.rolled_back + h.refused > 0), "{written:?}");

        // The counts are those of committed rows: nothing but inserts makes orders of the zoo.
        let count = |sql: &'static str| {
            let client = &client;
            async move { client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) }
        };
        let now = count("select count(*) from sales_order where sales_order_id > 1200000000").await;
        let short = written.habits[0].versions as i64;
        assert!(now - orders >= short && short > 0, "{now} orders after {orders}, {written:?}");
        orders = now;
        let open = "select count(*) from pg_stat_activity where datname = current_database() \
                    and pid <> pg_backend_pid() and state like 'idle in transaction%'";
        assert_eq!(count(open).await, 0);
        assert_eq!(count("select count(*) from pg_prepared_xacts where database = current_database()").await, 0);
    }
    // Every agreed date is a date, whoever wrote it.
    let dates = "select count(to_date(agreed_payment_date, 'YYYY-MM-DD')) = count(*) from sales_order \
                 where agreed_payment_date ~ '^20[0-9]{2}-[0-9]{2}-[0-9]{2}$'";
    let all = "select count(*) from sales_order where agreed_payment_date !~ '^20[0-9]{2}-[0-9]{2}-[0-9]{2}$'";
    assert!(client.query_one(dates, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(client.query_one(all, &[]).await.unwrap().get::<_, i64>(0), 0);
}
