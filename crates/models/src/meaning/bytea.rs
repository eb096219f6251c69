//! A text in the place of a `bytea` is read as PostgreSQL reads it: `'\xdeadbeef'` as its bytes and not as ten characters.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;

/// Puts the bytes in the place of a text that is cast to them, by the model or by coercion.
///
/// Errors: Plan for a text that PostgreSQL does not read as a `bytea`.
pub(super) fn literal(expr: Expr, _: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(cast) = &expr else { return Ok(Transformed::no(expr)) };
    let Expr::Literal(value, metadata) = cast.expr.as_ref() else { return Ok(Transformed::no(expr)) };
    let Some(Some(text)) = value.try_as_str() else { return Ok(Transformed::no(expr)) };
    let scalar = match cast.field.data_type() {
        DataType::Binary => ScalarValue::Binary,
        DataType::LargeBinary => ScalarValue::LargeBinary,
        DataType::BinaryView => ScalarValue::BinaryView,
        _ => return Ok(Transformed::no(expr)),
    };
    match bytes(text) {
        Some(bytes) => Ok(Transformed::yes(Expr::Literal(scalar(Some(bytes)), metadata.clone()))),
        None => plan_err!("`'{text}'` is no value of type bytea"),
    }
}

/// The bytes of a text in one of PostgreSQL's two forms: `\x` and digits, or characters with `\\` and `\ooo`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        return hexadecimal(digits);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
}

/// Pairs of hexadecimal digits, with spaces between pairs.
fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut digits = digits.chars();
    while let Some(high) = digits.next() {
        if matches!(high, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let pair = high.to_digit(16)? * 16 + digits.next()?.to_digit(16)?;
        bytes.push(u8::try_from(pair).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_not() {
        let read: [(&str, &[u8]); 8] = [
            ("", b""),
            ("\\x", b""),
            ("\\xdeadBEEF", &[0xde, 0xad, 0xbe, 0xef]),
            ("\\x de ad\n", &[0xde, 0xad]),
            ("abc", b"abc"),
            ("\\\\x41", b"\\x41"),
            ("a\\000\\377", &[b'a', 0, 255]),
            ("ä", "ä".as_bytes()),
        ];
        for (text, expected) in read {
            assert_eq!(bytes(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["\\xd", "\\xd e", "\\xzz", "\\x\u{664}1", "\\", "a\\", "\\8", "\\12", "\\400", "\\X41"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
