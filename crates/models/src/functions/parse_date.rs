//! `parse_date(text)`: exactly `YYYY-MM-DD`, a date of the calendar, years 0001 to 9999.
//!
//! The form is ISO 8601's extended calendar date; nothing else is read, because `31/12/2024`, `20240102` and
//! ` 2024-01-02 ` each have readers that disagree on them.

use arrow::array::ArrayRef;
use arrow::datatypes::Date32Type;
use chrono::{Datelike, NaiveDate};
use datafusion::common::Result;

use super::strict::{Carried, carry_text};

pub(super) const NOT_THE_FORM: &str = "not a date in the form YYYY-MM-DD";
const NO_SUCH_DATE: &str = "a date that is not in the calendar";

pub(super) fn carry(texts: &ArrayRef) -> Result<Carried> {
    carry_text::<Date32Type>(texts, |text| parse(text).map(days).map_err(Into::into))
}

/// Days since 1970-01-01, as Arrow counts them.
fn days(date: NaiveDate) -> i32 {
    Date32Type::from_naive_date(date)
}

/// Reads a date, or says why it is none.
pub(super) fn parse(text: &str) -> Result<NaiveDate, &'static str> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else { return Err(NOT_THE_FORM) };
    let year = number(&[y1, y2, y3, y4]).ok_or(NOT_THE_FORM)?;
    let month = number(&[m1, m2]).ok_or(NOT_THE_FORM)?;
    let day = number(&[d1, d2]).ok_or(NOT_THE_FORM)?;
    // PostgreSQL has no year 0 either.
    NaiveDate::from_ymd_opt(year as i32, month, day).filter(|date| date.year() > 0).ok_or(NO_SUCH_DATE)
}

/// The number that ASCII digits write; none where a byte is no digit.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_calendar_are_read() {
        for (text, day) in
            [("1970-01-01", 0), ("2024-02-29", 19_782), ("0001-01-01", -719_162), ("9999-12-31", 2_932_896)]
        {
            assert_eq!(parse(text).map(days), Ok(day), "{text}");
        }
    }

    #[test]
    fn another_form_or_a_date_that_never_was_is_refused() {
        let other_forms = [
            "",
            " ",
            "n/a",
            "31/12/2024",
            "20240102",
            " 2024-01-02 ",
            "2024-01-02 ",
            " 2024-01-02",
            "2024-1-2",
            "24-01-02",
            "2024-01-02T00:00:00",
            "2024-01-02Z",
            "2024/01/02",
            "+2024-01-02",
            "-024-01-02",
            "2024-01-0२",
            "２０２４-01-02",
            "infinity",
            "today",
            "2024-01-02\0",
            "2024-W01-1",
        ];
        for text in other_forms {
            assert_eq!(parse(text), Err(NOT_THE_FORM), "{text:?}");
        }
        for text in [
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-00-10",
            "2024-13-01",
            "2024-01-00",
            "2024-04-31",
            "0000-01-01",
        ] {
            assert_eq!(parse(text), Err(NO_SUCH_DATE), "{text:?}");
        }
    }
}
