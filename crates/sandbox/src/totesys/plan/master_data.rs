//! What happens to the master data on a day.

use super::super::change::Change;
use super::super::masters;
use super::super::rows::{Field, insert, quote_literal};
use super::super::words;
use super::{Statement, Step, Today, first_id, step};

impl Today<'_> {
    /// Each day brings something else, in a cycle of six days.
    pub(super) fn master_data(&self) -> Vec<Step> {
        let (seed, id, at) = (self.seed, self.first_id(), self.opening() - 600_000);
        let mut random = self.random("master_data");
        let counterparty_id = random.between(1, self.masters.counterparties);
        let design_id = random.between(1, self.masters.designs);
        let staff_id = random.between(1, self.masters.staff);
        let department_id = random.between(1, words::DEPARTMENTS.len() as i64);
        let stamp = Field::Stamp(at).literal();
        let statements = match self.number % 6 {
            1 => {
                let street = quote_literal(&format!("{} {}", random.between(1, 240), random.pick(&words::STREETS)));
                let changed = format!(
                    "update address set address_line_1 = {street}, address_line_2 = null, last_updated = {stamp} \
                     where address_id = (select legal_address_id from counterparty where counterparty_id = {counterparty_id})"
                );
                let mut statements = vec![Statement::Do(Change::AddressChanged, changed)];
                if let Some(earlier) = self.number.checked_sub(2) {
                    let deleted = format!("delete from design where design_id = {}", first_id(earlier));
                    statements.push(Statement::Do(Change::DesignDeleted, deleted));
                }
                statements
            }
            2 => vec![
                Statement::Do(
                    Change::DepartmentRenamed,
                    format!(
                        "update department set department_name = split_part(department_name, ' (', 1) || ' ({})', \
                         last_updated = {stamp} where department_id = {department_id}",
                        self.number
                    ),
                ),
                Statement::Do(Change::AddressAdded, insert("address", &masters::address(seed, id, at))),
                Statement::Do(
                    Change::CounterpartyAdded,
                    insert("counterparty", &masters::counterparty(seed, id, id, at)),
                ),
            ],
            3 => vec![
                Statement::Do(
                    Change::DepartmentMoved,
                    format!(
                        "update department set location = case when location is null then 'Bristol' end, \
                         last_updated = {stamp} where department_id = {department_id}"
                    ),
                ),
                Statement::Do(Change::StaffJoined, insert("staff", &masters::staff(seed, id, department_id, at))),
            ],
            4 => self
                .new_currency()
                .map(|code| Statement::Do(Change::CurrencyAdded, insert("currency", &masters::currency(id, code, at))))
                .into_iter()
                .collect(),
            5 => vec![
                Statement::Do(
                    Change::StaffMoved,
                    format!(
                        "update staff set department_id = department_id % {} + 1, last_updated = {stamp} \
                         where staff_id = {staff_id}",
                        words::DEPARTMENTS.len()
                    ),
                ),
                Statement::Do(Change::DesignAdded, insert("design", &masters::design(seed, id, at))),
            ],
            _ => vec![
                Statement::Do(
                    Change::CounterpartyMoved,
                    format!(
                        "update counterparty set legal_address_id = legal_address_id % {} + 1, last_updated = {stamp} \
                         where counterparty_id = {counterparty_id}",
                        self.masters.addresses
                    ),
                ),
                Statement::Do(
                    Change::DesignRenamed,
                    format!(
                        "update design set design_name = design_name || ' II', last_updated = {stamp} \
                         where design_id = {design_id}"
                    ),
                ),
            ],
        };
        if statements.is_empty() { Vec::new() } else { vec![step(statements)] }
    }
}
