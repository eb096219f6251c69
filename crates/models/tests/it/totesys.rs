//! The models that ship with starlift, each on a few rows.

use starlift_core::ColumnType;
use starlift_core::model::{Model, ModelGraph, ModelKind};
use starlift_models::{Session, calendar};

use crate::support::{evaluate, lines, session};

macro_rules! shipped {
    ($name:literal) => {
        Model::parse($name, include_str!(concat!("../../../../pipelines/totesys/models/", $name, ".sql"))).unwrap()
    };
}

const STAMPS: &str = "created_at timestamp, last_updated timestamp";
const CREATED: &str = "2022-11-03T14:20:49.962000|2022-11-03T14:20:49.962000";

fn all() -> Vec<Model> {
    vec![
        shipped!("dim_counterparty"),
        shipped!("dim_currency"),
        shipped!("dim_date"),
        shipped!("dim_design"),
        shipped!("dim_location"),
        shipped!("dim_payment_type"),
        shipped!("dim_staff"),
        shipped!("dim_transaction"),
        shipped!("fact_payment"),
        shipped!("fact_purchase_order"),
        shipped!("fact_sales_order"),
    ]
}

/// A session with one table of ToteSys; the stamps are added to its columns and rows.
fn with_tables(tables: &[(&str, &str, &[&str])]) -> Session {
    let stamped: Vec<(&str, String, Vec<String>)> = tables
        .iter()
        .map(|(name, columns, rows)| {
            let rows = rows.iter().map(|row| format!("{row}|{CREATED}")).collect();
            (*name, format!("{columns}, {STAMPS}"), rows)
        })
        .collect();
    let borrowed: Vec<Vec<&str>> =
        stamped.iter().map(|(_, _, rows)| rows.iter().map(String::as_str).collect()).collect();
    let inputs: Vec<(&str, &str, &[&str])> = stamped
        .iter()
        .zip(&borrowed)
        .map(|((name, columns, _), rows)| (*name, columns.as_str(), rows.as_slice()))
        .collect();
    session(&inputs)
}

const ADDRESS: (&str, &str, &[&str]) = (
    "address",
    "address_id int4, address_line_1 text, address_line_2 text null, district text null, city text, postal_code text, \
     country text, phone text",
    &[
        "1|6826 Herzog Via|~|Avon|New Patienceburgh|28441|Turkey|1803 637401",
        "2|0579 Durgan Common|Flat 2|~|Suffolk|56693|Chad|8935 157571",
    ],
);

#[tokio::test]
async fn a_member_of_staff_has_a_department_and_a_missing_location_becomes_empty() {
    let session = with_tables(&[
        (
            "staff",
            "staff_id int4, first_name text, last_name text, department_id int4, email_address text",
            &["1|Jeremie|Franey|2|jeremie@totes.example", "2|Deron|Beier|6|deron@totes.example"],
        ),
        (
            "department",
            "department_id int4, department_name text, location text null, manager text null",
            &["2|Purchasing|Manchester|Naomi", "6|Facilities|~|~"],
        ),
    ]);
    let evaluated = evaluate(&session, &shipped!("dim_staff")).await.unwrap();
    assert_eq!(
        evaluated.rows,
        [
            "1|Jeremie|Franey|Purchasing|Manchester|jeremie@totes.example",
            "2|Deron|Beier|Facilities||deron@totes.example"
        ]
    );
}

#[tokio::test]
async fn an_address_becomes_a_location_and_keeps_its_nulls() {
    let evaluated = evaluate(&with_tables(&[ADDRESS]), &shipped!("dim_location")).await.unwrap();
    assert_eq!(evaluated.rows, ADDRESS.2);
}

#[tokio::test]
async fn a_counterparty_has_its_legal_address() {
    let counterparty = (
        "counterparty",
        "counterparty_id int4, counterparty_legal_name text, legal_address_id int4, commercial_contact text null, \
         delivery_contact text null",
        &["7|Fahey and Sons|2|Micheal Toy|Mrs. Lucy Runolfsdottir", "8|Leannon Ltd|2|~|~"] as &[&str],
    );
    let session = with_tables(&[ADDRESS, counterparty]);
    let evaluated = evaluate(&session, &shipped!("dim_counterparty")).await.unwrap();
    assert_eq!(
        evaluated.rows,
        [
            "7|Fahey and Sons|0579 Durgan Common|Flat 2|~|Suffolk|56693|Chad|8935 157571",
            "8|Leannon Ltd|0579 Durgan Common|Flat 2|~|Suffolk|56693|Chad|8935 157571"
        ]
    );
    let prepared = session.prepare(&shipped!("dim_counterparty")).await.unwrap();
    let nullable: Vec<&str> =
        prepared.schema().columns.iter().filter(|c| c.nullable).map(|c| c.name.as_str()).collect();
    assert_eq!(nullable, ["counterparty_legal_address_line_2", "counterparty_legal_district"]);
}

