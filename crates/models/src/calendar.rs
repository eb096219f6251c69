//! The rows of a `kind: calendar` model: one a day, made from the `[calendar]` setting alone.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::Date32Type;
use chrono::{Datelike, NaiveDate};
use starlift_core::{Column, ColumnType, Error, Result, TableSchema};

/// The years that a calendar may hold; the last one can only be an end.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=2200;
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Every day from 1 January of a start year up to but not including 1 January of an end year, one batch a year.
///
/// Columns: `date_id` (the key), `year`, `month`, `day`, `day_of_week` (Monday = 0), `day_name`, `month_name`,
/// `quarter`; none may be null. Names are English.
///
/// Errors: Config where a year is not within 1900 to 2200, or the end is not after the start.
pub fn calendar(start_year: i32, end_year: i32) -> Result<(TableSchema, Vec<RecordBatch>)> {
    if !YEARS.contains(&start_year) || !YEARS.contains(&end_year) || start_year >= end_year {
        return Err(Error::config("the calendar cannot be made")
            .with_detail(format!("it goes from {start_year} up to but not including {end_year}"))
            .with_hint("set `start_year` and a later `end_year` under `[calendar]`, both within 1900 and 2200"));
    }
    let schema = schema();
    let batches = (start_year..end_year).map(|year| days_of(year, &schema)).collect::<Result<_>>()?;
    Ok((schema, batches))
}

fn schema() -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        nullable: false,
        declared: None,
        labels: vec![],
    };
    TableSchema {
        columns: vec![
            column("date_id", ColumnType::Date),
            column("year", ColumnType::Int4),
            column("month", ColumnType::Int4),
            column("day", ColumnType::Int4),
            column("day_of_week", ColumnType::Int4),
            column("day_name", ColumnType::Text),
            column("month_name", ColumnType::Text),
            column("quarter", ColumnType::Int4),
        ],
        key: vec!["date_id".into()],
        oid: None,
        partitions: vec![],
        attributes: vec![],
    }
}

fn days_of(year: i32, schema: &TableSchema) -> Result<RecordBatch> {
    let first = NaiveDate::from_ymd_opt(year, 1, 1);
    let days: Vec<NaiveDate> =
        first.into_iter().flat_map(|day| day.iter_days()).take_while(|day| day.year() == year).collect();
    let numbers = |number: fn(&NaiveDate) -> u32| -> ArrayRef {
        Arc::new(Int32Array::from_iter_values(days.iter().map(|day| number(day) as i32)))
    };
    let names = |name: fn(&NaiveDate) -> Option<&&'static str>| -> ArrayRef {
        Arc::new(StringArray::from_iter(days.iter().map(|day| name(day).copied())))
    };
    let columns = vec![
        Arc::new(Date32Array::from_iter_values(days.iter().map(|day| Date32Type::from_naive_date(*day)))) as ArrayRef,
        Arc::new(Int32Array::from_iter_values(days.iter().map(NaiveDate::year))),
        numbers(NaiveDate::month),
        numbers(NaiveDate::day),
        numbers(|day| day.weekday().num_days_from_monday()),
        names(|day| DAYS.get(day.weekday().num_days_from_monday() as usize)),
        names(|day| MONTHS.get(day.month0() as usize)),
        numbers(|day| day.month0() / 3 + 1),
    ];
    RecordBatch::try_new(schema.to_arrow(), columns)
        .map_err(|error| Error::internal("the calendar cannot be made").with_source(error))
}
