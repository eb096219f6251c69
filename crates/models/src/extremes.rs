//! `min` and `max` of floats where NaN is the greatest, as in PostgreSQL, whatever the order of the rows.
//!
//! DataFusion's own forget in a group with NaN what came before it: 3, NaN, 1 has the maximum 1, and another one when the files of a
//! state are read in another order. Its accumulators of single groups order floats as a whole; so floats go that way, and all else is
//! DataFusion's.

use std::fmt::Debug;
use std::hash::Hash;

use arrow::datatypes::DataType;
use datafusion::common::Result;
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
        self.inner.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
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
