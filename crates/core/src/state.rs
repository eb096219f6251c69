//! State as of a manifest: which files hold a table or model, found from manifests alone.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::fault;
use crate::manifest::{FileMode, LiveFile, Manifest};

/// The files of one table or model as of a manifest: the files of its base (if any), then everything newer, in the order
/// of their seq; and, in any place, the parts of the key index that cover some of them. The state is, per key, the newest
/// entry, row or tombstone.
pub type LiveFiles = Vec<LiveFile>;

/// The live files of every table or model as of the last manifest of a chain.
///
/// `chain` runs from the newest checkpoint (or from seq 1) to the wanted manifest, oldest first and without a gap.
pub fn live_files(chain: &[Manifest]) -> Result<BTreeMap<String, LiveFiles>> {
    let Some(first) = chain.first() else { return Ok(BTreeMap::new()) };
    let mut live = match &first.live {
        Some(_) => listed(first),
        None if first.seq == 1 => added(BTreeMap::new(), first),
        None => return Err(Error::internal("a chain of manifests does not start at a checkpoint")),
    };
    for pair in chain.windows(2) {
        if pair[1].seq != pair[0].seq + 1 {
            return Err(Error::internal("a chain of manifests has a gap"));
        }
        live = added(live, &pair[1]);
    }
    Ok(live)
}

/// The live files after one more manifest: its files are added, and a base drops what was before it.
pub fn added(mut live: BTreeMap<String, LiveFiles>, manifest: &Manifest) -> BTreeMap<String, LiveFiles> {
    live.retain(|name, _| manifest.relations.contains_key(name));
    for name in manifest.relations.keys() {
        let files = live.entry(name.clone()).or_default();
        if manifest.replaces(name) {
            files.clear();
        }
        files.extend(manifest.files_of(name));
    }
    live
}

/// What a checkpoint lists: the live files of every table or model, and the parts of the key index beside them.
fn listed(checkpoint: &Manifest) -> BTreeMap<String, LiveFiles> {
    let mut live = checkpoint.live.clone().unwrap_or_default();
    for (name, parts) in &checkpoint.index {
        if let Some(files) = live.get_mut(name) {
            files.extend(parts.iter().cloned());
        }
    }
    live
}

/// The files that hold entries, without the parts of the key index.
pub fn entries(files: &[LiveFile]) -> impl Iterator<Item = &LiveFile> {
    files.iter().filter(|file| file.file.mode != FileMode::Index)
}

/// Whether the live files of a table or model show what it was as of the manifest `seq`, and which keys were written since.
///
/// They do not where files were merged of which some came before that manifest and some after it. Nor where nothing of what
/// was there is left: of keys that are all gone merging writes no file, not even their tombstones. Where nothing changed since
/// (`last_change`), there is nothing to show.
pub fn shows_since(files: &[LiveFile], seq: u64, last_change: u64) -> bool {
    if last_change <= seq {
        return true;
    }
    let is_across = entries(files).any(|file| file.from() <= seq && file.seq > seq);
    let is_there = entries(files).any(|file| file.seq <= seq) || fault::planted("merged_away_unseen");
    is_there && !is_across
}

/// The files of the unfinished bases as of the last manifest of a chain, by table: chunks that no state holds yet.
///
/// `chain` is as in [`live_files`], which checks it.
pub fn chunk_files(chain: &[Manifest]) -> BTreeMap<String, LiveFiles> {
    let mut chunks = BTreeMap::new();
    for (position, manifest) in chain.iter().enumerate() {
        chunks = match (position, &manifest.chunks) {
            (0, Some(chunks)) => chunks.clone(),
            _ => added_chunks(chunks, manifest),
        };
    }
    chunks
}

/// The files of the chunks after one more manifest: those of bases that it closes or drops go, a base that begins has no others.
pub fn added_chunks(mut chunks: BTreeMap<String, LiveFiles>, manifest: &Manifest) -> BTreeMap<String, LiveFiles> {
    chunks.retain(|name, _| manifest.unfinished.contains_key(name));
    for (name, base) in &manifest.unfinished {
        let files = chunks.entry(name.clone()).or_default();
        if base.first == manifest.seq {
            files.clear();
        }
        files.extend(manifest.chunk_of(name));
    }
    chunks
}

/// Bytes of all live files that a reader of the whole state opens.
pub fn bytes(files: &[LiveFile]) -> u64 {
    entries(files).map(|f| f.file.bytes).sum()
}

/// Whether a file lists keys that are gone.
pub fn is_deleted(file: &LiveFile) -> bool {
    file.file.mode == FileMode::Deleted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::DataFile;

    fn file(from: u64, seq: u64, mode: FileMode) -> LiveFile {
        let key = format!("t/{from}-{seq}");
        let file = DataFile { key, rows: 1, bytes: 1, sha256: String::new(), mode, tail: None };
        LiveFile { from: (from < seq).then_some(from), ..LiveFile::new(seq, file) }
    }

    #[test]
    fn live_files_show_what_came_since_a_manifest_unless_merging_hid_it() {
        let (base, index) = (file(1, 1, FileMode::Full), file(1, 5, FileMode::Index));
        let plain = [base.clone(), file(4, 4, FileMode::Deleted), file(5, 5, FileMode::Window), index.clone()];
        assert!(shows_since(&plain, 3, 5));
        let before = [file(1, 3, FileMode::Full), file(4, 5, FileMode::Window)];
        assert!(shows_since(&before, 3, 5), "merged before it, and after it");
        assert!(!shows_since(&[file(1, 4, FileMode::Full), file(5, 5, FileMode::Window)], 3, 5), "merged across it");
        assert!(!shows_since(&[file(5, 5, FileMode::Window), index], 3, 5), "all that was there is gone");
        assert!(!shows_since(&[], 3, 5), "and nothing came");
        assert!(shows_since(&[], 3, 3) && shows_since(&[file(1, 3, FileMode::Full)], 3, 3), "nothing changed since");
    }
}
