//! What a person needs to look inside a demo that was kept.

use std::os::unix::fs::MetadataExt;

use starlift_core::{Error, Result};

use super::place::{Place, WAREHOUSE};

/// How to start the server again, connect to it, go on with the project, and remove everything.
pub(super) fn instructions(place: &Place) -> Result<String> {
    let dir = place.cluster.dir();
    let unknown = |e: std::io::Error| Error::unavailable("cannot look at the directory of the demo").with_source(e);
    let owner = std::fs::metadata(dir.join("data")).map_err(unknown)?;
    let me = std::fs::metadata(&place.project).map_err(unknown)?.uid();
    // PostgreSQL refuses to run as root, so the sandbox gave the data to another user.
    let user = match owner.uid() == me {
        true => String::new(),
        false => format!("setpriv --reuid={} --regid={} --clear-groups ", owner.uid(), owner.gid()),
    };
    let pg_ctl = quoted(&place.cluster.bin_dir().join("pg_ctl").to_string_lossy());
    let data = quoted(&dir.join("data").to_string_lossy());
    let log = quoted(&dir.join("server.log").to_string_lossy());
    let (port, project, shown) =
        (place.cluster.port(), quoted(&place.project.to_string_lossy()), quoted(&dir.to_string_lossy()));
    Ok(format!(
        "kept in {shown}\n\
         \x20 start the server again  cd / && {user}{pg_ctl} -D {data} -o '-p {port}' -l {log} start\n\
         \x20 look inside             psql -h {shown} -p {port} -U {} {WAREHOUSE}\n\
         \x20 go on with the project  starlift run --project {project}\n\
         \x20 stop the server         cd / && {user}{pg_ctl} -D {data} stop\n\
         \x20 remove everything       rm -r {shown}",
        starlift_sandbox::cluster::SUPERUSER
    ))
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let is_plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if is_plain { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted("/tmp/a-1.b"), "/tmp/a-1.b");
        assert_eq!(quoted("/tmp/a b'c"), "'/tmp/a b'\\''c'");
    }
}
