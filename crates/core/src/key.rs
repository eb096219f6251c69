//! Object keys: where things are in a lake or a star, and the one function that makes any table name safe in a key.
//!
//! | what | key |
//! | --- | --- |
//! | data file | `<name>/<yyyy>/<mm>/<dd>/<hhmmssffffff>.parquet`, further parts `<hhmmssffffff>-0002.parquet` |
//! | tombstones, retractions | `_deleted/<name>/<yyyy>/…` |
//! | quarantine | `_quarantine/<name>/<yyyy>/…` |
//! | merged files | `_merged/<name>/<yyyy>/…` |
//! | parts of the key index | `_index/<name>/<yyyy>/…` |
//! | claim | `_claims/<yyyymmddhhmmssffffff>` |
//! | manifest | `_manifests/<u64::MAX - seq, 20 digits>.json`, so that the newest is first in a listing |
//!
//! The time in a key orders and names files for people. No state is read from keys.

use chrono::NaiveDate;

use crate::time::Micros;

/// Where manifests are.
pub const MANIFESTS: &str = "_manifests";
/// Where claims are.
pub const CLAIMS: &str = "_claims";
/// Where tombstones and retractions are.
pub const DELETED: &str = "_deleted";
/// Where refused rows are.
pub const QUARANTINE: &str = "_quarantine";
/// Where merged files are.
pub const MERGED: &str = "_merged";
/// Where parts of the key index are.
pub const INDEX: &str = "_index";

/// A table's or model's name as one segment of a key: letters, digits and `_` stay, every other byte becomes `%XX`, and
/// a name that starts with `_` gets it encoded too, so that no table can pose as a folder of ours.
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for (position, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || (byte == b'_' && position > 0);
        if plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The key of a part (1, 2, …) of the data that a run with this window end wrote for a table or model.
pub fn data(name: &str, at: Micros, part: u32) -> String {
    let stem = format!("{}/{}", segment(name), at.to_datetime().format("%Y/%m/%d/%H%M%S%6f"));
    if part <= 1 { format!("{stem}.parquet") } else { format!("{stem}-{part:04}.parquet") }
}

/// The key of a part of the tombstones or retractions that a run wrote.
pub fn deleted(name: &str, at: Micros, part: u32) -> String {
    format!("{DELETED}/{}", data(name, at, part))
}

/// The key of a part of the refused rows that a run set aside.
pub fn refused(name: &str, at: Micros, part: u32) -> String {
    format!("{QUARANTINE}/{}", data(name, at, part))
}

/// The key of a part of what a run merged: rows, tombstones and refused rows count on.
pub fn merged(name: &str, at: Micros, part: u32) -> String {
    format!("{MERGED}/{}", data(name, at, part))
}

/// The key of a part of the key index.
pub fn index(name: &str, at: Micros, part: u32) -> String {
    format!("{INDEX}/{}", data(name, at, part))
}

/// The key by whose creation a run claims its window end.
pub fn claim(at: Micros) -> String {
    format!("{CLAIMS}/{}", at.to_datetime().format("%Y%m%d%H%M%S%6f"))
}

/// The key of a manifest.
pub fn manifest(seq: u64) -> String {
    format!("{MANIFESTS}/{:020}.json", u64::MAX - seq)
}

/// The seq of a manifest's key; none for any other key.
pub fn manifest_seq(key: &str) -> Option<u64> {
    let digits = key.rsplit('/').next()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse::<u64>().ok()).flatten().map(|rest| u64::MAX - rest)
}

/// Whether a key is one that a data file of this table or model can have.
pub fn is_data_key(name: &str, key: &str) -> bool {
    let Some(rest) = key.strip_prefix(&format!("{}/", segment(name))) else { return false };
    let parts: Vec<&str> = rest.split('/').collect();
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    match parts.as_slice() {
        [year, month, day, file] => {
            let Some(stem) = file.strip_suffix(".parquet") else { return false };
            let (time, part) = stem.split_once('-').map_or((stem, None), |(time, part)| (time, Some(part)));
            digits(year, 4)
                && digits(month, 2)
                && digits(day, 2)
                && digits(time, 12)
                && part.is_none_or(|part| part.len() >= 4 && digits(part, part.len()))
        }
        _ => false,
    }
}

/// What a key of a run's own objects names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Rows of a table or model.
    Data,
    /// Tombstones or retractions.
    Deleted,
    /// Refused rows.
    Refused,
    /// Merged files.
    Merged,
    /// A part of the key index.
    Index,
    /// A claimed time.
    Claim,
}

