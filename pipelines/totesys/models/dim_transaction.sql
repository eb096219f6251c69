-- kind: dimension
-- key: transaction_id
-- tests: unique(transaction_id), not_null(transaction_type), accepted_values(transaction_type: SALE, PURCHASE) warn
-- description: one row for each transaction; a sale has a sales order, a purchase has a purchase order

select
    transaction_id,
    transaction_type,
    sales_order_id,
    purchase_order_id
from "transaction"
