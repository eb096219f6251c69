-- kind: dimension
-- key: design_id
-- tests: unique(design_id), not_null(design_name), not_null(file_location), not_null(file_name)
-- description: one row for each design of a tote bag

select
    design_id,
    design_name,
    file_location,
    file_name
from design
