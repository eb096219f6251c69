//! Crash points: the program aborts at each named point in turn; the next run, undisturbed, mends all.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::fault::POINTS;

use super::amount::{Amount, Random};
use super::shop::Shop;

/// Limits that are lowered, so that short histories come to every point.
const LIMITS: (&str, &str) = ("STARLIFT_PLANTED", "small_checkpoint,small_first_load");
/// Shops that live at the same time.
const SHOPS: usize = 3;

/// Points that only a first load passes.
fn is_of_first_load(point: &str) -> bool {
    point.starts_with("load.foreign_keys_")
}

/// How often each point is passed in four runs of a shop, of which the first fills an empty warehouse, and the last writes a
/// checkpoint.
async fn passages(shop: &mut Shop) -> BTreeMap<String, Vec<u64>> {
    let trace = shop.path("trace");
    let mut passages: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for run in 0..4 {
        if run > 0 {
            shop.live().await;
        }
        let _ = std::fs::remove_file(&trace);
        let traced = format!("trace={}", trace.display());
        let ran = shop.run_with(&["run"], &[LIMITS, ("STARLIFT_FAULT", &traced)]).await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        for point in std::fs::read_to_string(&trace).unwrap().lines() {
            passages.entry(point.to_string()).or_insert_with(|| vec![0; 4])[run] += 1;
        }
        shop.note_versions().await;
        assert_eq!(shop.differences().await, Vec::<String>::new());
    }
    passages
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_shop_pass_every_point_and_no_other() {
    let passages = passages(&mut Shop::new().await).await;
    let passed: BTreeSet<&str> = passages.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = POINTS.iter().copied().collect();
    assert_eq!(passed, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_is_mended_by_the_next_run() {
    let mut amount = Amount::of("crashes at fault points", POINTS.len() as u64, 50 * POINTS.len() as u64);
    let mut random = Random::of(&amount);
    let mut shops = Vec::new();
    for _ in 0..SHOPS {
        shops.push(Shop::new().await);
    }
    let passages = passages(&mut shops[0]).await;
    for shop in &mut shops[1..] {
        shop.undisturbed(&["run"]).await;
        shop.note_versions().await;
    }
    let mut points: Vec<&'static str> = Vec::new();
    while amount.goes_on() {
        if points.is_empty() {
            points = POINTS.to_vec();
        }
        let mut crashes = Vec::new();
        for mut shop in shops.drain(..) {
            let point = points.pop();
            // Of the second run on; a first load has as many or more.
            let often = point.map_or(1, |point| passages[point].iter().skip(1).max().copied().unwrap_or(1).max(1));
            let passage = 1 + random.below(often);
            let with_verify = random.below(4) == 0;
            // In the long form half of the mending runs die too, at points of their own.
            let again = (amount.is_long() && random.below(2) == 0)
                .then(|| format!("{}:{}", POINTS[random.below(POINTS.len() as u64) as usize], 1 + random.below(3)));
            crashes.push(tokio::spawn(async move {
                if let Some(point) = point {
                    crash(&mut shop, point, passage, again.as_deref(), with_verify).await;
                }
                (shop, u64::from(point.is_some()))
            }));
        }
        for crash in crashes {
            let (shop, done) = crash.await.unwrap();
            amount.did(done);
            shops.push(shop);
        }
    }
    for shop in &shops {
        shop.verify("the last crash").await;
    }
}

/// Lives on and runs until the program has died at the n-th passage of a point, or at the last of fewer; then mends.
async fn crash(shop: &mut Shop, point: &str, passage: u64, again: Option<&str>, with_verify: bool) {
    let mut passage = passage;
    for attempt in 1..=8 {
        if is_of_first_load(point) {
            shop.clear_warehouse().await;
        }
        shop.live().await;
        let linger = if point == "load.commit_sent" { ":linger" } else { "" };
        let fault = format!("{point}:{passage}{linger}");
        let ran = shop.run_with(&["run"], &[LIMITS, ("STARLIFT_FAULT", &fault)]).await;
        match ran.code {
            None => break,
            Some(0) => {
                shop.note_versions().await;
                // Runs differ in what they write; a checkpoint comes with every fourth.
                passage = if attempt >= 4 { 1 } else { passage };
            }
            Some(code) => panic!("{fault}: exit code {code}: {}", ran.stderr),
        }
        assert!(attempt < 8, "{fault} was not passed");
    }
    if let Some(again) = again {
        let ran = shop.run_with(&["run"], &[LIMITS, ("STARLIFT_FAULT", again)]).await;
        assert!(matches!(ran.code, None | Some(0)), "{again} after {point}:{passage}: {}", ran.stderr);
    }
    let after = format!("a crash at {point}:{passage} and {again:?}");
    if with_verify && again.is_none() {
        shop.close().await;
    }
    shop.mend(&after).await;
    if with_verify {
        shop.verify(&after).await;
    }
}
