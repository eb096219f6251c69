//! `bytea`: the bytes themselves.

use bytes::{BufMut, BytesMut};

use super::Reject;

/// Bytes are taken as they are; only their length can be too much for a value.
pub(super) fn encode(value: &[u8], out: &mut BytesMut) -> Result<(), Reject> {
    out.put_i32(i32::try_from(value.len()).map_err(|_| Reject::BatchFull)?);
    out.put_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_their_length() {
        let mut out = BytesMut::new();
        assert_eq!(encode(&[0, 255], &mut out), Ok(()));
        assert_eq!(&out[..], [0, 0, 0, 2, 0, 255]);
    }
}
