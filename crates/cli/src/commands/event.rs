//! The event of a stage, from a file or standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use starlift_core::event::MAX_BYTES;
use starlift_core::{Error, Result};

/// Reads the event; none where no file is given.
///
/// At most one byte more than allowed is read, which is enough to refuse it. Errors: Config where it cannot be read.
pub(super) async fn read(file: Option<&PathBuf>) -> Result<Option<Vec<u8>>> {
    let Some(path) = file.cloned() else { return Ok(None) };
    // On a thread of its own: a terminal may never send the end, and Ctrl-C is still to be heard.
    let read =
        tokio::task::spawn_blocking(move || if path == Path::new("-") { standard_input() } else { of_file(&path) });
    read.await.map_err(|e| Error::internal("the event was not read").with_source(e))?.map(Some)
}

fn standard_input() -> Result<Vec<u8>> {
    bounded(std::io::stdin().lock())
        .map_err(|e| Error::config("cannot read the event from standard input").with_source(e))
}

fn of_file(path: &Path) -> Result<Vec<u8>> {
    std::fs::File::open(path).and_then(bounded).map_err(|e| {
        Error::config(format!("cannot read the event `{}`", path.display()))
            .with_source(e)
            .with_hint("give a file, or `-` for standard input; without `--event` a stage does all there is to do")
    })
}

fn bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_event_is_read_just_far_enough_to_be_refused() {
        let bytes = bounded(std::io::repeat(b'a')).unwrap();
        assert_eq!(bytes.len(), MAX_BYTES + 1);
        assert!(starlift_core::event::parse_ingest(&bytes).is_err());
    }
}
