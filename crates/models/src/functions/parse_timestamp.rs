//! `parse_timestamp(text)`: a date as `parse_date` reads it, a space or `T`, and a time before `24:00:00` as
//! `parse_time` reads it; without zone.

use arrow::array::ArrayRef;
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use datafusion::common::Result;

use super::strict::{Carried, carry_text};
use super::{parse_date, parse_time};

const NOT_THE_FORM: &str = "not a timestamp in the form YYYY-MM-DD HH:MM:SS or YYYY-MM-DD HH:MM:SS.ffffff";
const NO_SUCH_TIME: &str = "a timestamp that is not in the calendar";

pub(super) fn carry(texts: &ArrayRef) -> Result<Carried> {
    carry_text::<TimestampMicrosecondType>(texts, |text| parse(text).map_err(Into::into))
}

/// Reads a timestamp as microseconds since 1970, or says why it is none.
fn parse(text: &str) -> Result<i64, &'static str> {
    let (date, time) = text.split_once([' ', 'T']).ok_or(NOT_THE_FORM)?;
    let form = |reason| [parse_date::NOT_THE_FORM, parse_time::NOT_THE_FORM].contains(&reason);
    let whole = |reason| if form(reason) { NOT_THE_FORM } else { NO_SUCH_TIME };
    let date = parse_date::parse(date).map_err(whole)?;
    let time = parse_time::parse(time).map_err(whole)?;
    // 24:00 belongs to the next day, which would give one moment two spellings.
    if time == parse_time::DAY {
        return Err(NO_SUCH_TIME);
    }
    Ok(i64::from(Date32Type::from_naive_date(date)) * parse_time::DAY + time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_keep_their_microseconds() {
        let timestamps = [
            ("1970-01-01 00:00:00", 0),
            ("1970-01-01T00:00:00.000001", 1),
            ("1969-12-31 23:59:59.999999", -1),
            ("2024-11-20 11:35:00.5", 1_732_102_500_500_000),
        ];
        for (text, micros) in timestamps {
            assert_eq!(parse(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn another_form_or_a_moment_that_never_was_is_refused() {
        for text in [
            "",
            "2024-01-02",
            "2024-01-02  09:05:07",
            "20240102 090507",
            "2024-01-02 09:05",
            " 2024-01-02 09:05:07",
            "2024-01-02 09:05:07Z",
        ] {
            assert_eq!(parse(text), Err(NOT_THE_FORM), "{text:?}");
        }
        for text in ["2024-02-30 09:05:07", "2024-01-02 24:00:00", "2024-01-02 09:61:07"] {
            assert_eq!(parse(text), Err(NO_SUCH_TIME), "{text:?}");
        }
    }
}
