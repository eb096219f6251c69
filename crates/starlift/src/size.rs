//! Sizes in bytes, shown to people.

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A size in binary units (IEC 80000-13): `512 B`, `1.5 KiB`, `20 MiB`.
pub fn of(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64;
    let mut shown = String::new();
    for unit in UNITS {
        size /= 1024.0;
        shown = if size < 9.95 { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") };
        if size < 1023.5 {
            break;
        }
    }
    shown
}

/// A size for a column of a table, where a dash is easier to pass over than a 0.
pub fn or_dash(bytes: u64) -> String {
    if bytes == 0 { "-".to_string() } else { of(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_have_their_unit() {
        let shown = [0, 1023, 1024, 1536, 10_189, 1_048_575, 20 << 20, u64::MAX].map(of);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "1.0 MiB", "20 MiB", "16 EiB"]);
    }
}
