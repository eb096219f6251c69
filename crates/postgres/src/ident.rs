//! Names and literals in SQL text. Values otherwise travel as parameters or in COPY.

/// A name as a quoted identifier (PostgreSQL manual, 4.1.1): every name of a table, column or schema goes through here.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A schema and a name in it, both quoted.
pub fn quote_qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Names as quoted identifiers, separated by `, `.
pub fn quote_idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote_ident).collect::<Vec<_>>().join(", ")
}

/// A text as a string literal whose meaning does not depend on `standard_conforming_strings` (PostgreSQL manual,
/// 4.1.2.2): one with a backslash becomes an `E''` literal.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_cannot_end_a_name_or_a_literal() {
        assert_eq!(quote_ident("x\"; drop table y--"), "\"x\"\"; drop table y--\"");
        assert_eq!(quote_qualified("public", "transaction"), "\"public\".\"transaction\"");
        assert_eq!(quote_idents(["a", "B"]), "\"a\", \"B\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("\\'"), "E'\\\\'''");
    }
}
