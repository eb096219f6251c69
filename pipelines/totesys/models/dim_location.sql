-- kind: dimension
-- key: location_id
-- tests: unique(location_id), not_null(address_line_1), not_null(city), not_null(postal_code), not_null(country), not_null(phone)
-- description: one row for each address that something is delivered to

select
    address_id as location_id,
    address_line_1,
    address_line_2,
    district,
    city,
    postal_code,
    country,
    phone
from address
