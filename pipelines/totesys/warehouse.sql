-- The warehouse of Terrific Totes: three star schemas (sales, purchases, payments) that share their dimensions.
-- A dimension holds one row per business key. A fact keeps every version that it was given: the record id is its key.
-- Running this again changes nothing.

create table if not exists dim_date (
    date_id date primary key,
    year int not null,
    month int not null,
    day int not null,
    day_of_week int not null, -- Monday is 0, Sunday is 6
    day_name varchar not null,
    month_name varchar not null,
    quarter int not null
);

create table if not exists dim_staff (
    staff_id int primary key,
    first_name varchar not null,
    last_name varchar not null,
    department_name varchar not null,
    location varchar not null,
    email_address varchar not null
);

create table if not exists dim_location (
    location_id int primary key,
    address_line_1 varchar not null,
    address_line_2 varchar,
    district varchar,
    city varchar not null,
    postal_code varchar not null,
    country varchar not null,
    phone varchar not null
);

create table if not exists dim_design (
    design_id int primary key,
    design_name varchar not null,
    file_location varchar not null,
    file_name varchar not null
);

create table if not exists dim_currency (
    currency_id int primary key,
    currency_code varchar not null,
    currency_name varchar not null
);

create table if not exists dim_counterparty (
    counterparty_id int primary key,
    counterparty_legal_name varchar not null,
    counterparty_legal_address_line_1 varchar not null,
    counterparty_legal_address_line_2 varchar,
    counterparty_legal_district varchar,
    counterparty_legal_city varchar not null,
    counterparty_legal_postal_code varchar not null,
    counterparty_legal_country varchar not null,
    counterparty_legal_phone_number varchar not null
);

create table if not exists dim_payment_type (
    payment_type_id int primary key,
    payment_type_name varchar not null
);

create table if not exists dim_transaction (
    transaction_id int primary key,
    transaction_type varchar not null,
    sales_order_id int,
    purchase_order_id int
);

create table if not exists fact_sales_order (
    sales_record_id serial primary key,
    sales_order_id int not null,
    created_date date not null references dim_date (date_id),
    created_time time not null,
    last_updated_date date not null references dim_date (date_id),
    last_updated_time time not null,
    sales_staff_id int not null references dim_staff (staff_id),
    counterparty_id int not null references dim_counterparty (counterparty_id),
    units_sold int not null,
    unit_price numeric(10, 2) not null,
    currency_id int not null references dim_currency (currency_id),
    design_id int not null references dim_design (design_id),
    agreed_payment_date date not null references dim_date (date_id),
    agreed_delivery_date date not null references dim_date (date_id),
    agreed_delivery_location_id int not null references dim_location (location_id)
);

create table if not exists fact_purchase_order (
    purchase_record_id serial primary key,
    purchase_order_id int not null,
    created_date date not null references dim_date (date_id),
    created_time time not null,
    last_updated_date date not null references dim_date (date_id),
    last_updated_time time not null,
    staff_id int not null references dim_staff (staff_id),
    counterparty_id int not null references dim_counterparty (counterparty_id),
    item_code varchar not null,
    item_quantity int not null,
    item_unit_price numeric not null,
    currency_id int not null references dim_currency (currency_id),
    agreed_delivery_date date not null references dim_date (date_id),
    agreed_payment_date date not null references dim_date (date_id),
    agreed_delivery_location_id int not null references dim_location (location_id)
);

create table if not exists fact_payment (
    payment_record_id serial primary key,
    payment_id int not null,
    created_date date not null references dim_date (date_id),
    created_time time not null,
    last_updated_date date not null references dim_date (date_id),
    last_updated_time time not null,
    transaction_id int not null references dim_transaction (transaction_id),
    counterparty_id int not null references dim_counterparty (counterparty_id),
    payment_amount numeric not null,
    currency_id int not null references dim_currency (currency_id),
    payment_type_id int not null references dim_payment_type (payment_type_id),
    paid boolean not null,
    payment_date date not null references dim_date (date_id)
);
