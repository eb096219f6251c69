-- kind: dimension
-- key: currency_id
-- tests: unique(currency_id), not_null(currency_code), not_null(currency_name), relationships(currency_code -> currency_names) warn
-- description: one row for each currency that we trade in

-- A code that the seed does not know keeps its code as its name; the relationships test reports it.
select
    currency.currency_id,
    currency.currency_code,
    coalesce(currency_names.currency_name, currency.currency_code) as currency_name
from currency
left join currency_names on currency_names.currency_code = currency.currency_code
