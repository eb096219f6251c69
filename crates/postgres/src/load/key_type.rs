//! How the values of a key's column are compared, and how `starlift.retracted` holds them. Pure.
//!
//! * **Compared** by the `=` of the type's own order, wherever it is: the search path is that of the warehouse's schema alone, and an
//!   extension may be in another one.
//! * **Held** in a form that reads the same in every session, because views compare with it: as JSON or text where that follows
//!   no setting, else as the binary form in hexadecimal digits. Earlier versions held the text of these too, as a session of
//!   theirs read it; `retraction` writes such entries anew. A type of which neither is known is in no key.
//! * **Loose** is a type whose `=` may hold for keys that are held differently: to it, two rows of the star may be one.

use std::collections::BTreeMap;

use super::target_type::TargetType;

/// From here on a type was made after the server, and its oid is another one in the next database.
const FIRST_OF_OTHERS: u32 = 10_000;
/// A domain over a domain over …: more than anybody has, so that a catalog that leads in circles ends.
const LAYERS: usize = 64;

/// What `pg_type` and its neighbours say about a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TypeRow {
    /// Its name.
    pub(crate) name: String,
    /// `typtype`: `b`ase, `e`num, `d`omain, `r`ange, …
    pub(crate) kind: char,
    /// `typcategory`: `S`tring, `A`rray, …
    pub(crate) category: char,
    /// What a domain is made from; 0 where there is none, as in the next two.
    pub(crate) base: u32,
    /// The elements of an array.
    pub(crate) element: u32,
    /// The bounds of a range, or the ranges of a multirange.
    pub(crate) part: u32,
    /// Its name in SQL, without a modifier.
    pub(crate) sql: String,
    /// The extension that it belongs to.
    pub(crate) extension: Option<String>,
    /// The `=` of its order, as SQL; none where it has none of its own.
    pub(crate) equals: Option<String>,
}

/// The type of a key's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyType {
    equals: String,
    held: Held,
    /// Whether its `=` may hold for values that are held differently.
    pub(crate) is_loose: bool,
    /// The collation of the column, where it takes different texts for equal.
    pub(crate) collation: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// As [`TargetType::key_json`] says.
    Plainly,
    /// As the digits of what the function makes of it, behind a cast where it is an array.
    Digits { send: &'static str, cast: Option<String> },
    /// Not at all.
    Never,
}

impl Held {
    fn digits(send: &'static str) -> Held {
        Held::Digits { send, cast: None }
    }
}

impl KeyType {
    /// The type of a column, by its oid; `types` holds it and all that it is made of.
    pub(crate) fn of(types: &BTreeMap<u32, TypeRow>, oid: u32, collation: Option<String>) -> KeyType {
        let is_ci = collation.is_some();
        let found = without_domains(types, oid).map(|(oid, row)| (row, held(types, oid, row, is_ci)));
        let (row, (held, is_loose)) = match found {
            Some((row, Some(found))) => (Some(row), found),
            Some((row, None)) => (Some(row), (Held::Never, false)),
            None => (None, (Held::Never, false)),
        };
        let equals = row.and_then(|row| row.equals.clone()).unwrap_or_else(|| "=".into());
        KeyType { equals, held, is_loose, collation }
    }

    /// The `=` of its values.
    pub(crate) fn equals(&self) -> &str {
        &self.equals
    }

    /// Whether it can be in a key.
    pub(crate) fn is_known(&self) -> bool {
        self.held != Held::Never
    }

    /// The SQL of a value as `starlift.retracted` holds it.
    pub(crate) fn json(&self, holds: &TargetType, value: &str) -> String {
        match &self.held {
            Held::Digits { send, cast: None } => format!("encode({send}({value}), 'hex')"),
            Held::Digits { send, cast: Some(cast) } => format!("encode({send}(({value})::{cast}), 'hex')"),
            Held::Plainly | Held::Never => holds.key_json(value),
        }
    }

    /// The condition that an earlier version wrote an entry, whose value of this type has `text`: such a text has a blank, a colon,
    /// a bracket or the word `empty`, and digits have none of them. None where it was written as it is now.
    pub(crate) fn was_text(&self, text: &str) -> Option<String> {
        matches!(self.held, Held::Digits { .. }).then(|| format!("{text} !~ '^[0-9a-f]*$'"))
    }
}

fn without_domains(types: &BTreeMap<u32, TypeRow>, oid: u32) -> Option<(u32, &TypeRow)> {
    let mut at = (oid, types.get(&oid)?);
    for _ in 0..LAYERS {
        if at.1.kind != 'd' {
            return Some(at);
        }
        at = (at.1.base, types.get(&at.1.base)?);
    }
    None
}

