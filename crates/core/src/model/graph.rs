//! The graph of models: order, cycles, and which tables belong together.

use std::collections::{BTreeMap, BTreeSet};

use super::Model;
use crate::error::{Error, Result};
use crate::event::printable;

/// The error of a model that reads what nobody knows, with the nearest name that somebody does.
pub fn unknown_input<'a>(model: &str, input: &str, known: impl Iterator<Item = &'a str> + Clone) -> Error {
    let hint = match nearest(input, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!(
            "mend the name in `{model}.sql`; a view is captured where starlift.toml has `[source.tables.\"{input}\"]` with \
             `capture = \"full\"`"
        ),
    };
    Error::config(format!("model `{model}` reads `{input}`, which does not exist"))
        .with_detail(format!("no captured table, seed or model has this name; there are: {}", some_of(known)))
        .with_hint(hint)
        .with_context("model", model)
}

/// The models of a project in dependency order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelGraph {
    models: Vec<Model>,
}

impl ModelGraph {
    /// Orders models so that each comes after the models that it reads; ties by name.
    ///
    /// Errors: Config where models read one another in a circle.
    pub fn new(models: Vec<Model>) -> Result<ModelGraph> {
        let mut rest: BTreeMap<String, Model> = models.into_iter().map(|m| (m.name.clone(), m)).collect();
        let mut ordered: Vec<Model> = Vec::with_capacity(rest.len());
        while !rest.is_empty() {
            let ready =
                rest.values().find(|m| !m.inputs.iter().any(|input| rest.contains_key(input))).map(|m| m.name.clone());
            let Some(name) = ready else {
                let circle: Vec<String> = rest.keys().map(|name| format!("`{name}`")).collect();
                return Err(Error::config("models read one another in a circle")
                    .with_detail(format!("{} cannot be put in an order", circle.join(", ")))
                    .with_hint("let one of them select from source tables instead"));
            };
            ordered.extend(rest.remove(&name));
        }
        Ok(ModelGraph { models: ordered })
    }

    /// The models in dependency order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model of a name.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }

    /// The inputs of all models that are no models themselves: source tables and seeds, sorted.
    pub fn outer_inputs(&self) -> BTreeSet<String> {
        self.models.iter().flat_map(|m| m.inputs.iter()).filter(|input| self.get(input).is_none()).cloned().collect()
    }

    /// The outer inputs that a model reads, itself or through other models.
    pub fn outer_inputs_of(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = vec![name];
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            match self.get(name) {
                Some(model) if seen.insert(name) => open.extend(model.inputs.iter().map(String::as_str)),
                Some(_) => {}
                None => {
                    found.insert(name.to_string());
                }
            }
        }
        found
    }

    /// The first model with an input that is not known: its name and the input's. `known` are the source's tables and the
    /// project's seeds.
    pub fn first_unknown_input(&self, known: &BTreeSet<String>) -> Option<(&str, &str)> {
        let is_unknown = |input: &&String| self.get(input).is_none() && !known.contains(*input);
        self.models.iter().find_map(|model| Some((model.name.as_str(), model.inputs.iter().find(is_unknown)?.as_str())))
    }

    /// Whether every input is known. `known` are the source's tables and the project's seeds.
    ///
    /// Errors: Config that names the model and the table, with the nearest name as a hint.
    pub fn check_inputs(&self, known: &BTreeSet<String>) -> Result<()> {
        let Some((model, input)) = self.first_unknown_input(known) else { return Ok(()) };
        let models = self.models.iter().map(|m| m.name.as_str());
        Err(unknown_input(model, input, known.iter().map(String::as_str).chain(models)))
    }

    /// Whether every test `relationships` leads to one of these seeds or to a model: it would never fail otherwise.
    ///
    /// Errors: Config that names the model and what it refers to, with the nearest name as a hint.
    pub fn check_references<'a>(&'a self, seeds: impl Iterator<Item = &'a String>) -> Result<()> {
        let known: BTreeSet<&str> =
            self.models.iter().map(|m| m.name.as_str()).chain(seeds.map(String::as_str)).collect();
        for model in &self.models {
            if let Some(target) = model.header.referred().into_iter().find(|target| !known.contains(target)) {
                let nearest = nearest(target, known.iter().copied());
                return Err(Error::config(format!("a test of model `{}` refers to `{target}`", model.name))
                    .with_detail("no model or seed has this name")
                    .with_hint(nearest.map_or_else(
                        || format!("mend the line `-- tests:` of `{}.sql`", model.name),
                        |name| format!("did you mean `{name}`?"),
                    ))
                    .with_context("model", model.name.clone()));
            }
        }
        Ok(())
    }

    /// Whether every test `relationships` to a model leads to one whose key has one column: it would never fail otherwise. Ingest needs
    /// no tests, and goes on.
    ///
    /// Errors: Config that names the model and what it refers to.
    pub fn check_referred_keys(&self) -> Result<()> {
        let wide = |target: &str| self.get(target).filter(|other| other.header.key.len() > 1);
        for model in &self.models {
            let Some(target) = model.header.referred().into_iter().find_map(wide) else { continue };
            return Err(Error::config(format!("a test of model `{}` refers to `{}`", model.name, target.name))
                .with_detail(format!("its key has {} columns, and a test has one", target.header.key.len()))
                .with_hint(format!(
                    "give `{}` a key of one column, or take the test out of `{}.sql`: a foreign key of the warehouse may have several columns",
                    target.name, model.name
                ))
                .with_context("model", model.name.clone()));
        }
        Ok(())
    }
}

