//! `init`: a new project, ready to be filled in.
//!
//! Nothing that is there is written over. The settings come last: a folder in which it was interrupted is no project yet, and
//! the command can be given again.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use starlift::telemetry::one_line;
use starlift_core::{Error, Result};

use crate::args::Init;
use crate::failure::{Ended, Exit};
use crate::shell::Shell;
use crate::stdout;
use crate::style::Style;

const SETTINGS: &str = "starlift.toml";
const IGNORED: &str = "db_credentials.json\nwarehouse_credentials.json\nlake/\n";
const CREDENTIALS: &str = r#"{
  "user": "CHANGE_ME",
  "password": "CHANGE_ME",
  "host": "CHANGE_ME",
  "database": "CHANGE_ME",
  "port": 5432
}
"#;

#[derive(Serialize)]
struct Document<'a> {
    project: String,
    pipeline: &'a str,
    created: &'a [&'static str],
}

/// Makes a project.
///
/// Errors: Config where there is one already, or the folder cannot be written to.
pub(crate) fn run(shell: &Shell, args: &Init) -> Ended {
    let dir = args.dir.as_ref().unwrap_or(&shell.project_dir);
    let shown = dir.display().to_string();
    if dir.join(SETTINGS).exists() {
        return Err(Error::config(format!("there is a project in `{shown}` already"))
            .with_hint("`starlift doctor` looks whether it is ready to run")
            .into());
    }
    let name = pipeline_name(dir);
    let settings = settings(&name);
    let files = [
        ("db_credentials.json.example", CREDENTIALS),
        ("warehouse_credentials.json.example", CREDENTIALS),
        (".gitignore", IGNORED),
        (SETTINGS, settings.as_str()),
    ];
    let made = |e| cannot(&dir.join("models"), e);
    fs::create_dir_all(dir.join("models")).map_err(made)?;
    let mut created = Vec::new();
    for (file, text) in files {
        if write_new(&dir.join(file), text)? {
            created.push(file);
        }
    }
    if args.print.json {
        stdout::json(&Document { project: shown, pipeline: &name, created: &created })?;
    } else {
        stdout::print(&text(shell.out, &shown, &created))?;
    }
    Ok(Exit::Done)
}

/// Whether the file was not there before, and is now.
fn write_new(path: &Path, text: &str) -> Result<bool> {
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(false),
        opened => opened.map_err(|e| cannot(path, e))?,
    };
    file.write_all(text.as_bytes()).map_err(|e| cannot(path, e))?;
    Ok(true)
}

fn cannot(path: &Path, e: std::io::Error) -> Error {
    Error::config(format!("cannot write `{}`", path.display()))
        .with_source(e)
        .with_hint("name a folder that you may write to")
}

/// The folder's name as a name of a pipeline may be.
fn pipeline_name(dir: &Path) -> String {
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' };
    let name: String = folder.chars().map(fits).take(63).collect();
    if name.chars().any(|c| c.is_ascii_alphanumeric()) { name } else { "pipeline".into() }
}

fn settings(name: &str) -> String {
    format!(
        "# A flag wins over the environment (STARLIFT_SOURCE_URL, STARLIFT_LAKE_INGEST, …), which wins over this file. Relative\n\
         # paths start at this folder. No secret belongs in here. The README of starlift lists every setting.\n\
         \n\
         [pipeline]\n\
         name = \"{name}\"\n\
         \n\
         [source]\n\
         credentials = \"file:db_credentials.json\"\n\
         schema = \"public\"\n\
         \n\
         [lake]\n\
         ingest = \"lake/ingest\"            # a folder, file:///… or s3://bucket/prefix\n\
         transform = \"lake/transform\"\n\
         \n\
         [warehouse]\n\
         credentials = \"file:warehouse_credentials.json\"\n\
         schema = \"public\"\n"
    )
}

fn text(style: Style, dir: &str, created: &[&str]) -> String {
    let dir = one_line(dir);
    let mut text = String::new();
    for file in created {
        text.push_str(&format!("{} {dir}/{file}\n", style.tick()));
    }
    text.push_str(&format!(
        "\nnext, in {dir}\n  \
         copy both *.example to the same name without .example and fill them in\n  \
         write models/<name>.sql     docs/models.md shows how one looks\n  \
         starlift doctor             is everything there?\n  \
         starlift ingest             the lake knows the tables\n  \
         starlift warehouse create   a table for each model\n  \
         starlift run\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_named_after_its_folder_as_far_as_it_may() {
        let name = |dir: &str| pipeline_name(Path::new(dir));
        assert_eq!(name("/no/such/My Shop-2"), "my_shop-2");
        assert_eq!(name("/no/such/日本"), "pipeline");
        assert_eq!(name("/"), "pipeline");
        assert_eq!(name(&format!("/no/such/{}", "x".repeat(200))).len(), 63);
    }
}
