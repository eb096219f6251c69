//! Whether a model's column fits the warehouse's column: which pairs of types go together, and the SQL condition that
//! is true for a value which the target would change or refuse.
//!
//! Why it is needed: PostgreSQL rounds 3.456 into `numeric(10,2)` and a `timestamp` into `timestamp(0)` without a
//! word, on COPY too, and a refusal of its own (too long, out of range) names no key.

use starlift_core::ColumnType;

use super::target_type::TargetType;

/// A condition that holds for values which do not fit, and why they do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// SQL over the staged value; null counts as false.
    pub(crate) condition: String,
    /// Ends the sentence "the value …".
    pub(crate) reason: String,
}

/// The misfits of a pair of types; `value` is the SQL of the staged value.
///
/// None: the two do not go together. An empty list: every value fits.
pub(crate) fn misfits(from: &ColumnType, to: &TargetType, value: &str) -> Option<Vec<Misfit>> {
    use ColumnType as From;
    use TargetType as To;
    let misfit = |condition: String, reason: String| Some(vec![Misfit { condition, reason }]);
    let fits = Some(Vec::new());
    match (from, to) {
        (From::Bool, To::Bool)
        | (From::Bytea, To::Bytea)
        | (From::Date, To::Date)
        | (From::Uuid, To::Uuid)
        | (From::Json | From::Jsonb, To::Json)
        | (From::Jsonb, To::Jsonb)
        | (From::Int2, To::Int2 | To::Int4 | To::Int8 | To::Float4 | To::Float8)
        | (From::Int4, To::Int4 | To::Int8 | To::Float8)
        | (From::Int8, To::Int8)
        | (From::Float4, To::Float4 | To::Float8)
        | (From::Float8, To::Float8)
        // What travels as text because starlift has no own form for it; PostgreSQL's input function judges it.
        | (From::Text, To::Other) => fits,

        (From::Int4 | From::Int8 | From::Numeric { .. }, To::Int2 | To::Int4 | To::Int8) => {
            let (low, high) = integer_range(to);
            let mut found = range(value, low, high);
            if matches!(from, From::Numeric { scale, .. } if *scale > 0) {
                found.push(Misfit { condition: format!("trunc({value}) <> {value}"), reason: "has decimals".into() });
            }
            Some(found)
        }
        (From::Int4 | From::Int8, To::Float4 | To::Float8) => {
            // Beyond 2^24 and 2^53 not every whole number has a float.
            let limit = if *to == To::Float4 { "16777216" } else { "9007199254740992" };
            misfit(format!("abs({value}::numeric) > {limit}"), "has more digits than its float type holds".into())
        }
        (From::Numeric { .. }, To::Float4 | To::Float8) => {
            let float = if *to == To::Float4 { "float4" } else { "float8" };
            // A float's text is the shortest that reads back as the same float, so this is equality of decimals.
            misfit(
                format!("{value}::{float}::text::numeric <> {value}"),
                "has more digits than its float type holds".into(),
            )
        }
        (From::Float8, To::Float4) => misfit(float_narrowing(value), "is not exact in 4 bytes".into()),

        (From::Int2 | From::Int4 | From::Int8 | From::Numeric { .. }, To::Numeric(limits)) => {
            Some(limits.map_or_else(Vec::new, |limits| decimal(from, limits, value)))
        }

        (From::Text | From::Uuid | From::Json | From::Jsonb, To::Text { max_chars, padded }) => {
            let Some(max) = max_chars else { return fits };
            // Uuid and json are measured by their text.
            let text = if *from == From::Text { value.to_string() } else { format!("{value}::text") };
            let text = if *padded { format!("rtrim({text}, ' ')") } else { text };
            misfit(format!("char_length({text}) > {max}"), format!("is longer than {max} characters"))
        }
        (From::Text, To::Enum(name)) => misfit(
            format!("{value} <> all (enum_range(null::{name})::text[])"),
            "is not one of the enum's labels".into(),
        ),
        (From::Text, To::Uuid) => {
            let hex = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
            misfit(format!("{value} !~ '{hex}'"), "is not a uuid".into())
        }

        (From::Time, To::Time(digits)) => Some(seconds(value, "time", *digits)),
        (From::Timestamp, To::Timestamp(digits)) => Some(seconds(value, "timestamp", *digits)),
        (From::TimestampTz, To::TimestampTz(digits)) => Some(seconds(value, "timestamptz", *digits)),

        (From::Array(from), To::Array(to)) => {
            let inner = misfits(from, to, "e.e")?;
            let wrap = |m: Misfit| Misfit {
                condition: format!("exists (select from unnest({value}) as e(e) where {})", m.condition),
                reason: format!("has an element that {}", m.reason),
            };
            Some(inner.into_iter().map(wrap).collect())
        }
        _ => None,
    }
}

