//! `to_int(x)` and `to_bigint(x)`: the same whole number in 32 or 64 bits, or refused; never rounded or wrapped.
//!
//! Text is digits with at most one sign, without spaces. A decimal has to be whole.

use std::borrow::Cow;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use datafusion::common::Result;

use super::strict::{Carried, carry_each, carry_text, unexpected};
use super::to_decimal::parse;

const NOT_WHOLE: &str = "not a whole number";

pub(super) fn carry_int(values: &ArrayRef) -> Result<Carried> {
    carry::<Int32Type>(values, "out of the range of int")
}

pub(super) fn carry_bigint(values: &ArrayRef) -> Result<Carried> {
    carry::<Int64Type>(values, "out of the range of bigint")
}

fn carry<T: ArrowPrimitiveType>(values: &ArrayRef, out_of_range: &'static str) -> Result<Carried>
where
    T::Native: TryFrom<i128>,
{
    let narrow = |number: i128| T::Native::try_from(number).map_err(|_| Cow::from(out_of_range));
    let whole = |text: &str| match whole(text)? {
        Some(number) => narrow(number),
        None => Err(Cow::from(out_of_range)),
    };
    Ok(match values.data_type() {
        DataType::Utf8 => carry_text::<T>(values, whole)?,
        DataType::Int64 => {
            carry_each::<T, _>(values.as_primitive::<Int64Type>().iter(), |number| narrow(i128::from(number)))
        }
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.checked_pow(u32::try_from(*scale).unwrap_or(0)).unwrap_or(i128::MAX);
            carry_each::<T, _>(values.as_primitive::<Decimal128Type>().iter(), |number| {
                if number % unit == 0 { narrow(number / unit) } else { Err(NOT_WHOLE.into()) }
            })
        }
        DataType::Float64 => {
            carry_each::<T, _>(values.as_primitive::<Float64Type>().iter(), |number| whole(&number.to_string()))
        }
        DataType::Float32 => {
            carry_each::<T, _>(values.as_primitive::<Float32Type>().iter(), |number| whole(&number.to_string()))
        }
        _ => return unexpected("to_int", values),
    })
}

/// The whole number that a text writes; no number where it has more digits than 128 bits hold.
fn whole(text: &str) -> Result<Option<i128>, Cow<'static, str>> {
    match parse(text) {
        Some((number, 0)) if !text.contains('.') => Ok(number),
        _ => Err(NOT_WHOLE.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Decimal128Array, Int32Array, StringArray};

    use super::*;

    #[test]
    fn whole_numbers_are_carried_and_others_refused_with_their_reason() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("42"),
            None,
            Some("-2147483648"),
            Some("2147483648"),
            Some("4.0"),
            Some(" 4"),
            Some(""),
            Some("1e2"),
        ]));
        let carried = carry_int(&texts).unwrap();
        let expected = Int32Array::from(vec![Some(42), None, Some(i32::MIN), None, None, None, None, None]);
        assert_eq!(carried.values.as_primitive::<Int32Type>(), &expected);
        let reasons: Vec<_> = carried.refused.iter().map(|(row, reason)| (*row, reason.as_ref())).collect();
        assert_eq!(
            reasons,
            [(3, "out of the range of int"), (4, NOT_WHOLE), (5, NOT_WHOLE), (6, NOT_WHOLE), (7, NOT_WHOLE)]
        );
    }

    #[test]
    fn a_decimal_is_carried_where_it_is_whole() {
        let decimals = Decimal128Array::from(vec![400, 450]).with_precision_and_scale(10, 2).unwrap();
        let carried = carry_bigint(&(Arc::new(decimals) as ArrayRef)).unwrap();
        assert_eq!(carried.values.as_primitive::<Int64Type>().value(0), 4);
        assert!(carried.values.is_null(1));
    }
}
