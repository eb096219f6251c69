//! From PostgreSQL's types to ours: through domains to their base types, through arrays to their elements.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use starlift_core::model::nearest;
use starlift_core::schema::names_digest;
use starlift_core::types::{DEFAULT_SCALE, MAX_PRECISION};
use starlift_core::{Column, ColumnType, Error, Result};

use super::settings::ColumnSetting;
use super::{UnsupportedColumn, shows_names};

/// A column as `pg_attribute` has it.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) typmod: i32,
    pub(super) not_null: bool,
    pub(super) declared: String,
    /// `attnum`, which is never given twice.
    pub(super) number: i16,
    /// How many dimensions an array was declared with; PostgreSQL does not hold values to that.
    pub(super) dimensions: i32,
    /// How the values of a virtual generated column are computed when they are read: no row shows that this changed.
    pub(super) computed: Option<String>,
}

/// A type as `pg_type` has it.
#[derive(Debug, Clone, Default)]
pub(super) struct PgType {
    pub(super) name: String,
    /// Whether it is one of `pg_catalog`, so that its name says what it is.
    pub(super) built_in: bool,
    /// `typtype`: `d` for a domain, `e` for an enum.
    pub(super) class: char,
    pub(super) base: u32,
    pub(super) base_typmod: i32,
    /// The element's type, for a true array; 0 else.
    pub(super) element: u32,
    pub(super) labels: Vec<String>,
    /// The types that its values are made of: base, element, fields, bounds.
    pub(super) parts: Vec<u32>,
    /// The fields of a composite type, with their numbers, which are never given twice, and types.
    pub(super) fields: Vec<String>,
    /// The rows of the catalog that name its labels or fields, each with its `xmin`.
    pub(super) versions: Vec<String>,
    /// Casts that somebody made to `text` or `text[]`: the target, then the cast's row of the catalog with its `xmin`.
    pub(super) casts: Vec<String>,
    /// Whether somebody made one to json, which a document then shows.
    pub(super) is_cast_to_json: bool,
}

pub(super) type Types = HashMap<u32, PgType>;

pub(super) struct Resolved {
    pub(super) columns: Vec<Column>,
    /// The number of each of the columns.
    pub(super) attributes: Vec<i16>,
    /// Which version the labels and fields in them have.
    pub(super) names: Option<String>,
    pub(super) unsupported: Vec<UnsupportedColumn>,
    /// Those of the columns whose documents may be the same for different values.
    pub(super) vague: BTreeSet<String>,
}

/// The most domains over one another that are followed; PostgreSQL allows no circle.
const MAX_DOMAINS: usize = 64;

/// The columns of a table, with the settings that the project has for them.
///
/// # Errors
/// Config for a setting whose column does not exist, or that does not fit its column.
pub(super) fn columns(
    table: &str,
    attributes: &[Attribute],
    types: &Types,
    settings: &BTreeMap<String, ColumnSetting>,
) -> Result<Resolved> {
    if let Some(wrong) = settings.keys().find(|name| !attributes.iter().any(|a| a.name == **name)) {
        let error = Error::config(format!("table `{table}` has no column `{wrong}`"))
            .with_detail("starlift.toml has a setting for it")
            .with_context("table", table);
        return Err(match nearest(wrong, attributes.iter().map(|a| a.name.as_str())) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("remove the setting, or give it the name of a column"),
        });
    }
    let mut resolved = Resolved {
        columns: Vec::new(),
        attributes: Vec::new(),
        names: None,
        unsupported: Vec::new(),
        vague: BTreeSet::new(),
    };
    let mut versions = Vec::new();
    for attribute in attributes {
        let setting = settings.get(&attribute.name).copied();
        match resolve(table, attribute, types, setting)? {
            Some((column_type, mut labels)) => {
                labels.extend(attribute.computed.clone());
                let parts = within(attribute.type_oid, types);
                let column = Column {
                    name: attribute.name.clone(),
                    column_type,
                    nullable: !attribute.not_null,
                    declared: Some(attribute.declared.clone()),
                    labels,
                };
                if is_vague(&column.column_type, &parts) {
                    resolved.vague.insert(column.name.clone());
                }
                if shows_names(&column) {
                    versions.extend(casts(&column.column_type, attribute, types));
                }
                versions.extend(parts.into_iter().flat_map(|part| &part.versions));
                resolved.attributes.push(attribute.number);
                resolved.columns.push(column);
            }
            None => resolved.unsupported.push(UnsupportedColumn {
                table: table.to_string(),
                column: attribute.name.clone(),
                declared: attribute.declared.clone(),
            }),
        }
    }
    resolved.names = names_digest(versions.into_iter().map(String::as_str));
    Ok(resolved)
}

