//! Arrays of one dimension with lower bound 1 (`array_recv` and `array_send` in the server's `arrayfuncs.c`): number of
//! dimensions, null flag, oid of the element type, then length and lower bound of each dimension, then the elements
//! like the fields of a row. Other shapes have no place in an Arrow list and are refused.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, NullBufferBuilder};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};
use starlift_core::{ColumnType, Error, Result};

use super::builder::ColumnBuilder;
use super::refusal::{DIMENSIONS, LOWER_BOUND};
use super::{NULL, Reject, take};

/// Collects lists.
pub(super) struct ListsBuilder {
    item: FieldRef,
    elements: ColumnBuilder,
    count: i32,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ListsBuilder {
    pub(super) fn new(element: &ColumnType, rows: usize) -> Result<ListsBuilder> {
        if matches!(element, ColumnType::Array(_)) {
            return Err(Error::internal("an array of arrays is no column type"));
        }
        let DataType::List(item) = ColumnType::Array(Box::new(element.clone())).to_arrow() else {
            return Err(Error::internal("an array is no Arrow list"));
        };
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Ok(ListsBuilder {
            item,
            elements: ColumnBuilder::new(element, rows)?,
            count: 0,
            offsets,
            nulls: NullBufferBuilder::new(rows),
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Reject> {
        let mut rest = bytes;
        let dimensions = i32::from_be_bytes(take(&mut rest)?);
        let _has_nulls: [u8; 4] = take(&mut rest)?;
        let _element_oid: [u8; 4] = take(&mut rest)?;
        match dimensions {
            0 => {}
            1 => {
                let length = i32::from_be_bytes(take(&mut rest)?);
                if i32::from_be_bytes(take(&mut rest)?) != 1 {
                    return Err(Reject::Refused(LOWER_BOUND));
                }
                // An element takes at least its length of four bytes.
                if length < 0 || length as usize > rest.len() / 4 {
                    return Err(Reject::Malformed);
                }
                // Elements that a refusal leaves behind belong to no list: offsets skip them.
                for _ in 0..length {
                    self.element(&mut rest)?;
                }
            }
            2.. => return Err(Reject::Refused(DIMENSIONS)),
            _ => return Err(Reject::Malformed),
        }
        if !rest.is_empty() {
            return Err(Reject::Malformed);
        }
        self.offsets.push(self.count);
        self.nulls.append_non_null();
        Ok(())
    }

    fn element(&mut self, rest: &mut &[u8]) -> Result<(), Reject> {
        let length = i32::from_be_bytes(take(rest)?);
        let count = self.count.checked_add(1).ok_or(Reject::BatchFull)?;
        if length == NULL {
            self.elements.append_null();
        } else {
            let length = usize::try_from(length).map_err(|_| Reject::Malformed)?;
            let (value, tail) = rest.split_at_checked(length).ok_or(Reject::Malformed)?;
            *rest = tail;
            self.elements.append(value)?;
        }
        self.count = count;
        Ok(())
    }

    pub(super) fn append_null(&mut self) {
        self.offsets.push(self.count);
        self.nulls.append_null();
    }

    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        self.count = 0;
        let list = ListArray::try_new(
            self.item.clone(),
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            self.elements.finish()?,
            self.nulls.finish(),
        )?;
        Ok(Arc::new(list))
    }
}

/// The oid of an element's type (`pg_type.dat`), which the server checks; none for types that a column cannot have.
pub(super) fn element_oid(element: &ColumnType) -> Option<u32> {
    Some(match element {
        ColumnType::Bool => 16,
        ColumnType::Bytea => 17,
        ColumnType::Int8 => 20,
        ColumnType::Int2 => 21,
        ColumnType::Int4 => 23,
        ColumnType::Text => 25,
        ColumnType::Json => 114,
        ColumnType::Float4 => 700,
        ColumnType::Float8 => 701,
        ColumnType::Date => 1082,
        ColumnType::Time => 1083,
        ColumnType::Timestamp => 1114,
        ColumnType::TimestampTz => 1184,
        ColumnType::Numeric { .. } => 1700,
        ColumnType::Uuid => 2950,
        ColumnType::Jsonb => 3802,
        ColumnType::Array(_) => return None,
    })
}

/// Writes the head of an array value with `length` elements; its own length is put in by [`end`].
pub(super) fn begin(oid: u32, length: usize, has_nulls: bool, out: &mut BytesMut) -> Result<usize, Reject> {
    let start = out.len();
    let length = i32::try_from(length).map_err(|_| Reject::BatchFull)?;
    out.put_i32(0);
    out.put_i32(i32::from(length > 0));
    out.put_i32(i32::from(has_nulls));
    out.put_u32(oid);
    if length > 0 {
        out.put_i32(length);
        out.put_i32(1);
    }
    Ok(start)
}

/// Puts the length of an array value in, after its elements.
pub(super) fn end(start: usize, out: &mut BytesMut) -> Result<(), Reject> {
    let length = i32::try_from(out.len() - start - 4).map_err(|_| Reject::BatchFull)?;
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int32Type;

    fn header(dimensions: i32, shape: &[(i32, i32)]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [dimensions, 0, 23].iter().flat_map(|n| n.to_be_bytes()).collect();
        bytes.extend(shape.iter().flat_map(|(length, bound)| [length.to_be_bytes(), bound.to_be_bytes()].concat()));
        bytes
    }

    fn builder() -> ListsBuilder {
        ListsBuilder::new(&ColumnType::Int4, 0).unwrap()
    }

    #[test]
    fn lists_with_nulls_and_empty_lists_are_kept_apart() {
        let mut lists = builder();
        let mut bytes = header(1, &[(2, 1)]);
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(lists.append(&bytes), Ok(()));
        assert_eq!(lists.append(&header(0, &[])), Ok(()));
        lists.append_null();
        let array = lists.finish().unwrap();
        let array = array.as_list::<i32>();
        assert_eq!((array.value_length(0), array.value_length(1), array.null_count()), (2, 0, 1));
        assert_eq!(array.value(0).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(7), None]);
    }

    #[test]
    fn other_shapes_are_refused() {
        assert_eq!(builder().append(&header(2, &[(1, 1), (1, 1)])), Err(Reject::Refused(DIMENSIONS)));
        assert_eq!(builder().append(&header(1, &[(0, 0)])), Err(Reject::Refused(LOWER_BOUND)));
    }

    #[test]
    fn lengths_that_cannot_be_are_malformed() {
        for (dimensions, shape) in [(-1, &[][..]), (1, &[]), (1, &[(-1, 1)]), (1, &[(i32::MAX, 1)]), (1, &[(1, 1)])] {
            assert_eq!(builder().append(&header(dimensions, shape)), Err(Reject::Malformed), "{dimensions} {shape:?}");
        }
        let mut long = header(1, &[(1, 1)]);
        long.extend([0x7f, 0xff, 0xff, 0xff, 0]);
        assert_eq!(builder().append(&long), Err(Reject::Malformed));
        let mut tail = header(0, &[]);
        tail.push(0);
        assert_eq!(builder().append(&tail), Err(Reject::Malformed));
    }

    #[test]
    fn elements_of_a_refused_list_are_in_no_other() {
        let mut lists = builder();
        let mut bad = header(1, &[(2, 1)]);
        bad.extend([0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 1, 9, 0, 0, 0]);
        assert_eq!(lists.append(&bad), Err(Reject::Malformed));
        lists.append_null();
        let mut good = header(1, &[(1, 1)]);
        good.extend([0, 0, 0, 4, 0, 0, 0, 8]);
        assert_eq!(lists.append(&good), Ok(()));
        let array = lists.finish().unwrap();
        assert_eq!(array.as_list::<i32>().value(1).as_primitive::<Int32Type>().values(), &[8]);
    }
}
