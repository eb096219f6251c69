//! `numeric`: digits to base 10000 with a weight, a sign and a display scale (`numeric_send` in the server's
//! `numeric.c`); in Arrow an integer of at most 38 digits with the column's scale.
//!
//! Only the value is carried, as `=` sees it: 1.10 comes back as 1.1.

use bytes::{BufMut, BytesMut};

use super::refusal::{INFINITE, NOT_A_NUMBER, TOO_MANY_DECIMALS, TOO_MANY_DIGITS};
use super::{Reject, take};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const PLUS_INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Decimal digits of one digit to base 10000.
const GROUP: i32 = 4;
/// The most groups that 38 digits can touch, wherever the point is.
const MAX_GROUPS: usize = 12;

/// The powers of ten that fit.
const POWERS: [i128; 39] = {
    let mut powers = [1i128; 39];
    let mut exponent = 1;
    while exponent < 39 {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// A number as PostgreSQL writes it, without trailing zeros, for people who mend a refused row; none where the bytes are no
/// `numeric`.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let mut rest = bytes;
    let groups = usize::from(u16::from_be_bytes(take(&mut rest).ok()?));
    let weight = i32::from(i16::from_be_bytes(take(&mut rest).ok()?));
    let sign = u16::from_be_bytes(take(&mut rest).ok()?);
    let _display_scale: [u8; 2] = take(&mut rest).ok()?;
    let (digits, tail) = rest.as_chunks::<2>();
    let minus = match sign {
        0 => "",
        NEGATIVE => "-",
        NAN => return Some("NaN".into()),
        PLUS_INFINITY => return Some("Infinity".into()),
        MINUS_INFINITY => return Some("-Infinity".into()),
        _ => return None,
    };
    if digits.len() != groups || !tail.is_empty() {
        return None;
    }
    let first = weight.max(0);
    let last = (weight - groups as i32 + 1).min(0);
    let group = |place: i32| {
        let position = usize::try_from(weight - place).ok();
        position.and_then(|position| digits.get(position)).map_or(0, |digit| u16::from_be_bytes(*digit))
    };
    let whole: String = (0..=first).rev().map(|place| format!("{:04}", group(place))).collect();
    let decimals: String = (last..0).rev().map(|place| format!("{:04}", group(place))).collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    Some(format!("{minus}{whole}{point}{decimals}"))
}

/// What a column carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    scale: i32,
    /// The first number with too many digits.
    limit: i128,
}

impl Decimal {
    /// A column of at most 38 digits, `scale` of them after the point.
    pub(super) fn new(precision: u8, scale: u8) -> Decimal {
        Decimal { scale: i32::from(scale), limit: POWERS[usize::from(precision).min(38)] }
    }

    /// The value times ten to the scale, or a refusal.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<i128, Reject> {
        let mut rest = bytes;
        let groups = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let weight = i32::from(i16::from_be_bytes(take(&mut rest)?));
        let sign = u16::from_be_bytes(take(&mut rest)?);
        let _display_scale: [u8; 2] = take(&mut rest)?;
        match sign {
            0 | NEGATIVE => {}
            NAN => return Err(Reject::Refused(NOT_A_NUMBER)),
            PLUS_INFINITY | MINUS_INFINITY => return Err(Reject::Refused(INFINITE)),
            _ => return Err(Reject::Malformed),
        }
        let (digits, tail) = rest.as_chunks::<2>();
        if digits.len() != groups || !tail.is_empty() {
            return Err(Reject::Malformed);
        }
        // The place of the last group's last digit, relative to the last digit that the column carries.
        let last_place = GROUP * (weight - groups as i32 + 1) + self.scale;
        let value = if groups <= 4 && last_place >= 0 {
            self.shift(small(digits)?, last_place)?
        } else {
            self.large(digits, weight)?
        };
        if value >= self.limit {
            return Err(Reject::Refused(TOO_MANY_DIGITS));
        }
        Ok(if sign == NEGATIVE { -value } else { value })
    }

    /// Any number of groups, the last of which may reach beyond the column's scale.
    fn large(self, digits: &[[u8; 2]], weight: i32) -> Result<i128, Reject> {
        let too_long = Reject::Refused(TOO_MANY_DIGITS);
        let mut value: i128 = 0;
        let mut place = 0;
        for (index, digit) in digits.iter().enumerate() {
            let digit = group(*digit)?;
            let here = GROUP * (weight - index as i32) + self.scale;
            if here >= 0 {
                value = value.checked_mul(10_000).and_then(|v| v.checked_add(digit)).ok_or(too_long)?;
                place = here;
                continue;
            }
            // Part of this group, or all of it, lies beyond the scale, and must be zero there.
            let beyond = POWERS[here.unsigned_abs().min(4) as usize];
            if digit % beyond != 0 {
                return Err(Reject::Refused(TOO_MANY_DECIMALS));
            }
            if -here < GROUP {
                let kept = POWERS[(GROUP + here) as usize];
                value = value.checked_mul(kept).and_then(|v| v.checked_add(digit / beyond)).ok_or(too_long)?;
            }
            place = 0;
        }
        self.shift(value, place)
    }

    fn shift(self, value: i128, places: i32) -> Result<i128, Reject> {
        if value == 0 {
            return Ok(0);
        }
        let power = POWERS.get(places as usize).ok_or(Reject::Refused(TOO_MANY_DIGITS))?;
        value.checked_mul(*power).ok_or(Reject::Refused(TOO_MANY_DIGITS))
    }
}

