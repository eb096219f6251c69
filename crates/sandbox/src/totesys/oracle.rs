//! What the star schema must contain, asked of the source itself in plain PostgreSQL.
//!
//! The queries share nothing with the models of the pipeline, so that one mistake cannot be in both.

/// The star tables, dimensions first.
pub const STAR_TABLES: [&str; 11] = [
    "dim_date",
    "dim_staff",
    "dim_location",
    "dim_design",
    "dim_currency",
    "dim_counterparty",
    "dim_payment_type",
    "dim_transaction",
    "fact_sales_order",
    "fact_purchase_order",
    "fact_payment",
];

/// Which years `dim_date` covers at least: from 1 January of the one to before 1 January of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    /// The first year.
    pub start_year: i32,
    /// The first year that is not covered.
    pub end_year: i32,
}

impl Default for Calendar {
    /// 2020 to 2031, as the pipeline is shipped.
    fn default() -> Self {
        Calendar { start_year: 2020, end_year: 2031 }
    }
}

/// The query on the source that yields what the current rows of a star table must be: the columns of the warehouse's
/// table in their order, without the serial record id. `None` for a name that is no star table.
///
/// `dim_date` is extended to the dates of the facts' current versions; dates that only older versions had are not seen.
pub fn expected(star_table: &str, calendar: Calendar) -> Option<String> {
    let fixed = match star_table {
        "dim_date" => return Some(dim_date(calendar)),
        "dim_staff" => {
            "select s.staff_id, s.first_name, s.last_name, d.department_name, coalesce(d.location, '') as location, \
             s.email_address from staff s join department d on d.department_id = s.department_id"
        }
        "dim_location" => {
            "select address_id as location_id, address_line_1, address_line_2, district, city, postal_code, country, \
             phone from address"
        }
        "dim_design" => "select design_id, design_name, file_location, file_name from design",
        "dim_currency" => {
            "select currency_id, currency_code, case currency_code \
             when 'GBP' then 'Great British Pound' when 'USD' then 'United States Dollar' when 'EUR' then 'Euro' \
             when 'CHF' then 'Swiss Franc' when 'JPY' then 'Yen' when 'CAD' then 'Canadian Dollar' \
             when 'PLN' then 'Zloty' when 'SEK' then 'Swedish Krona' when 'AUD' then 'Australian Dollar' \
             when 'DKK' then 'Danish Krone' when 'NZD' then 'New Zealand Dollar' when 'INR' then 'Indian Rupee' \
             else currency_code end as currency_name from currency"
        }
        "dim_counterparty" => {
            "select c.counterparty_id, c.counterparty_legal_name, \
             a.address_line_1 as counterparty_legal_address_line_1, \
             a.address_line_2 as counterparty_legal_address_line_2, a.district as counterparty_legal_district, \
             a.city as counterparty_legal_city, a.postal_code as counterparty_legal_postal_code, \
             a.country as counterparty_legal_country, a.phone as counterparty_legal_phone_number \
             from counterparty c join address a on a.address_id = c.legal_address_id"
        }
        "dim_payment_type" => "select payment_type_id, payment_type_name from payment_type",
        "dim_transaction" => {
            "select transaction_id, transaction_type, sales_order_id, purchase_order_id from \"transaction\""
        }
        "fact_sales_order" => {
            "select sales_order_id, created_at::date as created_date, created_at::time as created_time, \
             last_updated::date as last_updated_date, last_updated::time as last_updated_time, \
             staff_id as sales_staff_id, counterparty_id, units_sold, unit_price, currency_id, design_id, \
             to_date(agreed_payment_date, 'YYYY-MM-DD') as agreed_payment_date, \
             to_date(agreed_delivery_date, 'YYYY-MM-DD') as agreed_delivery_date, agreed_delivery_location_id \
             from sales_order"
        }
        "fact_purchase_order" => {
            "select purchase_order_id, created_at::date as created_date, created_at::time as created_time, \
             last_updated::date as last_updated_date, last_updated::time as last_updated_time, staff_id, \
             counterparty_id, item_code, item_quantity, item_unit_price, currency_id, \
             to_date(agreed_delivery_date, 'YYYY-MM-DD') as agreed_delivery_date, \
             to_date(agreed_payment_date, 'YYYY-MM-DD') as agreed_payment_date, agreed_delivery_location_id \
             from purchase_order"
        }
        "fact_payment" => {
            "select payment_id, created_at::date as created_date, created_at::time as created_time, \
             last_updated::date as last_updated_date, last_updated::time as last_updated_time, transaction_id, \
             counterparty_id, payment_amount, currency_id, payment_type_id, paid, \
             to_date(payment_date, 'YYYY-MM-DD') as payment_date from payment"
        }
        _ => return None,
    };
    Some(fixed.to_owned())
}

