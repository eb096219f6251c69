-- ToteSys, the operational database of Terrific Totes. Times are UTC; agreed dates are text of the form YYYY-MM-DD.
-- starlift only reads this schema; the demo and the tests create it.

create table address (
    address_id int primary key,
    address_line_1 varchar not null,
    address_line_2 varchar,
    district varchar,
    city varchar not null,
    postal_code varchar not null,
    country varchar not null,
    phone varchar not null,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table counterparty (
    counterparty_id int primary key,
    counterparty_legal_name varchar not null,
    legal_address_id int not null references address (address_id),
    commercial_contact varchar,
    delivery_contact varchar,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table currency (
    currency_id int primary key,
    currency_code varchar(3) not null,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table department (
    department_id int primary key,
    department_name varchar not null,
    location varchar,
    manager varchar,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table design (
    design_id int primary key,
    design_name varchar not null,
    file_location varchar not null,
    file_name varchar not null,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table staff (
    staff_id int primary key,
    first_name varchar not null,
    last_name varchar not null,
    department_id int not null references department (department_id),
    email_address varchar not null,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table sales_order (
    sales_order_id int primary key,
    design_id int not null references design (design_id),
    staff_id int not null references staff (staff_id),
    counterparty_id int not null references counterparty (counterparty_id),
    units_sold int not null,
    unit_price numeric not null,
    currency_id int not null references currency (currency_id),
    agreed_delivery_date varchar not null,
    agreed_payment_date varchar not null,
    agreed_delivery_location_id int not null references address (address_id),
    created_at timestamp not null,
    last_updated timestamp not null
);

create table purchase_order (
    purchase_order_id int primary key,
    staff_id int not null references staff (staff_id),
    counterparty_id int not null references counterparty (counterparty_id),
    item_code varchar not null,
    item_quantity int not null,
    item_unit_price numeric not null,
    currency_id int not null references currency (currency_id),
    agreed_delivery_date varchar not null,
    agreed_payment_date varchar not null,
    agreed_delivery_location_id int not null references address (address_id),
    created_at timestamp not null,
    last_updated timestamp not null
);

-- "transaction" is also a keyword of SQL, hence the quotes.
create table "transaction" (
    transaction_id int primary key,
    transaction_type varchar not null,
    sales_order_id int references sales_order (sales_order_id),
    purchase_order_id int references purchase_order (purchase_order_id),
    created_at timestamp not null,
    last_updated timestamp not null
);

create table payment_type (
    payment_type_id int primary key,
    payment_type_name varchar not null,
    created_at timestamp not null,
    last_updated timestamp not null
);

create table payment (
    payment_id int primary key,
    transaction_id int not null references "transaction" (transaction_id),
    counterparty_id int not null references counterparty (counterparty_id),
    payment_amount numeric not null,
    currency_id int not null references currency (currency_id),
    payment_type_id int not null references payment_type (payment_type_id),
    paid boolean not null,
    payment_date varchar not null,
    company_ac_number int not null,
    counterparty_ac_number int not null,
    created_at timestamp not null,
    last_updated timestamp not null
);
