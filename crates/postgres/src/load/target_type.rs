//! What a column of the warehouse holds, found from its catalog entries, and how its values are compared and named.
//!
//! Pure: everything here is made from oids and type modifiers (PostgreSQL manual, 8 and 53.64 `pg_type`).

use tokio_postgres::types::Type;

/// The base type of a warehouse column: domains are taken off, limits kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TargetType {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`, with its precision and scale where it has any
    Numeric(Option<(i32, i32)>),
    /// `text`, `varchar`, and other string types
    Text {
        /// The most characters that it holds.
        max_chars: Option<i32>,
        /// Whether it is `char(n)`, where blanks at the end mean nothing.
        padded: bool,
    },
    /// An enum, by its SQL name
    Enum(String),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time` without zone, with the decimals of its seconds
    Time(Option<i32>),
    /// `timestamp` without zone, likewise
    Timestamp(Option<i32>),
    /// `timestamp` with time zone, likewise
    TimestampTz(Option<i32>),
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// An array of any of these
    Array(Box<TargetType>),
    /// Any other type that takes a text or refuses it: it takes texts only, and is compared as text
    Other,
    /// A type that changes what it is given without a word: `name` cuts, `money` and `interval(0)` round, and the fields of a
    /// composite do either
    Unfit,
}

/// What `pg_type` says about a base type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TypeEntry<'a> {
    /// Its oid.
    pub(crate) oid: u32,
    /// `typtype`: `b`ase, `e`num, `d`omain, …
    pub(crate) kind: char,
    /// `typcategory`: `S`tring, `A`rray, …
    pub(crate) category: char,
    /// Its name in SQL, without a modifier.
    pub(crate) name: &'a str,
}

impl TargetType {
    /// The type of a catalog entry with its modifier; `part` is the entry of an array's elements, or of a range's bounds, domains
    /// taken off, and the modifier is theirs then.
    pub(crate) fn from_catalog(entry: TypeEntry<'_>, typmod: i32, part: Option<TypeEntry<'_>>) -> TargetType {
        match (entry.kind, entry.category, part) {
            (_, 'A', Some(element)) => return TargetType::Array(Box::new(Self::of_element(element, typmod))),
            // A range of its own has no modifier: this one is of a domain, which reads the bounds as a cast would.
            ('r' | 'm', _, Some(bound)) if typmod >= 0 || Self::from_catalog(bound, -1, None) == TargetType::Unfit => {
                return TargetType::Unfit;
            }
            _ => {}
        }
        let limit = (typmod >= 0).then_some(typmod);
        let Some(known) = Type::from_oid(entry.oid) else { return Self::by_kind(entry) };
        match known {
            Type::BOOL => TargetType::Bool,
            Type::INT2 => TargetType::Int2,
            Type::INT4 => TargetType::Int4,
            Type::INT8 => TargetType::Int8,
            Type::FLOAT4 => TargetType::Float4,
            Type::FLOAT8 => TargetType::Float8,
            Type::NUMERIC => TargetType::Numeric(numeric_limits(typmod)),
            // The modifier counts the four bytes of the length word.
            Type::TEXT | Type::VARCHAR => TargetType::Text { max_chars: limit.map(|l| l - 4), padded: false },
            Type::BPCHAR => TargetType::Text { max_chars: limit.map(|l| l - 4), padded: true },
            Type::BYTEA => TargetType::Bytea,
            Type::DATE => TargetType::Date,
            Type::TIME => TargetType::Time(limit),
            Type::TIMESTAMP => TargetType::Timestamp(limit),
            Type::TIMESTAMPTZ => TargetType::TimestampTz(limit),
            Type::UUID => TargetType::Uuid,
            Type::JSON => TargetType::Json,
            Type::JSONB => TargetType::Jsonb,
            Type::NAME | Type::CHAR | Type::MONEY | Type::TS_VECTOR | Type::TSQUERY => TargetType::Unfit,
            Type::INTERVAL | Type::TIMETZ if limit.is_some() => TargetType::Unfit,
            _ => TargetType::Other,
        }
    }

    fn of_element(element: TypeEntry<'_>, typmod: i32) -> TargetType {
        match (element.kind, element.category) {
            // An array in an array, by a domain: what it is made of was not looked at. Nor were the bounds of somebody's own range.
            (_, 'A') => TargetType::Unfit,
            ('r' | 'm', _) if Type::from_oid(element.oid).is_none() => TargetType::Unfit,
            _ => Self::from_catalog(element, typmod, None),
        }
    }

    fn by_kind(entry: TypeEntry<'_>) -> TargetType {
        match (entry.kind, entry.category) {
            // The cast of a text to one is explicit for each field: it cuts and rounds, however the value is written.
            ('c' | 'd', _) => TargetType::Unfit,
            ('e', _) => TargetType::Enum(entry.name.to_string()),
            // Such as citext.
            ('b', 'S') => TargetType::Text { max_chars: None, padded: false },
            _ => TargetType::Other,
        }
    }

    /// The SQL condition that a stored value and a staged one, both of this type, differ.
    ///
    /// Where `=` takes values for the same that read differently (`-0` and `0`, `1.0` and `1.00` in jsonb, `a` and `A` under
    /// some collations and in citext, `1 day` and `24:00`), it would leave a row stale: floats are compared by their bits, texts
    /// byte by byte, and other types as text, those without `=` too. Digits behind a numeric's last are no difference.
    pub(crate) fn differs(&self, stored: &str, staged: &str) -> String {
        match self {
            TargetType::Text { .. } => {
                format!("{stored}::text collate \"C\" is distinct from ({staged})::text collate \"C\"")
            }
            TargetType::Float4 => format!("float4send({stored}) is distinct from float4send({staged})"),
            TargetType::Float8 => format!("float8send({stored}) is distinct from float8send({staged})"),
            _ if !self.has_equals_that_differ() => format!("{stored} is distinct from {staged}"),
            _ => format!("{stored}::text is distinct from ({staged})::text"),
        }
    }

    /// Whether `=` may hold, or be missing, for values that read differently: such a column of a key is written with the rest
    /// of its row.
    pub(crate) fn has_equals_that_differ(&self) -> bool {
        match self {
            TargetType::Float4 | TargetType::Float8 | TargetType::Text { .. } => true,
            TargetType::Json | TargetType::Jsonb | TargetType::Other | TargetType::Unfit => true,
            TargetType::Array(element) => element.has_equals_that_differ(),
            _ => false,
        }
    }

    /// The SQL of a key value as it stands in `starlift.retracted`.
    ///
    /// It must read the same in every session, whatever its settings, because the views compare with it: so no zone,
    /// no `bytea_output`, no `extra_float_digits`, and no blanks at the end of a `char(n)`. Of a type that is held by its bits
    /// this is what earlier versions wrote: see [`super::key_type`].
    pub(crate) fn key_json(&self, value: &str) -> String {
        match self {
            TargetType::Text { .. } | TargetType::Enum(_) | TargetType::Uuid => format!("({value})::text"),
            TargetType::TimestampTz(_) => format!("({value}) at time zone 'UTC'"),
            TargetType::Bytea => format!("encode({value}, 'hex')"),
            // A zero is added because it makes -0, which is the same key, a plain 0.
            TargetType::Float4 | TargetType::Float8 => format!("encode(float8send({value} + 0), 'hex')"),
            _ => value.to_string(),
        }
    }
}

/// Precision and scale of a numeric's modifier: `((precision << 16) | (scale & 0x7ff)) + 4`, the scale being a signed
/// number of 11 bits (PostgreSQL, src/backend/utils/adt/numeric.c, `numeric_typmod_scale`).
fn numeric_limits(typmod: i32) -> Option<(i32, i32)> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    Some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(oid: u32, typmod: i32) -> TargetType {
        TargetType::from_catalog(TypeEntry { oid, kind: 'b', category: 'X', name: "" }, typmod, None)
    }

    #[test]
    fn modifiers_become_limits() {
        assert_eq!(of(1700, -1), TargetType::Numeric(None));
        assert_eq!(of(1700, ((10 << 16) | 2) + 4), TargetType::Numeric(Some((10, 2))));
        // numeric(3,-2) of PostgreSQL 15.
        assert_eq!(of(1700, ((3 << 16) | (-2 & 0x7ff)) + 4), TargetType::Numeric(Some((3, -2))));
        assert_eq!(of(1043, 7), TargetType::Text { max_chars: Some(3), padded: false });
        assert_eq!(of(1042, 9), TargetType::Text { max_chars: Some(5), padded: true });
        assert_eq!(of(25, -1), TargetType::Text { max_chars: None, padded: false });
        assert_eq!(of(1083, 0), TargetType::Time(Some(0)));
        assert_eq!(of(1114, -1), TargetType::Timestamp(None));
    }

    #[test]
    fn arrays_enums_and_extension_types_are_told_by_their_entry() {
        let array = TypeEntry { oid: 1231, kind: 'b', category: 'A', name: "" };
        let element = TypeEntry { oid: 1700, kind: 'b', category: 'N', name: "" };
        let limits = ((5 << 16) | 1) + 4;
        assert_eq!(
            TargetType::from_catalog(array, limits, Some(element)),
            TargetType::Array(Box::new(TargetType::Numeric(Some((5, 1)))))
        );
        let own = |kind, category| {
            TargetType::from_catalog(TypeEntry { oid: 99_999, kind, category, name: "mood" }, -1, None)
        };
        assert_eq!(own('e', 'E'), TargetType::Enum("mood".into()));
        assert_eq!(own('b', 'S'), TargetType::Text { max_chars: None, padded: false });
        assert_eq!(own('b', 'G'), TargetType::Other);
        assert_eq!(own('r', 'R'), TargetType::Other);
        assert_eq!(of(600, -1), TargetType::Other);
        assert_eq!(of(1186, -1), TargetType::Other);
        // interval(0), name, money.
        for (oid, typmod) in [(1186, 2_147_418_112), (19, -1), (790, -1)] {
            assert_eq!(of(oid, typmod), TargetType::Unfit, "{oid}");
        }
    }

    #[test]
    fn what_is_made_of_parts_that_cut_or_round_takes_no_text() {
        let own = |kind, category| TypeEntry { oid: 99_999, kind, category, name: "own" };
        let of_own = |part| TargetType::from_catalog(own('b', 'A'), -1, Some(part));
        assert_eq!(TargetType::from_catalog(own('c', 'C'), -1, None), TargetType::Unfit);
        for unfit in [own('c', 'C'), own('d', 'S'), own('b', 'A'), own('r', 'R')] {
            assert_eq!(of_own(unfit), TargetType::Array(Box::new(TargetType::Unfit)), "{unfit:?}");
        }
        let built_in = TypeEntry { oid: 3906, kind: 'r', category: 'R', name: "numrange" };
        assert_eq!(of_own(built_in), TargetType::Array(Box::new(TargetType::Other)));
        let numeric = TypeEntry { oid: 1700, kind: 'b', category: 'N', name: "numeric" };
        let range = |part, typmod| TargetType::from_catalog(own('r', 'R'), typmod, Some(part));
        assert_eq!(range(numeric, -1), TargetType::Other);
        assert_eq!(range(numeric, ((10 << 16) | 2) + 4), TargetType::Unfit, "a range of a domain over numeric(10,2)");
        assert_eq!(range(own('c', 'C'), -1), TargetType::Unfit);
    }

    #[test]
    fn types_whose_equal_values_may_read_differently_are_compared_as_they_read() {
        for plain in [TargetType::Int4, TargetType::Numeric(None), TargetType::Array(Box::new(TargetType::Int4))] {
            assert_eq!(plain.differs("t.a", "s.a"), "t.a is distinct from s.a");
        }
        let floats = TargetType::Array(Box::new(TargetType::Float8));
        for odd in [TargetType::Json, TargetType::Jsonb, TargetType::Other, floats] {
            assert_eq!(odd.differs("t.a", "s.a"), "t.a::text is distinct from (s.a)::text");
        }
        assert!(TargetType::Float8.differs("t.a", "s.a").contains("float8send(t.a)"));
        assert!(of(25, -1).differs("t.a", "s.a").contains("collate \"C\""));
    }

    #[test]
    fn a_key_reads_the_same_in_every_session() {
        assert_eq!(TargetType::Int4.key_json("t.id"), "t.id");
        assert_eq!(TargetType::TimestampTz(None).key_json("t.at"), "(t.at) at time zone 'UTC'");
        assert_eq!(TargetType::Bytea.key_json("t.b"), "encode(t.b, 'hex')");
        assert_eq!(of(1042, 9).key_json("t.c"), "(t.c)::text");
    }
}
