//! Source and lake: every captured table at one snapshot of the source, beside its state in the lake.
//!
//! The lake was read first, so whatever the source committed since carries an `xmin` at or after the table's watermark
//! ([`XidWindow`]), and such rows are pending. A delete leaves no row to carry anything: keys that only the lake has are
//! pending too, unless nothing at all has happened since: no transaction that writes was open at the snapshot that the
//! state is from, and none has ended since, so that the `xmax` of both snapshots is the same. Then they are differences.

use std::collections::{BTreeMap, HashSet};

use starlift_core::capture::CaptureMode;
use starlift_core::manifest::{Manifest, Relation, Source};
use starlift_core::unfinished::Unfinished;
use starlift_core::xid::{MAX_SPAN, XidWindow};
use starlift_core::{Error, Result, TableSchema, capture, wal};
use starlift_lake::{Head, State, Store};
use starlift_postgres::catalog::{Catalog, SourceTable, TableKind, TableSettings};
use starlift_postgres::extract::{SourceSession, select_expression};
use starlift_postgres::ident::quote_qualified;
use starlift_postgres::render::sql_text;
use starlift_postgres::sqlstate::classify;

use super::lake_side::{LakeSide, aside_note, refused_keys};
use super::matching::{Counts, What};
use super::report::{Comparison, ComparisonKind, Verdict};
use super::row_digest::RowDigest;
use super::side::{Names, Side, compare};
use super::sql_side::{SqlColumn, SqlSide};
use crate::config::Side as Database;
use crate::context::Context;

/// Keys by table that only the lake has.
pub(super) type Gone = BTreeMap<String, HashSet<RowDigest>>;

/// The source at one snapshot, with every captured table locked against DDL.
pub(super) struct SourceView {
    session: SourceSession,
    catalog: Catalog,
    now: Source,
    tables: Vec<String>,
}

impl SourceView {
    /// Takes the snapshot. `newest` is the lake's newest manifest, read before.
    ///
    /// Errors: those of ingest before it reads; Unavailable where the source is a standby behind the lake.
    pub(super) async fn open(ctx: &Context, newest: Option<&Manifest>) -> Result<SourceView> {
        let config = &ctx.config.source;
        let schema = &config.database.schema;
        let connection = ctx.connect(Database::Source).await?;
        let mut session = SourceSession::open(connection, schema, config.statement_timeout_seconds).await?;
        let settings: TableSettings = config.tables.iter().map(|(name, t)| (name.clone(), t.columns.clone())).collect();
        let full = config.tables.iter().filter(|(_, table)| table.capture == Some(CaptureMode::Full));
        let views: Vec<String> = full.map(|(name, _)| name.clone()).collect();
        let look = session.catalog(&settings, &views).await?;
        let tables = captured(ctx, &look);
        look.check_access(&tables)?;
        look.check_types(&tables)?;
        let is_lockable = |name: &&String| look.tables.get(*name).is_some_and(|t| t.kind.is_lockable());
        let snapshot = session.begin(&tables.iter().filter(is_lockable).cloned().collect::<Vec<_>>()).await?;
        // Once more under the locks: what DDL did in between counts, and none can come after.
        let catalog = session.catalog(&settings, &views).await?;
        let tables: Vec<String> = captured(ctx, &catalog).into_iter().filter(|name| tables.contains(name)).collect();
        // While the lake is read the session idles, longer than an ingest would let it; and to compile an expression
        // that is used once for each table takes longer than it saves.
        let settings = "set idle_in_transaction_session_timeout = 0; set jit = off";
        session.client().batch_execute(settings).await.map_err(|e| classify(e, "cannot set up the session"))?;
        capture::check_lag(newest, &snapshot.source, snapshot.lsn_before)?;
        Ok(SourceView { session, catalog, now: snapshot.source, tables })
    }

    /// The captured tables.
    pub(super) fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Ends the transaction and gives the locks back.
    pub(super) async fn close(mut self) -> Result<()> {
        self.session.end().await?;
        self.session.close().await;
        Ok(())
    }

