-- kind: fact
-- key: payment_id
-- tests: not_null(payment_amount), not_null(paid), relationships(created_date -> dim_date), relationships(last_updated_date -> dim_date), relationships(transaction_id -> dim_transaction), relationships(counterparty_id -> dim_counterparty), relationships(currency_id -> dim_currency), relationships(payment_type_id -> dim_payment_type), relationships(payment_date -> dim_date)
-- description: one row for each version of a payment; the account numbers stay in the source, they are not for analysts

select
    payment_id,
    created_at::date as created_date,
    created_at::time as created_time,
    last_updated::date as last_updated_date,
    last_updated::time as last_updated_time,
    transaction_id,
    counterparty_id,
    payment_amount,
    currency_id,
    payment_type_id,
    paid,
    parse_date(payment_date) as payment_date
from payment
