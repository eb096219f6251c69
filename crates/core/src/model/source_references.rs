//! Which columns of tables refer to keys of other tables, as far as the models say so.
//!
//! Where a fact's column has to be a key of a dimension (the test `relationships`), the column of the table that the fact's
//! column is made of refers to the column of the table that the dimension's key is made of. It is found from names
//! ([`uses`]), so it may name too much: then a table is read without need.

use std::collections::{BTreeMap, BTreeSet};

use super::{Model, ModelGraph, ModelKind, uses};
use crate::schema::TableSchema;

/// By table: a column of it, another table, and that one's key, to which the column refers.
pub type SourceReferences = BTreeMap<String, BTreeSet<(String, String, String)>>;

/// The references between these tables that follow from the models.
pub fn source_references(graph: &ModelGraph, tables: &BTreeMap<String, TableSchema>) -> SourceReferences {
    let mut found = SourceReferences::new();
    for model in graph.models() {
        for (column, target) in model.header.references() {
            let Some(target) = graph.get(&target).filter(|target| target.header.kind != ModelKind::Calendar) else {
                continue;
            };
            let [key] = target.header.key.as_slice() else { continue };
            let keys: Vec<(String, String)> = made_of(target, key, tables)
                .into_iter()
                .filter(|(table, column)| tables[table].key == [column.clone()])
                .collect();
            for (from, column) in made_of(model, &column, tables) {
                for (to, key) in keys.iter().filter(|(to, key)| (to, key) != (&from, &column)) {
                    found.entry(from.clone()).or_default().insert((column.clone(), to.clone(), key.clone()));
                }
            }
        }
    }
    found
}

/// The columns of tables that a column of a model is made of.
fn made_of(model: &Model, output: &str, tables: &BTreeMap<String, TableSchema>) -> Vec<(String, String)> {
    let inputs = model.inputs.iter().filter_map(|name| Some((name, tables.get(name)?)));
    let columns = inputs.flat_map(|(name, schema)| schema.columns.iter().map(move |column| (name, &column.name)));
    let made = columns.filter(|(_, column)| uses(model, column).columns.contains(output));
    made.map(|(table, column)| (table.clone(), column.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;
    use crate::types::ColumnType;

    fn table(columns: &[&str], key: &str) -> TableSchema {
        let column = |name: &&str| Column {
            name: name.to_string(),
            column_type: ColumnType::Int4,
            nullable: true,
            declared: None,
            labels: vec![],
        };
        TableSchema {
            columns: columns.iter().map(column).collect(),
            key: vec![key.into()],
            oid: None,
            partitions: vec![],
            attributes: vec![],
        }
    }

    #[test]
    fn a_facts_reference_leads_back_to_the_tables_that_both_are_made_of() {
        let model = |name: &str, text: &str| Model::parse(name, text).unwrap();
        let dim = "-- kind: dimension\n-- key: buyer_id\nselect c.id as buyer_id, c.name, a.city from customer c join address a on a.address_id = c.address_id";
        let fact = "-- kind: fact\n-- key: sale_id\n-- tests: relationships(buyer -> dim_buyer)\nselect sale_id, customer as buyer, price from sale";
        let graph = ModelGraph::new(vec![model("dim_buyer", dim), model("fact_sale", fact)]).unwrap();
        let tables = BTreeMap::from([
            ("customer".to_string(), table(&["id", "name", "address_id"], "id")),
            ("address".to_string(), table(&["address_id", "city"], "address_id")),
            ("sale".to_string(), table(&["sale_id", "customer", "price"], "sale_id")),
        ]);
        let expected = BTreeSet::from([("customer".to_string(), "customer".to_string(), "id".to_string())]);
        assert_eq!(source_references(&graph, &tables), BTreeMap::from([("sale".to_string(), expected)]));
    }
}
