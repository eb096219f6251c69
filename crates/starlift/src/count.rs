//! Counts, shown to people.

/// A count with its thousands apart: `1,234,567`.
pub fn of(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A count for a column of a table, where a dash is easier to pass over than a 0.
pub fn or_dash(count: u64) -> String {
    if count == 0 { "-".to_string() } else { of(count) }
}

/// A count with its noun, which gets an `s` where there is not one of it.
pub fn with(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", of(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(of), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(of(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn one_row_has_no_s() {
        assert_eq!([0, 1, 2].map(|n| with(n, "row")), ["0 rows", "1 row", "2 rows"]);
    }
}
