//! The frame of every strict function: one implementation for DataFusion, three answers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{parse_date, parse_time, parse_timestamp, to_decimal, to_int};

/// What a strict function is called and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum StrictFunction {
    /// `parse_date(text)`: a date.
    ParseDate,
    /// `parse_time(text)`: a time of day in microseconds.
    ParseTime,
    /// `parse_timestamp(text)`: a timestamp without zone in microseconds.
    ParseTimestamp,
    /// `to_decimal(x, precision, scale)`: an exact decimal.
    ToDecimal,
    /// `to_int(x)`: a whole number of 32 bits.
    ToInt,
    /// `to_bigint(x)`: a whole number of 64 bits.
    ToBigint,
}

/// What a strict function does with a value that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// It is an error.
    Value,
    /// It is null.
    ValueOrNull,
    /// The reason is the answer, with [`BEFORE_VALUE`] and the refused value behind it; null stands for a value that is not
    /// refused.
    Reason,
}

/// Stands between a reason and the refused value. No reason holds it.
pub(crate) const BEFORE_VALUE: char = '\u{1f}';
/// Characters of a refused value that are kept.
const VALUE_KEPT: usize = 1_000;

/// Values as a strict function carried them, null where it refused, and the refused rows with their reasons.
pub(super) struct Carried {
    pub(super) values: ArrayRef,
    pub(super) refused: Vec<(usize, Cow<'static, str>)>,
}

/// The error of a strict call that nothing could set aside; it knows the function and the reason, never the value.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The function's name.
    pub(crate) function: &'static str,
    /// Why the value was refused.
    pub(crate) reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` refused a value: {}", self.function, self.reason)
    }
}

impl std::error::Error for Refused {}

impl StrictFunction {
    pub(crate) const ALL: [StrictFunction; 6] = [
        StrictFunction::ParseDate,
        StrictFunction::ParseTime,
        StrictFunction::ParseTimestamp,
        StrictFunction::ToDecimal,
        StrictFunction::ToInt,
        StrictFunction::ToBigint,
    ];

    /// The name in SQL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            StrictFunction::ParseDate => "parse_date",
            StrictFunction::ParseTime => "parse_time",
            StrictFunction::ParseTimestamp => "parse_timestamp",
            StrictFunction::ToDecimal => "to_decimal",
            StrictFunction::ToInt => "to_int",
            StrictFunction::ToBigint => "to_bigint",
        }
    }

    /// How it is called, for hints.
    pub(crate) const fn usage(self) -> &'static str {
        match self {
            StrictFunction::ParseDate => "parse_date(text)",
            StrictFunction::ParseTime => "parse_time(text)",
            StrictFunction::ParseTimestamp => "parse_timestamp(text)",
            StrictFunction::ToDecimal => "to_decimal(x, precision, scale)",
            StrictFunction::ToInt => "to_int(x)",
            StrictFunction::ToBigint => "to_bigint(x)",
        }
    }

    /// The function for DataFusion with one of its answers.
    pub(crate) fn answering(self, answer: Answer) -> ScalarUDF {
        ScalarUDF::new_from_impl(StrictCall::new(self, answer))
    }

    /// The types that its arguments are brought to without loss.
    fn coerce(self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let takes = || plan_err!("`{}` is called as `{}`", self.name(), self.usage());
        match (self, arguments) {
            (StrictFunction::ParseDate | StrictFunction::ParseTime | StrictFunction::ParseTimestamp, [text]) => {
                if is_text(text) {
                    Ok(vec![DataType::Utf8])
                } else {
                    takes()
                }
            }
            (StrictFunction::ToInt | StrictFunction::ToBigint, [number]) => match number_type(number) {
                Some(number) => Ok(vec![number]),
                None => takes(),
            },
            (StrictFunction::ToDecimal, [number, precision, scale]) if precision.is_integer() && scale.is_integer() => {
                match number_type(number) {
                    Some(number) => Ok(vec![number, DataType::Int64, DataType::Int64]),
                    None => takes(),
                }
            }
            _ => takes(),
        }
    }

    /// The type that it carries values as.
    fn value_type(self, literals: &[Option<&ScalarValue>]) -> Result<DataType> {
        Ok(match self {
            StrictFunction::ParseDate => DataType::Date32,
            StrictFunction::ParseTime => DataType::Time64(TimeUnit::Microsecond),
            StrictFunction::ParseTimestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            StrictFunction::ToInt => DataType::Int32,
            StrictFunction::ToBigint => DataType::Int64,
            StrictFunction::ToDecimal => {
                let (precision, scale) = to_decimal::digits(literals)?;
                DataType::Decimal128(precision, scale as i8)
            }
        })
    }

    fn carry(self, values: &ArrayRef, target: &DataType) -> Result<Carried> {
        match (self, target) {
            (StrictFunction::ParseDate, _) => parse_date::carry(values),
            (StrictFunction::ParseTime, _) => parse_time::carry(values),
            (StrictFunction::ParseTimestamp, _) => parse_timestamp::carry(values),
            (StrictFunction::ToInt, _) => to_int::carry_int(values),
            (StrictFunction::ToBigint, _) => to_int::carry_bigint(values),
            (StrictFunction::ToDecimal, DataType::Decimal128(precision, scale)) => {
                to_decimal::carry(values, *precision, *scale as u8)
            }
            (StrictFunction::ToDecimal, _) => internal_err!("to_decimal without a decimal type"),
        }
    }
}

/// A strict function with one of its answers, as DataFusion sees it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct StrictCall {
    /// Which function.
    pub(crate) function: StrictFunction,
    /// What it answers.
    pub(crate) answer: Answer,
    name: String,
    signature: Signature,
}

impl StrictCall {
    fn new(function: StrictFunction, answer: Answer) -> StrictCall {
        let name = match answer {
            Answer::Value => function.name().to_string(),
            Answer::ValueOrNull => format!("{}_or_null", function.name()),
            Answer::Reason => format!("{}_reason", function.name()),
        };
        StrictCall { function, answer, name, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The strict call that an expression is, if it is one whose refusals are errors.
pub(crate) fn strict_call(expr: &Expr) -> Option<(&StrictCall, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let inner: &dyn std::any::Any = call.func.inner().as_ref();
    let strict = inner.downcast_ref::<StrictCall>()?;
    (strict.answer == Answer::Value).then_some((strict, call.args.as_slice()))
}

impl ScalarUDFImpl for StrictCall {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce(arguments)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of `{}` depends on its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let value = self.function.value_type(args.scalar_arguments)?;
        let nullable = args.arg_fields.first().is_none_or(|field| field.is_nullable());
        Ok(Arc::new(match self.answer {
            Answer::Value => Field::new(self.name(), value, nullable),
            Answer::ValueOrNull => Field::new(self.name(), value, true),
            Answer::Reason => Field::new(self.name(), DataType::Utf8, true),
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literals: Vec<Option<&ScalarValue>> = args
            .args
            .iter()
            .map(|argument| match argument {
                ColumnarValue::Scalar(scalar) => Some(scalar),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let target = self.function.value_type(&literals)?;
        let Some(first) = args.args.first() else { return internal_err!("`{}` without an argument", self.name) };
        let constant = matches!(first, ColumnarValue::Scalar(_));
        let rows = if constant { 1 } else { args.number_rows };
        let argument = first.to_array(rows)?;
        let carried = self.function.carry(&argument, &target)?;
        let answer: ArrayRef = match self.answer {
            Answer::Value => match carried.refused.into_iter().next() {
                None => carried.values,
                Some((_, reason)) => {
                    let refused = Refused { function: self.function.name(), reason: reason.into_owned() };
                    return Err(DataFusionError::External(Box::new(refused)));
                }
            },
            Answer::ValueOrNull => carried.values,
            Answer::Reason => {
                let mut reasons: Vec<Option<String>> = vec![None; rows];
                let form = FormatOptions::new().with_display_error(true);
                let texts = ArrayFormatter::try_new(argument.as_ref(), &form)?;
                for (row, reason) in carried.refused {
                    if let Some(slot) = reasons.get_mut(row) {
                        let value: String = texts.value(row).to_string().chars().take(VALUE_KEPT).collect();
                        *slot = Some(format!("{reason}{BEFORE_VALUE}{value}"));
                    }
                }
                Arc::new(StringArray::from_iter(reasons))
            }
        };
        if constant {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?))
        } else {
            Ok(ColumnarValue::Array(answer))
        }
    }
}

/// Carries each text by a function that gives the value or the reason why not.
pub(super) fn carry_text<T: ArrowPrimitiveType>(
    texts: &ArrayRef,
    parse: impl Fn(&str) -> Result<T::Native, Cow<'static, str>>,
) -> Result<Carried> {
    let Some(texts) = texts.as_string_opt::<i32>() else { return internal_err!("a strict function without text") };
    Ok(carry_each::<T, _>(texts.iter(), parse))
}

/// Carries each value by a function that gives the value or the reason why not.
pub(super) fn carry_each<T: ArrowPrimitiveType, V>(
    values: impl Iterator<Item = Option<V>>,
    carry: impl Fn(V) -> Result<T::Native, Cow<'static, str>>,
) -> Carried {
    let mut refused = Vec::new();
    let values: PrimitiveArray<T> = values
        .enumerate()
        .map(|(row, value)| match carry(value?) {
            Ok(value) => Some(value),
            Err(reason) => {
                refused.push((row, reason));
                None
            }
        })
        .collect();
    Carried { values: Arc::new(values), refused }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// The type in which a number (or text that may be one) reaches the functions, without loss.
fn number_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        text if is_text(text) => DataType::Utf8,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        integer if integer.is_integer() => DataType::Int64,
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        _ => return None,
    })
}

/// Rows of an array of any type, for messages of bugs.
pub(super) fn unexpected<T>(function: &str, values: &dyn Array) -> Result<T> {
    internal_err!("`{function}` on {}", values.data_type())
}