/// Up to four groups fit 64 bits.
fn small(digits: &[[u8; 2]]) -> Result<i128, Reject> {
    let mut value: u64 = 0;
    for digit in digits {
        let digit = u16::from_be_bytes(*digit);
        if digit > 9_999 {
            return Err(Reject::Malformed);
        }
        value = value * 10_000 + u64::from(digit);
    }
    Ok(i128::from(value))
}

fn group(digit: [u8; 2]) -> Result<i128, Reject> {
    let digit = u16::from_be_bytes(digit);
    if digit > 9_999 { Err(Reject::Malformed) } else { Ok(i128::from(digit)) }
}

/// Writes a value with its scale, without trailing zeros: 552548.6200000000 becomes 552548.62.
pub(super) fn encode(value: i128, scale: u8, out: &mut BytesMut) {
    let (digits, scale) = trimmed(value.unsigned_abs(), scale);
    let mut groups = [0u16; MAX_GROUPS];
    let (count, weight) = match u64::try_from(digits) {
        Ok(digits) if scale < 20 => split_small(digits, scale, &mut groups),
        _ => split_large(digits, scale, &mut groups),
    };
    // From the first group that is not zero to the last, as the server writes it.
    let groups = groups.get(..count).unwrap_or_default();
    let leading = groups.iter().take_while(|g| **g == 0).count();
    let end = groups.len() - groups.iter().rev().take_while(|g| **g == 0).count();
    let groups = groups.get(leading..end).unwrap_or_default();
    let weight = if groups.is_empty() { 0 } else { weight - leading as i16 };

    out.put_i32(8 + 2 * groups.len() as i32);
    out.put_u16(groups.len() as u16);
    out.put_i16(weight);
    out.put_u16(if value < 0 { NEGATIVE } else { 0 });
    out.put_u16(u16::from(scale));
    for group in groups {
        out.put_u16(*group);
    }
}

/// Takes trailing zeros off the digits after the point; the same number has one form.
fn trimmed(digits: u128, scale: u8) -> (u128, u8) {
    if digits == 0 {
        return (0, 0);
    }
    let mut scale = scale;
    // Division of 128 bits is slow, and few numbers need them.
    if let Ok(mut small) = u64::try_from(digits) {
        while scale > 0 && small.is_multiple_of(10) {
            small /= 10;
            scale -= 1;
        }
        return (u128::from(small), scale);
    }
    let mut digits = digits;
    while scale > 0 && digits.is_multiple_of(10) {
        digits /= 10;
        scale -= 1;
    }
    (digits, scale)
}

/// Splits digits into groups on both sides of the point; returns how many there are and the weight of the first.
macro_rules! split {
    ($name:ident, $number:ty) => {
        fn $name(digits: $number, scale: u8, groups: &mut [u16; MAX_GROUPS]) -> (usize, i16) {
            const TEN: $number = 10;
            let scale = u32::from(scale);
            let (mut whole, mut rest) = (digits / TEN.pow(scale), digits % TEN.pow(scale));
            let mut whole_groups = [0u16; MAX_GROUPS];
            let mut count = 0;
            while whole > 0 {
                whole_groups[count] = (whole % 10_000) as u16;
                whole /= 10_000;
                count += 1;
            }
            for (to, from) in groups.iter_mut().zip(whole_groups[..count].iter().rev()) {
                *to = *from;
            }
            let weight = count as i16 - 1;
            let mut left = scale;
            while left > 0 {
                let (group, width) =
                    if left >= 4 { (rest / TEN.pow(left - 4), 4) } else { (rest * TEN.pow(4 - left), left) };
                groups[count] = group as u16;
                rest %= TEN.pow(left - width);
                left -= width;
                count += 1;
            }
            (count, weight)
        }
    };
}

