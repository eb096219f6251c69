//! What travels as text: `text` and its kin, enums, `json`, `jsonb` (its text after a version byte) and `uuid` (16 bytes,
//! here its canonical text: lower case, five groups).

use bytes::{BufMut, BytesMut};

use super::refusal::{NO_UUID, NOT_UTF8, ZERO_BYTE};
use super::{Reject, exactly};

const JSONB_VERSION: u8 = 1;
/// Characters of a canonical UUID.
const UUID_TEXT: usize = 36;
/// Where its hyphens are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Text of a database in UTF8; one in SQL_ASCII may send anything but a zero byte, which no server can store: such a stream
/// is damaged, and what came of it could never be loaded.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, Reject> {
    if bytes.contains(&0) {
        return Err(Reject::Malformed);
    }
    std::str::from_utf8(bytes).map_err(|_| Reject::Refused(NOT_UTF8))
}

pub(super) fn encode(value: &str, out: &mut BytesMut) -> Result<(), Reject> {
    // The server would refuse it too, without saying in which column.
    if value.as_bytes().contains(&0) {
        return Err(Reject::Refused(ZERO_BYTE));
    }
    super::bytea::encode(value.as_bytes(), out)
}

pub(super) fn decode_jsonb(bytes: &[u8]) -> Result<&str, Reject> {
    match bytes.split_first() {
        Some((&JSONB_VERSION, text)) => decode(text),
        _ => Err(Reject::Malformed),
    }
}

pub(super) fn encode_jsonb(value: &str, out: &mut BytesMut) -> Result<(), Reject> {
    if value.as_bytes().contains(&0) {
        return Err(Reject::Refused(ZERO_BYTE));
    }
    out.put_i32(i32::try_from(value.len() + 1).map_err(|_| Reject::BatchFull)?);
    out.put_u8(JSONB_VERSION);
    out.put_slice(value.as_bytes());
    Ok(())
}

/// The canonical text of a UUID, written into a buffer of the caller's.
pub(super) fn decode_uuid<'b>(bytes: &[u8], buffer: &'b mut [u8; UUID_TEXT]) -> Result<&'b str, Reject> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let uuid: [u8; 16] = exactly(bytes)?;
    let mut position = 0;
    for byte in uuid {
        if HYPHENS.contains(&position) {
            buffer[position] = b'-';
            position += 1;
        }
        buffer[position] = DIGITS[usize::from(byte >> 4)];
        buffer[position + 1] = DIGITS[usize::from(byte & 15)];
        position += 2;
    }
    std::str::from_utf8(buffer).map_err(|_| Reject::Malformed)
}

/// Takes the five groups in either case, as a model may have made them.
pub(super) fn encode_uuid(value: &str, out: &mut BytesMut) -> Result<(), Reject> {
    let text: [u8; UUID_TEXT] = value.as_bytes().try_into().map_err(|_| Reject::Refused(NO_UUID))?;
    let mut uuid = [0u8; 16];
    let mut nibbles = 0;
    for (position, &byte) in text.iter().enumerate() {
        if HYPHENS.contains(&position) {
            if byte != b'-' {
                return Err(Reject::Refused(NO_UUID));
            }
            continue;
        }
        let digit = char::from(byte).to_digit(16).ok_or(Reject::Refused(NO_UUID))?;
        // Four of 36 positions are hyphens, so that 32 nibbles fill the 16 bytes.
        uuid[nibbles / 2] = (uuid[nibbles / 2] << 4) | digit as u8;
        nibbles += 1;
    }
    super::bytea::encode(&uuid, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] =
        [0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11];
    const CANONICAL: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    #[test]
    fn a_uuid_is_its_canonical_text() {
        assert_eq!(decode_uuid(&UUID, &mut [0; 36]), Ok(CANONICAL));
        for text in [CANONICAL.to_string(), CANONICAL.to_uppercase()] {
            let mut out = BytesMut::new();
            assert_eq!(encode_uuid(&text, &mut out), Ok(()));
            assert_eq!(out[4..], UUID);
        }
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        assert_eq!(decode_uuid(&UUID[..15], &mut [0; 36]), Err(Reject::Malformed));
        for bad in [
            "",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            &CANONICAL.replace('-', "0"),
            &CANONICAL.replace('c', "-"),
            &"é".repeat(18),
        ] {
            assert_eq!(encode_uuid(bad, &mut BytesMut::new()), Err(Reject::Refused(NO_UUID)), "{bad}");
        }
    }

    #[test]
    fn a_zero_byte_or_broken_utf8_is_refused() {
        assert_eq!(decode(&[0xff]), Err(Reject::Refused(NOT_UTF8)));
        assert_eq!(decode(b"a\0b"), Err(Reject::Malformed), "no server holds one, so none sends one");
        assert_eq!(decode_jsonb(b"\x01\0"), Err(Reject::Malformed));
        assert_eq!(encode("a\0b", &mut BytesMut::new()), Err(Reject::Refused(ZERO_BYTE)));
        assert_eq!(encode_jsonb("\0", &mut BytesMut::new()), Err(Reject::Refused(ZERO_BYTE)));
    }

    #[test]
    fn jsonb_has_a_version() {
        assert_eq!(decode_jsonb(b"\x01{}"), Ok("{}"));
        assert_eq!(decode_jsonb(b"\x02{}"), Err(Reject::Malformed));
        assert_eq!(decode_jsonb(b""), Err(Reject::Malformed));
    }
}
