//! `parse_time(text)`: exactly `HH:MM:SS`, with up to six decimals, from `00:00:00` to `24:00:00`.
//!
//! `24:00:00` is a `time` of PostgreSQL of its own (manual, 8.5, "Date/Time Types"), and stays one.

use arrow::array::ArrayRef;
use arrow::datatypes::Time64MicrosecondType;
use datafusion::common::Result;

use super::parse_date::number;
use super::strict::{Carried, carry_text};

pub(super) const NOT_THE_FORM: &str = "not a time in the form HH:MM:SS or HH:MM:SS.ffffff";
const NO_SUCH_TIME: &str = "a time that no day has";
const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub(super) const DAY: i64 = 24 * 3600 * SECOND;

pub(super) fn carry(texts: &ArrayRef) -> Result<Carried> {
    carry_text::<Time64MicrosecondType>(texts, |text| parse(text).map_err(Into::into))
}

/// Reads a time as microseconds of the day, or says why it is none.
pub(super) fn parse(text: &str) -> Result<i64, &'static str> {
    let bytes = text.as_bytes();
    let Some(([h1, h2, b':', m1, m2, b':', s1, s2], fraction)) = bytes.split_first_chunk::<8>() else {
        return Err(NOT_THE_FORM);
    };
    let hour = number(&[*h1, *h2]).ok_or(NOT_THE_FORM)?;
    let minute = number(&[*m1, *m2]).ok_or(NOT_THE_FORM)?;
    let second = number(&[*s1, *s2]).ok_or(NOT_THE_FORM)?;
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
            let missing = 6 - digits.len() as u32;
            number(digits).ok_or(NOT_THE_FORM)? * 10_u32.pow(missing)
        }
        _ => return Err(NOT_THE_FORM),
    };
    if minute > 59 || second > 59 {
        return Err(NO_SUCH_TIME);
    }
    let time = i64::from(hour * 3600 + minute * 60 + second) * SECOND + i64::from(micros);
    if time <= DAY { Ok(time) } else { Err(NO_SUCH_TIME) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_microseconds() {
        let times = [
            ("00:00:00", 0),
            ("00:00:00.000001", 1),
            ("09:05:07.5", 32_707_500_000),
            ("23:59:59.999999", 86_399_999_999),
            ("24:00:00", 86_400_000_000),
            ("24:00:00.000000", 86_400_000_000),
        ];
        for (text, micros) in times {
            assert_eq!(parse(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn another_form_or_a_time_that_no_day_has_is_refused() {
        for text in [
            "",
            "9:05:07",
            "09:05",
            "090507",
            "09:05:07.",
            "09:05:07.1234567",
            " 09:05:07",
            "09:05:07Z",
            "09:05:07+00",
            "noon",
            "09-05-07",
        ] {
            assert_eq!(parse(text), Err(NOT_THE_FORM), "{text:?}");
        }
        for text in ["24:00:01", "24:00:00.000001", "25:00:00", "12:60:00", "12:00:60", "99:99:99"] {
            assert_eq!(parse(text), Err(NO_SUCH_TIME), "{text:?}");
        }
    }
}