    /// Compares one table, also one that only one side has. `settled` says that the stages ran just before, and
    /// `confirmed` holds keys that only the lake had before they ran. Returns the comparison and the keys that only the
    /// lake has and that are still pending.
    pub(super) async fn compare(
        &self,
        name: &str,
        store: &Store,
        lake: &Head,
        settled: bool,
        confirmed: &HashSet<RowDigest>,
    ) -> Result<(Comparison, HashSet<RowDigest>)> {
        let newest = lake.manifest();
        let relation = newest.and_then(|m| m.relations.get(name));
        let table = self.catalog.tables.get(name).filter(|t| self.tables.contains(&t.name));
        let comparison = Comparison::new(ComparisonKind::SourceLake, name);
        if let (Some(table), Some(base)) = (table, newest.and_then(|m| m.unfinished.get(name))) {
            return Ok((self.unfinished(comparison, table, relation, base).await?, HashSet::new()));
        }
        let (table, relation) = match (table, relation) {
            (Some(table), Some(relation)) => (table, relation),
            (Some(table), None) => {
                return Ok((self.not_ingested(comparison, table, newest, settled).await?, HashSet::new()));
            }
            (None, Some(relation)) => return Ok((dropped(comparison, relation, settled), HashSet::new())),
            (None, None) => return Err(Error::internal(format!("table `{name}` is on neither side"))),
        };
        let line = line(relation, table, &self.now);
        if let Line::Other(why) = line {
            return Ok((self.read_anew(comparison, table, relation, why).await?, HashSet::new()));
        }
        let mut comparison = comparison;
        comparison.notes.extend(aside_note(relation.refused));
        let state = State::new(store, relation.schema.clone(), lake.live_of(name))?;
        self.contents(comparison, table, state, line, confirmed).await
    }

    async fn contents(
        &self,
        mut comparison: Comparison,
        table: &SourceTable,
        state: State,
        line: Line,
        confirmed: &HashSet<RowDigest>,
    ) -> Result<(Comparison, HashSet<RowDigest>)> {
        let has_xmin = table.kind.has_xmin();
        let flag = match &line {
            Line::Window(window) if has_xmin => Some(self.session.window_filter(table, *window).await?),
            _ => None,
        };
        let names = names(&table.schema);
        let aside = refused_keys(&state, &[]).await?;
        // Which rows of a table without a key stand aside cannot be told, only that there are some.
        let some_aside = table.schema.key.is_empty() && !comparison.notes.is_empty();
        let left = Side::Sql(SqlSide {
            client: self.session.client(),
            from: quote_qualified(&self.catalog.schema, &table.name),
            key: sql_columns(&table.schema, &names.key),
            columns: sql_columns(&table.schema, &names.columns),
            flag,
            what: format!("table `{}` of the source", table.name),
        });
        let right = Side::Lake(LakeSide::new(state, &as_strs(&names.key), &as_strs(&names.columns))?);
        let judge = |what: What, key: &RowDigest, flagged: bool| match line {
            _ if what == What::OnlyLeft && (some_aside || aside.contains(key)) => Counts::Nothing,
            Line::Still => Counts::Difference,
            Line::Window(_) if !has_xmin || flagged => Counts::Pending,
            Line::Window(_) if what == What::OnlyRight && !confirmed.contains(key) => Counts::Pending,
            Line::Window(_) => Counts::Difference,
            Line::Broken(_) | Line::Other(_) => Counts::Pending,
        };
        let compared = compare(&mut comparison, &left, &right, &names, judge).await?;
        if let Line::Broken(why) = line {
            comparison = comparison.with_note(format!("{why}: the next ingest reads the table in full"));
        } else if !has_xmin && comparison.pending > 0 {
            comparison = comparison.with_note("a view does not show which rows changed since it was read");
        }
        comparison.judge();
        Ok((comparison, compared.gone))
    }

