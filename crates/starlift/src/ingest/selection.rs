//! Which tables one ingest reads.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::capture::{self, CaptureMode, Choice, Offer};
use starlift_core::model::{nearest, some_of, widen};
use starlift_core::{Error, Result, TableSchema, event};
use starlift_postgres::catalog::{Catalog, SourceTable, TableSettings};
use starlift_postgres::extract::SourceSession;

use crate::context::Context;

/// The tables of one ingest with their schemas.
pub(crate) struct Selection {
    names: BTreeSet<String>,
    catalog: Catalog,
    captured: BTreeSet<String>,
}

/// Finds the tables to read: the listed ones, widened by what belongs with them, or all.
///
/// Errors: Config for a table that does not exist, or a view that a model reads and no setting names.
pub(super) async fn select(ctx: &Context, session: &SourceSession, listed: &[String]) -> Result<Selection> {
    let catalog = catalog(ctx, session).await?;
    let captured = captured(ctx, &catalog);
    let unknown = |name: &str, what: &str| {
        let shown = event::printable(name);
        Error::config(format!("{what} names the table `{shown}`, which is not captured or does not exist"))
            .with_detail(format!("captured are: {}", some_of(captured.iter().map(String::as_str))))
            .with_hint(match nearest(name, captured.iter().map(String::as_str)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "mend the name, or `schema` under `[source]`".to_string(),
            })
    };
    if let Some(name) = listed.iter().find(|name| !captured.contains(*name)) {
        return Err(unknown(name, "the event"));
    }
    if let Some(name) = ctx.config.source.tables.keys().find(|name| !catalog.tables.contains_key(*name)) {
        return Err(unknown(name, "starlift.toml"));
    }
    let known: BTreeSet<String> = captured.iter().chain(ctx.project.seeds.keys()).cloned().collect();
    if let Some((model, input)) = ctx.project.graph.first_unknown_input(&known)
        && !catalog.tables.contains_key(input)
        && session.has_view(input).await?
    {
        return Err(view_that_is_not_read(model, input));
    }
    ctx.project.graph.check_inputs(&known)?;

    let names = if listed.is_empty() {
        captured.clone()
    } else {
        let foreign_keys: BTreeMap<String, BTreeSet<String>> =
            catalog.tables.iter().map(|(name, t)| (name.clone(), t.references.clone())).collect();
        let wide = widen(&listed.iter().cloned().collect(), &ctx.project.graph, &foreign_keys);
        wide.intersection(&captured).cloned().collect()
    };
    if names.is_empty() {
        return Err(Error::config(format!(
            "schema `{}` of the source has no table to read",
            ctx.config.source.database.schema
        ))
        .with_hint("check `schema` under `[source]`, and that the role has USAGE on the schema"));
    }
    Ok(Selection { names, catalog, captured })
}

fn view_that_is_not_read(model: &str, view: &str) -> Error {
    let shown = event::printable(view);
    // Quotes do no harm in TOML, and such a name may need them.
    Error::config(format!("model `{model}` reads `{shown}`, which is a view of the source"))
        .with_detail("views, materialised views and foreign tables are read only where starlift.toml says so")
        .with_hint(format!(
            "add `[source.tables.\"{shown}\"]` with `capture = \"full\"`: each run then reads all its rows"
        ))
        .with_context("model", model)
}

async fn catalog(ctx: &Context, session: &SourceSession) -> Result<Catalog> {
    let tables = &ctx.config.source.tables;
    let settings: TableSettings = tables.iter().map(|(name, table)| (name.clone(), table.columns.clone())).collect();
    let full = tables.iter().filter(|(_, table)| table.capture == Some(CaptureMode::Full));
    let views: Vec<String> = full.map(|(name, _)| name.clone()).collect();
    session.catalog(&settings, &views).await
}

/// Every table that is not left alone by setting. A table without columns has nothing to carry.
fn captured(ctx: &Context, catalog: &Catalog) -> BTreeSet<String> {
    let has_columns =
        |t: &SourceTable| !t.schema.columns.is_empty() || catalog.unsupported.iter().any(|u| u.table == t.name);
    let wanted = |t: &&SourceTable| ctx.config.is_captured(&t.name) && has_columns(t);
    catalog.tables.values().filter(wanted).map(|t| t.name.clone()).collect()
}

impl Selection {
    /// The tables to read, sorted.
    pub(crate) fn tables(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// Whether a table is read.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The role that reads them.
    pub(crate) fn role(&self) -> &str {
        &self.catalog.role
    }

    /// The tables that can be locked.
    pub(crate) fn lockable(&self) -> Vec<String> {
        self.chosen().filter(|t| t.kind.is_lockable()).map(|t| t.name.clone()).collect()
    }

    /// Every table that the pipeline captures, also those that this run does not read.
    pub(crate) fn captured(&self) -> Vec<String> {
        self.captured.iter().cloned().collect()
    }

    /// The tables to read, as the catalog has them.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = &SourceTable> {
        self.catalog.tables.values().filter(|t| self.names.contains(&t.name))
    }

    /// Whether every table can be read and carried.
    ///
    /// Errors: Permission that lists what the role may not read, with the grants; Unsupported that lists the columns which
    /// starlift does not carry; Config for a cursor over what is no time.
    pub(crate) fn check(&self, ctx: &Context) -> Result<()> {
        let names = self.tables();
        self.catalog.check_access(&names)?;
        self.catalog.check_types(&names)?;
        self.choices(ctx, false).map(|_| ())
    }

    /// How each table to read is captured, and why.
    ///
    /// Errors: Config for a cursor over what is no time.
    pub(crate) fn choices(&self, ctx: &Context, in_recovery: bool) -> Result<BTreeMap<String, Choice>> {
        let choice = |table: &SourceTable| {
            let (name, schema, indexed) = (table.name.as_str(), &table.schema, &table.indexed);
            let offer = Offer { name, schema, bytes: table.bytes, indexed, in_recovery };
            Ok((table.name.clone(), capture::choose(&ctx.config.capture(name), &offer)?))
        };
        self.chosen().map(choice).collect()
    }

    /// The definitions of all captured tables, also those that this run does not read.
    pub(crate) fn schemas(&self) -> BTreeMap<String, TableSchema> {
        let tables = self.catalog.tables.values().filter(|table| self.captured.contains(&table.name));
        tables.map(|table| (table.name.clone(), table.schema.clone())).collect()
    }

    /// A table of the selection as the catalog has it.
    pub(crate) fn table(&self, name: &str) -> Result<&SourceTable> {
        self.catalog
            .tables
            .get(name)
            .ok_or_else(|| Error::unavailable(format!("table `{name}` went away while the run started")))
    }

    /// The same tables as the catalog has them now, under the locks.
    ///
    /// Errors: Unavailable where one of them is gone; those of [`Selection::check`].
    pub(super) async fn again(self, ctx: &Context, session: &SourceSession) -> Result<Selection> {
        let catalog = catalog(ctx, session).await?;
        if let Some(gone) = self.names.iter().find(|name| !catalog.tables.contains_key(*name)) {
            return Err(
                Error::unavailable(format!("table `{gone}` went away while the run started")).with_hint("run again")
            );
        }
        let again = Selection { captured: captured(ctx, &catalog), catalog, names: self.names };
        again.check(ctx)?;
        Ok(again)
    }
}
