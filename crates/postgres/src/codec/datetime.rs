//! `date`, `time` and the timestamps: PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01, both in the proleptic
//! Gregorian calendar, so that dates before Christ are plain numbers. Infinities are the ends of the integers on both
//! sides, so that they sort as infinities; no finite date is there. What is left of a timestamp's range where Arrow's 64
//! bits end, after the year 294246, is refused.

use bytes::BytesMut;

use super::refusal::OUT_OF_RANGE;
use super::{Reject, int};

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;

pub(super) fn decode_date(bytes: &[u8]) -> Result<i32, Reject> {
    match int::decode_int4(bytes)? {
        infinite @ (i32::MIN | i32::MAX) => Ok(infinite),
        days => days.checked_add(EPOCH_DAYS).filter(|days| *days != i32::MAX).ok_or(Reject::Refused(OUT_OF_RANGE)),
    }
}

pub(super) fn encode_date(value: i32, out: &mut BytesMut) -> Result<(), Reject> {
    let days = match value {
        infinite @ (i32::MIN | i32::MAX) => Some(infinite),
        days => days.checked_sub(EPOCH_DAYS).filter(|days| *days != i32::MIN),
    };
    int::encode_int4(days.ok_or(Reject::Refused(OUT_OF_RANGE))?, out);
    Ok(())
}

/// Microseconds of the day; `24:00:00` is a time of its own in PostgreSQL, and stays one.
pub(super) fn decode_time(bytes: &[u8]) -> Result<i64, Reject> {
    let micros = int::decode_int8(bytes)?;
    if (0..=DAY_MICROS).contains(&micros) { Ok(micros) } else { Err(Reject::Malformed) }
}

pub(super) fn encode_time(value: i64, out: &mut BytesMut) -> Result<(), Reject> {
    if !(0..=DAY_MICROS).contains(&value) {
        return Err(Reject::Refused(OUT_OF_RANGE));
    }
    int::encode_int8(value, out);
    Ok(())
}

pub(super) fn decode_timestamp(bytes: &[u8]) -> Result<i64, Reject> {
    match int::decode_int8(bytes)? {
        infinite @ (i64::MIN | i64::MAX) => Ok(infinite),
        micros => micros.checked_add(EPOCH_MICROS).filter(|m| *m != i64::MAX).ok_or(Reject::Refused(OUT_OF_RANGE)),
    }
}

pub(super) fn encode_timestamp(value: i64, out: &mut BytesMut) -> Result<(), Reject> {
    let micros = match value {
        infinite @ (i64::MIN | i64::MAX) => Some(infinite),
        micros => micros.checked_sub(EPOCH_MICROS).filter(|m| *m != i64::MIN),
    };
    int::encode_int8(micros.ok_or(Reject::Refused(OUT_OF_RANGE))?, out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epochs_are_thirty_years_apart() {
        assert_eq!(decode_date(&0i32.to_be_bytes()), Ok(10_957));
        assert_eq!(decode_timestamp(&0i64.to_be_bytes()), Ok(946_684_800_000_000));
    }

    #[test]
    fn infinities_stay_infinite_and_what_no_integer_holds_is_refused() {
        for days in [i32::MIN, i32::MAX] {
            assert_eq!(decode_date(&days.to_be_bytes()), Ok(days));
            let mut bytes = BytesMut::new();
            encode_date(days, &mut bytes).unwrap();
            assert!(bytes.ends_with(&days.to_be_bytes()));
        }
        for days in [i32::MAX - 1, i32::MAX - EPOCH_DAYS] {
            assert_eq!(decode_date(&days.to_be_bytes()), Err(Reject::Refused(OUT_OF_RANGE)));
        }
        for micros in [i64::MIN, i64::MAX] {
            assert_eq!(decode_timestamp(&micros.to_be_bytes()), Ok(micros));
            let mut bytes = BytesMut::new();
            encode_timestamp(micros, &mut bytes).unwrap();
            assert!(bytes.ends_with(&micros.to_be_bytes()));
        }
        // 294276-12-31 23:59:59.999999, the last timestamp of PostgreSQL.
        assert_eq!(decode_timestamp(&9_223_371_331_199_999_999i64.to_be_bytes()), Err(Reject::Refused(OUT_OF_RANGE)));
        for value in [i32::MIN + 1, i32::MIN + EPOCH_DAYS] {
            assert_eq!(encode_date(value, &mut BytesMut::new()), Err(Reject::Refused(OUT_OF_RANGE)));
        }
        for value in [i64::MIN + 1, i64::MIN + EPOCH_MICROS] {
            assert_eq!(encode_timestamp(value, &mut BytesMut::new()), Err(Reject::Refused(OUT_OF_RANGE)));
        }
    }

    #[test]
    fn a_time_lies_within_its_day_or_ends_it() {
        assert_eq!(decode_time(&DAY_MICROS.to_be_bytes()), Ok(DAY_MICROS));
        for bad in [-1, DAY_MICROS + 1] {
            assert_eq!(decode_time(&bad.to_be_bytes()), Err(Reject::Malformed));
            assert_eq!(encode_time(bad, &mut BytesMut::new()), Err(Reject::Refused(OUT_OF_RANGE)));
        }
    }
}
