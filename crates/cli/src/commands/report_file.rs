//! `--report FILE`: a run's report as a file. A reader sees the old file or the new one, never half of one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use starlift_core::{Error, Result};

/// Writes a document to the file, if there is one to write to.
pub(super) fn write(file: Option<&PathBuf>, document: &impl Serialize) -> Result<()> {
    let Some(path) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(document)
        .map_err(|e| Error::internal("a report could not be written as JSON").with_source(e))?;
    replace(path, text.as_bytes()).map_err(|e| {
        Error::config(format!("cannot write the report `{}`", path.display()))
            .with_source(e)
            .with_hint("name a file in a folder that exists and that you may write to")
    })
}

/// Writes beside the file and renames, which is atomic within a folder (POSIX rename).
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut beside = tempfile::Builder::new().prefix(".starlift-report-").tempfile_in(folder)?;
    beside.write_all(bytes)?;
    beside.write_all(b"\n")?;
    readable(beside.as_file())?;
    beside.persist(path)?;
    Ok(())
}

/// A temporary file is its owner's alone; a report holds no secret and is there to be read.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_replaces_the_one_before_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        write(Some(&path), &1).unwrap();
        write(Some(&path), &[1, 2]).unwrap();
        let value: Vec<u32> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(value, [1, 2]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_config_error() {
        let error = write(Some(&PathBuf::from("/no/such/folder/report.json")), &1).unwrap_err();
        assert_eq!(error.kind(), starlift_core::ErrorKind::Config);
    }
}
