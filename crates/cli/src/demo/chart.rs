//! Sales by month, drawn with characters.

use starlift_sandbox::totesys::Month;

use crate::style::Style;
use starlift::count;

/// Lines of the tallest bar.
const HEIGHT: u64 = 8;
/// Months that fit on eighty columns.
const MONTHS: usize = 36;
/// A line filled from below, by eighths.
const EIGHTHS: [&str; 8] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇"];

/// A bar per month, the newest on the right.
pub(super) fn sales(style: Style, months: &[Month]) -> String {
    let months = &months[months.len().saturating_sub(MONTHS)..];
    let Some(top) = months.iter().map(|m| m.pounds).max().filter(|top| *top > 0) else { return String::new() };
    let margin = count::of(top).len().max(7);
    let (first, last) = (months.first().map_or("", |m| &m.month), months.last().map_or("", |m| &m.month));
    let mut text = format!("{}, {first} to {last}, asked of the warehouse:\n\n", style.bold("Sales in GBP by month"));
    for line in (0..HEIGHT).rev() {
        let scale = match line {
            _ if line == HEIGHT - 1 => count::of(top),
            _ if line == HEIGHT / 2 - 1 => count::of(top / 2),
            _ => String::new(),
        };
        let bars: String = months.iter().map(|m| format!("{} ", cell(style, m.pounds, top, line))).collect();
        text.push_str(&format!("  {} {}\n", style.dim(&format!("{scale:>margin$}")), style.good(bars.trim_end())));
    }
    text.push_str(&format!("  {} {}", " ".repeat(margin), style.dim(&axis(months))));
    text
}

/// What a bar shows on one line, counted from below.
fn cell(style: Style, value: u64, top: u64, line: u64) -> &'static str {
    // In eighths of a line; the tallest bar is HEIGHT * 8 of them.
    let eighths = u128::from(value) * u128::from(HEIGHT * 8) / u128::from(top.max(1));
    let here = u64::try_from(eighths).unwrap_or(u64::MAX).saturating_sub(line * 8);
    match here {
        8.. => style.sign("█", "#"),
        // In ASCII a line is there or not.
        4..8 => style.sign(EIGHTHS[here as usize], "#"),
        _ => style.sign(EIGHTHS[here as usize], " "),
    }
}

/// The year under each January.
fn axis(months: &[Month]) -> String {
    let mut axis = String::new();
    for (number, month) in months.iter().enumerate() {
        if let Some(year) = month.month.strip_suffix("-01") {
            axis.push_str(&format!("{:width$}{year}", "", width = (number * 2).saturating_sub(axis.len())));
        }
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(month: &str, pounds: u64) -> Month {
        Month { month: month.into(), units: 1, pounds }
    }

    #[test]
    fn bars_are_as_tall_as_their_months_and_years_stand_under_january() {
        let months: Vec<Month> = (0..14)
            .map(|m| month(&format!("{}-{:02}", 2022 + (8 + m) / 12, (8 + m) % 12 + 1), 100 * (m as u64 + 1)))
            .collect();
        let text = sales(Style::PLAIN, &months);
        assert!(text.starts_with("Sales in GBP by month, 2022-09 to 2023-10, "), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "    1,400                           #", "{text}");
        assert_eq!(lines[9], "          # # # # # # # # # # # # # #", "{text}");
        assert_eq!(lines[10], "                  2023", "{text}");
    }

    #[test]
    fn no_sales_are_no_chart() {
        assert_eq!(sales(Style::PLAIN, &[]), "");
        assert_eq!(sales(Style::PLAIN, &[month("2025-01", 0)]), "");
    }
}
