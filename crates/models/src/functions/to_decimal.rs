//! `to_decimal(x, precision, scale)`: the same number as a `numeric(precision, scale)`, or refused; never rounded.
//!
//! Text is digits with at most one sign and one point (`-12.50`), without exponent or spaces. A float counts as the
//! shortest decimal that reads back as the same float, which is also what PostgreSQL prints for it.

use std::borrow::Cow;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use starlift_core::types::MAX_PRECISION;

use super::strict::{Carried, carry_each, carry_text, unexpected};

const NOT_A_NUMBER: &str = "not a number";

/// Precision and scale, which the model has to give as plain numbers.
pub(super) fn digits(arguments: &[Option<&ScalarValue>]) -> Result<(u8, u8)> {
    let literal = |position: usize| match arguments.get(position) {
        Some(Some(ScalarValue::Int64(Some(number)))) => u8::try_from(*number).ok(),
        _ => None,
    };
    match (literal(1), literal(2)) {
        (Some(precision), Some(scale)) if (1..=MAX_PRECISION).contains(&precision) && scale <= precision => {
            Ok((precision, scale))
        }
        _ => plan_err!(
            "`to_decimal(x, precision, scale)` needs plain numbers: precision 1 to {MAX_PRECISION}, scale 0 to precision"
        ),
    }
}

pub(super) fn carry(values: &ArrayRef, precision: u8, scale: u8) -> Result<Carried> {
    let carried = match values.data_type() {
        DataType::Utf8 => carry_text::<Decimal128Type>(values, |text| from_text(text, precision, scale))?,
        DataType::Int64 => carry_each::<Decimal128Type, _>(values.as_primitive::<Int64Type>().iter(), |number| {
            rescale(i128::from(number), 0, precision, scale)
        }),
        DataType::Decimal128(_, from) => {
            let from = u32::try_from(*from).unwrap_or(0);
            carry_each::<Decimal128Type, _>(values.as_primitive::<Decimal128Type>().iter(), |number| {
                rescale(number, from, precision, scale)
            })
        }
        DataType::Float64 => carry_each::<Decimal128Type, _>(values.as_primitive::<Float64Type>().iter(), |number| {
            if number.is_finite() { from_text(&number.to_string(), precision, scale) } else { Err(NOT_A_NUMBER.into()) }
        }),
        DataType::Float32 => carry_each::<Decimal128Type, _>(values.as_primitive::<Float32Type>().iter(), |number| {
            if number.is_finite() { from_text(&number.to_string(), precision, scale) } else { Err(NOT_A_NUMBER.into()) }
        }),
        _ => return unexpected("to_decimal", values),
    };
    // The values fit by construction; the array still has to learn the type that they fit.
    let values = carried.values.as_primitive::<Decimal128Type>().clone();
    let typed = values.with_precision_and_scale(precision, scale as i8)?;
    Ok(Carried { values: std::sync::Arc::new(typed), refused: carried.refused })
}

fn from_text(text: &str, precision: u8, scale: u8) -> Result<i128, Cow<'static, str>> {
    let (unscaled, from) = parse(text).ok_or(NOT_A_NUMBER)?;
    match unscaled {
        Some(unscaled) => rescale(unscaled, from, precision, scale),
        None => Err(does_not_fit(precision, scale)),
    }
}

/// The digits of a decimal text as one number, and how many of them come after the point, without trailing zeros; no
/// number where there are more digits than 128 bits hold, none at all where the text is no decimal.
pub(super) fn parse(text: &str) -> Option<(Option<i128>, u32)> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (unsigned, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mut unscaled: Option<i128> = Some(0);
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit - b'0');
        unscaled = unscaled.and_then(|number| number.checked_mul(10)?.checked_add(digit));
    }
    Some((unscaled.map(|number| if negative { -number } else { number }), fraction.len() as u32))
}

/// The same number with another count of digits after the point, if it fits exactly.
fn rescale(unscaled: i128, from: u32, precision: u8, scale: u8) -> Result<i128, Cow<'static, str>> {
    let to = u32::from(scale);
    let rescaled = if to >= from {
        10_i128.checked_pow(to - from).and_then(|factor| unscaled.checked_mul(factor))
    } else {
        10_i128.checked_pow(from - to).filter(|divisor| unscaled % divisor == 0).map(|divisor| unscaled / divisor)
    };
    let limit = 10_u128.pow(u32::from(precision));
    rescaled.filter(|number| number.unsigned_abs() < limit).ok_or_else(|| does_not_fit(precision, scale))
}

fn does_not_fit(precision: u8, scale: u8) -> Cow<'static, str> {
    format!("does not fit numeric({precision},{scale}) without loss").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_carried_exactly_or_refused() {
        let carried = [
            ("3.45", 345),
            ("-3.45", -345),
            ("+3.4", 340),
            ("3", 300),
            ("003.4500", 345),
            ("0", 0),
            ("-0.00", 0),
            ("99999999.99", 9_999_999_999),
        ];
        for (text, unscaled) in carried {
            assert_eq!(from_text(text, 10, 2), Ok(unscaled), "{text}");
        }
        for text in ["3.456", "100000000", "0.001", "1000000000000000000000000000000000000000000"] {
            assert_eq!(from_text(text, 10, 2), Err(does_not_fit(10, 2)), "{text}");
        }
        for text in ["", " 3", "3 ", "3,45", "3.4.5", ".5", "5.", "1e3", "NaN", "Infinity", "--3", "0x10", "٣"] {
            assert_eq!(from_text(text, 10, 2), Err(NOT_A_NUMBER.into()), "{text:?}");
        }
    }

    #[test]
    fn the_widest_decimal_is_carried() {
        let widest = "9".repeat(38);
        assert_eq!(from_text(&widest, 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(from_text(&format!("-0.{widest}"), 38, 38), Ok(1 - 10_i128.pow(38)));
        assert!(from_text(&format!("{widest}0"), 38, 0).is_err());
        assert!(rescale(i128::MIN, 0, 38, 38).is_err());
    }
}
