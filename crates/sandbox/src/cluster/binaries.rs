//! Where PostgreSQL's programs are: `STARLIFT_PG_BIN`, then PATH, then the newest of `/usr/lib/postgresql/*/bin`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use starlift_core::{Error, Result};

use super::account::Account;

const PACKAGED: &str = "/usr/lib/postgresql";

/// The directory whose `initdb` and `postgres` the account can run.
#[allow(
    clippy::disallowed_methods,
    reason = "the place of PostgreSQL is a property of the machine, not a setting of a pipeline"
)]
pub(crate) fn find(account: &Account) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("STARLIFT_PG_BIN").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        // A wrong setting is said, not worked around.
        return usable(&dir, account).ok_or_else(|| {
            Error::config("`STARLIFT_PG_BIN` does not name a directory with usable PostgreSQL programs")
                .with_detail(format!("`initdb` and `postgres` do not both run in {}", dir.display()))
                .with_hint("set it to the directory that holds `initdb` and `postgres`, or unset it")
        });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    on_path.chain(packaged(Path::new(PACKAGED))).find_map(|dir| usable(&dir, account)).ok_or_else(|| {
        Error::config("PostgreSQL is not installed here")
            .with_detail(format!("found no directory with `initdb` and `postgres` on PATH or in {PACKAGED}/*/bin"))
            .with_hint(
                "install the server (Debian, Ubuntu: `apt-get install postgresql`; macOS: `brew install postgresql`; \
                 else https://www.postgresql.org/download/), or set STARLIFT_PG_BIN to the directory of its programs",
            )
    })
}

/// The packaged versions, newest first.
fn packaged(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(Vec<u32>, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

/// The real directory behind `dir` if both programs are there and run as the account.
///
/// Links are resolved, because PostgreSQL finds its libraries relative to its own place and one link on PATH does not
/// mean that its siblings are linked as well.
fn usable(dir: &Path, account: &Account) -> Option<PathBuf> {
    let real = dir.join("initdb").canonicalize().ok()?.parent()?.to_path_buf();
    [real, dir.to_path_buf()].into_iter().find(|dir| {
        ["initdb", "postgres"].iter().all(|program| {
            let program = dir.join(program);
            program.is_file()
                && account
                    .command(&program)
                    .arg("--version")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::packaged;

    #[test]
    fn packaged_versions_come_newest_first_by_number() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9.6", "10", "15", "common"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let found: Vec<_> = packaged(root.path())
            .into_iter()
            .map(|dir| dir.strip_prefix(root.path()).unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, ["15/bin", "10/bin", "9.6/bin"]);
    }
}
