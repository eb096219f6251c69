//! A test of one column: which rows fail it, and what that means for them.

use starlift_core::model::ModelTest;
use starlift_core::refused::RefusedRows;

/// A test of the header with the rows that failed it so far.
pub(super) struct ColumnTest {
    pub(super) column: String,
    text: String,
    warns: bool,
    failed: RefusedRows,
}

impl ColumnTest {
    pub(super) fn of(column: &str, test: &ModelTest) -> ColumnTest {
        ColumnTest { column: column.into(), text: test.text(), warns: test.warns, failed: RefusedRows::default() }
    }

    /// Counts a row that fails. `why` says so, unless the test only warns or the row failed another one before.
    pub(super) fn fails(&mut self, why: &mut Option<(String, String)>, key: impl FnOnce() -> String) {
        self.failed.count(&self.column, &self.text, key);
        if !self.warns && why.is_none() {
            *why = Some((self.column.clone(), self.text.clone()));
        }
    }

    /// The test, whether it only warns, and the rows that failed it.
    pub(super) fn found(&self) -> (&str, bool, &RefusedRows) {
        (&self.text, self.warns, &self.failed)
    }
}
