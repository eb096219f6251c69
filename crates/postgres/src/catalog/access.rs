//! What our role must be allowed before anything is read, all of it in one message.

use starlift_core::{Error, ErrorKind, Result};

use super::{Catalog, SourceTable};
use crate::ident::{quote_ident, quote_qualified};

impl Catalog {
    /// Checks that our role may read these tables in full.
    ///
    /// # Errors
    /// Permission: it lists all tables that are denied, with the statements that grant what is missing; or the tables
    /// where row-level security hides rows, which would look like deletes.
    pub fn check_access(&self, tables: &[String]) -> Result<()> {
        let wanted: Vec<&SourceTable> = tables.iter().map(|name| self.table(name)).collect::<Result<_>>()?;
        let denied: Vec<&&SourceTable> = wanted.iter().filter(|t| !t.may_select).collect();
        let role = quote_ident(&self.role);
        let mut grants = Vec::new();
        if !self.may_use_schema {
            grants.push(format!("grant usage on schema {} to {role};", quote_ident(&self.schema)));
        }
        if !denied.is_empty() {
            let names: Vec<String> = denied.iter().map(|t| quote_qualified(&self.schema, &t.name)).collect();
            grants.push(format!("grant select on table {} to {role};", names.join(", ")));
        }
        if !grants.is_empty() {
            let names: Vec<String> = denied.iter().map(|t| format!("`{}`", t.name)).collect();
            let detail = match (self.may_use_schema, names.is_empty()) {
                (true, _) => format!("it may not select from {}", names.join(", ")),
                (false, true) => "it has no usage on the schema".to_string(),
                (false, false) => {
                    format!("it has no usage on the schema, and may not select from {}", names.join(", "))
                }
            };
            return Err(Error::new(
                ErrorKind::Permission,
                format!("role `{}` may not read schema `{}`", self.role, self.schema),
            )
            .with_detail(detail)
            .with_hint(format!("run as the owner: {}", grants.join(" "))));
        }
        let hidden: Vec<String> = wanted.iter().filter(|t| t.row_security).map(|t| format!("`{}`", t.name)).collect();
        if hidden.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Permission, format!("row-level security hides rows from role `{}`", self.role))
            .with_detail(format!("it is active on {}; rows that are hidden would look deleted", hidden.join(", ")))
            .with_hint(format!(
                "run as a superuser: alter role {role} bypassrls; or let the owner of the tables be the source's role"
            )))
    }
}
