//! `models`: what each model reads and refers to, as a tree, a Mermaid flowchart or JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use starlift::config::{Overrides, Project};
use starlift::telemetry::one_line;
use starlift_core::model::Model;

use super::mermaid;
use crate::args::{Models, ModelsFormat};
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;
use starlift::count;

#[derive(Serialize)]
struct Document<'a> {
    pipeline: &'a str,
    models: Vec<ModelDocument<'a>>,
}

#[derive(Serialize)]
struct ModelDocument<'a> {
    name: &'a str,
    kind: &'static str,
    key: &'a [String],
    description: Option<&'a str>,
    inputs: Vec<InputDocument<'a>>,
    references: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct InputDocument<'a> {
    name: &'a str,
    kind: &'static str,
}

/// Shows the models; needs no database.
pub(crate) fn run(shell: &Shell, args: &Models) -> Ended {
    let config = shell.config(Overrides::default())?;
    let project = Project::read(&shell.project_dir)?;
    project.graph.check_referred_keys()?;
    if args.print.json {
        let models = project.graph.models().iter().map(|m| document(&project, m)).collect();
        stdout::json(&Document { pipeline: &config.pipeline, models })?;
        return Ok(Exit::Done);
    }
    stdout::print(&match args.format {
        ModelsFormat::Tree => tree(shell.out, &config.pipeline, &project),
        ModelsFormat::Mermaid => mermaid::flowchart(&project),
    })?;
    Ok(Exit::Done)
}

/// What an input of a model is.
pub(super) fn kind_of(project: &Project, input: &str) -> &'static str {
    if project.graph.get(input).is_some() {
        "model"
    } else if project.seeds.contains_key(input) {
        "seed"
    } else {
        "table"
    }
}

/// What a model refers to, each with the columns that do.
pub(super) fn references_of(model: &Model) -> BTreeMap<String, Vec<String>> {
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (column, to) in model.header.references() {
        columns.entry(to).or_default().push(column);
    }
    columns
}

fn document<'a>(project: &Project, model: &'a Model) -> ModelDocument<'a> {
    ModelDocument {
        name: &model.name,
        kind: model.header.kind.name(),
        key: &model.header.key,
        description: model.header.description.as_deref(),
        inputs: model.inputs.iter().map(|name| InputDocument { name, kind: kind_of(project, name) }).collect(),
        references: model.header.references(),
    }
}

fn tree(style: Style, pipeline: &str, project: &Project) -> String {
    let models = project.graph.models();
    let seeds = match project.seeds.len() as u64 {
        0 => String::new(),
        seeds => format!(" and {}", count::with(seeds, "seed")),
    };
    let mut text = format!(
        "{}: {} from {}{seeds}\n",
        style.bold(&one_line(pipeline)),
        count::with(models.len() as u64, "model"),
        count::with(project.tables().len() as u64, "table"),
    );
    for model in models {
        let about = format!("{}, key {}", model.header.kind.name(), model.header.key.join(", "));
        text.push_str(&format!("\n{}  {}\n", style.bold(&one_line(&model.name)), style.dim(&one_line(&about))));
        if let Some(description) = &model.header.description {
            text.push_str(&format!("{}\n", style.dim(&one_line(description))));
        }
        let reads = model.inputs.iter().map(|input| format!("reads {} {input}", kind_of(project, input)));
        let refers =
            references_of(model).into_iter().map(|(to, columns)| format!("refers to {to} by {}", columns.join(", ")));
        let branches: Vec<String> = reads.chain(refers).collect();
        for (number, branch) in branches.iter().enumerate() {
            let is_last = number + 1 == branches.len();
            let sign = if is_last { style.sign("└─", "`-") } else { style.sign("├─", "|-") };
            text.push_str(&format!("{sign} {}\n", one_line(branch)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_branch_for_what_it_reads_and_refers_to() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "models/dim_currency.sql",
                "-- kind: dimension\n-- key: currency_id\nselect c.currency_id from currency c join names n on n.id = c.currency_id",
            ),
            (
                "models/fact_sale.sql",
                "-- kind: fact\n-- key: id\n-- tests: relationships(currency_id -> dim_currency), relationships(paid_in -> dim_currency)\nselect id, currency_id, paid_in from sale",
            ),
            ("seeds/names.csv", "id,name\n"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project::read(folder.path()).unwrap();
        assert_eq!(
            tree(Style::PLAIN, "shop", &project),
            "shop: 2 models from 2 tables and 1 seed\n\
             \n\
             dim_currency  dimension, key currency_id\n\
             |- reads table currency\n\
             `- reads seed names\n\
             \n\
             fact_sale  fact, key id\n\
             |- reads table sale\n\
             `- refers to dim_currency by currency_id, paid_in\n"
        );
        assert_eq!(
            mermaid::flowchart(&project),
            "graph LR\n\
             \x20 seed_names[/\"names\"/]\n\
             \x20 table_currency[(\"currency\")]\n\
             \x20 table_sale[(\"sale\")]\n\
             \x20 model_dim_currency[\"dim_currency\"]\n\
             \x20 model_fact_sale[\"fact_sale\"]\n\
             \x20 table_currency --> model_dim_currency\n\
             \x20 seed_names --> model_dim_currency\n\
             \x20 table_sale --> model_fact_sale\n\
             \x20 model_fact_sale -. \"currency_id, paid_in\" .-> model_dim_currency\n"
        );
    }
}
