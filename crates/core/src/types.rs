//! The types of columns that starlift carries, and what each one is in Arrow (and so in Parquet).
//!
//! A domain is carried as its base type, an enum as its label. What is not here is refused by name, never dropped.
//! docs/types.md has the table for users.

use std::fmt;
use std::str::FromStr;

use arrow_schema::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// The most digits of a `numeric` that fit Arrow's 128-bit decimal.
pub const MAX_PRECISION: u8 = 38;
/// Digits after the point of a `numeric` that was declared without precision, unless its column says otherwise.
pub const DEFAULT_SCALE: u8 = 10;
/// Field metadata that keeps what Arrow's type alone cannot say (`uuid`, `json` and `jsonb` travel as text).
pub const TYPE_METADATA: &str = "starlift.type";

/// What a column holds, on every leg of its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ColumnType {
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
    /// `numeric`, as an exact decimal of at most 38 digits, `scale` of them after the point
    Numeric {
        /// All digits, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// `text`, `varchar`, `char`, `name`, enums, and whatever a project reads as text
    Text,
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time` without zone, in microseconds of the day
    Time,
    /// `timestamp` without zone, in microseconds
    Timestamp,
    /// `timestamp` with time zone, in microseconds UTC
    TimestampTz,
    /// `uuid`, as its canonical text
    Uuid,
    /// `json`, as its text
    Json,
    /// `jsonb`, as PostgreSQL's text of it
    Jsonb,
    /// An array of one dimension with lower bound 1
    Array(Box<ColumnType>),
}

impl ColumnType {
    /// The Arrow type that holds it.
    pub fn to_arrow(&self) -> DataType {
        match self {
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Int2 => DataType::Int16,
            ColumnType::Int4 => DataType::Int32,
            ColumnType::Int8 => DataType::Int64,
            ColumnType::Float4 => DataType::Float32,
            ColumnType::Float8 => DataType::Float64,
            ColumnType::Numeric { precision, scale } => DataType::Decimal128(*precision, *scale as i8),
            ColumnType::Text | ColumnType::Uuid | ColumnType::Json | ColumnType::Jsonb => DataType::Utf8,
            ColumnType::Bytea => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Array(element) => DataType::List(element.to_field("item", true).into()),
        }
    }

    /// The Arrow field of a column of this type, with the metadata that [`ColumnType::from_field`] reads.
    pub fn to_field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.to_arrow(), nullable);
        match self {
            ColumnType::Uuid | ColumnType::Json | ColumnType::Jsonb => {
                field.with_metadata([(TYPE_METADATA.to_string(), self.to_string())].into())
            }
            _ => field,
        }
    }

    /// The type of an Arrow field, such as a model yields; none where starlift cannot carry it.
    pub fn from_field(field: &Field) -> Option<ColumnType> {
        if let (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Some(name)) =
            (field.data_type(), field.metadata().get(TYPE_METADATA))
        {
            return name.parse().ok();
        }
        Self::from_arrow(field.data_type())
    }

    fn from_arrow(arrow: &DataType) -> Option<ColumnType> {
        Some(match arrow {
            DataType::Boolean => ColumnType::Bool,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => ColumnType::Int2,
            DataType::UInt16 | DataType::Int32 => ColumnType::Int4,
            DataType::UInt32 | DataType::Int64 => ColumnType::Int8,
            DataType::UInt64 => ColumnType::Numeric { precision: 20, scale: 0 },
            DataType::Float32 => ColumnType::Float4,
            DataType::Float64 => ColumnType::Float8,
            DataType::Decimal128(precision, scale) if *scale >= 0 && *scale as u8 <= *precision => {
                ColumnType::Numeric { precision: *precision, scale: *scale as u8 }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Bytea,
            DataType::Date32 => ColumnType::Date,
            DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
            DataType::Timestamp(_, None) => ColumnType::Timestamp,
            DataType::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
            DataType::List(item) | DataType::LargeList(item) => {
                let element = Self::from_field(item)?;
                if matches!(element, ColumnType::Array(_)) {
                    return None;
                }
                ColumnType::Array(Box::new(element))
            }
            _ => return None,
        })
    }

    /// The PostgreSQL type that holds every value of it without rounding: what a staging table uses.
    pub fn postgres_type(&self) -> String {
        match self {
            ColumnType::Bool => "boolean".into(),
            ColumnType::Int2 => "smallint".into(),
            ColumnType::Int4 => "integer".into(),
            ColumnType::Int8 => "bigint".into(),
            ColumnType::Float4 => "real".into(),
            ColumnType::Float8 => "double precision".into(),
            ColumnType::Numeric { .. } => "numeric".into(),
            ColumnType::Text => "text".into(),
            ColumnType::Bytea => "bytea".into(),
            ColumnType::Date => "date".into(),
            ColumnType::Time => "time".into(),
            ColumnType::Timestamp => "timestamp".into(),
            ColumnType::TimestampTz => "timestamptz".into(),
            ColumnType::Uuid => "uuid".into(),
            ColumnType::Json => "json".into(),
            ColumnType::Jsonb => "jsonb".into(),
            ColumnType::Array(element) => format!("{}[]", element.postgres_type()),
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int2 => f.write_str("int2"),
            ColumnType::Int4 => f.write_str("int4"),
            ColumnType::Int8 => f.write_str("int8"),
            ColumnType::Float4 => f.write_str("float4"),
            ColumnType::Float8 => f.write_str("float8"),
            ColumnType::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Bytea => f.write_str("bytea"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Time => f.write_str("time"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::TimestampTz => f.write_str("timestamptz"),
            ColumnType::Uuid => f.write_str("uuid"),
            ColumnType::Json => f.write_str("json"),
            ColumnType::Jsonb => f.write_str("jsonb"),
            ColumnType::Array(element) => write!(f, "{element}[]"),
        }
    }
}

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(element) = text.strip_suffix("[]") {
            return Ok(ColumnType::Array(Box::new(element.parse()?)));
        }
        if let Some(arguments) = text.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')) {
            let digits = arguments.split_once(',').and_then(|(p, s)| Some((p.parse().ok()?, s.parse().ok()?)));
            return match digits {
                Some((precision, scale)) if (1..=MAX_PRECISION).contains(&precision) && scale <= precision => {
                    Ok(ColumnType::Numeric { precision, scale })
                }
                _ => Err(format!("`{text}` is no numeric type of at most {MAX_PRECISION} digits")),
            };
        }
        Ok(match text {
            "bool" => ColumnType::Bool,
            "int2" => ColumnType::Int2,
            "int4" => ColumnType::Int4,
            "int8" => ColumnType::Int8,
            "float4" => ColumnType::Float4,
            "float8" => ColumnType::Float8,
            "text" => ColumnType::Text,
            "bytea" => ColumnType::Bytea,
            "date" => ColumnType::Date,
            "time" => ColumnType::Time,
            "timestamp" => ColumnType::Timestamp,
            "timestamptz" => ColumnType::TimestampTz,
            "uuid" => ColumnType::Uuid,
            "json" => ColumnType::Json,
            "jsonb" => ColumnType::Jsonb,
            _ => return Err(format!("`{text}` is no column type")),
        })
    }
}

impl TryFrom<String> for ColumnType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ColumnType> for String {
    fn from(column_type: ColumnType) -> String {
        column_type.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_type() -> Vec<ColumnType> {
        let mut types = vec![
            ColumnType::Bool,
            ColumnType::Int2,
            ColumnType::Int4,
            ColumnType::Int8,
            ColumnType::Float4,
            ColumnType::Float8,
            ColumnType::Numeric { precision: 38, scale: 10 },
            ColumnType::Text,
            ColumnType::Bytea,
            ColumnType::Date,
            ColumnType::Time,
            ColumnType::Timestamp,
            ColumnType::TimestampTz,
            ColumnType::Uuid,
            ColumnType::Json,
            ColumnType::Jsonb,
        ];
        types.extend(types.clone().into_iter().map(|t| ColumnType::Array(Box::new(t))));
        types
    }

    #[test]
    fn every_type_survives_its_text_and_its_arrow_field() {
        for column_type in every_type() {
            assert_eq!(column_type.to_string().parse(), Ok(column_type.clone()));
            assert_eq!(ColumnType::from_field(&column_type.to_field("c", true)), Some(column_type));
        }
    }

    #[test]
    fn a_numeric_that_no_decimal128_holds_is_no_type() {
        for text in ["numeric(39,0)", "numeric(0,0)", "numeric(5,6)", "numeric(5)", "numeric()", "money"] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }
}
