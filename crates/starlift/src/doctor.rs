//! Doctor: whether everything is there that a run needs. Each check has a verdict and, where it fails, what mends it.
//!
//! It writes nothing but a probe object in lake and star, which it removes again.

mod capture;

use std::collections::BTreeSet;

use serde::Serialize;
use starlift_core::{Error, ErrorKind};
use starlift_lake::Head;
use starlift_postgres::ident::quote_qualified;
use starlift_postgres::load::{hazards, rehearse_names, rehearse_support};

use crate::config::Side;
use crate::context::{Context, new_id};
use crate::count;
use crate::ingest::look;
use crate::secrets::scrub;
use crate::warehouse::COLUMNS_UNKNOWN;

/// How a project without a `warehouse.sql` gets its tables.
const FIRST_STEPS: &str = "run `starlift ingest`, then `starlift warehouse create`";
/// The check of the models, which is only told where something is wrong.
const MODELS: &str = "models";
/// The check of the warehouse's tables.
const TABLES: &str = "warehouse: tables";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Fine.
    Ok,
    /// Works, but worth a look.
    Warn,
    /// A run will fail.
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at: `source: connection`, `lake: writable`, …
    pub name: String,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// The statement or command that mends it.
    pub mend: Option<String>,
}

/// Looks at everything that a run needs; a check that fails does not keep the others from being made.
pub async fn doctor(ctx: &Context) -> Vec<Check> {
    let mut checks = vec![ok(
        "project",
        format!(
            "pipeline `{}` with {} and {}",
            ctx.config.pipeline,
            count::with(ctx.project.graph.models().len() as u64, "model"),
            count::with(ctx.project.seeds.len() as u64, "seed")
        ),
    )];
    let (source, followed) = source(ctx).await;
    checks.extend(models(ctx, followed.as_ref()).await);
    checks.extend(source);
    checks.extend(stores(ctx).await);
    checks.extend(warehouse(ctx).await);
    for check in &mut checks {
        check.detail = scrub(&check.detail).into_owned();
        check.mend = check.mend.as_deref().map(|mend| scrub(mend).into_owned());
    }
    checks
}

/// What would stop transform over the lake as it is; where the coming ingest changes a table that the model reads, or nobody
/// knows what it changes, that is not certain. A lake or star that cannot be read is another check's.
async fn models(ctx: &Context, followed: Option<&BTreeSet<String>>) -> Option<Check> {
    if ctx.project.graph.models().is_empty() {
        return Some(Check {
            name: MODELS.into(),
            verdict: Verdict::Fail,
            detail: "the project has no model".into(),
            mend: Some("add `models/<name>.sql`; docs/models.md shows how one looks".into()),
        });
    }
    if let Err(error) = ctx.project.graph.check_referred_keys() {
        return Some(failed(MODELS, &error));
    }
    let lake = ctx.lake_head().await.ok()?;
    let listed = crate::transform::check_inputs(&ctx.project, lake.manifest());
    let planned = match listed {
        Ok(()) => crate::transform::ways(ctx, &lake).await.map(|_| ()),
        Err(error) => Err(error),
    };
    let error = planned.err().filter(|error| error.kind() != ErrorKind::Unavailable)?;
    let check = failed(MODELS, &error);
    let may_mend = |tables| crate::ingest::drift::may_mend(&ctx.project.graph, tables, &error);
    Some(match followed.is_none_or(may_mend) {
        true => Check {
            verdict: Verdict::Warn,
            detail: format!("over the lake as it is, before ingest brings what changed: {}", check.detail),
            ..check
        },
        false => check,
    })
}

/// The checks, and the changed tables that the coming ingest brings into the lake; none where the source could not be asked.
async fn source(ctx: &Context) -> (Vec<Check>, Option<BTreeSet<String>>) {
    // A lake that cannot be read is another check's.
    let lake = ctx.lake_head().await.ok();
    let seen = match look(ctx, lake.as_ref().and_then(Head::manifest)).await {
        Ok(seen) => seen,
        Err(error) => return (vec![failed("source: connection", &error)], None),
    };
    let drift =
        crate::ingest::drift::drift(&ctx.project.graph, lake.as_ref().and_then(Head::manifest), &seen.selection);
    let mut checks = vec![
        ok(
            "source: connection",
            format!("{} ({})", seen.source.database, if seen.source.in_recovery { "standby" } else { "primary" }),
        ),
        version("source: version", seen.source.server_version),
    ];
    let names: BTreeSet<String> = seen.selection.tables().into_iter().collect();
    checks.push(match seen.selection.check(ctx) {
        Ok(()) => ok("source: tables", format!("{} can be read", count::with(names.len() as u64, "table"))),
        Err(error) => failed("source: tables", &error),
    });
    let keyless: Vec<_> = seen.tables().filter(|t| t.schema.key.is_empty()).collect();
    if !keyless.is_empty() {
        let names: Vec<&str> = keyless.iter().map(|t| t.name.as_str()).collect();
        // A view has no key, nor has a table with children: its own holds for its own rows alone.
        let can_have_one = keyless.iter().find(|t| t.kind.has_xmin() && t.schema.partitions.is_empty());
        // It has one, of composite values whose documents do not tell them apart (docs/types.md).
        let vague = keyless.iter().find_map(|t| Some((t, t.vague_key.first()?)));
        let as_text = vague.map(|(table, column)| {
            format!("set `columns.{column} = {{ as = \"text\" }}` for table `{}` in starlift.toml", table.name)
        });
        checks.push(Check {
            name: "source: keys".into(),
            verdict: Verdict::Warn,
            detail: format!("{} without a primary key over all rows: read in full by every run", names.join(", ")),
            mend: as_text.or_else(|| {
                let table = quote_qualified(&ctx.config.source.database.schema, &can_have_one?.name);
                Some(format!("name the columns: alter table {table} add primary key (…);"))
            }),
        });
    }
    checks.extend(capture::checks(ctx, &seen, lake.as_ref()));
    (checks, Some(crate::ingest::drift::followed(ctx, &drift)))
}

