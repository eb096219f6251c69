//! What disappears on a day, and what comes back.

use super::super::change::Change;
use super::super::rows::{Field, Row, insert};
use super::{Statement, Step, Today, existing, step};

impl Today<'_> {
    /// What disappears today, and what comes back.
    ///
    /// An order of the history takes two days to go: its payments first, its transaction and itself on the day after.
    pub(super) fn departures(&self) -> Vec<Step> {
        let yesterday = Today { number: self.number.saturating_sub(1), ..*self };
        let before = Today { number: self.number.saturating_sub(2), ..*self };
        let mut steps = Vec::new();
        if yesterday.number > 0 {
            let order = yesterday.leaving_order();
            steps.push(step(vec![
                Statement::Do(
                    Change::TransactionDeleted,
                    format!(
                        "delete from \"transaction\" t where t.sales_order_id = {order} \
                         and not exists (select from payment p where p.transaction_id = t.transaction_id)"
                    ),
                ),
                Statement::Do(
                    Change::SalesOrderDeleted,
                    format!(
                        "delete from sales_order o where o.sales_order_id = {order} \
                         and not exists (select from \"transaction\" t where t.sales_order_id = o.sales_order_id)"
                    ),
                ),
            ]));
        }
        steps.push(step(vec![Statement::Do(
            Change::PaymentDeleted,
            format!(
                "delete from payment where transaction_id in \
                 (select transaction_id from \"transaction\" where sales_order_id = {})",
                self.leaving_order()
            ),
        )]));
        if yesterday.number > 0
            && let Some(payment) = yesterday.returning_payment()
            && let Some(Field::Int(id)) = payment.first()
        {
            let deleted = format!("delete from payment where payment_id = {id}");
            steps.push(step(vec![Statement::Do(Change::PaymentDeleted, deleted)]));
        }
        if before.number > 0
            && let Some(payment) = before.returning_payment()
        {
            let mut statements = vec![Statement::Do(Change::PaymentRestored, insert("payment", &payment))];
            // On some days it comes back as it was, on others with a new amount.
            if self.number % 2 == 1
                && let Some(Field::Int(id)) = payment.first()
            {
                statements.push(Statement::Do(
                    Change::FixedSilently,
                    format!("update payment set payment_amount = payment_amount + 10.50 where payment_id = {id}"),
                ));
            }
            steps.push(step(statements));
        }
        steps
    }

    /// The order of the history whose payments go today.
    fn leaving_order(&self) -> String {
        existing("sales_order", &mut self.random("leaving_order"))
    }

    /// The payment of today that goes tomorrow and comes back the day after.
    fn returning_payment(&self) -> Option<Row> {
        (1..self.sales).find_map(|index| self.deal(index).payments.into_iter().next())
    }
}
