//! Model files: header, SQL and the graph between several of them.

use starlift_core::model::{Model, ModelGraph, referenced_tables, uses};

use crate::is_the_callers;

/// Between two model files in one input.
const NEXT_FILE: &str = "\n---8<---\n";

/// Each model is refused with a hint, or has a key and inputs that a second look finds as well; their graph has every model
/// after those that it reads.
pub fn model(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut models = Vec::new();
    for (position, file) in text.split(NEXT_FILE).take(8).enumerate() {
        match Model::parse(&format!("m{position}"), file) {
            Err(error) => {
                is_the_callers(&error);
                assert!(error.hint().is_some(), "{error:?}");
            }
            Ok(model) => {
                assert!(!model.header.key.is_empty());
                if !model.sql.is_empty() {
                    assert_eq!(referenced_tables(&model.name, &model.sql).expect("it was read before"), model.inputs);
                }
                for column in &model.header.key {
                    uses(&model, column);
                }
                model.header.references();
                models.push(model);
            }
        }
    }
    match ModelGraph::new(models) {
        Err(error) => is_the_callers(&error),
        Ok(graph) => {
            for (position, model) in graph.models().iter().enumerate() {
                let later = |input: &String| graph.models().iter().skip(position).any(|m| m.name == *input);
                assert!(!model.inputs.iter().any(later), "`{}` comes before what it reads", model.name);
                assert!(graph.outer_inputs_of(&model.name).iter().all(|input| graph.get(input).is_none()));
            }
        }
    }
}
