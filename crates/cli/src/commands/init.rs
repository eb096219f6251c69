//! `init`: a new project, ready to be filled in.
//!
//! Nothing that is there is written over, and a file appears whole or not at all. The settings come last: a folder in which it
//! was interrupted is no project yet, and the command can be given again; a file `.starlift-…` may be left, which nothing reads.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
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
const GITIGNORE: &str = ".gitignore";
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
    not_ignored: &'a [&'static str],
}

/// The longest name that the stacks for AWS take.
const LONGEST_NAME: usize = 16;

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
        (GITIGNORE, IGNORED),
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
    let not_ignored = not_ignored(&fs::read(dir.join(GITIGNORE)).unwrap_or_default());
    if args.print.json {
        stdout::json(&Document { project: shown, pipeline: &name, created: &created, not_ignored: &not_ignored })?;
    } else {
        stdout::print(&text(shell.out, &shown, &created, &not_ignored))?;
    }
    Ok(Exit::Done)
}

/// Whether the file was not there before, and is now.
fn write_new(path: &Path, text: &str) -> Result<bool> {
    match put_new(path, text.as_bytes()) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        put => put.map(|()| true).map_err(|e| cannot(path, e)),
    }
}

/// Writes beside it first: a full disk or a kill would leave a file that is taken for somebody's own.
fn put_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // A temporary file is its owner's alone; the umask is to decide as for any other file.
    let mode = fs::Permissions::from_mode(0o666);
    let mut beside = tempfile::Builder::new().prefix(".starlift-").permissions(mode).tempfile_in(folder)?;
    beside.write_all(bytes)?;
    beside.persist_noclobber(path)?;
    Ok(())
}

/// The lines that a `.gitignore` lacks.
fn not_ignored(gitignore: &[u8]) -> Vec<&'static str> {
    let text = String::from_utf8_lossy(gitignore);
    let bare = |line: &str| line.trim().trim_start_matches('/').trim_end_matches('/').to_string();
    let there: Vec<String> = text.lines().map(bare).collect();
    IGNORED.lines().filter(|line| !there.contains(&bare(line))).collect()
}

fn cannot(path: &Path, e: std::io::Error) -> Error {
    Error::config(format!("cannot write `{}`", path.display()))
        .with_source(e)
        .with_hint("name a folder that you may write to")
}

/// The folder's name as a name of a pipeline may be, also in the stacks for AWS: a letter, then letters, digits and `-`.
fn pipeline_name(dir: &Path) -> String {
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = folder.chars().map(fits).skip_while(|c| !c.is_ascii_lowercase()).take(LONGEST_NAME).collect();
    let name = name.trim_end_matches('-');
    if name.len() > 1 { name.to_string() } else { "pipeline".into() }
}

fn settings(name: &str) -> String {
    format!(
        "# A flag wins over the environment (STARLIFT_SOURCE_URL, STARLIFT_LAKE_INGEST, …), which wins over this file. Relative\n\
         # paths start at this folder. No secret belongs in here. The README of starlift lists every setting.\n\
         \n\
         [pipeline]\n\
         # 2 to {LONGEST_NAME} of a-z, 0-9 and -, a letter first and no - last: resources in AWS are named after it.\n\
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

fn text(style: Style, dir: &str, created: &[&str], not_ignored: &[&str]) -> String {
    let dir = one_line(dir);
    let mut text = String::new();
    for file in created {
        text.push_str(&format!("{} {dir}/{file}\n", style.tick()));
    }
    text.push_str(&format!("\nnext, in {dir}\n"));
    if !not_ignored.is_empty() {
        text.push_str(&format!("  add to {GITIGNORE}, so that no password is committed: {}\n", not_ignored.join(", ")));
    }
    text.push_str(
        "  \
         copy both *.example to the same name without .example and fill them in\n  \
         write models/<name>.sql     docs/models.md shows how one looks\n  \
         starlift doctor             is everything there?\n  \
         starlift ingest             the lake knows the tables\n  \
         starlift warehouse create   a table for each model\n  \
         starlift run\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_is_named_after_its_folder_as_far_as_it_may() {
        let name = |dir: &str| pipeline_name(Path::new(dir));
        assert_eq!(name("/no/such/My_Shop-2"), "my-shop-2");
        assert_eq!(name("/no/such/2024 shop!"), "shop");
        assert_eq!(name("/no/such/日本"), "pipeline");
        assert_eq!(name("/no/such/7x"), "pipeline");
        assert_eq!(name("/"), "pipeline");
        assert_eq!(name(&format!("/no/such/{}", "x".repeat(200))).len(), 16);
        assert_eq!(name("/no/such/fifteen-letters-more"), "fifteen-letters");
    }

    #[test]
    fn what_a_gitignore_lacks_is_found_whichever_way_it_is_written() {
        assert_eq!(not_ignored(b"target/\n"), ["db_credentials.json", "warehouse_credentials.json", "lake/"]);
        assert_eq!(
            not_ignored(b"/lake\r\n/db_credentials.json \n#warehouse_credentials.json"),
            ["warehouse_credentials.json"]
        );
        assert!(not_ignored(IGNORED.as_bytes()).is_empty());
    }

    #[test]
    fn a_file_that_is_there_stays_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        assert!(write_new(&path, "first").unwrap());
        assert!(!write_new(&path, "second").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
