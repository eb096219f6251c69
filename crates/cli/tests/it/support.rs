//! Running the built program in a neutral environment.

#![allow(clippy::disallowed_methods, reason = "a test measures time and passes its environment on")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The shipped pipeline.
pub(crate) fn totesys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys")
}

/// The program with arguments; of the environment only what finding PostgreSQL and temporary folders needs.
pub(crate) fn starlift<const N: usize>(args: [&str; N]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starlift"));
    command.args(args).env_clear().env("LANG", "C.UTF-8").env("COLUMNS", "100").current_dir("/").stdin(Stdio::null());
    for name in ["PATH", "TMPDIR", "STARLIFT_PG_BIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs a command to its end.
pub(crate) fn ran(command: &mut Command) -> Ran {
    command.output().expect("the program starts").into()
}

/// A project folder with these files.
pub(crate) fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    folder
}

/// The smallest project with one model.
pub(crate) fn small_project() -> tempfile::TempDir {
    project(&[
        ("starlift.toml", "[pipeline]\nname = \"shop\"\n"),
        ("models/dim_item.sql", "-- kind: dimension\n-- key: item_id\nselect item_id, name from item\n"),
    ])
}

/// A database that nobody serves: port 1 of this machine.
pub(crate) const NOBODY: &str = "postgres://reader:hunter2@127.0.0.1:1/shop?sslmode=disable";
