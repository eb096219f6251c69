//! Which tables one ingest reads.

use std::collections::{BTreeMap, BTreeSet};

use starlift_core::capture::CaptureMode;
use starlift_core::model::{nearest, widen};
use starlift_core::{Error, Result, event};
use starlift_postgres::catalog::{Catalog, ColumnSetting, SourceTable};
use starlift_postgres::extract::SourceSession;

use crate::context::Context;

/// The tables of one ingest with their schemas.
pub struct Selection {
    names: BTreeSet<String>,
    catalog: Catalog,
    captured: BTreeSet<String>,
}

/// Finds the tables to read: the listed ones, widened by what belongs with them, or all.
///
/// Errors: Config for a table that does not exist; Permission for one that the role may not read; Unsupported for a
/// column that starlift does not carry.
pub async fn select(ctx: &Context, session: &mut SourceSession, listed: &[String]) -> Result<Selection> {
    let catalog = catalog(ctx, session).await?;
    let captured = captured(ctx, &catalog)?;
    let unknown = |name: &str, what: &str| {
        let shown = event::printable(name);
        Error::config(format!("{what} names the table `{shown}`, which is not captured or does not exist")).with_hint(
            match nearest(name, captured.iter().map(String::as_str)) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "`starlift doctor` lists the tables of the source".to_string(),
            },
        )
    };
    if let Some(name) = listed.iter().find(|name| !captured.contains(*name)) {
        return Err(unknown(name, "the event"));
    }
    if let Some(name) = ctx.config.source.tables.keys().find(|name| catalog.table(name).is_none()) {
        return Err(unknown(name, "starlift.toml"));
    }
    let known: BTreeSet<String> = captured.iter().chain(ctx.project.seeds.keys()).cloned().collect();
    ctx.project.graph.check_inputs(&known)?;

    let names = if listed.is_empty() {
        captured.clone()
    } else {
        let foreign_keys: BTreeMap<String, BTreeSet<String>> =
            catalog.tables.iter().map(|t| (t.name.clone(), t.references.iter().cloned().collect())).collect();
        let wide = widen(&listed.iter().cloned().collect(), &ctx.project.graph, &foreign_keys);
        wide.intersection(&captured).cloned().collect()
    };
    if names.is_empty() {
        return Err(Error::config(format!("schema `{}` of the source has no table to read", ctx.config.source.database.schema))
            .with_hint("check `schema` under `[source]`, and that the role has USAGE on the schema"));
    }
    catalog.check_readable(&names)?;
    catalog.check_supported(&names)?;
    Ok(Selection { names, catalog, captured })
}

async fn catalog(ctx: &Context, session: &mut SourceSession) -> Result<Catalog> {
    let settings: BTreeMap<String, BTreeMap<String, ColumnSetting>> =
        ctx.config.source.tables.iter().map(|(name, table)| (name.clone(), table.columns.clone())).collect();
    let views: Vec<String> = ctx
        .config
        .source
        .tables
        .iter()
        .filter(|(_, table)| table.capture == Some(CaptureMode::Full))
        .map(|(name, _)| name.clone())
        .collect();
    session.catalog(&settings, &views).await
}

fn captured(ctx: &Context, catalog: &Catalog) -> Result<BTreeSet<String>> {
    let wanted = |t: &&SourceTable| ctx.config.capture(&t.name) != CaptureMode::None && !t.schema.columns.is_empty();
    Ok(catalog.tables.iter().filter(wanted).map(|t| t.name.clone()).collect())
}

impl Selection {
    /// The tables to read, sorted.
    pub fn tables(&self) -> Vec<String> {
        self.names.iter().cloned().collect()
    }

    /// The tables that can be locked: PostgreSQL locks what is below a view when it is read.
    pub fn lockable(&self) -> Vec<String> {
        let is_table = |name: &&String| self.catalog.table(name).is_some_and(|t| !t.is_view);
        self.names.iter().filter(is_table).cloned().collect()
    }

    /// Every table that the pipeline captures, also those that this run does not read.
    pub fn captured(&self) -> Vec<String> {
        self.captured.iter().cloned().collect()
    }

    /// A table of the selection as the catalog has it.
    pub fn table(&self, name: &str) -> Result<&SourceTable> {
        self.catalog.table(name).ok_or_else(|| Error::unavailable(format!("table `{name}` went away while the run started")))
    }

    /// The catalog once more, now under the locks.
    ///
    /// Errors: Unavailable where a table of the selection is gone.
    pub async fn again(self, ctx: &Context, session: &mut SourceSession) -> Result<Selection> {
        let catalog = catalog(ctx, session).await?;
        if let Some(gone) = self.names.iter().find(|name| catalog.table(name).is_none()) {
            return Err(Error::unavailable(format!("table `{gone}` went away while the run started")).with_hint("run again"));
        }
        catalog.check_supported(&self.names)?;
        Ok(Selection { captured: self::captured(ctx, &catalog)?, catalog, names: self.names })
    }
}
