//! Which columns take a model's values as they are in COPY BINARY, and whether the values of a batch fit: what [`super::check`]
//! asks of staged rows on the server, asked before they are sent. Pure.
//!
//! It is asked only of pairs of types that have one binary form, and says no where it is not sure: the rows are then staged.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{max, min};
use arrow::datatypes::{Date32Type, Decimal128Type};
use starlift_core::ColumnType;

use super::pair::Pair;
use super::stage::Days;
use super::target::TargetColumn;
use super::target_type::TargetType;

/// 1900-01-01 and 2199-12-31 in days since 1970: see [`super::check::CALENDAR_BOUNDS`].
const CALENDAR_DAYS: std::ops::RangeInclusive<i32> = -25_567..=84_005;
/// Decimals of a second that starlift carries.
const MICROSECONDS: i32 = 6;
/// Digits that an Arrow decimal holds.
const MAX_DIGITS: i32 = 38;

/// What is asked of the values of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Nothing: the column holds all that the model can yield.
    Any,
    /// At most so many characters.
    Chars(usize),
    /// A multiple of `step`, and nearer to zero than `limit`, in units of the model's scale.
    Decimal { step: i128, limit: Option<i128> },
}

/// What is asked of all columns of a model.
#[derive(Debug)]
pub(crate) struct Fits {
    columns: Vec<(Fit, Asked)>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    not_null: bool,
    in_calendar: bool,
}

impl Fits {
    /// Of a model and its table; none where a column takes its values in another form. `dates` are the columns that refer to
    /// the calendar.
    pub(crate) fn of(pair: Pair<'_>, dates: &[String]) -> Option<Fits> {
        let columns = pair.columns().map(|(column, target)| {
            let asked = Asked { not_null: target.not_null, in_calendar: dates.contains(&column.name) };
            Some((fit(&column.column_type, target)?, asked))
        });
        let columns: Vec<_> = columns.collect::<Option<_>>()?;
        (columns.len() == pair.model.schema.columns.len()).then_some(Fits { columns })
    }

    /// Widens `days` to the dates of a batch that fits, in the columns that refer to the calendar.
    pub(crate) fn widen(&self, days: &mut Days, batch: &RecordBatch) {
        let schema = batch.schema();
        let columns = batch.columns().iter().zip(schema.fields()).zip(&self.columns);
        for ((array, field), _) in columns.filter(|(_, (_, asked))| asked.in_calendar) {
            let Some(dates) = array.as_primitive_opt::<Date32Type>() else { continue };
            let Some((first, last)) = min(dates).zip(max(dates)) else { continue };
            let known = days.entry(field.name().clone()).or_insert((first, last));
            *known = (known.0.min(first), known.1.max(last));
        }
    }

    /// Whether all rows of a batch, which has the model's columns in their order, fit.
    pub(crate) fn hold(&self, batch: &RecordBatch) -> bool {
        batch.num_columns() == self.columns.len()
            && batch.columns().iter().zip(&self.columns).all(|(array, (fit, asked))| {
                !(asked.not_null && array.null_count() > 0)
                    && fit.holds(array)
                    && (!asked.in_calendar || is_in_calendar(array))
            })
    }
}

fn fit(from: &ColumnType, target: &TargetColumn) -> Option<Fit> {
    let to_the_microsecond = |digits: &Option<i32>| digits.is_none_or(|digits| digits >= MICROSECONDS);
    Some(match (from, &target.holds) {
        (ColumnType::Bool, TargetType::Bool)
        | (ColumnType::Int2, TargetType::Int2)
        | (ColumnType::Int4, TargetType::Int4)
        | (ColumnType::Int8, TargetType::Int8)
        | (ColumnType::Float4, TargetType::Float4)
        | (ColumnType::Float8, TargetType::Float8)
        | (ColumnType::Bytea, TargetType::Bytea)
        | (ColumnType::Date, TargetType::Date)
        | (ColumnType::Uuid, TargetType::Uuid)
        | (ColumnType::Json, TargetType::Json)
        | (ColumnType::Jsonb, TargetType::Jsonb)
        | (ColumnType::Numeric { .. }, TargetType::Numeric(None)) => Fit::Any,
        (ColumnType::Time, TargetType::Time(digits))
        | (ColumnType::Timestamp, TargetType::Timestamp(digits))
        | (ColumnType::TimestampTz, TargetType::TimestampTz(digits))
            if to_the_microsecond(digits) =>
        {
            Fit::Any
        }
        (ColumnType::Text, TargetType::Text { max_chars, padded: false })
            if matches!(target.cast.as_str(), "text" | "character varying") =>
        {
            match max_chars {
                None => Fit::Any,
                Some(most) => Fit::Chars(usize::try_from(*most).ok()?),
            }
        }
        (ColumnType::Numeric { scale, .. }, TargetType::Numeric(Some((precision, decimals)))) => {
            let scale = i32::from(*scale);
            let power =
                |exponent: i32| (0..=MAX_DIGITS).contains(&exponent).then(|| 10i128.pow(exponent.unsigned_abs()));
            let digits = precision - decimals + scale;
            let limit = if digits > MAX_DIGITS { None } else { Some(power(digits)?) };
            Fit::Decimal { step: power((scale - decimals).max(0))?, limit }
        }
        _ => return None,
    })
}