/// How values of a type that is no domain are held, and whether it is loose. `is_ci`: its texts have a collation that is not
/// deterministic.
fn held(types: &BTreeMap<u32, TypeRow>, oid: u32, row: &TypeRow, is_ci: bool) -> Option<(Held, bool)> {
    let reads = reads(types, oid, row, is_ci, LAYERS)?;
    let plainly = |is_loose| Some((Held::Plainly, is_loose));
    match (row.kind, row.name.as_str()) {
        // -0 and 0 are one key in the star too, as are 1.0 and 1.00; these are held in one form.
        (_, "float4" | "float8" | "numeric" | "jsonb" | "bytea" | "timestamptz") if oid < FIRST_OF_OTHERS => {
            plainly(false)
        }
        (_, "interval") if oid < FIRST_OF_OTHERS => Some((Held::digits("interval_send"), true)),
        ('r' | 'm', _) if reads.text => plainly(reads.is_loose),
        ('r', _) => Some((Held::digits("range_send"), reads.is_loose)),
        ('m', _) => Some((Held::digits("multirange_send"), reads.is_loose)),
        _ if row.element != 0 && row.category == 'A' && !reads.json => {
            let (_, element) = without_domains(types, row.element)?;
            let cast = Some(format!("{}[]", element.sql));
            Some((Held::Digits { send: "array_send", cast }, reads.is_loose))
        }
        _ => plainly(if row.category == 'A' { reads.is_loose_in_json } else { reads.is_loose }),
    }
}

/// How a type reads.
#[derive(Debug, Clone, Copy, Default)]
struct Reads {
    /// Whether its text is the same in every session.
    text: bool,
    /// Whether the JSON of it is.
    json: bool,
    /// Whether equal values may have different texts.
    is_loose: bool,
    /// Whether equal values may have different JSON.
    is_loose_in_json: bool,
}

const STEADY: Reads = Reads { text: true, json: true, is_loose: false, is_loose_in_json: false };