fn integer_range(to: &TargetType) -> (&'static str, &'static str) {
    match to {
        TargetType::Int2 => ("-32768", "32767"),
        TargetType::Int4 => ("-2147483648", "2147483647"),
        _ => ("-9223372036854775808", "9223372036854775807"),
    }
}

fn range(value: &str, low: &str, high: &str) -> Vec<Misfit> {
    vec![Misfit {
        // As numerics, because a literal beyond bigint is one and -9223372036854775808 is read as minus a positive.
        condition: format!("{value} not between '{low}'::numeric and '{high}'::numeric"),
        reason: format!("is outside {low} to {high}"),
    }]
}

fn decimal(from: &ColumnType, (precision, scale): (i32, i32), value: &str) -> Vec<Misfit> {
    let from_scale = match from {
        ColumnType::Numeric { scale, .. } => i32::from(*scale),
        _ => 0,
    };
    let number = format!("{value}::numeric");
    let mut found = Vec::new();
    if from_scale > scale {
        found.push(Misfit {
            condition: format!("round({number}, {scale}) <> {number}"),
            reason: match scale {
                0 => "has decimals".into(),
                1 => "needs more than 1 decimal".into(),
                2.. => format!("needs more than {scale} decimals"),
                _ => format!("is not a multiple of {}", power_of_ten(-scale)),
            },
        });
    }
    let digits = precision - scale;
    found.push(Misfit {
        condition: format!("abs({number}) >= {}", power_of_ten(digits)),
        reason: format!("needs more than {digits} digits before the point"),
    });
    found
}

/// Ten to a power as an SQL literal; the powers of a numeric column are -1000 to 2000.
fn power_of_ten(exponent: i32) -> String {
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if exponent >= 0 { format!("1{}", zeros(exponent)) } else { format!("0.{}1", zeros(-exponent - 1)) }
}

fn float_narrowing(value: &str) -> String {
    // CASE keeps the order: a cast that overflows or underflows is an error. The bounds are the largest float4 and the
    // smallest one above zero.
    format!(
        "case when {value} in ('NaN', 'Infinity', '-Infinity') then false \
         when abs({value}) > '3.4028234663852886e38'::float8 then true \
         when {value} <> 0 and abs({value}) < '1.401298464324817e-45'::float8 then true \
         else {value}::float4::float8 <> {value} end"
    )
}

