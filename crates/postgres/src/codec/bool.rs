//! `boolean`: one byte, 0 or 1.

use bytes::{BufMut, BytesMut};

use super::{Reject, exactly};

pub(super) fn decode(bytes: &[u8]) -> Result<bool, Reject> {
    match exactly(bytes)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Reject::Malformed),
    }
}

pub(super) fn encode(value: bool, out: &mut BytesMut) {
    out.put_i32(1);
    out.put_u8(u8::from(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_zero_are_truth_values() {
        assert_eq!(decode(&[1]), Ok(true));
        assert_eq!(decode(&[0]), Ok(false));
        for bad in [&[][..], &[2], &[0, 0]] {
            assert_eq!(decode(bad), Err(Reject::Malformed));
        }
    }
}
