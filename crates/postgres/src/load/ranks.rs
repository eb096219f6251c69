//! The places of keys in their order, found before the rows that have them are read.
//!
//! Record ids follow the order of the key, and rows come in any. A sort on the server needs a staged copy of all rows; a bit for
//! each key tells its place without one, and tells a key that comes twice. Keys are whole numbers or dates, most of them dense:
//! 2 million take 320 kB. Pure.

use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type};

/// Keys of one page: 2^16.
const PAGE_BITS: u32 = 16;
const WORDS: usize = 1 << (PAGE_BITS - 6);
/// Pages that are held at most, of 10 kB each.
const MOST_PAGES: usize = 1_600;

/// Keys, as they come.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pages: HashMap<i64, Box<[u64; WORDS]>>,
    rows: u64,
}

/// The places of the keys.
#[derive(Debug)]
pub(crate) struct Ranks {
    pages: HashMap<i64, Page>,
    rows: u64,
}

#[derive(Debug)]
struct Page {
    /// Keys before this page.
    before: u64,
    words: Box<[u64; WORDS]>,
    /// Keys of this page before each word.
    within: Box<[u16; WORDS]>,
}

impl Keys {
    /// Takes the keys of a column in; `false` where their places cannot be told: another type, a null, a key that came
    /// before, or too many that are far apart.
    pub(crate) fn take(&mut self, column: &dyn Array) -> bool {
        whole_numbers(column).is_some_and(|keys| keys.into_iter().all(|key| self.insert(key)))
    }

    fn insert(&mut self, key: i64) -> bool {
        let (number, word, bit) = place(key);
        if self.pages.len() >= MOST_PAGES && !self.pages.contains_key(&number) {
            return false;
        }
        let page = self.pages.entry(number).or_insert_with(|| Box::new([0; WORDS]));
        let Some(word) = page.get_mut(word) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        self.rows += 1;
        is_new
    }

    /// The places, once all keys came.
    pub(crate) fn ranks(self) -> Ranks {
        let mut pages: Vec<_> = self.pages.into_iter().collect();
        pages.sort_by_key(|(number, _)| *number);
        let mut before = 0;
        let pages = pages.into_iter().map(|(number, words)| {
            let mut within = Box::new([0; WORDS]);
            // All bits of a page but the last word's are fewer than 2^16.
            let mut count: u32 = 0;
            for (at, word) in within.iter_mut().zip(words.iter()) {
                *at = count as u16;
                count += word.count_ones();
            }
            let page = Page { before, words, within };
            before += u64::from(count);
            (number, page)
        });
        Ranks { pages: pages.collect(), rows: self.rows }
    }
}

impl Ranks {
    /// How many keys there are.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The places of the keys of a column, from 0; none where one of them did not come.
    pub(crate) fn of(&self, column: &dyn Array) -> Option<Vec<u64>> {
        whole_numbers(column)?.into_iter().map(|key| self.rank(key)).collect()
    }

    fn rank(&self, key: i64) -> Option<u64> {
        let (number, word, bit) = place(key);
        let page = self.pages.get(&number)?;
        let bits = *page.words.get(word)?;
        let within = u64::from(*page.within.get(word)?) + u64::from((bits & (bit - 1)).count_ones());
        (bits & bit != 0).then_some(page.before + within)
    }
}

fn place(key: i64) -> (i64, usize, u64) {
    let low = (key & ((1 << PAGE_BITS) - 1)) as usize;
    (key >> PAGE_BITS, low / 64, 1 << (low % 64))
}

/// A column as whole numbers in its own order; none for other types, and where one is null.
fn whole_numbers(column: &dyn Array) -> Option<Vec<i64>> {
    if column.null_count() > 0 {
        return None;
    }
    Some(match column.data_type() {
        DataType::Int16 => column.as_primitive::<Int16Type>().values().iter().map(|v| i64::from(*v)).collect(),
        DataType::Int32 => column.as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).collect(),
        DataType::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
        DataType::Date32 => column.as_primitive::<Date32Type>().values().iter().map(|v| i64::from(*v)).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_that_comes_twice_a_null_and_a_text_have_no_place() {
        assert!(!Keys::default().take(&Int32Array::from(vec![3, 1, 3])));
        assert!(!Keys::default().take(&Int32Array::from(vec![Some(3), None])));
        assert!(!Keys::default().take(&StringArray::from(vec!["3"])));
        let mut keys = Keys::default();
        assert!(keys.take(&Int32Array::from(vec![3, 1])));
        assert_eq!(keys.ranks().of(&Int32Array::from(vec![2])), None, "it did not come");
    }

    #[test]
    fn keys_far_apart_are_too_many_to_hold() {
        let apart: Vec<i64> = (0..=MOST_PAGES as i64).map(|n| n << PAGE_BITS).collect();
        assert!(!Keys::default().take(&Int64Array::from(apart)));
    }

    #[test]
    fn a_full_page_counts_to_its_end() {
        let mut keys = Keys::default();
        assert!(keys.take(&(0..70_000).collect::<Int32Array>()));
        let ranks = keys.ranks();
        assert_eq!(ranks.rows(), 70_000);
        assert_eq!(ranks.of(&Int32Array::from(vec![65_535, 65_536, 69_999])), Some(vec![65_535, 65_536, 69_999]));
    }

    proptest! {
        #[test]
        fn places_are_those_of_a_sort(keys in proptest::collection::btree_set(-200_000i64..200_000, 1..500), extreme: bool) {
            let mut sorted: Vec<i64> = keys.into_iter().collect();
            if extreme {
                sorted.insert(0, i64::MIN);
                sorted.push(i64::MAX);
            }
            let mut shuffled = sorted.clone();
            shuffled.reverse();
            let mut taken = Keys::default();
            prop_assert!(taken.take(&Int64Array::from(shuffled)));
            let expected: Vec<u64> = (0..sorted.len() as u64).collect();
            prop_assert_eq!(taken.ranks().of(&Int64Array::from(sorted)), Some(expected));
        }
    }
}
