-- kind: fact
-- key: sales_order_id
-- tests: not_null(units_sold), not_null(unit_price), relationships(created_date -> dim_date), relationships(last_updated_date -> dim_date), relationships(sales_staff_id -> dim_staff), relationships(counterparty_id -> dim_counterparty), relationships(currency_id -> dim_currency), relationships(design_id -> dim_design), relationships(agreed_payment_date -> dim_date), relationships(agreed_delivery_date -> dim_date), relationships(agreed_delivery_location_id -> dim_location)
-- description: one row for each version of a sales order

select
    sales_order_id,
    created_at::date as created_date,
    created_at::time as created_time,
    last_updated::date as last_updated_date,
    last_updated::time as last_updated_time,
    staff_id as sales_staff_id,
    counterparty_id,
    units_sold,
    unit_price,
    currency_id,
    design_id,
    parse_date(agreed_payment_date) as agreed_payment_date,
    parse_date(agreed_delivery_date) as agreed_delivery_date,
    agreed_delivery_location_id
from sales_order