fn resolve(
    table: &str,
    attribute: &Attribute,
    types: &Types,
    setting: Option<ColumnSetting>,
) -> Result<Option<(ColumnType, Vec<String>)>> {
    let parts = within(attribute.type_oid, types);
    let labels = labels(&parts);
    if setting == Some(ColumnSetting::AsText) {
        return Ok(Some((ColumnType::Text, labels)));
    }
    let Some((base, typmod)) = base_of(attribute.type_oid, attribute.typmod, types) else { return Ok(None) };
    let (scalar, typmod, is_array) = match base.element {
        0 => (base, typmod, false),
        // A modifier of an array is that of its elements.
        element => match base_of(element, typmod, types) {
            Some((scalar, typmod)) => (scalar, typmod, true),
            None => return Ok(None),
        },
    };
    let scalar_type = match setting {
        None => scalar_type_of(scalar, typmod),
        Some(setting) => Some(with_setting(table, attribute, scalar, setting)?),
    };
    // A document shows its fields as they show themselves: the name of another object in one goes stale there too.
    if setting.is_none() && parts.iter().any(|part| part.class == 'b' && scalar_type_of(part, -1).is_none()) {
        return Ok(None);
    }
    let wrap = |scalar_type: ColumnType| match is_array {
        // One document for the whole array.
        true if scalar.class == 'c' => ColumnType::Json,
        // A list has one dimension; the text of an array has them all.
        true if attribute.dimensions > 1 || scalar.element != 0 => ColumnType::Text,
        true => ColumnType::Array(Box::new(scalar_type)),
        false => scalar_type,
    };
    Ok(scalar_type.map(|scalar_type| (wrap(scalar_type), labels)))
}

/// The type under all domains, with the modifier that counts.
fn base_of(oid: u32, typmod: i32, types: &Types) -> Option<(&PgType, i32)> {
    let (mut oid, mut typmod) = (oid, typmod);
    for _ in 0..MAX_DOMAINS {
        let found = types.get(&oid)?;
        if found.class != 'd' {
            return Some((found, typmod));
        }
        oid = found.base;
        if found.base_typmod >= 0 {
            typmod = found.base_typmod;
        }
    }
    None
}

/// The labels of all enums, and the fields of all composite types, that a value of this type may show: a renamed one
/// changes no `xmin`, but every value; as does a field that is dropped and added again, which is empty everywhere.
fn labels(parts: &[&PgType]) -> Vec<String> {
    parts.iter().flat_map(|part| part.labels.iter().chain(&part.fields)).cloned().collect()
}

/// The casts that a conversion of the column to `text`, or `text[]`, would follow. Before columns were read by the output
/// functions of their types ([`shows_names`]), their texts were what these casts gave; what a state holds of that is read again.
fn casts<'a>(column_type: &ColumnType, attribute: &Attribute, types: &'a Types) -> Vec<&'a String> {
    let to = |oid: u32, target: &str| -> Vec<&'a String> {
        let base = base_of(oid, -1, types).map(|(base, _)| base);
        let is_to = |cast: &&String| cast.strip_prefix(target).is_some_and(|rest| rest.starts_with(' '));
        base.into_iter().flat_map(|base| &base.casts).filter(is_to).collect()
    };
    let own = base_of(attribute.type_oid, -1, types).map(|(base, _)| base);
    match (column_type, own) {
        (ColumnType::Array(_), Some(array)) => [to(attribute.type_oid, "text[]"), to(array.element, "text")].concat(),
        _ => to(attribute.type_oid, "text"),
    }
}

