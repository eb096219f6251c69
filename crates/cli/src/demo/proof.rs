//! The proof at the end: `verify --settle`, and beside it what ToteSys itself says that the star schema must hold.
//!
//! The two share nothing: verify compares what the stages hold, with the models in between; the other asks ToteSys in plain
//! PostgreSQL, so that a mistake in a model shows.

use serde::Serialize;
use starlift::verify::{Comparison, ComparisonKind, Verdict, VerifyRequest, verify};
use starlift_core::Result;
use starlift_sandbox::totesys::{self, Calendar, STAR_TABLES};

use super::place::{self, Place};
use crate::shell::Shell;
use crate::style::Style;
use crate::table::{Align, Table};
use starlift::count;

/// What was compared, and how it came out.
#[derive(Debug, Serialize)]
pub(super) struct Proof {
    /// Whether everything is equal.
    pub(super) equal: bool,
    tables: Vec<Compared>,
    models: Vec<Compared>,
}

#[derive(Debug, Serialize)]
struct Compared {
    name: String,
    rows_left: u64,
    rows_right: u64,
    verify: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    totesys: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<String>,
}

impl Proof {
    /// Runs the stages once more and compares.
    pub(super) async fn find(shell: &Shell, place: &Place) -> Result<Proof> {
        let report = verify(&place.context(shell)?, &VerifyRequest { settle: true, only: Vec::new() }).await?;
        let tables =
            report.comparisons.iter().filter(|c| c.kind == ComparisonKind::SourceLake).map(Compared::of).collect();
        let source = place.cluster.connect(place::SOURCE).await?;
        let warehouse = place.cluster.connect(place::WAREHOUSE).await?;
        let mut models = Vec::new();
        for name in STAR_TABLES {
            let verified =
                report.comparisons.iter().find(|c| c.kind == ComparisonKind::StarWarehouse && c.name == name);
            let mut compared = verified.map_or_else(|| Compared::unverified(name), Compared::of);
            let view = format!("current_{name}");
            let said = totesys::compare(&source, &warehouse, name, &view, Calendar::default()).await?;
            compared.totesys = Some(if said.is_none() { "equal" } else { "differs" });
            compared.differences.extend(said);
            models.push(compared);
        }
        let sound = |c: &Compared| c.verify == Some("equal") && c.totesys != Some("differs");
        let equal = report.equal() && !models.is_empty() && models.iter().chain(&tables).all(sound);
        Ok(Proof { equal, tables, models })
    }

    /// The two tables and the verdict.
    pub(super) fn text(&self, style: Style) -> String {
        let mut tables = Table::new([
            ("source table", Align::Left),
            ("ToteSys", Align::Right),
            ("lake", Align::Right),
            ("verify", Align::Left),
        ]);
        for table in &self.tables {
            tables.row([table.name.clone(), count::of(table.rows_left), count::of(table.rows_right), table.verified()]);
        }
        let mut models = Table::new([
            ("star table", Align::Left),
            ("star", Align::Right),
            ("warehouse", Align::Right),
            ("verify", Align::Left),
            ("ToteSys itself", Align::Left),
        ]);
        for model in &self.models {
            let said = model.totesys.unwrap_or_default().to_string();
            models.row([
                model.name.clone(),
                count::of(model.rows_left),
                count::of(model.rows_right),
                model.verified(),
                said,
            ]);
        }
        let marks = |compared: &[Compared]| compared.iter().map(|c| c.mark(style)).collect::<Vec<_>>();
        let differences: String =
            self.models.iter().chain(&self.tables).flat_map(|c| &c.differences).map(|d| format!("{d}\n")).collect();
        let right = self.models.iter().filter(|m| m.is_equal()).count();
        let verdict = format!("{right} of {} star tables are equal to what ToteSys says", self.models.len());
        format!(
            "One more run for what has committed since, and everything is compared, row by row:\n\n{}\n{}{differences}\n{} {}",
            tables.marked(style, "  ", &marks(&self.tables)),
            models.marked(style, "  ", &marks(&self.models)),
            if self.equal { style.tick() } else { style.cross() },
            if self.equal { style.good(&verdict) } else { style.bad(&verdict) },
        )
    }
}

impl Compared {
    fn of(comparison: &Comparison) -> Compared {
        let named = comparison.examples.iter().map(|e| format!("{}: {} {}", comparison.name, e.key, e.what));
        Compared {
            name: comparison.name.clone(),
            rows_left: comparison.rows_left,
            rows_right: comparison.rows_right,
            // Nothing may be pending here: the stages ran in the snapshot that was compared.
            verify: Some(comparison.verdict.name()),
            totesys: None,
            differences: if comparison.verdict == Verdict::Equal { vec![] } else { named.collect() },
        }
    }

    fn unverified(name: &str) -> Compared {
        Compared {
            name: name.to_string(),
            rows_left: 0,
            rows_right: 0,
            verify: None,
            totesys: None,
            differences: vec![],
        }
    }

    fn verified(&self) -> String {
        self.verify.unwrap_or("not compared").to_string()
    }

    fn is_equal(&self) -> bool {
        self.verify == Some("equal") && self.totesys == Some("equal")
    }

    fn mark(&self, style: Style) -> String {
        let is_good = self.verify == Some("equal") && self.totesys != Some("differs");
        if is_good { style.tick() } else { style.cross() }
    }
}
