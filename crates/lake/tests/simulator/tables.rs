//! The tables of the simulated source and the models over them.

use std::collections::BTreeMap;

use starlift_core::coverage::ModelNow;
use starlift_core::{Column, ColumnType, TableSchema};

/// A row of any table or model: `id`, `x` and `y`.
pub(crate) type Row = [i32; 3];

/// Rows in order: of a table with a key each id once, of one without as often as they are there.
pub(crate) type Rows = Vec<Row>;

/// A table of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// `x` is the town, `y` a score.
    Person,
    /// `x` is the person, `y` the amount.
    Sale,
    /// Has no key, so that it is read in full by every run.
    Rate,
}

pub(crate) const TABLES: [Table; 3] = [Table::Person, Table::Sale, Table::Rate];

impl Table {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Person => "person",
            Table::Sale => "sale",
            Table::Rate => "rate",
        }
    }

    pub(crate) fn has_key(self) -> bool {
        self != Table::Rate
    }

    /// Its schema after so many alterations.
    pub(crate) fn schema(self, alterations: u32) -> TableSchema {
        let key: &[&str] = if self.has_key() { &["id"] } else { &[] };
        TableSchema { oid: Some(100 + self as u32), ..schema(key, "y", Some(format!("integer {alterations}"))) }
    }
}

fn schema(key: &[&str], last: &str, declared: Option<String>) -> TableSchema {
    let column = |name: &str| Column {
        name: name.into(),
        column_type: ColumnType::Int4,
        nullable: false,
        declared: declared.clone(),
        labels: vec![],
    };
    TableSchema {
        columns: vec![column("id"), column("x"), column(last)],
        key: key.iter().map(|k| k.to_string()).collect(),
        oid: None,
        partitions: vec![],
        attributes: vec![],
    }
}

/// A model of the simulated project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Model {
    /// One row for each person.
    DimPerson,
    /// Sales joined with their person; `x` refers to it.
    FactSale,
    /// A model over a model and a table without a key: persons and rates of each town.
    DimTown,
}

/// In the order in which they depend on one another, which is that of the load too but for the fact.
pub(crate) const MODELS: [Model; 3] = [Model::DimPerson, Model::FactSale, Model::DimTown];
/// Dimensions first.
pub(crate) const LOAD_ORDER: [Model; 3] = [Model::DimPerson, Model::DimTown, Model::FactSale];

impl Model {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Model::DimPerson => "dim_person",
            Model::FactSale => "fact_sale",
            Model::DimTown => "dim_town",
        }
    }

    pub(crate) fn is_fact(self) -> bool {
        self == Model::FactSale
    }

    pub(crate) fn inputs(self) -> &'static [&'static str] {
        match self {
            Model::DimPerson => &["person"],
            Model::FactSale => &["sale", "person"],
            Model::DimTown => &["dim_person", "rate"],
        }
    }

    /// Every third version has other columns, so that all rows are written anew.
    pub(crate) fn schema(self, version: u32) -> TableSchema {
        schema(&["id"], if version % 3 == 2 { "z" } else { "y" }, None)
    }

    pub(crate) fn fingerprint(self, version: u32) -> String {
        format!("{} {version}", self.name())
    }

    /// What its SQL would yield over these inputs.
    pub(crate) fn evaluate(self, version: u32, inputs: &BTreeMap<&str, Rows>) -> Rows {
        let of = |name: &str| inputs.get(name).map(Vec::as_slice).unwrap_or_default();
        let shift = version as i32 * 1_000;
        let rows: Rows = match self {
            Model::DimPerson => of("person").iter().map(|[id, town, score]| [*id, *town, score + shift]).collect(),
            Model::FactSale => {
                let persons: BTreeMap<i32, Row> = of("person").iter().map(|row| (row[0], *row)).collect();
                let join = |[id, person, amount]: &Row| {
                    persons.get(person).map(|[_, town, _]| [*id, *person, amount * 10 + town + shift])
                };
                of("sale").iter().filter_map(join).collect()
            }
            Model::DimTown => {
                let mut towns: BTreeMap<i32, Row> = BTreeMap::new();
                for [_, town, _] in of("dim_person") {
                    towns.entry(*town).or_insert([*town, 0, shift])[1] += 1;
                }
                for [id, x, y] in of("rate") {
                    if let Some(town) = towns.get_mut(&(id % 4)) {
                        town[2] += x * 3 + y;
                    }
                }
                towns.into_values().collect()
            }
        };
        rows
    }
}

/// The project's models: which there are, in which version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Project {
    pub(crate) versions: BTreeMap<Model, u32>,
}

impl Project {
    pub(crate) fn new() -> Project {
        Project { versions: MODELS.iter().map(|m| (*m, 0)).collect() }
    }

    pub(crate) fn models(&self) -> Vec<ModelNow> {
        let now = |(model, version): (&Model, &u32)| ModelNow {
            name: model.name().into(),
            fingerprint: model.fingerprint(*version),
            inputs: model.inputs().iter().map(|i| i.to_string()).collect(),
        };
        self.versions.iter().map(now).collect()
    }
}

/// The model of a name.
pub(crate) fn model(name: &str) -> Option<Model> {
    MODELS.into_iter().find(|m| m.name() == name)
}

/// Every model of a project over the tables of one moment.
pub(crate) fn star(versions: &BTreeMap<Model, u32>, tables: &BTreeMap<&'static str, Rows>) -> BTreeMap<Model, Rows> {
    let mut inputs: BTreeMap<&str, Rows> = tables.iter().map(|(name, rows)| (*name, rows.clone())).collect();
    let mut star = BTreeMap::new();
    for (model, version) in versions {
        let rows = model.evaluate(*version, &inputs);
        inputs.insert(model.name(), rows.clone());
        star.insert(*model, rows);
    }
    star
}