impl Fit {
    fn holds(self, array: &dyn Array) -> bool {
        match self {
            Fit::Any => true,
            Fit::Chars(most) => array.as_string_opt::<i32>().is_some_and(|texts| {
                // No text has more characters than bytes.
                texts.iter().flatten().all(|text| text.len() <= most || text.chars().count() <= most)
            }),
            Fit::Decimal { step, limit } => array.as_primitive_opt::<Decimal128Type>().is_some_and(|values| {
                let fits = |value: i128| {
                    limit.is_none_or(|limit| -limit < value && value < limit) && (step == 1 || is_multiple(value, step))
                };
                values.iter().flatten().all(fits)
            }),
        }
    }
}

/// Most values fit 64 bits, where a division takes a tenth of the time.
fn is_multiple(value: i128, step: i128) -> bool {
    match (i64::try_from(value), i64::try_from(step)) {
        (Ok(value), Ok(step)) => value % step == 0,
        _ => value % step == 0,
    }
}

fn is_in_calendar(array: &dyn Array) -> bool {
    array
        .as_primitive_opt::<Date32Type>()
        .is_some_and(|days| days.iter().flatten().all(|day| CALENDAR_DAYS.contains(&day)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Decimal128Array, StringArray};
    use arrow::compute::cast;
    use arrow::datatypes::DataType;

    use super::*;

    fn target(holds: TargetType, cast: &str) -> TargetColumn {
        TargetColumn {
            name: "c".into(),
            declared: cast.into(),
            holds,
            cast: cast.into(),
            not_null: false,
            fills_itself: false,
            generated: false,
            counts: false,
            downwards: None,
            of_domain: false,
        }
    }

    fn decimals(scale: i8, values: &[i128]) -> ArrayRef {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(38, scale).unwrap())
    }

    #[test]
    fn a_decimal_is_asked_for_decimals_and_digits() {
        let of = |scale, limits| {
            fit(&ColumnType::Numeric { precision: 38, scale }, &target(TargetType::Numeric(Some(limits)), "numeric"))
        };
        let money = of(10, (10, 2)).unwrap();
        let unit = 10i128.pow(10);
        for (value, fits) in [
            (0, true),
            (unit / 100, true),
            (unit / 1000, false),
            (99_999_999 * unit + 99 * unit / 100, true),
            (100_000_000 * unit, false),
            (-100_000_000 * unit, false),
            (-unit / 100, true),
            (i128::MAX, false),
        ] {
            assert_eq!(money.holds(&decimals(10, &[value])), fits, "{value}");
        }
        assert_eq!(of(2, (30, 12)), Some(Fit::Decimal { step: 1, limit: Some(10i128.pow(20)) }));
        assert_eq!(of(2, (100, 2)), Some(Fit::Decimal { step: 1, limit: None }));
        assert_eq!(of(0, (3, -2)), Some(Fit::Decimal { step: 100, limit: Some(100_000) }));
        assert_eq!(of(2, (2, 9)), None, "nothing but zero would fit");
    }

    #[test]
    fn a_text_is_asked_for_its_characters() {
        let short = TargetType::Text { max_chars: Some(2), padded: false };
        let short = fit(&ColumnType::Text, &target(short, "character varying")).unwrap();
        assert!(short.holds(&StringArray::from(vec![Some("éé"), None])));
        assert!(!short.holds(&StringArray::from(vec!["abc"])));
    }

    #[test]
    fn the_calendar_has_the_bounds_of_the_servers_check() {
        let (first, last) = super::super::check::CALENDAR_BOUNDS;
        let bounds: ArrayRef = Arc::new(StringArray::from(vec![first, last]));
        let days = cast(&bounds, &DataType::Date32).unwrap();
        let days: &Date32Array = days.as_primitive();
        assert_eq!(days.value(0)..=days.value(1), CALENDAR_DAYS);
        assert!(is_in_calendar(days));
        for beyond in [CALENDAR_DAYS.start() - 1, CALENDAR_DAYS.end() + 1, i32::MAX, i32::MIN] {
            assert!(!is_in_calendar(&Date32Array::from(vec![beyond])));
        }
    }

    #[test]
    fn days_are_those_of_columns_that_refer_to_the_calendar() {
        let asked = |in_calendar| (Fit::Any, Asked { not_null: false, in_calendar });
        let fits = Fits { columns: vec![asked(true), asked(false), asked(true)] };
        let dates = |values: Vec<Option<i32>>| Arc::new(Date32Array::from(values)) as ArrayRef;
        let batch = |of: Vec<Option<i32>>| {
            let none = dates(vec![None; of.len()]);
            RecordBatch::try_from_iter([("a", dates(of)), ("b", dates(vec![Some(1), Some(2)])), ("c", none)]).unwrap()
        };
        let mut days = Days::new();
        fits.widen(&mut days, &batch(vec![Some(5), None]));
        fits.widen(&mut days, &batch(vec![Some(-7), Some(4)]));
        assert_eq!(days, Days::from([("a".to_string(), (-7, 5))]));
    }

    #[test]
    fn other_forms_are_staged() {
        let text = |max_chars, padded| TargetType::Text { max_chars, padded };
        for (from, to, cast) in [
            (ColumnType::Int4, TargetType::Int8, "bigint"),
            (ColumnType::Text, text(Some(3), true), "character"),
            (ColumnType::Text, text(None, false), "citext"),
            (ColumnType::Time, TargetType::Time(Some(0)), "time without time zone"),
            (ColumnType::Text, TargetType::Enum("mood".into()), "mood"),
            (ColumnType::Int4, TargetType::Numeric(None), "numeric"),
        ] {
            assert_eq!(fit(&from, &target(to, cast)), None, "{cast}");
        }
    }
}