/// Whether a column is a document of composite values which different values may share: it shows a `null` of json as it shows a
/// missing value, and an array without its bounds; and what a cast to json makes of a value, only its owner knows.
fn is_vague(column_type: &ColumnType, parts: &[&PgType]) -> bool {
    let is_document = *column_type == ColumnType::Json && parts.iter().any(|part| part.class == 'c');
    let hides = |part: &&PgType| {
        let is_json = part.built_in && matches!(part.name.as_str(), "json" | "jsonb");
        is_json || part.element != 0 || (part.class != 'c' && part.is_cast_to_json)
    };
    is_document && parts.iter().any(hides)
}

/// A type, and all types that its values are made of.
fn within(oid: u32, types: &Types) -> Vec<&PgType> {
    let (mut seen, mut next, mut parts) = (BTreeSet::new(), vec![oid], Vec::new());
    while let Some(oid) = next.pop() {
        if let Some(found) = types.get(&oid).filter(|_| seen.insert(oid)) {
            parts.push(found);
            next.extend(&found.parts);
        }
    }
    parts
}

/// Types of PostgreSQL's own that are carried as their text, which is the same in every session with the settings that a
/// session on the source has (`extract/statement.rs`), and from which the server makes an equal value again.
const AS_TEXT: [&str; 34] = [
    "bit",
    "box",
    "bpchar",
    "char",
    "cid",
    "cidr",
    "circle",
    "inet",
    "int2vector",
    "interval",
    "jsonpath",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "name",
    "oidvector",
    "path",
    "pg_lsn",
    "pg_snapshot",
    "point",
    "polygon",
    "refcursor",
    "text",
    "tid",
    "timetz",
    "tsquery",
    "tsvector",
    "txid_snapshot",
    "varbit",
    "varchar",
    "xid",
    "xid8",
    "xml",
];

/// The type that carries a type which is no array. None where it cannot be carried: its text names other objects of the
/// database and changes with them while no row does (`regclass`, `aclitem`), or it is a numeric of too many digits, or
/// PostgreSQL keeps it for itself (`pg_node_tree`).
fn scalar_type_of(found: &PgType, typmod: i32) -> Option<ColumnType> {
    match found.class {
        // An array within an array, through a domain.
        _ if found.element != 0 => return Some(ColumnType::Text),
        'c' => return Some(ColumnType::Json),
        // Ranges and multiranges, and types of extensions.
        'e' | 'r' | 'm' => return Some(ColumnType::Text),
        'b' if !found.built_in => return Some(ColumnType::Text),
        _ if !found.built_in => return None,
        _ => {}
    }
    Some(match found.name.as_str() {
        "bool" => ColumnType::Bool,
        "int2" => ColumnType::Int2,
        "int4" => ColumnType::Int4,
        "int8" => ColumnType::Int8,
        "float4" => ColumnType::Float4,
        "float8" => ColumnType::Float8,
        "numeric" => return numeric(typmod),
        // Its amount; two digits after the point are those of `lc_monetary = C`, which the session has.
        "money" => ColumnType::Numeric { precision: 19, scale: 2 },
        "oid" => ColumnType::Int8,
        "bytea" => ColumnType::Bytea,
        "date" => ColumnType::Date,
        "time" => ColumnType::Time,
        "timestamp" => ColumnType::Timestamp,
        "timestamptz" => ColumnType::TimestampTz,
        "uuid" => ColumnType::Uuid,
        "json" => ColumnType::Json,
        "jsonb" => ColumnType::Jsonb,
        name if AS_TEXT.contains(&name) => ColumnType::Text,
        _ => return None,
    })
}

/// The decimal of a numeric's modifier (`make_numeric_typmod` in the server's `numeric.c`): precision in the upper half,
/// scale in the lower 11 bits, signed since PostgreSQL 15.
fn numeric(typmod: i32) -> Option<ColumnType> {
    if typmod < 4 {
        return Some(ColumnType::Numeric { precision: MAX_PRECISION, scale: DEFAULT_SCALE });
    }
    let packed = typmod - 4;
    let precision = (packed >> 16) & 0xffff;
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    // numeric(3,-2) holds up to 99900, five digits; numeric(2,4) holds up to 0.0099, four digits after the point.
    let (precision, scale) = if scale < 0 { (precision - scale, 0) } else { (precision.max(scale), scale) };
    let precision = u8::try_from(precision).ok().filter(|p| (1..=MAX_PRECISION).contains(p))?;
    Some(ColumnType::Numeric { precision, scale: u8::try_from(scale).ok()? })
}

