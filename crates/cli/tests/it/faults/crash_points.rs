//! Crash points: the program aborts at each named point in turn; the next run, undisturbed, mends all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use starlift_core::fault::POINTS;

use super::amount::{Amount, Random, side_by_side};
use super::shop::Shop;

/// Limits that are lowered, so that short histories come to every point.
const LIMITS: (&str, &str) = ("STARLIFT_PLANTED", "small_checkpoint,small_index,small_first_load,small_chunks");
/// Shops that live at the same time.
const SHOPS: usize = 3;

/// Points that only a first load passes.
fn is_of_first_load(point: &str) -> bool {
    point.starts_with("load.foreign_keys_")
}

/// Points that only a full read in chunks passes.
fn is_of_chunks(point: &str) -> bool {
    point.starts_with("ingest.chunk_")
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

/// One point of each stage, where there are any left: a run dies at the first, the next one gets further and dies at the
/// second, and so on.
fn chain(left: &mut [Vec<&'static str>; 3]) -> Vec<&'static str> {
    if left.iter().all(Vec::is_empty) {
        for point in POINTS.iter().rev() {
            let stage = if point.starts_with("load.") { 2 } else { usize::from(point.starts_with("transform.")) };
            left[stage].push(point);
        }
    }
    left.iter_mut().filter_map(Vec::pop).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_is_mended_by_the_next_run() {
    let amount = Amount::of("crashes at fault points", POINTS.len() as u64, 50 * POINTS.len() as u64);
    let mut random = Random::of(&amount);
    let mut shops = Vec::new();
    for _ in 0..SHOPS {
        shops.push(Shop::new().await);
    }
    let passages = Arc::new(passages(&mut shops[0]).await);
    for shop in &mut shops[1..] {
        shop.mend("nothing").await;
    }
    let left = Arc::new(Mutex::new([const { Vec::new() }; 3]));
    let shops = side_by_side(&amount, shops, &mut random, move |shop, random| {
        let (chain, passages) = (chain(&mut left.lock().unwrap()), Arc::clone(&passages));
        Box::pin(async move { crash(shop, &chain, &passages, random).await })
    });
    for shop in shops.await {
        shop.verify("the last crash").await;
    }
    amount.passed();
}

/// Lives a day, dies at each of these points, and mends. Returns how often it died.
async fn crash(
    shop: &mut Shop,
    chain: &[&'static str],
    passages: &BTreeMap<String, Vec<u64>>,
    random: &mut Random,
) -> u64 {
    shop.live().await;
    let mut after = String::from("crashes at");
    for point in chain {
        // Of the second run on; a first load has as many or more.
        let often = passages[*point].iter().skip(1).max().copied().unwrap_or(1).max(1);
        let fault = die(shop, point, 1 + random.below(often)).await;
        after = format!("{after} {fault}");
    }
    if random.below(2) == 0 {
        shop.close().await;
    }
    shop.mend(&after).await;
    if random.below(4) == 0 {
        shop.verify(&after).await;
    }
    chain.len() as u64
}

/// Runs until the program has died at the n-th passage of a point. A run that comes through passes it less often, or not at
/// all, because there is less to do: then another day is lived.
async fn die(shop: &mut Shop, point: &str, mut passage: u64) -> String {
    if is_of_first_load(point) {
        shop.clear_warehouse().await;
    }
    let linger = if point == "load.commit_sent" { ":linger" } else { "" };
    for attempt in 1..=9 {
        let fault = format!("{point}:{passage}{linger}");
        if is_of_chunks(point) {
            shop.redefine_sale().await;
        }
        let ran = shop.run_with(&["run"], &[LIMITS, ("STARLIFT_FAULT", &fault)]).await;
        match ran.code {
            None => return fault,
            Some(0) => {
                shop.note_versions().await;
                // Every fourth manifest is a checkpoint.
                passage = if attempt >= 4 { 1 } else { passage };
                if is_of_first_load(point) {
                    shop.clear_warehouse().await;
                }
                shop.live().await;
            }
            Some(code) => panic!("{fault}: exit code {code}: {}", ran.stderr),
        }
    }
    panic!("{point} was not passed");
}