    /// A table that the lake does not have.
    async fn not_ingested(
        &self,
        mut comparison: Comparison,
        table: &SourceTable,
        newest: Option<&Manifest>,
        settled: bool,
    ) -> Result<Comparison> {
        comparison.rows_left = self.session.count(table).await?;
        if newest.is_none() || settled {
            return Ok(comparison.with_verdict(Verdict::Missing).with_note("the lake does not have this table"));
        }
        comparison.pending = comparison.rows_left;
        Ok(comparison.with_verdict(Verdict::Pending).with_note("no ingest has read this table yet"))
    }

    /// A table that is being read in chunks: its state is older than these, or there is none yet.
    async fn unfinished(
        &self,
        mut comparison: Comparison,
        table: &SourceTable,
        relation: Option<&Relation>,
        base: &Unfinished,
    ) -> Result<Comparison> {
        comparison.rows_left = self.session.count(table).await?;
        comparison.rows_right = relation.map_or(0, |relation| relation.rows);
        comparison.pending = comparison.rows_left;
        let note = format!("{}: the next ingest goes on", base.text());
        Ok(comparison.with_verdict(Verdict::Pending).with_note(note))
    }

    /// A table whose rows in the lake have other columns: only their number can be compared.
    async fn read_anew(
        &self,
        mut comparison: Comparison,
        table: &SourceTable,
        relation: &Relation,
        why: &str,
    ) -> Result<Comparison> {
        comparison.rows_left = self.session.count(table).await?;
        comparison.rows_right = relation.rows;
        comparison.pending = comparison.rows_left;
        let note = format!("{why}: the next ingest reads the table in full");
        Ok(comparison.with_verdict(Verdict::Pending).with_note(note))
    }
}

/// The tables that no setting leaves alone; a table without columns has nothing to compare.
fn captured(ctx: &Context, catalog: &Catalog) -> Vec<String> {
    let wanted = |t: &&SourceTable| ctx.config.is_captured(&t.name) && !t.schema.columns.is_empty();
    catalog.tables.values().filter(wanted).map(|t| t.name.clone()).collect()
}

/// A table that the lake has and the source does not.
fn dropped(mut comparison: Comparison, relation: &Relation, settled: bool) -> Comparison {
    comparison.rows_right = relation.rows;
    if settled {
        return comparison
            .with_verdict(Verdict::Missing)
            .with_note("the source does not have this table, or it is not captured");
    }
    comparison.pending = relation.rows;
    comparison
        .with_verdict(Verdict::Pending)
        .with_note("the source has no such table any more, or it is not captured: the next ingest drops it")
}

