//! `min` and `max` of floats where NaN is the greatest, as in PostgreSQL, whatever the order of the rows.
//!
//! DataFusion's own forget in a group with NaN what came before it: 3, NaN, 1 has the maximum 1, and another one when the files of a
//! state are read in another order. Its accumulators of single groups order floats by their bits, where a NaN with the sign bit, which
//! processors make of `0.0 / 0.0`, is the least; so floats go that way with every NaN made the positive one, and all else is DataFusion's.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature,
};

/// Both functions, under the names of DataFusion's.
pub(crate) fn extremes() -> [AggregateUDF; 2] {
    [
        AggregateUDF::new_from_impl(Extreme { inner: Min::new() }),
        AggregateUDF::new_from_impl(Extreme { inner: Max::new() }),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme<F> {
    inner: F,
}

impl<F: AggregateUDFImpl + Debug + Eq + Hash + 'static> AggregateUDFImpl for Extreme<F> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let has_nans = args.return_field.data_type().is_floating();
        Ok(one_nan(has_nans, self.inner.accumulator(args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let has_nans = args.return_field.data_type().is_floating();
        Ok(one_nan(has_nans, self.inner.create_sliding_accumulator(args)?))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.return_field.data_type().is_floating() && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }
}

fn one_nan(has_nans: bool, inner: Box<dyn Accumulator>) -> Box<dyn Accumulator> {
    if has_nans { Box::new(OneNan { inner }) } else { inner }
}

/// An accumulator that meets one NaN alone, the positive one. What it hands on as its state holds no other.
#[derive(Debug)]
struct OneNan {
    inner: Box<dyn Accumulator>,
}

impl Accumulator for OneNan {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&values.iter().map(with_one_nan).collect::<Vec<_>>())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&values.iter().map(with_one_nan).collect::<Vec<_>>())
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

fn with_one_nan(values: &ArrayRef) -> ArrayRef {
    let wide = |value: f64| if value.is_nan() { f64::NAN } else { value };
    let narrow = |value: f32| if value.is_nan() { f32::NAN } else { value };
    match values.data_type() {
        DataType::Float64 => Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(wide)),
        DataType::Float32 => Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(narrow)),
        _ => Arc::clone(values),
    }
}