split!(split_small, u64);
split!(split_large, u128);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [groups.len() as u16, weight as u16, sign, scale].iter().chain(groups) {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn golden_values_decode_to_the_columns_scale() {
        let column = Decimal::new(38, 10);
        for (weight, sign, groups, value) in [
            (1, 0, &[55, 2548, 6200][..], 5_525_486_200_000_000i128),
            (1, NEGATIVE, &[55, 2548, 6200], -5_525_486_200_000_000),
            (0, 0, &[], 0),
            (0, NEGATIVE, &[], 0),
            (-1, 0, &[1], 1_000_000),
            (-3, 0, &[100], 1),
            (6, 0, &[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900], 10i128.pow(38) - 1),
        ] {
            assert_eq!(column.decode(&bytes(weight, sign, 2, groups)), Ok(value), "{groups:?}");
        }
    }

    #[test]
    fn numbers_of_any_length_have_a_text() {
        for (weight, sign, groups, expected) in [
            (0, 0, &[1u16, 5000] as &[u16], "1.5"),
            (-1, NEGATIVE, &[120], "-0.012"),
            (2, 0, &[12], "1200000000"),
            (-3, 0, &[1], "0.000000000001"),
            (0, 0, &[], "0"),
            (0, NAN, &[], "NaN"),
            (1, NEGATIVE, &[1, 2, 3400], "-10002.34"),
        ] {
            assert_eq!(text(&bytes(weight, sign, 0, groups)).as_deref(), Some(expected));
        }
        assert_eq!(text(&[0, 1]), None);
    }

    #[test]
    fn golden_values_encode_without_trailing_zeros() {
        for (value, scale, expected) in [
            (5_525_486_200_000_000i128, 10, bytes(1, 0, 2, &[55, 2548, 6200])),
            (-1, 10, bytes(-3, NEGATIVE, 10, &[100])),
            (0, 10, bytes(0, 0, 0, &[])),
            (100_000_000, 0, bytes(2, 0, 0, &[1])),
            (10i128.pow(38) - 1, 38, bytes(-1, 0, 38, &[9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900])),
            (10i128.pow(38) - 1, 37, bytes(0, 0, 37, &[9, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9000])),
        ] {
            let mut out = BytesMut::new();
            encode(value, scale, &mut out);
            assert_eq!(out[4..], expected, "{value} {scale}");
            assert_eq!(out[..4], (expected.len() as i32).to_be_bytes());
        }
    }

    #[test]
    fn nothing_is_rounded_or_clamped() {
        let column = Decimal::new(5, 2);
        let refused = |weight, groups: &[u16]| match column.decode(&bytes(weight, 0, 0, groups)) {
            Err(Reject::Refused(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(column.decode(&bytes(0, 0, 0, &[999, 9900])), Ok(99_999));
        assert_eq!(refused(0, &[999, 9910]), TOO_MANY_DECIMALS);
        assert_eq!(refused(0, &[999, 9900, 1]), TOO_MANY_DECIMALS);
        assert_eq!(refused(0, &[1000]), TOO_MANY_DIGITS);
        assert_eq!(refused(i16::MAX, &[1]), TOO_MANY_DIGITS);
        assert_eq!(refused(20, &[1; 21]), TOO_MANY_DIGITS);
        assert_eq!(refused(i16::MIN, &[1]), TOO_MANY_DECIMALS);
        for (sign, reason) in [(NAN, NOT_A_NUMBER), (PLUS_INFINITY, INFINITE), (MINUS_INFINITY, INFINITE)] {
            assert_eq!(column.decode(&bytes(0, sign, 0, &[])), Err(Reject::Refused(reason)));
        }
    }

    #[test]
    fn what_is_no_numeric_is_malformed() {
        let column = Decimal::new(38, 10);
        let good = bytes(1, 0, 2, &[55, 2548, 6200]);
        for length in 0..good.len() {
            assert_eq!(column.decode(&good[..length]), Err(Reject::Malformed), "{length}");
        }
        assert_eq!(column.decode(&bytes(0, 1, 0, &[])), Err(Reject::Malformed));
        assert_eq!(column.decode(&bytes(0, 0, 0, &[10_000])), Err(Reject::Malformed));
        assert_eq!(column.decode(&bytes(20, 0, 0, &[10_000; 30])), Err(Reject::Malformed));
    }

    proptest! {
        #[test]
        fn whatever_fits_comes_back(value in -(10i128.pow(38) - 1)..10i128.pow(38), cut in 0u32..39, scale in 0u8..=38) {
            let value = value / 10i128.pow(cut.min(38));
            let mut out = BytesMut::new();
            encode(value, scale, &mut out);
            prop_assert_eq!(Decimal::new(38, scale).decode(&out[4..]), Ok(value));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), precision in 1u8..=38) {
            let _ = Decimal::new(precision, precision / 2).decode(&bytes);
        }
    }
}
