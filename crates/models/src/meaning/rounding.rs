//! `round`, `ceil` and `floor` of decimals; of other numbers they are DataFusion's.
//!
//! DataFusion's `round` has one type before constants are folded and another one after, because coercion puts a cast around
//! the number of digits: what was compared with it by the one type fails by the other. Here the digits stay as they are written, and
//! where they are more than a number, the type is fixed before anything is folded. DataFusion's `ceil` and `floor` have no room
//! for what is carried: 9.99 as `numeric(3,2)` has no 10.00. Here they yield whole numbers, as in PostgreSQL, with a digit more.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::functions::math;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// The three functions, under the names of DataFusion's.
pub(crate) fn functions() -> [ScalarUDF; 3] {
    [
        ScalarUDF::new_from_impl(Round::new(false)),
        ScalarUDF::new_from_impl(Whole::new(math::ceil(), true)),
        ScalarUDF::new_from_impl(Whole::new(math::floor(), false)),
    ]
}

/// Fixes the type of a `round` whose digits are more than a number, which folding could make one.
pub(super) fn pinned(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
    let function: &dyn Any = call.func.inner().as_ref();
    let is_open = function.downcast_ref::<Round>().is_some_and(|round| !round.keeps_scale);
    match call.args.as_slice() {
        [number, digits]
            if is_open && !matches!(digits, Expr::Literal(..)) && number.get_type(schema)?.is_decimal() =>
        {
            let function = Arc::new(ScalarUDF::new_from_impl(Round::new(true)));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, call.args.clone()))))
        }
        _ => Ok(Transformed::no(expr)),
    }
}

/// The types to which a function of DataFusion's brings its arguments.
fn coerced(function: &ScalarUDF, arguments: &[DataType]) -> Result<Vec<DataType>> {
    let fields: Vec<FieldRef> =
        arguments.iter().map(|argument| Arc::new(Field::new("", argument.clone(), true))).collect();
    Ok(fields_with_udf(&fields, function)?.iter().map(|field| field.data_type().clone()).collect())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    inner: Arc<ScalarUDF>,
    /// Whether a decimal keeps its digits behind the point, whatever it is rounded to.
    keeps_scale: bool,
    signature: Signature,
}

impl Round {
    fn new(keeps_scale: bool) -> Round {
        Round { inner: math::round(), keeps_scale, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Round {
    fn name(&self) -> &str {
        "round"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [number, digits] if number.is_decimal() && digits.is_integer() => Ok(arguments.to_vec()),
            _ => coerced(&self.inner, arguments),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of `round` depends on its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let unknown: Vec<Option<&ScalarValue>> = vec![None; args.scalar_arguments.len()];
        let scalar_arguments = if self.keeps_scale { &unknown } else { args.scalar_arguments };
        self.inner.return_field_from_args(ReturnFieldArgs { arg_fields: args.arg_fields, scalar_arguments })
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let is_decimal = args.arg_fields.first().is_some_and(|field| field.data_type().is_decimal());
        if let (true, Some(digits)) = (is_decimal, args.args.get_mut(1)) {
            *digits = digits.cast_to(&DataType::Int32, None)?;
            if self.keeps_scale {
                // DataFusion checks what does not fit any decimal only where digits differ from row to row.
                *digits = ColumnarValue::Array(digits.to_array(rows)?);
            }
            if let Some(field) = args.arg_fields.get_mut(1) {
                *field = Arc::new(field.as_ref().clone().with_data_type(DataType::Int32));
            }
        }
        self.inner.invoke_with_args(args)
    }
}

/// `ceil` or `floor`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    inner: Arc<ScalarUDF>,
    up: bool,
    signature: Signature,
}

impl Whole {
    fn new(inner: Arc<ScalarUDF>, up: bool) -> Whole {
        Whole { inner, up, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn carry(&self, values: &ArrayRef, scale: i8, target: DataType) -> Result<ArrayRef> {
        let Some(values) = values.as_primitive_opt::<Decimal128Type>() else {
            return internal_err!("`{}` of {}", self.name(), values.data_type());
        };
        let Some(one) = 10_i128.checked_pow(u32::from(scale.unsigned_abs())) else {
            return internal_err!("a decimal with {scale} digits behind the point");
        };
        let whole = values.unary::<_, Decimal128Type>(|value| {
            let below = value.div_euclid(one);
            if self.up && value.rem_euclid(one) > 0 { below + 1 } else { below }
        });
        Ok(Arc::new(whole.with_data_type(target)))
    }
}

/// The type of whole numbers that hold every decimal of a type with digits behind the point; none of other types.
fn whole_type(number: &DataType) -> Option<(i8, DataType)> {
    match number {
        DataType::Decimal128(precision, scale) if *scale > 0 => {
            Some((*scale, DataType::Decimal128(precision.saturating_sub(scale.unsigned_abs()).saturating_add(1), 0)))
        }
        _ => None,
    }
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        coerced(&self.inner, arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first().and_then(whole_type) {
            Some((_, target)) => Ok(target),
            None => self.inner.return_type(arguments),
        }
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let number = args.args.first().map(ColumnarValue::data_type);
        let Some((scale, target)) = number.as_ref().and_then(whole_type) else {
            return self.inner.invoke_with_args(args);
        };
        match args.args.first() {
            Some(ColumnarValue::Array(values)) => Ok(ColumnarValue::Array(self.carry(values, scale, target)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let whole = self.carry(&value.to_array()?, scale, target)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&whole, 0)?))
            }
            None => internal_err!("`{}` without an argument", self.name()),
        }
    }
}