/// What a key names, and the claimed time in it; none for keys that no claim protects (manifests, probes, and whatever
/// other tools keep beside them).
pub fn parse(key: &str) -> Option<(Kind, Micros)> {
    if let Some(claimed) = key.strip_prefix(CLAIMS).and_then(|rest| rest.strip_prefix('/')) {
        return time(claimed).map(|at| (Kind::Claim, at));
    }
    let below = |folder: &str| key.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    let folders = [(DELETED, Kind::Deleted), (QUARANTINE, Kind::Refused), (MERGED, Kind::Merged), (INDEX, Kind::Index)];
    let found = folders.into_iter().find_map(|(folder, kind)| Some((kind, below(folder)?)));
    let (kind, data) = found.unwrap_or((Kind::Data, key));
    let [segment, year, month, day, file] = data.split('/').collect::<Vec<_>>().try_into().ok()?;
    let stem = file.strip_suffix(".parquet")?;
    let (clock, part) = stem.split_once('-').map_or((stem, None), |(clock, part)| (clock, Some(part)));
    let is_part = |part: &str| part.len() >= 4 && part.bytes().all(|b| b.is_ascii_digit());
    let is_segment = !segment.is_empty()
        && !segment.starts_with('_')
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'%'));
    let is_ours = is_segment && part.is_none_or(is_part) && (year.len(), month.len(), day.len()) == (4, 2, 2);
    is_ours.then(|| time(&[year, month, day, clock].concat())).flatten().map(|at| (kind, at))
}

/// Reads `yyyymmddhhmmssffffff`.
fn time(digits: &str) -> Option<Micros> {
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits[from..to].parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)?).ok()?, number(4, 6)?, number(6, 8)?)?;
    let time = date.and_hms_micro_opt(number(8, 10)?, number(10, 12)?, number(12, 14)?, number(14, 20)?)?;
    Some(Micros(time.and_utc().timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Micros = Micros(1_732_102_500_000_000);

    #[test]
    fn keys_have_the_form_of_the_contract() {
        assert_eq!(data("address", AT, 1), "address/2024/11/20/113500000000.parquet");
        assert_eq!(data("address", AT, 2), "address/2024/11/20/113500000000-0002.parquet");
        assert_eq!(deleted("address", AT, 1), "_deleted/address/2024/11/20/113500000000.parquet");
        assert_eq!(claim(AT), "_claims/20241120113500000000");
        for part in [1, 2, 12_345] {
            assert!(is_data_key("address", &data("address", AT, part)));
        }
    }

    #[test]
    fn newer_manifests_list_first_and_give_their_seq_back() {
        assert!(manifest(2) < manifest(1));
        assert_eq!(manifest_seq(&manifest(7)), Some(7));
        assert_eq!(manifest_seq("_manifests/1.json"), None);
    }

    #[test]
    fn no_name_leaves_its_folder() {
        assert_eq!(segment("../../etc"), "%2E%2E%2F%2E%2E%2Fetc");
        assert_eq!(segment("_manifests"), "%5Fmanifests");
        assert_eq!(segment("x#1"), "x%231");
        assert_eq!(segment("sales_order"), "sales_order");
    }

    #[test]
    fn foreign_keys_are_no_data_keys() {
        for key in
            ["address/../x.parquet", "staff/2024/11/20/113500000000.parquet", "address/2024/11/20/1135.parquet", ""]
        {
            assert!(!is_data_key("address", key), "{key}");
        }
    }

    #[test]
    fn keys_of_runs_give_their_time_back_and_no_others_do() {
        for part in [1, 2, 12_345] {
            assert_eq!(parse(&data("x#1", AT, part)), Some((Kind::Data, AT)));
            assert_eq!(parse(&deleted("address", AT, part)), Some((Kind::Deleted, AT)));
            assert_eq!(parse(&refused("address", AT, part)), Some((Kind::Refused, AT)));
            assert_eq!(parse(&merged("address", AT, part)), Some((Kind::Merged, AT)));
            assert_eq!(parse(&index("address", AT, part)), Some((Kind::Index, AT)));
        }
        assert_eq!(parse(&claim(AT)), Some((Kind::Claim, AT)));
        for other in [
            &manifest(1),
            "_claims/probe-1",
            "_claims/20241320113500000000",
            "_quarantine/address/113500000000.parquet",
            "_manifests/2024/11/20/113500000000.parquet",
            "star/address/2024/11/20/113500000000.parquet",
            "address/2024/11/20/113500000000.csv",
            "address/2024/11/20/113500000000-2.parquet",
            "address/2024/02/30/113500000000.parquet",
            "address/2024/1/120/113500000000.parquet",
            "/2024/11/20/113500000000.parquet",
            "a é/2024/11/20/113500000000.parquet",
            "",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
