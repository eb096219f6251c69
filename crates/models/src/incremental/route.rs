//! Finds the driver of a plan, and the links that lead to it.

use std::collections::{BTreeSet, VecDeque};

use arrow::datatypes::DataType;

use super::trace::{Origin, Trace};
use super::{Link, Shape};

/// The shape of a plan whose key columns come from these columns and have these types.
///
/// Errors: why there is no driver, in words.
pub(super) fn route(trace: Trace, key: &[(Origin, DataType)]) -> Result<Shape, String> {
    let (driver, key) = driver(&trace, key)?;
    let mut links: Vec<Option<Link>> = trace.scans.iter().map(|_| None).collect();
    let mut order = Vec::new();
    let mut open = VecDeque::from([driver]);
    while let Some(nearer) = open.pop_front() {
        for (scan, link) in links.iter_mut().enumerate() {
            let columns = columns(&trace, scan, nearer);
            if scan == driver || link.is_some() || columns.is_empty() {
                continue;
            }
            *link = Some(Link { to: nearer, columns });
            order.push(scan);
            open.push_back(scan);
        }
    }
    let scans = trace.scans.into_iter().map(|scan| scan.name).collect();
    Ok(Shape { scans, driver, key, links, order })
}

/// The columns by which rows of a scan are found from rows of one that is nearer to the driver, and the other way round.
/// The condition of an outer join leads from the side whose row may be missing to the other, never the other way.
fn columns(trace: &Trace, scan: usize, nearer: usize) -> Vec<(usize, usize)> {
    let of = |(one, other): (Origin, Origin)| (one.0 == scan && other.0 == nearer).then_some((one.1, other.1));
    let both = |equality: &super::trace::Equality| {
        let there = of((equality.one, equality.other));
        there.or_else(|| of((equality.other, equality.one)).filter(|_| !equality.is_outer))
    };
    let mut columns: Vec<(usize, usize)> = trace.equalities.iter().filter_map(both).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// The scan that has a column for each column of the key, and these columns: one where they are what the model selects,
/// rather than one where they only equal that.
fn driver(trace: &Trace, key: &[(Origin, DataType)]) -> Result<(usize, Vec<usize>), String> {
    let mut found: Option<(usize, Vec<usize>)> = None;
    let mut selected = 0;
    for (number, scan) in trace.scans.iter().enumerate() {
        if scan.is_seed || scan.is_optional {
            continue;
        }
        let column = |(origin, data_type): &(Origin, DataType)| {
            let equal = equal_to(trace, *origin).into_iter().filter(|(scan, _)| *scan == number);
            // The column itself comes first.
            let mut candidates: Vec<usize> = equal.map(|(_, column)| column).collect();
            candidates.sort_by_key(|column| (number, *column) != *origin);
            candidates.into_iter().find(|column| scan.types.get(*column) == Some(data_type))
        };
        let Some(columns) = key.iter().map(column).collect::<Option<Vec<usize>>>() else { continue };
        let own = key.iter().zip(&columns).filter(|((origin, _), column)| *origin == (number, **column)).count();
        if found.is_none() || own > selected {
            (found, selected) = (Some((number, columns)), own);
        }
    }
    let origins: BTreeSet<usize> = key.iter().map(|((scan, _), _)| *scan).collect();
    let all = |is: fn(&super::trace::Scan) -> bool| origins.iter().any(|scan| trace.scans.get(*scan).is_some_and(is));
    found.ok_or_else(|| {
        if all(|scan| scan.is_seed) {
            "its key comes from a seed".into()
        } else if all(|scan| scan.is_optional) {
            "its key comes from the optional side of an outer join".into()
        } else if origins.len() > 1 {
            "its key comes from more than one input".into()
        } else {
            "its key has another type than its column".into()
        }
    })
}

/// A column and those that equal it in every row of the model, to the bit.
fn equal_to(trace: &Trace, origin: Origin) -> BTreeSet<Origin> {
    let type_of = |(scan, column): Origin| trace.scans.get(scan).and_then(|scan| scan.types.get(column));
    let mut found = BTreeSet::from([origin]);
    let mut open = vec![origin];
    while let Some(column) = open.pop() {
        for equality in trace.equalities.iter().filter(|equality| !equality.is_outer) {
            let next = match (equality.one == column, equality.other == column) {
                (true, _) => equality.other,
                (_, true) => equality.one,
                _ => continue,
            };
            if type_of(next) == type_of(column) && found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}