/// The tables that one ingest has to read together: the listed ones, every table that a model joins with one of them, and
/// every table that a foreign key leads to from one of them.
pub fn widen(
    listed: &BTreeSet<String>,
    graph: &ModelGraph,
    foreign_keys: &BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<String> {
    let joined: Vec<BTreeSet<String>> = graph.models().iter().map(|m| graph.outer_inputs_of(&m.name)).collect();
    let mut wide = listed.clone();
    loop {
        let before = wide.len();
        let together: Vec<&BTreeSet<String>> = joined.iter().filter(|tables| !tables.is_disjoint(&wide)).collect();
        for tables in together {
            wide.extend(tables.iter().cloned());
        }
        let targets: Vec<String> = wide.iter().filter_map(|t| foreign_keys.get(t)).flatten().cloned().collect();
        wide.extend(targets);
        if wide.len() == before {
            return wide;
        }
    }
}

/// The name that a mistyped one probably meant, by edit distance.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known.map(|k| (distance(name, k), k)).filter(|(d, k)| *d <= 2.max(k.len() / 3)).min().map(|(_, k)| k)
}

/// The first of these names, for a message that has no room for all: `` `a`, `b` and 3 more ``.
pub fn some_of<'a>(mut names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.by_ref().take(SHOWN).map(|name| format!("`{}`", printable(name))).collect();
    match (shown.is_empty(), names.count()) {
        (true, _) => "none".into(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Levenshtein's edit distance (V. I. Levenshtein, 1966), one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_knows_is_told_with_names_that_somebody_does() {
        let graph = ModelGraph::new(vec![
            Model::parse("dim_a", "-- kind: dimension\n-- key: id\nselect id from towns").unwrap(),
        ]);
        let graph = graph.unwrap();
        let known = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
        let error = graph.check_inputs(&known(&["town", "x1", "x2", "x3", "x4", "x5"])).unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `town`?"));
        assert!(error.detail().unwrap().ends_with("there are: `town`, `x1`, `x2`, `x3`, `x4` and 2 more"), "{error:?}");
        let far = graph.check_inputs(&known(&["purchase"])).unwrap_err();
        assert!(far.detail().unwrap().ends_with("there are: `purchase`, `dim_a`"), "{far:?}");
        assert!(!far.hint().unwrap().contains("starlift plan"), "{far:?}");
        assert_eq!(some_of([].into_iter()), "none");
    }

    #[test]
    fn a_test_that_refers_to_nothing_is_refused_with_the_name_that_was_meant() {
        let model = |name: &str, test: &str| {
            Model::parse(name, &format!("-- kind: fact\n-- key: id\n-- tests: relationships({test})\nselect id from t"))
                .unwrap()
        };
        let graph = |test: &str| ModelGraph::new(vec![model("fact_a", test), model("dim_b", "id -> dim_b")]).unwrap();
        let seeds = ["codes".to_string()];
        for good in ["id -> dim_b", "id -> codes", "id -> fact_a"] {
            graph(good).check_references(seeds.iter()).unwrap();
        }
        let error = graph("id -> dim_c").check_references(seeds.iter()).unwrap_err();
        assert_eq!(error.message(), "a test of model `fact_a` refers to `dim_c`");
        assert_eq!(error.hint(), Some("did you mean `dim_b`?"));
    }

    #[test]
    fn a_test_that_refers_to_a_key_of_several_columns_is_refused_by_a_check_of_its_own() {
        let wide = Model::parse("dim_wide", "-- kind: dimension\n-- key: a, b\nselect a, b from t").unwrap();
        let fact = "-- kind: fact\n-- key: id\n-- tests: relationships(a -> dim_wide)\nselect id, a from t";
        let graph = ModelGraph::new(vec![wide, Model::parse("fact_a", fact).unwrap()]).unwrap();
        graph.check_references(std::iter::empty()).unwrap();
        let error = graph.check_referred_keys().unwrap_err();
        assert_eq!(error.message(), "a test of model `fact_a` refers to `dim_wide`");
        assert_eq!(error.detail().as_deref(), Some("its key has 2 columns, and a test has one"));
    }
}