fn seconds(value: &str, name: &str, digits: Option<i32>) -> Vec<Misfit> {
    // starlift itself carries microseconds, which are 6 decimals.
    let Some(digits) = digits.filter(|d| *d < 6) else { return Vec::new() };
    let reason = match digits {
        0 => "has a fraction of a second".into(),
        1 => "needs more than 1 decimal of a second".into(),
        _ => format!("needs more than {digits} decimals of a second"),
    };
    vec![Misfit { condition: format!("{value}::{name}({digits}) <> {value}"), reason }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(from: ColumnType, to: TargetType) -> Vec<String> {
        misfits(&from, &to, "v").unwrap().into_iter().map(|m| m.condition).collect()
    }

    fn numeric(precision: u8, scale: u8) -> ColumnType {
        ColumnType::Numeric { precision, scale }
    }

    #[test]
    fn a_decimal_is_checked_for_decimals_and_digits() {
        assert_eq!(
            conditions(numeric(38, 10), TargetType::Numeric(Some((10, 2)))),
            ["round(v::numeric, 2) <> v::numeric", "abs(v::numeric) >= 100000000"]
        );
        assert_eq!(conditions(numeric(5, 2), TargetType::Numeric(Some((10, 2)))), ["abs(v::numeric) >= 100000000"]);
        assert!(conditions(numeric(38, 10), TargetType::Numeric(None)).is_empty());
        assert_eq!(
            conditions(ColumnType::Int4, TargetType::Numeric(Some((3, -2)))),
            ["round(v::numeric, -2) <> v::numeric", "abs(v::numeric) >= 100000"]
        );
        assert_eq!(
            conditions(numeric(9, 5), TargetType::Numeric(Some((2, 5)))).last().unwrap(),
            "abs(v::numeric) >= 0.001"
        );
    }

    #[test]
    fn narrowing_is_checked_and_widening_is_not() {
        assert_eq!(
            conditions(ColumnType::Int8, TargetType::Int4),
            ["v not between '-2147483648'::numeric and '2147483647'::numeric"]
        );
        assert!(conditions(ColumnType::Int2, TargetType::Int8).is_empty());
        assert_eq!(conditions(numeric(20, 2), TargetType::Int8).len(), 2);
        assert_eq!(conditions(ColumnType::Float8, TargetType::Float4).len(), 1);
        assert!(conditions(ColumnType::Float4, TargetType::Float8).is_empty());
    }

    #[test]
    fn lengths_and_precisions_are_checked() {
        let text = |max_chars, padded| TargetType::Text { max_chars, padded };
        assert_eq!(conditions(ColumnType::Text, text(Some(3), false)), ["char_length(v) > 3"]);
        assert_eq!(conditions(ColumnType::Text, text(Some(3), true)), ["char_length(rtrim(v, ' ')) > 3"]);
        assert!(conditions(ColumnType::Text, text(None, false)).is_empty());
        assert_eq!(conditions(ColumnType::Time, TargetType::Time(Some(0))), ["v::time(0) <> v"]);
        assert!(conditions(ColumnType::Timestamp, TargetType::Timestamp(Some(6))).is_empty());
    }

    #[test]
    fn an_array_is_checked_by_element() {
        let from = ColumnType::Array(Box::new(ColumnType::Int8));
        let to = TargetType::Array(Box::new(TargetType::Int2));
        assert_eq!(
            conditions(from, to),
            ["exists (select from unnest(v) as e(e) where e.e not between '-32768'::numeric and '32767'::numeric)"]
        );
    }

    #[test]
    fn types_that_do_not_go_together_are_refused() {
        for (from, to) in [
            (ColumnType::Text, TargetType::Int4),
            (ColumnType::Int4, TargetType::Text { max_chars: None, padded: false }),
            (ColumnType::Timestamp, TargetType::Date),
            (ColumnType::Timestamp, TargetType::TimestampTz(None)),
            (ColumnType::Float8, TargetType::Numeric(None)),
            (ColumnType::Float8, TargetType::Int4),
            (ColumnType::Text, TargetType::Json),
            (ColumnType::Json, TargetType::Jsonb),
            (ColumnType::Int4, TargetType::Other),
            (ColumnType::Text, TargetType::Unfit),
            (ColumnType::Array(Box::new(ColumnType::Text)), TargetType::Text { max_chars: None, padded: false }),
        ] {
            assert_eq!(misfits(&from, &to, "v"), None, "{from:?} into {to:?}");
        }
    }
}
