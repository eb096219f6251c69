//! The models as a Mermaid flowchart (mermaid.js.org, "Flowcharts"): documents and code hosts draw it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use starlift::config::Project;
use starlift::telemetry::one_line;

use super::models::{kind_of, references_of};

/// The flowchart: solid arrows from what is read, dotted ones to what is referred to, with the columns.
pub(super) fn flowchart(project: &Project) -> String {
    let mut ids = Ids::default();
    let mut nodes: Vec<String> = Vec::new();
    let outer = project.graph.outer_inputs();
    let (seeds, tables): (Vec<_>, Vec<_>) = outer.iter().partition(|name| project.seeds.contains_key(*name));
    nodes.extend(seeds.into_iter().map(|name| format!("{}[/{}/]", ids.of("seed", name), quoted(name))));
    nodes.extend(tables.into_iter().map(|name| format!("{}[({})]", ids.of("table", name), quoted(name))));
    let models = project.graph.models();
    nodes.extend(models.iter().map(|m| format!("{}[{}]", ids.of("model", &m.name), quoted(&m.name))));

    let mut arrows: Vec<String> = Vec::new();
    for model in models {
        for input in &model.inputs {
            arrows.push(format!("{} --> {}", ids.of(kind_of(project, input), input), ids.of("model", &model.name)));
        }
    }
    for model in models {
        for (to, columns) in references_of(model) {
            let label = label(&columns.join(", "));
            let to = ids.of(kind_of(project, &to), &to);
            arrows.push(format!("{} -. {label} .-> {to}", ids.of("model", &model.name)));
        }
    }
    let lines = nodes.into_iter().chain(arrows).map(|line| format!("  {line}\n"));
    format!("graph LR\n{}", lines.collect::<String>())
}

/// A label in quotes; Mermaid reads entities in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", one_line(name).replace('"', "#quot;"))
}

/// The text of an arrow, in quotes where it holds more than a name.
fn label(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') { text.to_string() } else { quoted(text) }
}

/// Node ids: readable, free of Mermaid's keywords by their prefix, and unique.
#[derive(Default)]
struct Ids(BTreeMap<(&'static str, String), String>);

impl Ids {
    fn of(&mut self, kind: &'static str, name: &str) -> String {
        let number = self.0.len();
        match self.0.entry((kind, name.to_string())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(free) => {
                let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                // A plain name has no `-`, so the two forms cannot meet.
                free.insert(if is_plain { format!("{kind}_{name}") } else { format!("{kind}-{number}") }).clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_names_cannot_leave_their_quotes() {
        let mut ids = Ids::default();
        assert_eq!(ids.of("table", "end"), "table_end");
        assert_eq!((ids.of("table", "a b"), ids.of("table", "a-b")), ("table-1".into(), "table-2".into()));
        assert_eq!(ids.of("table", "a b"), "table-1");
        assert_eq!(quoted("a\"] --> b\n"), "\"a#quot;] --> b\\n\"");
    }
}
