//! Random histories: whatever happened, the current views are the state, and the facts are its versions.

use std::collections::BTreeMap;

use starlift_postgres::load::{LoadOutcome, ModelTable};

use super::fixture::*;

const SQL: &str = "create table dim_shop (shop_id int primary key, name varchar(9) not null);
    create table fact_sale (record_id bigserial primary key, sale_id bigint not null, shop_id int not null \
        references dim_shop (shop_id), amount numeric(6,2));
    insert into dim_shop values (2, 'before'), (77, 'unknown');
    insert into fact_sale (sale_id, shop_id, amount) values (1, 2, 1), (1, 77, 2), (500, 77, 3)";

type State = BTreeMap<u32, Vec<String>>;

/// Numbers that depend on the seed alone (G. Marsaglia, "Xorshift RNGs", 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn shop() -> ModelTable {
    dimension("dim_shop", "shop_id int4, name text")
}

fn sale() -> ModelTable {
    refers(fact("fact_sale", "sale_id int4, shop_id int4, amount numeric(38,10)"), "shop_id", "dim_shop")
}

fn rows_of(state: &State) -> Vec<Vec<String>> {
    state.values().cloned().collect()
}

/// One manifest: some keys set, some gone; what is set may equal what was.
fn change_some(
    dice: &mut Dice,
    state: &mut State,
    model: ModelTable,
    row: impl Fn(&mut Dice, u32) -> Vec<String>,
) -> Change {
    let mut touched = BTreeMap::new();
    for _ in 0..dice.below(6) {
        let key = dice.below(12) as u32;
        touched.insert(key, dice.below(4) > 0);
    }
    let (mut rows, mut gone) = (Vec::new(), Vec::new());
    for (key, stays) in touched {
        if stays {
            let row = row(dice, key);
            rows.push(row.clone());
            state.insert(key, row);
        } else if state.remove(&key).is_some() {
            gone.push(vec![key.to_string()]);
        }
    }
    Change { model, rows, gone }
}

async fn compare(w: &Warehouse, shops: &State, sales: &State, versions: &mut BTreeMap<String, Vec<String>>, at: &str) {
    let expected: Vec<String> = shops.values().map(|row| row.join("|")).collect();
    assert_eq!(w.rows("select * from current_dim_shop order by shop_id").await, expected, "{at}");
    let expected: Vec<String> = sales.values().map(|row| row.join("|")).collect();
    let current = w.rows("select sale_id, shop_id, amount from current_fact_sale order by sale_id").await;
    assert_eq!(current, expected, "{at}");
    for row in sales.values() {
        let stored = versions.entry(row[0].clone()).or_default();
        if stored.last() != Some(&row.join("|")) {
            stored.push(row.join("|"));
        }
    }
    let stored = w.rows("select sale_id, shop_id, amount from fact_sale order by sale_id, record_id").await;
    let mut expected: Vec<(u64, &String)> = Vec::new();
    for (key, rows) in versions.iter() {
        expected.extend(rows.iter().map(|row| (key.parse().unwrap_or(0), row)));
    }
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(stored, expected.into_iter().map(|(_, row)| row.clone()).collect::<Vec<_>>(), "{at}");
}

#[tokio::test]
async fn the_views_are_the_state_and_the_facts_its_versions_after_any_history() {
    for seed in 1..=6_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut w = Warehouse::with(SQL).await;
        let (mut shops, mut sales) = (State::new(), State::new());
        let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        versions.insert("1".into(), vec!["1|2|1.00".into(), "1|77|2.00".into()]);
        versions.insert("500".into(), vec!["500|77|3.00".into()]);
        // Shops that never close, so that no sale refers to nothing.
        for key in 20..24 {
            shops.insert(key, vec![key.to_string(), "shop".into()]);
        }
        let mut before = (w.head().await, Vec::new(), Vec::new());
        for step in 0..25 {
            let at = format!("seed {seed}, step {step}");
            let mut changes = vec![
                change_some(&mut dice, &mut shops, shop(), |dice, key| {
                    vec![key.to_string(), format!("s{}", dice.below(3))]
                }),
                change_some(&mut dice, &mut sales, sale(), |dice, key| {
                    vec![
                        key.to_string(),
                        (20 + dice.below(4)).to_string(),
                        format!("{}.{}0", dice.below(2), dice.below(2)),
                    ]
                }),
            ];
            let adopts = w.seq == 0 || dice.below(8) == 0;
            if adopts {
                changes[0] = Change { model: shop(), rows: rows_of(&shops), gone: vec![] };
                changes[1] = Change { model: sale(), rows: rows_of(&sales), gone: vec![] };
            }
            let again = (changes[0].rows.clone(), changes[1].rows.clone());
            let head = w.head().await;
            let outcome =
                w.run(w.seq + 1, adopts, head.clone(), changes).await.unwrap_or_else(|e| panic!("{at}: {e:?}"));
            assert!(matches!(outcome, LoadOutcome::Loaded(_)), "{at}");
            w.seq += 1;
            compare(&w, &shops, &sales, &mut versions, &at).await;
            // A late twin of this run or of the one before must change nothing.
            let (planned_from, shop_rows, sale_rows) =
                if dice.below(2) == 0 { (head.clone(), again.0.clone(), again.1.clone()) } else { before.clone() };
            let seq = planned_from.as_ref().map_or(1, |h| h.seq + 1);
            let late = vec![
                Change { model: shop(), rows: shop_rows, gone: vec![] },
                Change { model: sale(), rows: sale_rows, gone: vec![] },
            ];
            let outcome = w.run(seq, planned_from.is_none(), planned_from, late).await.unwrap();
            assert!(matches!(outcome, LoadOutcome::AlreadyLoaded), "{at}: {outcome:?}");
            compare(&w, &shops, &sales, &mut versions, &at).await;
            before = (head, again.0, again.1);
        }
    }
}
