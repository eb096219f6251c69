//! The COPY BINARY codec: PostgreSQL's binary values to Arrow and back.
//!
//! Guarantees:
//! * **pure**: bytes in, Arrow out, and the other way round; no socket, clock or setting;
//! * **exact**: a value arrives as it is or is refused by name (see [`Refusals`]); nothing is rounded or cut;
//! * **bounded**: no length that a stream claims is believed: memory follows the bytes that really came;
//! * a stream that is damaged or of other types is an error, never a panic.
//!
//! One file per family of types, decode and encode side by side. Formats: PostgreSQL manual, COPY, "Binary Format", and
//! the `*_recv` and `*_send` functions of the server (`src/backend/utils/adt`).

mod array;
mod bool;
mod builder;
mod bytea;
mod datetime;
mod decoder;
mod encoder;
mod float;
mod int;
mod numeric;
mod refusal;
mod text;

pub use self::decoder::{MAX_VALUE_BYTES, RowDecoder};
pub use self::encoder::BatchEncoder;
pub use self::refusal::{EXAMPLES_KEPT, Refusal, Refusals, RefusedGroup};

/// What every COPY BINARY stream starts with: signature, flags, and the length of an empty header extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The length of a null value.
const NULL: i32 = -1;

/// Why one value was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reject {
    /// It is a value of its type that the column's Arrow type cannot hold.
    Refused(&'static str),
    /// It is no value of its type: the stream is damaged, or the column has another type than we were told.
    Malformed,
    /// The values of the batch together are larger than Arrow's 32-bit offsets reach.
    BatchFull,
}

/// A value of exactly `N` bytes.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reject> {
    bytes.try_into().map_err(|_| Reject::Malformed)
}

/// Takes the next `N` bytes off a slice.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Reject> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or(Reject::Malformed)?;
    *bytes = rest;
    Ok(*first)
}
