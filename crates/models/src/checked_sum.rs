//! `sum` that fails where the total does not fit; DataFusion's own wraps it round without a word.
//!
//! Totals of whole numbers and decimals are kept in 128 bits, and only the end result has to fit its type. Other types, and
//! `sum(distinct …)`, are DataFusion's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

/// The function, under the name of DataFusion's.
pub(crate) fn checked_sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(CheckedSum { inner: Sum::new() })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Sum,
}

fn is_checked(total: &DataType, distinct: bool) -> bool {
    !distinct && matches!(total, DataType::Int64 | DataType::Decimal128(_, _))
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let total = args.return_field.data_type();
        if !is_checked(total, args.is_distinct) {
            return self.inner.accumulator(args);
        }
        Ok(Box::new(Total { sum: None, rows: 0, data_type: total.clone() }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_checked(args.return_field.data_type(), args.is_distinct) {
            self.accumulator(args)
        } else {
            self.inner.create_sliding_accumulator(args)
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_checked(args.return_type(), args.is_distinct) {
            return self.inner.state_fields(args);
        }
        let state = DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale(args.return_type()));
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), state, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let total = args.return_field.data_type();
        if !is_checked(total, args.is_distinct) {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(Box::new(Totals { sums: Vec::new(), data_type: total.clone() }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

fn scale(total: &DataType) -> i8 {
    if let DataType::Decimal128(_, scale) = total { *scale } else { 0 }
}

/// The values of an argument or of a state, widened.
fn values(array: &ArrayRef) -> Result<Box<dyn Iterator<Item = Option<i128>> + '_>> {
    Ok(match array.data_type() {
        DataType::Int64 => Box::new(array.as_primitive::<Int64Type>().iter().map(|v| v.map(i128::from))),
        DataType::Decimal128(_, _) => Box::new(array.as_primitive::<Decimal128Type>().iter()),
        other => return internal_err!("sum of {other}"),
    })
}

fn counts(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn too_large() -> DataFusionError {
    ArrowError::ArithmeticOverflow("sum is out of range".into()).into()
}

fn add(sum: &mut Option<i128>, value: i128) -> Result<()> {
    *sum = Some(sum.unwrap_or(0).checked_add(value).ok_or_else(too_large)?);
    Ok(())
}

/// Totals in the type of the function's result.
fn finished(sums: &[Option<i128>], data_type: &DataType) -> Result<ArrayRef> {
    if let DataType::Decimal128(precision, scale) = data_type {
        let totals: Decimal128Array = sums.iter().copied().collect();
        let totals = totals.with_precision_and_scale(*precision, *scale)?;
        totals.validate_decimal_precision(*precision).map_err(|_| too_large())?;
        return Ok(Arc::new(totals));
    }
    let narrow = |sum: &Option<i128>| sum.map(|sum| i64::try_from(sum).map_err(|_| too_large())).transpose();
    Ok(Arc::new(sums.iter().map(narrow).collect::<Result<Int64Array>>()?))
}

/// Totals as they are handed from one part of a plan to the next.
fn state_of(sums: &[Option<i128>], data_type: &DataType) -> Result<ArrayRef> {
    finished(sums, &DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale(data_type)))
}

#[derive(Debug)]
struct Total {
    sum: Option<i128>,
    /// Values in it that are not null: a window that all values have left has no sum.
    rows: i64,
    data_type: DataType,
}

impl Accumulator for Total {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for value in columns.iter().map(values).collect::<Result<Vec<_>>>()?.into_iter().flatten().flatten() {
            add(&mut self.sum, value)?;
            self.rows += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for value in columns.iter().map(values).collect::<Result<Vec<_>>>()?.into_iter().flatten().flatten() {
            add(&mut self.sum, value.checked_neg().ok_or_else(too_large)?)?;
            self.rows -= 1;
        }
        if self.rows == 0 {
            self.sum = None;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&finished(&[self.sum], &self.data_type)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&state_of(&[self.sum], &self.data_type)?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

struct Totals {
    sums: Vec<Option<i128>>,
    data_type: DataType,
}

impl Totals {
    fn emit(&mut self, emit_to: EmitTo) -> Vec<Option<i128>> {
        emit_to.take_needed(&mut self.sums)
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        columns: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total_groups: usize,
    ) -> Result<()> {
        self.sums.resize(total_groups, None);
        let [column] = columns else { return internal_err!("`sum` takes one argument") };
        for (row, (value, group)) in values(column)?.zip(groups).enumerate() {
            if let (Some(value), true, Some(sum)) = (value, counts(filter, row), self.sums.get_mut(*group)) {
                add(sum, value)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = self.emit(emit_to);
        finished(&sums, &self.data_type)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = self.emit(emit_to);
        Ok(vec![state_of(&sums, &self.data_type)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total_groups: usize) -> Result<()> {
        self.update_batch(states, groups, None, total_groups)
    }

    fn convert_to_state(&self, columns: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let [column] = columns else { return internal_err!("`sum` takes one argument") };
        let sums: Vec<Option<i128>> =
            values(column)?.enumerate().map(|(row, value)| value.filter(|_| counts(filter, row))).collect();
        Ok(vec![state_of(&sums, &self.data_type)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i128>>()
    }
}
