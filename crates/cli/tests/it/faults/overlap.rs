//! Runs that overlap: one has read where things stand and sleeps, while another does all the work.

use super::planted::Buggy;

/// A stage sleeps at a point while a whole run goes by; returns what became of it.
async fn sleeper(stage: &str, point: &str) {
    let mut buggy = Buggy::new("").await;
    buggy.shop.change("update sale set amount = 701 where sale_id = 30").await;
    for earlier in ["ingest", "transform"].iter().take_while(|earlier| **earlier != stage) {
        assert_eq!(buggy.try_run(&[earlier]).await.code, Some(0));
    }
    let sleeper = buggy.start(&[stage], point).await;
    buggy.run().await;
    buggy.shop.change("update sale set amount = 702 where sale_id = 30").await;
    buggy.run().await;
    let slept = sleeper.go().await;
    assert_eq!(slept.code, Some(0), "{stage} at {point}: {}", slept.stderr);
    assert_eq!(buggy.differences().await, Vec::<String>::new(), "{stage} at {point}");
    buggy.run().await;
    assert_eq!(buggy.differences().await, Vec::<String>::new(), "{stage} at {point}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_sleeps_while_others_do_its_work_ends_well() {
    tokio::join!(
        sleeper("ingest", "ingest.connected"),
        sleeper("ingest", "ingest.snapshot"),
        sleeper("transform", "transform.star_read"),
        sleeper("transform", "transform.claimed"),
        sleeper("load", "load.star_read"),
        sleeper("load", "load.ledger_read")
    );
}
