//! A table or model as of the manifest to come: a pure transition from what it was and what a run did with it.

use crate::manifest::{CaptureState, ModelState, Relation, RelationRun};
use crate::schema::TableSchema;

/// What a run found and wrote of one table or model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pass {
    /// Rows of its state afterwards.
    pub rows: u64,
    /// Refused rows among them.
    pub refused: u64,
    /// Whether the files of the run replace everything before.
    pub replaced: bool,
    /// What the manifest tells of the run, with its files.
    pub run: RelationRun,
}

/// A table after the run of `seq` has read it.
pub fn table(before: Option<&Relation>, schema: TableSchema, capture: CaptureState, seq: u64, pass: Pass) -> Relation {
    let fingerprint = schema.fingerprint();
    Relation { capture: Some(capture), ..after(before, schema, fingerprint, seq, pass) }
}

/// A model after the run of `seq` has evaluated it.
pub fn model(
    before: Option<&Relation>,
    schema: TableSchema,
    fingerprint: String,
    model: ModelState,
    seq: u64,
    pass: Pass,
) -> Relation {
    Relation { model: Some(model), ..after(before, schema, fingerprint, seq, pass) }
}

/// A run that wrote nothing leaves the newest change where it was, and one that replaced nothing the base.
fn after(before: Option<&Relation>, schema: TableSchema, fingerprint: String, seq: u64, pass: Pass) -> Relation {
    let changed = pass.replaced || pass.run.all_files().next().is_some();
    Relation {
        schema,
        fingerprint,
        rows: pass.rows,
        refused: pass.refused,
        last_change: if changed { seq } else { before.map_or(0, |r| r.last_change) },
        base: if pass.replaced { seq } else { before.map_or(0, |r| r.base) },
        capture: None,
        model: None,
        run: Some(pass.run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{DataFile, FileMode};

    fn schema() -> TableSchema {
        TableSchema { columns: vec![], key: vec!["id".into()], oid: None, partitions: vec![], attributes: vec![] }
    }

    fn file() -> DataFile {
        DataFile { key: "t/1".into(), rows: 1, bytes: 1, sha256: String::new(), mode: FileMode::Window, tail: None }
    }

    fn at(before: Option<&Relation>, seq: u64, replaced: bool, run: RelationRun) -> Relation {
        let state = ModelState { kind: "fact".into(), inputs: vec![], references: Default::default(), tests: vec![] };
        model(before, schema(), "f".into(), state, seq, Pass { rows: seq, refused: 0, replaced, run })
    }

    #[test]
    fn only_files_and_new_bases_are_changes() {
        let first = at(None, 1, true, RelationRun::default());
        assert_eq!((first.last_change, first.base), (1, 1), "an empty table is a base too");
        let quiet = at(Some(&first), 2, false, RelationRun::default());
        assert_eq!((quiet.last_change, quiet.base, quiet.rows), (1, 1, 2));
        let window = at(Some(&quiet), 3, false, RelationRun { files: vec![file()], ..RelationRun::default() });
        assert_eq!((window.last_change, window.base), (3, 1));
        let deleted = at(Some(&window), 4, false, RelationRun { deleted: vec![file()], ..RelationRun::default() });
        assert_eq!((deleted.last_change, deleted.base), (4, 1));
        let again = at(Some(&deleted), 5, true, RelationRun { files: vec![file()], ..RelationRun::default() });
        assert_eq!((again.last_change, again.base), (5, 5));
    }
}