async fn stores(ctx: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, store) in [("lake", ctx.lake()), ("star", ctx.star())] {
        let store = match store {
            Ok(store) => store,
            Err(error) => {
                checks.push(failed(&format!("{name}: place"), &error));
                continue;
            }
        };
        checks.push(match store.probe_writable(&new_id()).await {
            Ok(None) => ok(&format!("{name}: writable"), format!("{} keeps its create-only promise", store.url())),
            Ok(Some(left)) => Check {
                name: format!("{name}: writable"),
                verdict: Verdict::Warn,
                detail: format!(
                    "{} is writable; the probe `{left}` could not be deleted and does no harm",
                    store.url()
                ),
                mend: None,
            },
            Err(error) => failed(&format!("{name}: writable"), &error),
        });
        checks.push(match if name == "lake" { ctx.lake_head().await } else { ctx.star_head().await } {
            Ok(head) => ok(
                &format!("{name}: manifests"),
                head.manifest().map_or("none yet".into(), |m| format!("the newest is {} of {}", m.seq, m.at)),
            ),
            Err(error) => failed(&format!("{name}: manifests"), &error),
        });
    }
    checks
}

async fn warehouse(ctx: &Context) -> Vec<Check> {
    let mut connection = match ctx.connect(Side::Warehouse).await {
        Ok(connection) => connection,
        Err(error) => return vec![failed("warehouse: connection", &error)],
    };
    let mut checks = vec![ok("warehouse: connection", format!("schema `{}`", ctx.config.warehouse.schema))];
    match starlift_postgres::server_version(connection.client()).await {
        Ok(number) => checks.push(version("warehouse: version", number)),
        Err(error) => checks.push(failed("warehouse: version", &error)),
    }
    let models = match crate::warehouse::models(ctx).await {
        Ok(models) if models.iter().all(|m| m.schema.columns.is_empty()) => {
            let schema = &ctx.config.warehouse.schema;
            checks.push(match rehearse_names(connection.client_mut(), schema, &models).await {
                Err(error) => failed(TABLES, &error),
                Ok(missing) if missing.is_empty() => ok(
                    TABLES,
                    format!("{} are there; their columns are compared after the first ingest", tables(models.len())),
                ),
                Ok(missing) => to_create(&missing),
            });
            return checks;
        }
        Ok(models) => models,
        // Nothing is wrong: it is the first thing that anybody does.
        Err(error) if error.message() == COLUMNS_UNKNOWN => {
            checks.push(Check { mend: Some(FIRST_STEPS.into()), verdict: Verdict::Warn, ..failed(TABLES, &error) });
            return checks;
        }
        Err(error) => {
            checks.push(failed(TABLES, &error));
            return checks;
        }
    };
    let schema = &ctx.config.warehouse.schema;
    checks.push(match rehearse_support(connection.client_mut(), &ctx.config.pipeline, schema, &models).await {
        Err(error) => failed(TABLES, &error),
        Ok(missing) if missing.is_empty() => {
            ok(TABLES, format!("{} with their views and ledger", tables(models.len())))
        }
        Ok(missing) => to_create(&missing.iter().map(|s| s.object.clone()).collect::<Vec<_>>()),
    });
    // Tables that cannot be read are the check before's.
    for hazard in hazards(connection.client_mut(), schema, &models).await.unwrap_or_default() {
        checks.push(Check {
            name: "warehouse: constraints".into(),
            verdict: Verdict::Warn,
            detail: hazard.detail,
            mend: Some(hazard.mend),
        });
    }
    checks
}

fn tables(count: usize) -> String {
    count::with(count as u64, "table")
}

/// What is missing in the warehouse and our role may make.
fn to_create(missing: &[String]) -> Check {
    Check {
        name: TABLES.into(),
        verdict: Verdict::Warn,
        detail: format!("missing: {}", missing.join(", ")),
        mend: Some("starlift warehouse create".into()),
    }
}

fn version(name: &str, number: u32) -> Check {
    let shown = format!("PostgreSQL {}.{}", number / 10_000, number % 10_000);
    if number >= 130_000 {
        return ok(name, shown);
    }
    Check {
        name: name.into(),
        verdict: Verdict::Fail,
        detail: format!("{shown} is too old"),
        mend: Some("use PostgreSQL 13 or newer".into()),
    }
}

fn ok(name: &str, detail: String) -> Check {
    Check { name: name.into(), verdict: Verdict::Ok, detail, mend: None }
}

fn failed(name: &str, error: &Error) -> Check {
    let detail = match error.detail() {
        Some(detail) => format!("{error}: {detail}"),
        None => error.to_string(),
    };
    Check { name: name.into(), verdict: Verdict::Fail, detail, mend: error.hint().map(str::to_string) }
}