fn with_setting(table: &str, attribute: &Attribute, scalar: &PgType, setting: ColumnSetting) -> Result<ColumnType> {
    let name = &attribute.name;
    let bad = |detail: String, hint: String| {
        Error::config(format!("the setting for column `{name}` of table `{table}` cannot be used"))
            .with_detail(detail)
            .with_hint(hint)
            .with_context("table", table)
            .with_context("column", name.clone())
    };
    if !(scalar.built_in && scalar.name == "numeric") {
        return Err(bad(
            format!("`numeric` is for numeric columns, and this one is `{}`", attribute.declared),
            format!("remove the setting, or set `columns.{name} = {{ as = \"text\" }}`"),
        ));
    }
    match setting {
        ColumnSetting::Decimal { precision, scale }
            if (1..=MAX_PRECISION).contains(&precision) && scale <= precision =>
        {
            Ok(ColumnType::Numeric { precision, scale })
        }
        ColumnSetting::Decimal { precision, scale } => Err(bad(
            format!("decimal({precision},{scale}) is no decimal of at most {MAX_PRECISION} digits"),
            format!("set `columns.{name} = {{ numeric = \"decimal(38,10)\" }}`"),
        )),
        ColumnSetting::NumericText | ColumnSetting::AsText => Ok(ColumnType::Text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modifier that PostgreSQL makes of numeric(precision, scale).
    fn modifier(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn a_numerics_modifier_gives_digits_that_hold_every_value() {
        let decimal = |precision, scale| Some(ColumnType::Numeric { precision, scale });
        for (typmod, expected) in [
            (-1, decimal(38, 10)),
            (modifier(10, 2), decimal(10, 2)),
            (modifier(38, 38), decimal(38, 38)),
            (modifier(3, -2), decimal(5, 0)),
            (modifier(2, 4), decimal(4, 4)),
            (modifier(39, 0), None),
            (modifier(30, -9), None),
            (modifier(5, 39), None),
            (modifier(1000, 1000), None),
        ] {
            assert_eq!(numeric(typmod), expected, "{typmod}");
        }
    }

    fn types() -> Types {
        let built_in =
            |name: &str| PgType { name: name.into(), built_in: true, class: 'b', base_typmod: -1, ..PgType::default() };
        let domain = |base, base_typmod| PgType { class: 'd', base, base_typmod, ..PgType::default() };
        [
            (1, built_in("numeric")),
            (2, domain(1, modifier(10, 2))),
            (3, domain(2, -1)),
            (4, PgType { element: 3, ..built_in("_price") }),
            (5, built_in("regclass")),
            (6, PgType { class: 'e', labels: vec!["sad".into()], ..PgType::default() }),
            (7, PgType { name: "numeric".into(), class: 'b', ..PgType::default() }),
            (8, domain(4, -1)),
            (9, PgType { element: 8, ..built_in("_array") }),
            (10, domain(10, -1)),
        ]
        .into()
    }

    fn attribute(type_oid: u32) -> Attribute {
        Attribute {
            name: "c".into(),
            type_oid,
            typmod: -1,
            not_null: false,
            declared: "declared".into(),
            number: 1,
            dimensions: 1,
            computed: None,
        }
    }

    fn resolved(type_oid: u32, setting: Option<ColumnSetting>) -> Option<ColumnType> {
        resolve("t", &attribute(type_oid), &types(), setting).unwrap().map(|(column_type, _)| column_type)
    }

    #[test]
    fn domains_and_arrays_lead_to_their_base_types() {
        let price = ColumnType::Numeric { precision: 10, scale: 2 };
        assert_eq!(resolved(3, None), Some(price.clone()));
        assert_eq!(resolved(4, None), Some(ColumnType::Array(Box::new(price.clone()))));
        assert_eq!(resolved(8, None), Some(ColumnType::Array(Box::new(price))));
        assert_eq!(resolve("t", &attribute(6), &types(), None).unwrap(), Some((ColumnType::Text, vec!["sad".into()])));
    }

    #[test]
    fn what_no_list_holds_is_carried_as_text_and_composites_as_documents() {
        let mut types = types();
        types.insert(20, PgType { class: 'c', fields: vec!["1 a integer".into()], ..PgType::default() });
        types.insert(21, PgType { class: 'b', element: 20, parts: vec![20], ..PgType::default() });
        types.insert(22, PgType { class: 'r', built_in: true, ..PgType::default() });
        let of = |attribute: Attribute| resolve("t", &attribute, &types, None).unwrap();
        for oid in [20, 21] {
            assert_eq!(of(attribute(oid)), Some((ColumnType::Json, vec!["1 a integer".to_string()])));
        }
        assert_eq!(of(attribute(22)), Some((ColumnType::Text, vec![])));
        // Extensions, arrays of arrays, arrays of two dimensions.
        for grid in [attribute(7), attribute(9), Attribute { dimensions: 2, ..attribute(4) }] {
            assert_eq!(of(grid), Some((ColumnType::Text, vec![])));
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for type_oid in [5, 10, 99] {
            assert_eq!(resolved(type_oid, None), None, "{type_oid}");
            assert_eq!(resolved(type_oid, Some(ColumnSetting::AsText)), Some(ColumnType::Text));
        }
    }

    #[test]
    fn a_column_that_is_read_as_text_keeps_the_labels_of_every_enum_in_it() {
        let mut types = types();
        // A composite type of a mood and an array of such composites.
        types.insert(20, PgType { class: 'c', parts: vec![6, 21], ..PgType::default() });
        types.insert(21, PgType { class: 'b', element: 20, parts: vec![20], ..PgType::default() });
        for type_oid in [6, 20, 21] {
            let found = resolve("t", &attribute(type_oid), &types, Some(ColumnSetting::AsText)).unwrap();
            assert_eq!(found, Some((ColumnType::Text, vec!["sad".to_string()])), "{type_oid}");
        }
    }

    #[test]
    fn how_a_column_is_computed_belongs_to_what_its_values_look_like() {
        let computed = |by: Option<&str>| Attribute { computed: by.map(str::to_string), ..attribute(6) };
        let labels = |by| columns("t", &[computed(by)], &types(), &BTreeMap::new()).unwrap().columns[0].labels.clone();
        assert_eq!(labels(None), ["sad"]);
        assert_eq!(labels(Some("(n * 2)")), ["sad", "(n * 2)"]);
    }

    #[test]
    fn casts_that_gave_a_column_its_text_belong_to_its_names_and_no_others() {
        let mut types = types();
        let cast = |target: &str, number: u32| format!("{target} {number} 700");
        types.get_mut(&6).unwrap().casts = vec![cast("text", 1)];
        types.insert(20, PgType { class: 'd', base: 6, base_typmod: -1, parts: vec![6], ..PgType::default() });
        let moods = PgType { class: 'b', element: 6, parts: vec![6], ..PgType::default() };
        types.insert(21, PgType { casts: vec![cast("text", 2), cast("text[]", 3)], ..moods });
        types.insert(22, PgType { class: 'c', parts: vec![6], ..PgType::default() });
        types.insert(23, PgType { class: 'b', casts: vec![cast("text", 4)], ..PgType::default() });
        let of = |oid: u32, dimensions: i32, as_text: bool| {
            let attribute = Attribute { dimensions, declared: "public.t".into(), ..attribute(oid) };
            let setting = as_text.then_some(ColumnSetting::AsText);
            let (column_type, labels) = resolve("t", &attribute, &types, setting).unwrap().unwrap();
            let declared = Some(attribute.declared.clone());
            let column = Column { name: "c".into(), column_type, nullable: true, declared, labels };
            if shows_names(&column) { casts(&column.column_type, &attribute, &types) } else { vec![] }
        };
        assert_eq!(of(6, 0, false), [&cast("text", 1)]);
        assert_eq!(of(20, 0, false), [&cast("text", 1)]);
        assert_eq!(of(21, 1, false), [&cast("text[]", 3), &cast("text", 1)]);
        assert_eq!(of(21, 2, false), [&cast("text", 2)]);
        // Neither as a document nor as a text does a composite value show what a cast makes of its fields.
        assert_eq!([of(22, 0, false), of(22, 0, true)], [[] as [&String; 0]; 2]);
        // An extension's own cast gives its text, as ever.
        assert_eq!(of(23, 0, false), [] as [&String; 0]);
    }

    #[test]
    fn a_document_is_vague_where_a_field_hides_something() {
        let mut types = types();
        let composite = |parts: &[u32]| PgType { class: 'c', parts: parts.to_vec(), ..PgType::default() };
        let json = |name: &str| PgType { name: name.into(), built_in: true, class: 'b', ..PgType::default() };
        types.insert(30, json("jsonb"));
        types.insert(31, json("json"));
        types.insert(32, PgType { class: 'e', is_cast_to_json: true, ..PgType::default() });
        types.insert(33, PgType { class: 'd', base: 30, base_typmod: -1, parts: vec![30], ..PgType::default() });
        types.get_mut(&4).unwrap().parts = vec![3];
        let vague = |parts: &[u32]| {
            let mut types = types.clone();
            types.insert(40, composite(parts));
            types.insert(41, composite(&[40]));
            [40, 41].map(|oid| is_vague(&ColumnType::Json, &within(oid, &types)))
        };
        for exact in [&[1, 2, 6][..], &[], &[7]] {
            assert_eq!(vague(exact), [false, false], "{exact:?}");
        }
        for hides in [30, 31, 32, 33, 4] {
            assert_eq!(vague(&[1, hides]), [true, true], "{hides}");
        }
        assert!(!is_vague(&ColumnType::Json, &within(31, &types)), "json itself is kept as it is");
        assert!(!is_vague(&ColumnType::Text, &[&composite(&[]), &json("jsonb")]), "a text shows all of it");
    }

    #[test]
    fn a_name_of_another_object_is_refused_within_documents_and_texts_too() {
        let mut types = types();
        // A composite of a regclass, an array of it, an array of domains over regclass[].
        types.insert(20, PgType { class: 'c', parts: vec![5], ..PgType::default() });
        types.insert(21, PgType { class: 'b', element: 20, parts: vec![20], ..PgType::default() });
        types.insert(22, PgType { class: 'b', element: 5, parts: vec![5], ..PgType::default() });
        types.insert(23, PgType { class: 'd', base: 22, base_typmod: -1, parts: vec![22], ..PgType::default() });
        types.insert(24, PgType { class: 'b', element: 23, parts: vec![23], ..PgType::default() });
        for oid in [20, 21, 22, 24] {
            assert_eq!(resolve("t", &attribute(oid), &types, None).unwrap(), None, "{oid}");
            let as_text = resolve("t", &attribute(oid), &types, Some(ColumnSetting::AsText)).unwrap();
            assert_eq!(as_text, Some((ColumnType::Text, vec![])));
        }
    }

    #[test]
    fn settings_must_fit_their_column() {
        let decimal = ColumnSetting::Decimal { precision: 38, scale: 4 };
        assert_eq!(resolved(1, Some(decimal)), Some(ColumnType::Numeric { precision: 38, scale: 4 }));
        assert_eq!(resolved(4, Some(ColumnSetting::NumericText)), Some(ColumnType::Array(Box::new(ColumnType::Text))));
        for (type_oid, setting) in
            [(5, decimal), (5, ColumnSetting::NumericText), (1, ColumnSetting::Decimal { precision: 39, scale: 0 })]
        {
            assert!(resolve("t", &attribute(type_oid), &types(), Some(setting)).is_err());
        }
        let wrong = BTreeMap::from([("d".to_string(), decimal)]);
        let error = columns("t", &[attribute(1)], &types(), &wrong).map(|_| ()).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `c`?"));
    }
}
