-- kind: dimension
-- key: payment_type_id
-- tests: unique(payment_type_id), not_null(payment_type_name), accepted_values(payment_type_name: SALES_RECEIPT, SALES_REFUND, PURCHASE_PAYMENT, PURCHASE_REFUND) warn
-- description: one row for each reason to pay

select
    payment_type_id,
    payment_type_name
from payment_type
