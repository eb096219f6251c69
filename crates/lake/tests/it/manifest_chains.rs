use std::fs;

use bytes::Bytes;
use starlift_core::digest::sha256_hex;
use starlift_core::{ErrorKind, key};
use starlift_lake::{Store, manifests};

use crate::fixture::{both_stores, chain_of, commit_ok, first, folder_store};

fn seqs(stored: &[starlift_lake::Stored]) -> Vec<u64> {
    stored.iter().map(|s| s.seq()).collect()
}

#[tokio::test]
async fn a_chain_runs_from_the_newest_checkpoint() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let all = chain_of(&store, 12, &[5, 10]).await;
        let newest = manifests::newest(&store).await.unwrap().unwrap();
        assert_eq!(newest, all[11], "{name}");
        assert_eq!(seqs(&manifests::chain(&store, &newest).await.unwrap()), [10, 11, 12], "{name}");
        assert_eq!(seqs(&manifests::chain_at(&store, 9).await.unwrap()), [5, 6, 7, 8, 9], "{name}");
        assert_eq!(seqs(&manifests::chain_at(&store, 10).await.unwrap()), [10], "{name}");
        assert_eq!(seqs(&manifests::chain_at(&store, 3).await.unwrap()), [1, 2, 3], "{name}");
        assert_eq!(seqs(&manifests::history(&store, 4).await.unwrap()), [12, 11, 10, 9], "{name}");
        assert_eq!(manifests::history(&store, 99).await.unwrap().len(), 12, "{name}");
        assert_eq!(manifests::history(&store, 0).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn an_empty_store_has_no_manifest() {
    let (_folder, stores) = both_stores();
    for (_, store) in stores {
        store.create("address/2024/11/20/113500000000.parquet", Bytes::from("x")).await.unwrap();
        assert_eq!(manifests::newest(&store).await.unwrap(), None);
        assert_eq!(manifests::history(&store, 5).await.unwrap(), []);
        assert_eq!(manifests::read(&store, 1).await.unwrap_err().kind(), ErrorKind::Data);
    }
}

#[tokio::test]
async fn foreign_objects_among_the_manifests_are_passed_over() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        for n in 0..70 {
            store.create(&format!("_manifests/.{n:02}"), Bytes::from("x")).await.unwrap();
        }
        store.create("_manifests/0/18446744073709551615.json", Bytes::from("x")).await.unwrap();
        assert_eq!(manifests::newest(&store).await.unwrap(), None, "{name}");
        chain_of(&store, 2, &[]).await;
        assert_eq!(manifests::newest(&store).await.unwrap().unwrap().seq(), 2, "{name}");
    }
}

struct Damage {
    folder: tempfile::TempDir,
    store: Store,
}

impl Damage {
    async fn new() -> Damage {
        let folder = tempfile::tempdir().unwrap();
        let store = folder_store(&folder);
        chain_of(&store, 5, &[]).await;
        Damage { folder, store }
    }

    fn path(&self, seq: u64) -> std::path::PathBuf {
        self.folder.path().join("lake").join(key::manifest(seq))
    }

    /// The kind and the whole text of what a reader of the state meets.
    async fn met(&self) -> (ErrorKind, String) {
        let newest = manifests::newest(&self.store).await;
        let met = match newest {
            Ok(newest) => manifests::chain(&self.store, &newest.unwrap()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let error = met.unwrap_err();
        (error.kind(), error.render())
    }
}

#[tokio::test]
async fn an_unharmed_chain_is_read() {
    let damage = Damage::new().await;
    let newest = manifests::newest(&damage.store).await.unwrap().unwrap();
    assert_eq!(manifests::chain(&damage.store, &newest).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_truncated_manifest_is_named() {
    for seq in [1, 3, 5] {
        let damage = Damage::new().await;
        let bytes = fs::read(damage.path(seq)).unwrap();
        fs::write(damage.path(seq), &bytes[..bytes.len() / 2]).unwrap();
        let (kind, text) = damage.met().await;
        assert_eq!(kind, ErrorKind::Data);
        assert!(text.contains(&key::manifest(seq)), "{text}");
    }
}

#[tokio::test]
async fn an_altered_manifest_is_named() {
    for seq in [1, 3, 5] {
        let damage = Damage::new().await;
        let text = fs::read_to_string(damage.path(seq)).unwrap();
        fs::write(damage.path(seq), text.replace("\"p\"", "\"q\"")).unwrap();
        let (kind, text) = damage.met().await;
        assert_eq!(kind, ErrorKind::Data);
        assert!(text.contains(&key::manifest(seq)), "{text}");
    }
}

#[tokio::test]
async fn a_manifest_that_was_written_anew_with_a_right_checksum_is_named() {
    let damage = Damage::new().await;
    let mut forged = manifests::read(&damage.store, 3).await.unwrap().manifest;
    forged.pipeline = "q".into();
    fs::write(damage.path(3), forged.to_bytes().unwrap()).unwrap();
    let (kind, text) = damage.met().await;
    assert_eq!(kind, ErrorKind::Data);
    assert!(text.contains("manifest 3"), "{text}");
}

#[tokio::test]
async fn a_missing_manifest_is_named() {
    for seq in [1, 3] {
        let damage = Damage::new().await;
        fs::remove_file(damage.path(seq)).unwrap();
        let (kind, text) = damage.met().await;
        assert_eq!(kind, ErrorKind::Data);
        assert!(text.contains(&format!("manifest {seq} is missing")), "{text}");
    }
}

#[tokio::test]
async fn a_manifest_under_another_key_is_named() {
    let damage = Damage::new().await;
    fs::copy(damage.path(5), damage.path(6)).unwrap();
    let (kind, text) = damage.met().await;
    assert_eq!(kind, ErrorKind::Data);
    assert!(text.contains("it is manifest 5, under the key of manifest 6"), "{text}");
}

#[tokio::test]
async fn a_manifest_of_another_lake_is_named() {
    let store = Store::in_memory();
    let one = commit_ok(&store, first("w1")).await;
    let mut two = first("w2");
    (two.seq, two.id, two.previous_sha256) = (2, "lake-2".into(), Some(one.sha256));
    let two = commit_ok(&store, two).await;
    let error = manifests::chain(&store, &two).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.render().contains("another lake"), "{error:?}");
}

#[tokio::test]
async fn the_sha256_of_a_manifest_is_that_of_its_stored_bytes() {
    let store = Store::in_memory();
    let stored = commit_ok(&store, first("w1")).await;
    let bytes = store.get(&key::manifest(1)).await.unwrap().unwrap();
    assert_eq!(stored.sha256, sha256_hex(&bytes));
    assert_eq!(manifests::read(&store, 1).await.unwrap(), stored);
}
