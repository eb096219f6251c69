//! `real` and `double precision`: IEEE 754 in network order. NaN, infinities and the negative zero are values like others
//! and keep their bits.

use bytes::{BufMut, BytesMut};

use super::{Reject, exactly};

pub(super) fn decode_float4(bytes: &[u8]) -> Result<f32, Reject> {
    exactly(bytes).map(f32::from_be_bytes)
}

pub(super) fn encode_float4(value: f32, out: &mut BytesMut) {
    out.put_i32(4);
    out.put_f32(value);
}

pub(super) fn decode_float8(bytes: &[u8]) -> Result<f64, Reject> {
    exactly(bytes).map(f64::from_be_bytes)
}

pub(super) fn encode_float8(value: f64, out: &mut BytesMut) {
    out.put_i32(8);
    out.put_f64(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives() {
        let patterns = [
            0,
            1,
            0x8000_0000_0000_0000,
            0x7ff0_0000_0000_0000,
            0x7ff8_0000_0000_0001,
            0xfff8_0000_0000_0000,
            u64::MAX,
        ];
        for bits in patterns {
            let mut out = BytesMut::new();
            encode_float8(f64::from_bits(bits), &mut out);
            assert_eq!(decode_float8(&out[4..]).map(f64::to_bits), Ok(bits));
        }
        assert_eq!(decode_float4(&[0; 8]), Err(Reject::Malformed));
        assert_eq!(decode_float8(&[0; 4]), Err(Reject::Malformed));
    }
}