/// None for a type of which it is not known.
fn reads(types: &BTreeMap<u32, TypeRow>, oid: u32, row: &TypeRow, is_ci: bool, layers: usize) -> Option<Reads> {
    let layers = layers.checked_sub(1)?;
    let of = |oid: u32| {
        let (oid, row) = without_domains(types, oid)?;
        Some((oid, row, reads(types, oid, row, is_ci, layers)?))
    };
    let loose_text = |is_loose| Some(Reads { is_loose, is_loose_in_json: is_loose, ..STEADY });
    if oid < FIRST_OF_OTHERS {
        match row.name.as_str() {
            "bool" | "int2" | "int4" | "int8" | "uuid" | "time" | "timetz" | "inet" | "cidr" | "macaddr"
            | "macaddr8" | "bit" | "varbit" | "xid8" | "tid" | "pg_lsn" | "oid" | "oidvector" => return Some(STEADY),
            "numeric" | "jsonb" => return Some(Reads { is_loose: true, ..STEADY }),
            "text" | "varchar" | "bpchar" => return loose_text(is_ci),
            "date" | "timestamp" => return Some(Reads { text: false, ..STEADY }),
            "bytea" | "timestamptz" => return Some(Reads { text: false, json: false, ..STEADY }),
            "float4" | "float8" | "interval" => {
                return Some(Reads { text: false, json: false, is_loose: true, is_loose_in_json: true });
            }
            _ => {}
        }
    }
    match (row.kind, row.category) {
        ('e', _) => Some(STEADY),
        ('r' | 'm', _) => {
            let (_, _, part) = of(row.part)?;
            Some(Reads { json: part.text, is_loose_in_json: part.is_loose, ..part })
        }
        (_, 'A') => {
            let (oid, element, read) = of(row.element)?;
            // Blanks at the end of a char(n) are in the JSON of an array; its binary form has the oid of its elements.
            let is_held = element.name != "bpchar" && (read.json || oid < FIRST_OF_OTHERS);
            is_held.then_some(read)
        }
        // Such as citext.
        ('b', 'S') => loose_text(true),
        ('b', _) => match (row.extension.as_deref(), row.name.as_str()) {
            (Some("ltree"), "ltree") | (Some("hstore"), "hstore") | (Some("isn"), _) => Some(STEADY),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, kind: char, category: char) -> TypeRow {
        TypeRow { name: name.into(), kind, category, sql: name.into(), ..TypeRow::default() }
    }

    fn types() -> BTreeMap<u32, TypeRow> {
        let of = |part: u32, row: TypeRow| TypeRow { part, ..row };
        let array = |element: u32, name: &str| TypeRow { element, ..row(name, 'b', 'A') };
        let extension = |name: &str, kind, category| TypeRow {
            extension: Some(name.into()),
            equals: Some("operator(\"public\".=)".into()),
            ..row(name, kind, category)
        };
        BTreeMap::from([
            (23, row("int4", 'b', 'N')),
            (25, row("text", 'b', 'S')),
            (701, row("float8", 'b', 'N')),
            (1042, row("bpchar", 'b', 'S')),
            (1082, row("date", 'b', 'D')),
            (1184, TypeRow { sql: "timestamp with time zone".into(), ..row("timestamptz", 'b', 'D') }),
            (1186, row("interval", 'b', 'T')),
            (1700, row("numeric", 'b', 'N')),
            (1182, array(1082, "_date")),
            (1185, array(1184, "_timestamptz")),
            (1014, array(1042, "_bpchar")),
            (600, row("point", 'b', 'G')),
            (2205, row("regclass", 'b', 'N')),
            (3904, of(23, row("int4range", 'r', 'R'))),
            (3906, of(1700, row("numrange", 'r', 'R'))),
            (3910, of(1184, row("tstzrange", 'r', 'R'))),
            (3912, of(1082, row("daterange", 'r', 'R'))),
            (4534, of(3910, row("tstzmultirange", 'm', 'R'))),
            (20_001, row("mood", 'e', 'E')),
            (20_002, extension("citext", 'b', 'S')),
            (20_003, extension("ltree", 'b', 'U')),
            (20_004, extension("cube", 'b', 'U')),
            (20_005, row("address", 'c', 'C')),
            (20_006, TypeRow { base: 1184, ..row("moment", 'd', 'D') }),
            (20_007, array(20_006, "_moment")),
            (20_008, of(701, row("floatrange", 'r', 'R'))),
            (20_009, array(20_008, "_floatrange")),
            (20_010, array(20_001, "_mood")),
            (20_011, TypeRow { base: 20_012, ..row("a", 'd', 'U') }),
            (20_012, TypeRow { base: 20_011, ..row("b", 'd', 'U') }),
        ])
    }

    fn of(oid: u32) -> KeyType {
        KeyType::of(&types(), oid, None)
    }

    #[test]
    fn what_follows_a_setting_is_held_by_its_digits_and_everything_else_as_it_was() {
        let holds = &TargetType::Other;
        for plain in [23, 25, 701, 1042, 1184, 1700, 1182, 3904, 3906, 20_001, 20_002, 20_003, 20_006, 20_010] {
            assert_eq!(of(plain).json(holds, "t.k"), "t.k", "{plain}");
            assert_eq!(of(plain).was_text("x"), None, "{plain}");
        }
        for (oid, sql) in [
            (1186, "encode(interval_send(t.k), 'hex')"),
            (3910, "encode(range_send(t.k), 'hex')"),
            (3912, "encode(range_send(t.k), 'hex')"),
            (20_008, "encode(range_send(t.k), 'hex')"),
            (4534, "encode(multirange_send(t.k), 'hex')"),
            (1185, "encode(array_send((t.k)::timestamp with time zone[]), 'hex')"),
            (20_007, "encode(array_send((t.k)::timestamp with time zone[]), 'hex')"),
        ] {
            assert_eq!(of(oid).json(holds, "t.k"), sql, "{oid}");
            assert!(of(oid).was_text("x").is_some(), "{oid}");
        }
        assert!(of(1184).json(&TargetType::TimestampTz(None), "t.k").contains("at time zone"));
    }

    #[test]
    fn a_type_of_which_no_steady_form_is_known_is_in_no_key() {
        // char(n)[], point, regclass, cube, a composite, an array whose binary form has an oid of this database, a circle, nothing.
        for oid in [1014, 600, 2205, 20_004, 20_005, 20_009, 20_011, 99] {
            assert!(!of(oid).is_known(), "{oid}");
        }
        assert!(of(20_003).is_known());
    }

    #[test]
    fn a_type_is_loose_where_equal_values_are_held_differently() {
        for loose in [1186, 3906, 20_002, 20_008] {
            assert!(of(loose).is_loose, "{loose}");
        }
        for tight in [23, 25, 701, 1042, 1184, 1700, 1182, 1185, 3904, 3910, 3912, 20_001, 20_003] {
            assert!(!of(tight).is_loose, "{tight}");
        }
        assert!(KeyType::of(&types(), 25, Some("\"public\".\"ci\"".into())).is_loose);
    }

    #[test]
    fn values_are_compared_by_the_types_own_operator() {
        assert_eq!(of(23).equals(), "=");
        assert_eq!(of(20_002).equals(), "operator(\"public\".=)");
    }
}
