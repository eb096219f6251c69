//! The user that the server runs as: PostgreSQL refuses to run as root.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use starlift_core::{Error, ErrorKind, Result};

use crate::failure;

/// Runs commands as the server's user.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// User and group to change to; `None` where we are an ordinary user and stay it.
    drop_to: Option<(u32, u32)>,
}

impl Account {
    /// The current user or, where that is root, `postgres` or else `nobody`.
    pub(crate) fn for_server() -> Result<Account> {
        // Whom a new file belongs to is the effective user; the standard library has no other safe way to ask.
        let euid = tempfile::tempfile()
            .and_then(|file| file.metadata())
            .map_err(|e| failure::io("cannot create a temporary file", &std::env::temp_dir(), e))?
            .uid();
        if euid != 0 {
            return Ok(Account { drop_to: None });
        }
        let passwd = std::fs::read_to_string("/etc/passwd")
            .map_err(|e| failure::io("cannot read the list of users", Path::new("/etc/passwd"), e))?;
        let ids = ids_of(&passwd, "postgres").or_else(|| ids_of(&passwd, "nobody")).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "PostgreSQL refuses to run as root, and there is no other user to run it as",
            )
            .with_hint("create the user `postgres`, or run as an ordinary user")
        })?;
        Ok(Account { drop_to: Some(ids) })
    }

    /// A command that runs as the server's user, in a neutral environment.
    ///
    /// `Command::uid` also clears the supplementary groups where the caller is root.
    #[allow(clippy::disallowed_methods, reason = "it is looked at only to keep it from the server")]
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.drop_to {
            command.uid(uid).gid(gid);
        }
        // Settings of the caller's own databases (PGDATA, PGPORT, …) must not reach the private one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        // English messages, because some are recognised.
        command.env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
        command
    }

    /// Gives a file or directory to the server's user.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        match self.drop_to {
            None => Ok(()),
            Some((uid, gid)) => chown(path, Some(uid), Some(gid))
                .map_err(|e| failure::io("cannot give a file to the user of the private server", path, e)),
        }
    }

    /// Whether the server's user can enter a directory: a private home, such as root's, it cannot.
    pub(crate) fn can_enter(&self, dir: &Path) -> bool {
        let status = self
            .command("sh")
            .args(["-c", "cd \"$1\"", "sh"])
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|s| s.success())
    }
}

/// User and group id of a user in the text of `/etc/passwd`. Some systems write `nobody` as -2.
fn ids_of(passwd: &str, user: &str) -> Option<(u32, u32)> {
    let id = |text: &str| text.parse::<i64>().ok().and_then(|n| u32::try_from(n.rem_euclid(1 << 32)).ok());
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != user {
            return None;
        }
        let (_, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
        // An alias of root would be refused as root is.
        Some((id(uid)?, id(gid)?)).filter(|(uid, _)| *uid != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::ids_of;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104::/:/bin/bash\nnobody:*:-2:-2::/:\nbroken\n";
        assert_eq!(ids_of(passwd, "postgres"), Some((101, 104)));
        assert_eq!(ids_of(passwd, "nobody"), Some((u32::MAX - 1, u32::MAX - 1)));
        assert_eq!(ids_of(passwd, "root"), None);
        assert_eq!(ids_of(passwd, "broken"), None);
    }
}
