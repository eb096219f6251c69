//! Lengths of time: read from a flag, shown to people.

use std::time::Duration;

/// The longest beat: a day is already longer than any pipeline wants.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads `30s`, `5m`, `1h`, `2d` or a sequence such as `1h30m`; from one second to a week.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || "give a time such as `30s`, `5m` or `1h30m`".to_string();
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = tail.chars().next().ok_or_else(wrong)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        total = number.checked_mul(seconds).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
        rest = &tail[unit.len_utf8()..];
    }
    let duration = Duration::from_secs(total);
    if duration.is_zero() || duration > LONGEST {
        return Err("give a time from `1s` to `7d`".to_string());
    }
    Ok(duration)
}

/// Milliseconds for people: `85 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn of_millis(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..59_950 => format!("{:.1} s", millis as f64 / 1000.0),
        _ => of_seconds(millis.saturating_add(500) / 1000),
    }
}

/// Seconds for people: `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. The smaller part is left out where it is 0.
pub(crate) fn of_seconds(seconds: u64) -> String {
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ways_to_write_a_time_are_read() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("7d", 604_800), (" 1s ", 1)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        for text in
            ["", "5", "m", "5 m", "-5m", "5µ", "0s", "8d", "99999999999999999999s", "18446744073709551615d", "1hm"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_short_and_have_their_unit() {
        let shown = [0, 999, 1_234, 59_949, 59_950, 200_000, 7_500_000].map(of_millis);
        assert_eq!(shown, ["0 ms", "999 ms", "1.2 s", "59.9 s", "1 min", "3 min 20 s", "2 h 5 min"]);
        assert_eq!([59, 60, 86_400, 273_600].map(of_seconds), ["59 s", "1 min", "1 d", "3 d 4 h"]);
    }
}
