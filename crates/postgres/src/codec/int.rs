//! `smallint`, `integer` and `bigint`: two's complement in network order.

use bytes::{BufMut, BytesMut};

use super::{Reject, exactly};

pub(super) fn decode_int2(bytes: &[u8]) -> Result<i16, Reject> {
    exactly(bytes).map(i16::from_be_bytes)
}

pub(super) fn encode_int2(value: i16, out: &mut BytesMut) {
    out.put_i32(2);
    out.put_i16(value);
}

pub(super) fn decode_int4(bytes: &[u8]) -> Result<i32, Reject> {
    exactly(bytes).map(i32::from_be_bytes)
}

pub(super) fn encode_int4(value: i32, out: &mut BytesMut) {
    out.put_i32(4);
    out.put_i32(value);
}

pub(super) fn decode_int8(bytes: &[u8]) -> Result<i64, Reject> {
    exactly(bytes).map(i64::from_be_bytes)
}

pub(super) fn encode_int8(value: i64, out: &mut BytesMut) {
    out.put_i32(8);
    out.put_i64(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_another_width_is_refused() {
        assert_eq!(decode_int4(&[0xff, 0xff, 0xff, 0xfe]), Ok(-2));
        for bad in [&[][..], &[0; 3], &[0; 5]] {
            assert_eq!(decode_int4(bad), Err(Reject::Malformed));
        }
        assert_eq!(decode_int2(&[0; 4]), Err(Reject::Malformed));
        assert_eq!(decode_int8(&[0; 4]), Err(Reject::Malformed));
    }

    #[test]
    fn the_extremes_survive() {
        let mut out = BytesMut::new();
        encode_int2(i16::MIN, &mut out);
        encode_int4(i32::MIN, &mut out);
        encode_int8(i64::MIN, &mut out);
        assert_eq!(decode_int2(&out[4..6]), Ok(i16::MIN));
        assert_eq!(decode_int4(&out[10..14]), Ok(i32::MIN));
        assert_eq!(decode_int8(&out[18..26]), Ok(i64::MIN));
    }
}