/// How the source's snapshot follows from the state in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing has happened since: both must be equal.
    Still,
    /// Rows of this window may have changed.
    Window(XidWindow),
    /// Transaction ids say nothing.
    Broken(&'static str),
    /// Even the columns may be others.
    Other(&'static str),
}

fn line(relation: &Relation, table: &SourceTable, now: &Source) -> Line {
    match line_of(relation, table.kind, &table.schema, now) {
        Line::Still | Line::Window(_) if !names_hold(relation, table.names.as_deref()) => {
            Line::Broken("labels or fields changed")
        }
        line => line,
    }
}

fn names_hold(relation: &Relation, names: Option<&str>) -> bool {
    relation.capture.as_ref().is_none_or(|state| capture::same_names(state, names))
}

fn line_of(relation: &Relation, kind: TableKind, schema: &TableSchema, now: &Source) -> Line {
    let Some(state) = &relation.capture else { return Line::Other("the lake does not say how it was read") };
    // Rows that came with a partition are in a window; of a table with children, which has no key, all is read again.
    let known = Some(&relation.schema).filter(|_| kind == TableKind::Partitioned);
    if known.map_or_else(|| relation.schema != *schema, |known| *known != schema.but_for_partitions(Some(known))) {
        return Line::Other("its columns or key changed");
    }
    if state.identity != now.identity {
        return Line::Broken("it was read from another source");
    }
    if now.xmax < state.xmax || now.lsn < wal::record_end(state.lsn) {
        return Line::Broken("the source was restored");
    }
    if state.watermark == state.xmax && state.xmax == now.xmax {
        return Line::Still;
    }
    match XidWindow::new(state.watermark, now.xmax) {
        Some(window) => Line::Window(window),
        None if now.xmax.saturating_sub(state.watermark) >= MAX_SPAN => Line::Broken("its watermark is too far behind"),
        None => Line::Broken("the source was restored"),
    }
}

fn names(schema: &TableSchema) -> Names {
    Names { key: schema.key.clone(), columns: schema.columns.iter().map(|c| c.name.clone()).collect() }
}

fn sql_columns(schema: &TableSchema, names: &[String]) -> Vec<SqlColumn> {
    let column = |name: &String| {
        schema.column(name).map(|c| SqlColumn {
            text: sql_text(c, &select_expression(c)),
            shown: format!("({})::text", select_expression(c)),
            // What was read of it had no blanks at its end either.
            padded: false,
        })
    };
    names.iter().filter_map(column).collect()
}

pub(super) fn as_strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift_core::Micros;
    use starlift_core::manifest::CaptureState;

    fn source(xmin: u64, xmax: u64, lsn: u64) -> Source {
        Source {
            identity: "a".into(),
            in_recovery: false,
            server_version: 150_000,
            database: "d".into(),
            schema: "public".into(),
            xmin,
            xmax,
            lsn,
            tables: vec![],
            horizon: None,
        }
    }

    fn relation(watermark: u64, xmax: u64) -> Relation {
        Relation {
            schema: schema(),
            fingerprint: "f".into(),
            rows: 1,
            refused: 0,
            last_change: 1,
            base: 1,
            capture: Some(CaptureState {
                mode: "xid".into(),
                identity: "a".into(),
                watermark,
                xmax,
                lsn: 0,
                read_at: Micros(0),
                names: None,
                passes: None,
            }),
            model: None,
            run: None,
        }
    }

    fn schema() -> TableSchema {
        TableSchema { columns: vec![], key: vec![], oid: None, partitions: vec![], attributes: vec![] }
    }

    #[test]
    fn a_source_in_which_nothing_happened_must_equal_the_lake() {
        assert_eq!(line_of(&relation(100, 100), TableKind::Table, &schema(), &source(100, 100, 0)), Line::Still);
        // A transaction was open when the lake was read: its deletes may have come since.
        let window = Line::Window(XidWindow::new(90, 100).unwrap());
        assert_eq!(line_of(&relation(90, 100), TableKind::Table, &schema(), &source(100, 100, 0)), window);
        let window = Line::Window(XidWindow::new(100, 101).unwrap());
        assert_eq!(line_of(&relation(100, 100), TableKind::Table, &schema(), &source(101, 101, 0)), window);
    }

    #[test]
    fn where_transaction_ids_say_nothing_all_differences_are_pending() {
        let broken = |relation: &Relation, now: &Source| {
            matches!(line_of(relation, TableKind::Table, &schema(), now), Line::Broken(_))
        };
        let other = Source { identity: "b".into(), ..source(100, 100, 0) };
        assert!(broken(&relation(100, 100), &other));
        assert!(broken(&relation(100, 100), &source(99, 99, 0)));
        let mut ahead = relation(100, 100);
        ahead.capture.as_mut().unwrap().lsn = 9;
        assert!(broken(&ahead, &source(100, 100, 8)));
        assert!(broken(&relation(100, 100), &source(100 + MAX_SPAN, 100 + MAX_SPAN, 0)));
    }

    #[test]
    fn a_table_with_other_partitions_is_compared() {
        let other = TableSchema { partitions: vec![7], ..schema() };
        let window = Line::Window(XidWindow::new(100, 101).unwrap());
        let line = |kind| line_of(&relation(100, 100), kind, &other, &source(101, 101, 0));
        assert_eq!(line(TableKind::Partitioned), window);
        assert!(matches!(line(TableKind::Table), Line::Other(_)), "other children");
    }

    #[test]
    fn a_table_with_other_columns_is_read_anew() {
        let other = TableSchema { key: vec!["id".into()], ..schema() };
        assert!(matches!(line_of(&relation(100, 100), TableKind::Table, &other, &source(100, 100, 0)), Line::Other(_)));
    }
}