#[tokio::test]
async fn a_currency_has_its_name_and_an_unknown_code_keeps_itself() {
    let session = with_tables(&[(
        "currency",
        "currency_id int4, currency_code text",
        &["1|GBP", "2|USD", "3|EUR", "4|JPY", "5|ZZZ"],
    )]);
    let names = include_bytes!("../../../../pipelines/totesys/seeds/currency_names.csv");
    session.register_seed("currency_names", names).unwrap();
    let evaluated = evaluate(&session, &shipped!("dim_currency")).await.unwrap();
    assert_eq!(
        evaluated.rows,
        ["1|GBP|Great British Pound", "2|USD|United States Dollar", "3|EUR|Euro", "4|JPY|Yen", "5|ZZZ|ZZZ"]
    );
    // The unknown code is reported by the key of its row.
    let failed: Vec<_> = evaluated.failed_tests.iter().map(|t| (t.0.as_str(), t.1, &t.2)).collect();
    assert_eq!(failed, [("relationships(currency_code -> currency_names)", 1, &vec!["currency_id=5".to_string()])]);
}

#[test]
fn the_seed_of_currencies_names_each_code_once() {
    let names = include_bytes!("../../../../pipelines/totesys/seeds/currency_names.csv");
    let (_, rows) = starlift_models::read_seed("currency_names", names).unwrap();
    let mut codes: Vec<String> = lines(&[rows]).iter().map(|line| line.split('|').next().unwrap().into()).collect();
    assert_eq!(codes.len(), 178);
    codes.dedup();
    assert_eq!(codes.len(), 178);
    assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())));
}

#[tokio::test]
async fn dimensions_of_one_table_take_their_columns() {
    let session = with_tables(&[
        (
            "design",
            "design_id int4, design_name text, file_location text, file_name text",
            &["8|Wooden|/usr|wooden-20220717-npgz.json"],
        ),
        ("payment_type", "payment_type_id int4, payment_type_name text", &["1|SALES_RECEIPT"]),
        (
            "transaction",
            "transaction_id int4, transaction_type text, sales_order_id int4 null, purchase_order_id int4 null",
            &["1|PURCHASE|~|2", "2|SALE|15|~"],
        ),
    ]);
    let rows = async |model: Model| evaluate(&session, &model).await.unwrap().rows;
    assert_eq!(rows(shipped!("dim_design")).await, ["8|Wooden|/usr|wooden-20220717-npgz.json"]);
    assert_eq!(rows(shipped!("dim_payment_type")).await, ["1|SALES_RECEIPT"]);
    assert_eq!(rows(shipped!("dim_transaction")).await, ["1|PURCHASE|~|2", "2|SALE|15|~"]);
}

#[tokio::test]
async fn a_sales_order_becomes_a_fact_with_dates_and_times_to_the_microsecond() {
    let session = session(&[(
        "sales_order",
        "sales_order_id int4, created_at timestamp, last_updated timestamp, design_id int4, staff_id int4, \
         counterparty_id int4, units_sold int4, unit_price numeric(38,10), currency_id int4, agreed_delivery_date text, \
         agreed_payment_date text, agreed_delivery_location_id int4",
        &["2|2022-11-03T14:20:52.186123|1969-12-31T23:59:59.999999|3|19|8|42972|3.94|2|2022-11-07|2022-11-08|8"],
    )]);
    let model = shipped!("fact_sales_order");
    let evaluated = evaluate(&session, &model).await.unwrap();
    assert_eq!(
        evaluated.rows,
        ["2|2022-11-03|14:20:52.186123|1969-12-31|23:59:59.999999|19|8|42972|3.9400000000|2|3|2022-11-08|2022-11-07|8"]
    );
    let prepared = session.prepare(&model).await.unwrap();
    assert_eq!(prepared.warnings(), [] as [String; 0]);
    let schema = prepared.schema();
    assert_eq!(schema.key, ["sales_order_id"]);
    assert!(schema.columns.iter().all(|column| !column.nullable), "{schema:?}");
    assert_eq!(schema.column("created_time").unwrap().column_type, ColumnType::Time);
    assert_eq!(schema.column("unit_price").unwrap().column_type, ColumnType::Numeric { precision: 38, scale: 10 });
}

