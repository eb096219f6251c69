-- kind: dimension
-- key: staff_id
-- tests: unique(staff_id), not_null(first_name), not_null(last_name), not_null(department_name), not_null(location), not_null(email_address)
-- description: one row for each member of staff, with the department as it is now

-- A department may have no location and the warehouse needs one: null becomes the empty text, here and nowhere else.
select
    staff.staff_id,
    staff.first_name,
    staff.last_name,
    department.department_name,
    coalesce(department.location, '') as location,
    staff.email_address
from staff
join department on department.department_id = staff.department_id