fn dim_date(calendar: Calendar) -> String {
    let Calendar { start_year, end_year } = calendar;
    format!(
        "with referred as (\
         select unnest(array[created_at::date, last_updated::date, agreed_payment_date::date, \
         agreed_delivery_date::date]) as day from sales_order union \
         select unnest(array[created_at::date, last_updated::date, agreed_payment_date::date, \
         agreed_delivery_date::date]) from purchase_order union \
         select unnest(array[created_at::date, last_updated::date, payment_date::date]) from payment), \
         bounds as (select least({start_year}, min(extract(year from day)))::int as first_year, \
         greatest({end_year} - 1, max(extract(year from day)))::int as last_year from referred), \
         days as (select d::date as d from bounds, generate_series(make_date(first_year, 1, 1)::timestamp, \
         make_date(last_year, 12, 31)::timestamp, interval '1 day') d) \
         select d as date_id, extract(year from d)::int as year, extract(month from d)::int as month, \
         extract(day from d)::int as day, extract(isodow from d)::int - 1 as day_of_week, \
         to_char(d, 'FMDay') as day_name, to_char(d, 'FMMonth') as month_name, \
         extract(quarter from d)::int as quarter from days"
    )
}

/// The columns that are compared. Numerics, marked with `#`, are compared as numbers: 1.50 equals 1.5.
pub(crate) fn columns(star_table: &str) -> &'static str {
    match star_table {
        "dim_date" => "date_id year month day day_of_week day_name month_name quarter",
        "dim_staff" => "staff_id first_name last_name department_name location email_address",
        "dim_location" => "location_id address_line_1 address_line_2 district city postal_code country phone",
        "dim_design" => "design_id design_name file_location file_name",
        "dim_currency" => "currency_id currency_code currency_name",
        "dim_counterparty" => {
            "counterparty_id counterparty_legal_name counterparty_legal_address_line_1 \
             counterparty_legal_address_line_2 counterparty_legal_district counterparty_legal_city \
             counterparty_legal_postal_code counterparty_legal_country counterparty_legal_phone_number"
        }
        "dim_payment_type" => "payment_type_id payment_type_name",
        "dim_transaction" => "transaction_id transaction_type sales_order_id purchase_order_id",
        "fact_sales_order" => {
            "sales_order_id created_date created_time last_updated_date last_updated_time sales_staff_id \
             counterparty_id units_sold #unit_price currency_id design_id agreed_payment_date agreed_delivery_date \
             agreed_delivery_location_id"
        }
        "fact_purchase_order" => {
            "purchase_order_id created_date created_time last_updated_date last_updated_time staff_id \
             counterparty_id item_code item_quantity #item_unit_price currency_id agreed_delivery_date \
             agreed_payment_date agreed_delivery_location_id"
        }
        "fact_payment" => {
            "payment_id created_date created_time last_updated_date last_updated_time transaction_id counterparty_id \
             #payment_amount currency_id payment_type_id paid payment_date"
        }
        _ => "",
    }
}
