//! Kills at random times: up to three runs at once are killed wherever they are; the next run, undisturbed, mends all.

use std::time::Duration;

use super::amount::{Amount, Random, side_by_side};
use super::shop::Shop;

/// Shops that live at the same time.
const SHOPS: usize = 2;
/// Waves of runs over the changes of one day.
const WAVES: u64 = 3;
/// No run of a day takes longer than this many milliseconds on an idle machine; most kills should meet a run that lives.
const LONGEST: u64 = 700;

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_killed_at_any_time_are_mended_by_the_next() {
    let amount = Amount::of("kills at random times", 12, 1000);
    let mut random = Random::of(&amount);
    let mut shops = Vec::new();
    for _ in 0..SHOPS {
        let mut shop = Shop::new().await;
        shop.mend("nothing").await;
        shops.push(shop);
    }
    let shops = side_by_side(&amount, shops, &mut random, |shop, random| Box::pin(day(shop, random))).await;
    for shop in &shops {
        shop.verify("the last kill").await;
    }
    amount.passed();
}

/// A day, waves of runs that are killed, and a run that is not. Returns how many were killed before they came to an end.
async fn day(shop: &mut Shop, random: &mut Random) -> u64 {
    shop.live().await;
    let mut killed = 0;
    for _ in 0..WAVES {
        let mut runs = Vec::new();
        for _ in 0..=random.below(3) {
            let mut child = shop.command(&["run"]).spawn().unwrap();
            let after = Duration::from_millis(random.below(LONGEST));
            runs.push(tokio::spawn(async move {
                tokio::time::sleep(after).await;
                // Of one that has ended, the outcome is looked at all the same.
                let _ = child.start_kill();
                child.wait_with_output().await.unwrap()
            }));
        }
        for run in runs {
            let output = run.await.unwrap();
            match output.status.code() {
                None => killed += 1,
                // Runs that overlap may find a lock taken; nothing else may go wrong.
                Some(0 | 75) => {}
                Some(code) => panic!("exit code {code}: {}", String::from_utf8_lossy(&output.stderr)),
            }
        }
    }
    shop.mend("kills").await;
    killed
}
