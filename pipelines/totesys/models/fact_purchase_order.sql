-- kind: fact
-- key: purchase_order_id
-- tests: not_null(item_code), not_null(item_quantity), not_null(item_unit_price), relationships(created_date -> dim_date), relationships(last_updated_date -> dim_date), relationships(staff_id -> dim_staff), relationships(counterparty_id -> dim_counterparty), relationships(currency_id -> dim_currency), relationships(agreed_delivery_date -> dim_date), relationships(agreed_payment_date -> dim_date), relationships(agreed_delivery_location_id -> dim_location)
-- description: one row for each version of a purchase order

select
    purchase_order_id,
    created_at::date as created_date,
    created_at::time as created_time,
    last_updated::date as last_updated_date,
    last_updated::time as last_updated_time,
    staff_id,
    counterparty_id,
    item_code,
    item_quantity,
    item_unit_price,
    currency_id,
    parse_date(agreed_delivery_date) as agreed_delivery_date,
    parse_date(agreed_payment_date) as agreed_payment_date,
    agreed_delivery_location_id
from purchase_order
