//! A project's models and seeds, read from its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use starlift_core::digest::sha256_hex;
use starlift_core::model::{Model, ModelGraph, ModelKind};
use starlift_core::{Error, Result};

/// The models and seeds of a project.
#[derive(Debug, Clone)]
pub struct Project {
    /// The models in dependency order.
    pub graph: ModelGraph,
    /// The content of each `seeds/<name>.csv`, by name.
    pub seeds: BTreeMap<String, Vec<u8>>,
    /// `warehouse.sql`, the DDL of the warehouse, where the project has one.
    pub warehouse_sql: Option<String>,
}

impl Project {
    /// Reads `models/*.sql`, `seeds/*.csv` and `warehouse.sql` of a folder.
    ///
    /// Errors: Config for a model that cannot be read, a circle of models, two calendars, or a name given twice.
    pub fn read(dir: &Path) -> Result<Project> {
        let mut models = Vec::new();
        for (name, bytes) in files(&dir.join("models"), "sql")? {
            let text = String::from_utf8(bytes).map_err(|_| {
                Error::config(format!("model `{name}` is no text in UTF-8"))
                    .with_hint(format!("save `{name}.sql` as UTF-8"))
            })?;
            models.push(Model::parse(&name, &text)?);
        }
        let seeds: BTreeMap<String, Vec<u8>> = files(&dir.join("seeds"), "csv")?.into_iter().collect();
        if let Some(model) = models.iter().find(|m| seeds.contains_key(&m.name)) {
            return Err(Error::config(format!("`{}` is both a model and a seed", model.name))
                .with_hint("rename one of the two files"));
        }
        if models.iter().filter(|m| m.header.kind == ModelKind::Calendar).count() > 1 {
            return Err(Error::config("there are two models of kind `calendar`")
                .with_hint("keep one: it is made from `[calendar]`"));
        }
        let warehouse_sql = text_if_there(&dir.join("warehouse.sql"))?;
        let graph = ModelGraph::new(models)?;
        graph.check_references(seeds.keys())?;
        Ok(Project { graph, seeds, warehouse_sql })
    }

    /// The tables that the models read, seeds left out.
    pub fn tables(&self) -> BTreeSet<String> {
        self.graph.outer_inputs().into_iter().filter(|name| !self.seeds.contains_key(name)).collect()
    }

    /// The inputs of a model that are tables or models, seeds left out.
    pub fn inputs_of(&self, model: &Model) -> Vec<String> {
        model.inputs.iter().filter(|name| !self.seeds.contains_key(*name)).cloned().collect()
    }

    /// The seeds that a model needs, sorted: those that its SQL reads, and those that only its tests refer to.
    pub fn seeds_of<'a>(&'a self, model: &'a Model) -> BTreeMap<&'a str, &'a [u8]> {
        let names = model.inputs.iter().map(String::as_str).chain(model.header.referred());
        names.filter_map(|name| Some((name, self.seeds.get(name)?.as_slice()))).collect()
    }

    /// Names this version of a model with everything that its rows depend on.
    pub fn fingerprint(&self, model: &Model, evaluation: &str, calendar: (i32, i32)) -> String {
        let mut depends_on = vec![evaluation.to_string()];
        depends_on.extend(self.seeds_of(model).into_values().map(sha256_hex));
        if model.header.kind == ModelKind::Calendar {
            depends_on.push(format!("{}..{}", calendar.0, calendar.1));
        }
        model.fingerprint(&depends_on.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// The text of a file; none where there is no such file.
fn text_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::config(format!("cannot read `{}`", path.display()))
            .with_source(e)
            .with_hint("make it readable, and save it as UTF-8")),
    }
}

/// The files of a folder with an extension, by stem, sorted; a folder that is not there has none.
fn files(dir: &Path, extension: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let unreadable = |e: std::io::Error| Error::config(format!("cannot read `{}`", dir.display())).with_source(e);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == extension) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, std::fs::read(&path).map_err(unreadable)?));
        }
    }
    found.sort();
    Ok(found)
}
