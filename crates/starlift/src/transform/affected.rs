//! Which keys of a model a change of its inputs can reach, and which rows of the inputs these keys come from. Why that is
//! enough is said with the shape of a model (`starlift_models::Shape`).
//!
//! Memory: about 30 bytes for each row that is met on the way, at most [`MOST`] of them. Where there are more of them than [`limit`] says, the model is
//! evaluated whole: measured on 88,000 and 132,000 rows, a quarter of the keys takes less than half the time of all of them, and
//! about half of the keys as much.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use starlift_core::{Error, Result};
use starlift_lake::KeyDigest;
use starlift_models::{InputSource, Link, Shape};

use super::image::Image;
use super::tuple::{Tuple, add, matched};

/// So many rows are looked for one by one in any case.
const FEW: u64 = 1_000;
/// Of more rows than these, only one of so many: beyond, reading all of them costs less than looking for each.
const ONE_OF: u64 = 4;

/// More are never looked for, because their keys are held in memory: a few sets of about 10 MB.
const MOST: u64 = 250_000;

/// The most rows of an input that are looked for by their keys, where it has so many.
fn limit(rows: u64) -> u64 {
    FEW.max(rows / ONE_OF).min(MOST)
}

/// What was asked for, or in words why the model has to be evaluated whole.
pub(super) type OrWhole<T> = std::result::Result<T, String>;

/// A model and the images of its inputs.
pub(super) struct Reach<'a> {
    shape: &'a Shape,
    /// By name; seeds and tables without a key have none.
    images: &'a BTreeMap<String, Image>,
}

impl<'a> Reach<'a> {
    pub(super) fn new(shape: &'a Shape, images: &'a BTreeMap<String, Image>) -> Reach<'a> {
        Reach { shape, images }
    }

    /// The keys of the model that a change of any input can reach.
    ///
    /// Errors: Data for a damaged file; those of the store.
    pub(super) async fn keys(&self) -> Result<OrWhole<HashSet<KeyDigest>>> {
        let mut keys = HashSet::new();
        for (number, name) in self.shape.scans.iter().enumerate() {
            let Some(image) = self.image(number).filter(|image| image.written() > 0) else { continue };
            if image.written() > limit(image.rows) {
                return Ok(Err(format!("much of {name} changed")));
            }
            match self.from(number, image).await? {
                Ok(found) => keys.extend(found),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(keys))
    }

    /// Whether so many keys are better found by reading all rows.
    ///
    /// Errors: Internal where the input that has the key is not known.
    pub(super) fn is_much(&self, keys: usize) -> Result<bool> {
        Ok(keys as u64 > limit(self.driver()?.rows))
    }

    /// The keys that are reached from the rows of one scan that changed.
    async fn from(&self, scan: usize, image: &Image) -> Result<OrWhole<HashSet<KeyDigest>>> {
        let Some(start) = self.tuples(scan, image)? else {
            return Ok(Err(format!("{} is joined by no equality of columns", self.name(scan))));
        };
        let (mut here, mut there) = start;
        let mut values = image.changed(&here).await?;
        while let Some((nearer, given)) = there {
            let next = self.image(nearer).ok_or_else(unknown_input)?;
            (here, there) = match self.tuples(nearer, next)? {
                Some(tuples) => tuples,
                None => return Err(Error::internal("the links of a model's inputs end before its driver")),
            };
            let columns = [given.positions(), here.positions()].concat();
            values = matched(next.after.scan(Some(columns)), &given, &values, &here).await?;
            if values.len() as u64 > limit(next.rows) {
                return Ok(Err(format!("much of {} is affected", self.name(nearer))));
            }
        }
        Ok(Ok(values))
    }

    /// The columns of a scan by which the next one is found, and that one with its columns; of the driver its key alone.
    #[allow(clippy::type_complexity, reason = "it is said once")]
    fn tuples(&self, scan: usize, image: &Image) -> Result<Option<(Tuple, Option<(usize, Tuple)>)>> {
        if scan == self.shape.driver {
            return Ok(Some((Tuple::key(&image.schema, &self.shape.key)?, None)));
        }
        let Some(link) = self.link(scan) else { return Ok(None) };
        let Some(nearer) = self.image(link.to) else { return Ok(None) };
        let (own, other) = Tuple::pair(&image.schema, &nearer.schema, &link.columns)?;
        Ok(Some((own, Some((link.to, other)))))
    }

    /// For each scan the rows that these keys come from; none for a scan that has to be read as it is.
    ///
    /// Errors: as [`Reach::keys`].
    pub(super) async fn sources(&self, keys: &Arc<HashSet<KeyDigest>>) -> Result<Vec<Option<InputSource>>> {
        let mut chosen: Vec<Option<Arc<HashSet<KeyDigest>>>> = vec![None; self.shape.scans.len()];
        let driver = self.driver()?;
        let tuple = Tuple::key(&driver.schema, &self.shape.key)?;
        let rows = rows_with(driver, &tuple, keys).await?;
        set(&mut chosen, self.shape.driver, Some(rows));
        for scan in &self.shape.order {
            let (Some(link), Some(image)) = (self.link(*scan), self.image(*scan)) else { continue };
            let Some(rows) = chosen.get(link.to).cloned().flatten() else { continue };
            let Some(nearer) = self.image(link.to) else { continue };
            let (own, other) = Tuple::pair(&image.schema, &nearer.schema, &link.columns)?;
            let mut values = HashSet::new();
            add(nearer.after.select(rows, Some(other.positions().to_vec())), &other, &mut values).await?;
            let rows = rows_with(image, &own, &Arc::new(values)).await?;
            set(&mut chosen, *scan, (rows.len() as u64 <= limit(image.rows)).then_some(rows));
        }
        let source = |(scan, rows): (usize, Option<Arc<HashSet<KeyDigest>>>)| {
            let (rows, state) = (rows?, self.image(scan)?.after.clone());
            let source: InputSource = Arc::new(move || state.select(Arc::clone(&rows), None));
            Some(source)
        };
        Ok(chosen.into_iter().enumerate().map(source).collect())
    }

    fn image(&self, scan: usize) -> Option<&Image> {
        self.images.get(self.shape.scans.get(scan)?)
    }

    fn driver(&self) -> Result<&Image> {
        self.image(self.shape.driver).ok_or_else(unknown_input)
    }

    fn link(&self, scan: usize) -> Option<&Link> {
        self.shape.links.get(scan)?.as_ref()
    }

    fn name(&self, scan: usize) -> &str {
        self.shape.scans.get(scan).map_or("", String::as_str)
    }
}

/// The keys of an input's own rows that hold one of these values.
async fn rows_with(image: &Image, tuple: &Tuple, values: &Arc<HashSet<KeyDigest>>) -> Result<Arc<HashSet<KeyDigest>>> {
    if tuple.is_key_of(&image.schema) {
        return Ok(Arc::clone(values));
    }
    let own = Tuple::key(&image.schema, &image.schema.key_positions())?;
    let columns = [tuple.positions(), own.positions()].concat();
    Ok(Arc::new(matched(image.after.scan(Some(columns)), tuple, values, &own).await?))
}

fn set<T>(list: &mut [Option<T>], position: usize, value: Option<T>) {
    if let Some(slot) = list.get_mut(position) {
        *slot = value;
    }
}

fn unknown_input() -> Error {
    Error::internal("an input of a model is not known")
}