#[tokio::test]
async fn a_purchase_order_becomes_a_fact() {
    let session = with_tables(&[(
        "purchase_order",
        "purchase_order_id int4, staff_id int4, counterparty_id int4, item_code text, item_quantity int4, \
         item_unit_price numeric(38,10), currency_id int4, agreed_delivery_date text, agreed_payment_date text, \
         agreed_delivery_location_id int4",
        &["1|12|11|ZDOI5EA|371|361.39|2|2022-11-09|2022-11-07|6"],
    )]);
    let evaluated = evaluate(&session, &shipped!("fact_purchase_order")).await.unwrap();
    assert_eq!(
        evaluated.rows,
        [
            "1|2022-11-03|14:20:49.962|2022-11-03|14:20:49.962|12|11|ZDOI5EA|371|361.3900000000|2|2022-11-09|2022-11-07|6"
        ]
    );
}

#[tokio::test]
async fn a_payment_becomes_a_fact_without_account_numbers() {
    let session = with_tables(&[(
        "payment",
        "payment_id int4, transaction_id int4, counterparty_id int4, payment_amount numeric(38,10), currency_id int4, \
         payment_type_id int4, paid bool, payment_date text, company_ac_number int4, counterparty_ac_number int4",
        &["2|2|15|552548.62|2|3|false|2022-11-04|67305075|31622269"],
    )]);
    let evaluated = evaluate(&session, &shipped!("fact_payment")).await.unwrap();
    assert_eq!(
        evaluated.rows,
        ["2|2022-11-03|14:20:49.962|2022-11-03|14:20:49.962|2|15|552548.6200000000|2|3|false|2022-11-04"]
    );
}

#[test]
fn the_models_form_a_star_whose_references_lead_to_its_dimensions() {
    let models = all();
    let graph = ModelGraph::new(models.clone()).unwrap();
    assert_eq!(graph.get("dim_date").unwrap().header.kind, ModelKind::Calendar);
    for model in models.iter().filter(|model| model.header.kind == ModelKind::Fact) {
        for dimension in model.header.references().values() {
            assert!(graph.get(dimension).is_some_and(|m| m.header.kind != ModelKind::Fact), "{dimension}");
        }
        let dates = model.header.references().values().filter(|name| *name == "dim_date").count();
        assert_eq!(dates, if model.name == "fact_payment" { 3 } else { 4 });
    }
}

#[test]
fn the_calendar_has_every_day_of_its_years() {
    let (schema, batches) = calendar(2020, 2031).unwrap();
    assert_eq!(schema.key, ["date_id"]);
    let days = lines(&batches);
    assert_eq!(days.len(), 4018);
    assert_eq!(days[0], "2020-01-01|2020|1|1|2|Wednesday|January|1");
    assert_eq!(days[4017], "2030-12-31|2030|12|31|1|Tuesday|December|4");
    for day in [
        "2024-02-29|2024|2|29|3|Thursday|February|1",
        "2024-09-30|2024|9|30|0|Monday|September|3",
        "2023-10-01|2023|10|1|6|Sunday|October|4",
    ] {
        assert!(days.contains(&day.to_string()), "{day}");
    }
    assert!(!days.iter().any(|day| day.starts_with("2023-02-29")));
}

#[test]
fn a_century_is_a_leap_year_every_fourth_time() {
    let days = |year| lines(&calendar(year, year + 1).unwrap().1).len();
    assert_eq!((days(1900), days(2000), days(2100)), (365, 366, 365));
}

#[test]
fn a_calendar_outside_1900_to_2200_is_a_config_error() {
    for (start, end) in [(1899, 2000), (2000, 2201), (2031, 2020), (2020, 2020), (i32::MIN, i32::MAX)] {
        let error = calendar(start, end).unwrap_err();
        assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
        assert!(error.hint().unwrap().contains("start_year"));
    }
}
