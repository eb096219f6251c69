use std::fs;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use starlift_core::ErrorKind;
use starlift_lake::{CreateOutcome, Store};

use crate::fixture::{both_stores, folder_store, no_settings};

fn text(text: &str) -> Bytes {
    Bytes::from(text.to_string())
}

#[tokio::test]
async fn an_object_is_created_once_and_kept() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        assert_eq!(store.get("a/b").await.unwrap(), None, "{name}");
        assert_eq!(store.create("a/b", text("one")).await.unwrap(), CreateOutcome::Created, "{name}");
        assert_eq!(store.create("a/b", text("two")).await.unwrap(), CreateOutcome::Exists, "{name}");
        assert_eq!(store.create("a/b", text("one")).await.unwrap(), CreateOutcome::Created, "its own bytes, {name}");
        assert_eq!(store.get("a/b").await.unwrap(), Some(text("one")), "{name}");
    }
}

#[tokio::test]
async fn keys_are_listed_in_byte_order_from_any_point() {
    let (_folder, stores) = both_stores();
    let keys = ["_m/1", "_m/2", "_m/2/x", "a-b/1", "a/1", "a/10", "a/2", "a%2Fb/1"];
    for (name, store) in stores {
        for key in keys.iter().rev().filter(|key| name != "folder" || **key != "_m/2/x") {
            store.create(key, text(key)).await.unwrap();
        }
        assert_eq!(store.list("a", 2).await.unwrap(), ["a/1", "a/10"], "{name}");
        assert_eq!(store.list_after("a", "a/10", 9).await.unwrap(), ["a/2"], "{name}");
        let all = store.list("", 100).await.unwrap();
        assert!(all.is_sorted() && all.len() >= 7, "{name}: {all:?}");
        assert_eq!(store.list("a%2Fb", 9).await.unwrap(), ["a%2Fb/1"], "{name}");
        assert_eq!(store.list("none", 9).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn reading_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    assert_eq!(store.list("_manifests", 1).await.unwrap(), Vec::<String>::new());
    assert_eq!(store.get("x/y").await.unwrap(), None);
    assert_eq!(starlift_lake::manifests::newest(&store).await.unwrap(), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_staging_file_that_a_crash_left_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    store.create("t/x", text("x")).await.unwrap();
    fs::write(folder.path().join("lake/t/y#1"), "half").unwrap();
    store.create("t/y", text("whole")).await.unwrap();
    assert_eq!(store.list("t", 9).await.unwrap(), ["t/x", "t/y"]);
    assert_eq!(store.get("t/y").await.unwrap(), Some(text("whole")));
    let names: Vec<_> = fs::read_dir(folder.path().join("lake/t")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "only the crashed one is left: {names:?}");
}

#[tokio::test]
async fn keys_that_leave_the_store_are_refused() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        for key in ["../x", "a/../../x", "/etc/passwd", "a//b", ".", ""] {
            assert!(store.create(key, text("x")).await.is_err(), "{name} {key}");
            assert!(store.get(key).await.is_err(), "{name} {key}");
        }
    }
}

#[tokio::test]
async fn symbolic_links_inside_a_lake_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "secret").unwrap();
    let store = folder_store(&folder);
    store.create("t/a", text("a")).await.unwrap();
    symlink(outside.path(), folder.path().join("lake/out")).unwrap();
    symlink(outside.path().join("x"), folder.path().join("lake/t/link")).unwrap();
    for key in ["out/x", "t/link"] {
        assert_eq!(store.get(key).await.unwrap_err().kind(), ErrorKind::Config, "{key}");
    }
    assert!(store.create("out/y", text("y")).await.is_err());
    assert!(store.list("t", 9).await.is_err());
    assert!(!outside.path().join("y").exists());
}

#[tokio::test]
async fn a_lake_whose_folder_is_a_link_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink(folder.path().join("real"), folder.path().join("lake")).unwrap();
    let store = folder_store(&folder);
    store.create("t/a", text("a")).await.unwrap();
    assert_eq!(store.list("", 9).await.unwrap(), ["t/a"]);
}

#[tokio::test]
async fn a_lake_under_a_file_is_a_setting_to_correct() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lake"), "a file").unwrap();
    let store = folder_store(&folder);
    let error = store.create("_claims/1", text("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("lake"), "{error:?}");
    assert!(error.hint().is_some());
    assert_eq!(store.list("_manifests", 1).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_folder_that_may_not_be_written_is_a_permission_to_give() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("lake");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere but into the kernel's own file systems.
    let root_writes = fs::write(closed.join("probe"), "").is_ok();
    let place = if root_writes { std::path::PathBuf::from("/sys/kernel") } else { closed };
    let store = Store::open(place.to_str().unwrap(), &no_settings()).unwrap();
    for key in ["x", "starlift/x"] {
        let error = store.create(key, text("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{error:?}");
        assert!(error.message().contains(place.to_str().unwrap()), "{error:?}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn a_probe_leaves_nothing() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        assert_eq!(store.probe_writable("run 1/../x").await.unwrap(), None, "{name}");
        assert_eq!(store.list("", 9).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_relative_file_url_or_plain_folder_opens_alike() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder_store(&folder);
    plain.create("t/a", text("a")).await.unwrap();
    let url = format!("file://{}", folder.path().join("lake").display());
    let by_url = Store::open(&url, &no_settings()).unwrap();
    assert_eq!(by_url.get("t/a").await.unwrap(), Some(text("a")));
    assert_eq!(by_url.url(), url);
}
