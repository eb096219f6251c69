use std::fs;

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use starlift_core::manifest::{DataFile, FileMode};
use starlift_core::{ErrorKind, Micros, Result};
use starlift_lake::{FileWriter, Store, WriterOptions, reader};

use crate::fixture::{AT, both_stores, collect, expected, folder_store, keys, people, rows, write, write_with};

fn writer(store: &Store, options: WriterOptions) -> FileWriter {
    FileWriter::new(store, "people", AT, people().to_arrow(), FileMode::Window, options).unwrap()
}

async fn read_all(store: &Store, file: &DataFile) -> Result<Vec<RecordBatch>> {
    reader::read(store, file, people().to_arrow(), None).try_collect().await
}

fn many(count: i32) -> RecordBatch {
    let names: Vec<String> = (0..count).map(|n| format!("name {n}")).collect();
    rows(&names.iter().enumerate().map(|(n, name)| (n as i32, name.as_str())).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_file_holds_its_rows_and_its_manifest_entry_describes_it() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let mut writer = writer(&store, WriterOptions::default());
        writer.write(&rows(&[(1, "a"), (2, "b")])).await.unwrap();
        writer.write(&rows(&[(3, "c")])).await.unwrap();
        assert_eq!(writer.rows(), 3);
        let files = writer.finish().await.unwrap();
        assert_eq!(files.len(), 1, "{name}");
        let file = &files[0];
        assert_eq!((file.key.as_str(), file.rows), ("people/2024/11/20/113500000000.parquet", 3));
        let stored = store.get(&file.key).await.unwrap().unwrap();
        assert_eq!(stored.len() as u64, file.bytes);
        assert_eq!(starlift_core::digest::sha256_hex(&stored), file.sha256);
        let read = reader::read(&store, file, people().to_arrow(), None);
        assert_eq!(collect(read).await, expected(&[(1, "a"), (2, "b"), (3, "c")]), "{name}");
    }
}

#[tokio::test]
async fn files_are_written_and_read_in_tasks_of_their_own() {
    let (_folder, stores) = both_stores();
    for (_, store) in stores {
        let task = tokio::spawn(async move {
            let mut writer = writer(&store, WriterOptions::default());
            writer.write(&rows(&[(1, "a")])).await?;
            let file = writer.finish().await?.remove(0);
            read_all(&store, &file).await
        });
        assert_eq!(task.await.unwrap().unwrap()[0].num_rows(), 1);
    }
}

#[tokio::test]
async fn wide_rows_that_a_dictionary_makes_small_are_read_in_small_batches() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    let wide = ["a".repeat(60 << 10), "b".repeat(60 << 10)];
    let mut writer = writer(&store, WriterOptions::default());
    for start in (0..1_000).step_by(100) {
        let slice: Vec<(i32, &str)> = (start..start + 100).map(|n| (n, wide[n as usize % 2].as_str())).collect();
        writer.write(&rows(&slice)).await.unwrap();
    }
    let file = writer.finish().await.unwrap().remove(0);
    assert!(file.bytes < 1 << 20, "{}", file.bytes);
    let read = read_all(&store, &file).await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000);
    assert!(read.iter().all(|batch| batch.get_array_memory_size() < 64 << 20 && batch.num_rows() < 400));
}

#[tokio::test]
async fn no_rows_make_no_file() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        assert_eq!(writer(&store, WriterOptions::default()).finish().await.unwrap(), []);
        let mut empty = writer(&store, WriterOptions::default());
        empty.write(&rows(&[])).await.unwrap();
        assert_eq!(empty.finish().await.unwrap(), []);
        assert_eq!(store.list("", 9).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn tombstones_are_written_beside_the_data() {
    let store = Store::in_memory();
    let files = write(&store, 0, FileMode::Deleted, &keys(&[4, 5])).await;
    assert_eq!(files[0].file.key, "_deleted/people/2024/11/20/113500000000.parquet");
    assert_eq!(files[0].file.mode, FileMode::Deleted);
}

#[tokio::test]
async fn rows_beyond_the_size_of_a_part_go_into_further_parts() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let options = WriterOptions { rows_per_part: 10_000, row_group_rows: 3_000, ..WriterOptions::default() };
        let files = write_with(&store, 0, FileMode::Full, &many(40_000), options).await;
        let names: Vec<&str> = files.iter().map(|f| f.file.key.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            names,
            ["113500000000.parquet", "113500000000-0002.parquet", "113500000000-0003.parquet"],
            "{name}: parts end after a slice of 8,192 rows"
        );
        assert_eq!(files.iter().map(|f| f.file.rows).sum::<u64>(), 40_000);
        let mut found = 0;
        for file in &files {
            found += read_all(&store, &file.file).await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>();
        }
        assert_eq!(found, 40_000);
    }
}

#[tokio::test]
async fn parts_are_cut_by_bytes_too() {
    let store = Store::in_memory();
    let options = WriterOptions { bytes_per_part: 2_000, row_group_bytes: 1_000, ..WriterOptions::default() };
    let files = write_with(&store, 0, FileMode::Full, &many(60_000), options).await;
    assert!(files.len() > 2, "{} parts", files.len());
    assert_eq!(files.iter().map(|f| f.file.rows).sum::<u64>(), 60_000);
}

/// Text that zstd cannot shrink: more than 8 MiB stored, so a bucket gets it in parts.
fn more_than_one_upload_part() -> (RecordBatch, Vec<String>) {
    let mut state = 1u64;
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    let names: Vec<String> = (0..24_000).map(|_| (0..64).map(|_| format!("{:012x}", noise())).collect()).collect();
    let batch = rows(&names.iter().enumerate().map(|(n, name)| (n as i32, name.as_str())).collect::<Vec<_>>());
    (batch, names)
}

#[tokio::test]
async fn a_file_larger_than_one_upload_part_arrives_whole() {
    let (batch, names) = more_than_one_upload_part();
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let options = WriterOptions { row_group_bytes: 2 << 20, ..WriterOptions::default() };
        let files = write_with(&store, 0, FileMode::Full, &batch, options).await;
        assert!(files.len() == 1 && files[0].file.bytes > (8 << 20), "{name}: {files:?}");
        let found = collect(reader::read(&store, &files[0].file, people().to_arrow(), None)).await;
        assert!(found.values().eq(names.iter()), "{name}");
    }
}

#[tokio::test]
async fn an_abandoned_writer_leaves_nothing_visible() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let mut abandoned = writer(&store, WriterOptions::default());
        abandoned.write(&rows(&[(1, "a")])).await.unwrap();
        abandoned.abort().await;
        let mut dropped = writer(&store, WriterOptions::default());
        dropped.write(&rows(&[(1, "a")])).await.unwrap();
        drop(dropped);
        assert_eq!(store.list("", 9).await.unwrap(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_key_that_another_program_took_is_not_replaced() {
    let (_folder, stores) = both_stores();
    for (name, store) in stores {
        let taken = starlift_core::key::data("people", AT, 1);
        store.create(&taken, bytes::Bytes::from("theirs")).await.unwrap();
        let mut late = writer(&store, WriterOptions::default());
        late.write(&rows(&[(1, "a")])).await.unwrap();
        assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::Unavailable, "{name}");
        assert_eq!(store.get(&taken).await.unwrap().unwrap(), "theirs", "{name}");
    }
}

#[tokio::test]
async fn a_large_upload_does_not_replace_what_another_program_wrote() {
    let store = Store::in_memory();
    let taken = starlift_core::key::data("people", AT, 1);
    store.create(&taken, bytes::Bytes::from("theirs")).await.unwrap();
    let mut late = writer(&store, WriterOptions { row_group_bytes: 2 << 20, ..WriterOptions::default() });
    late.write(&more_than_one_upload_part().0).await.unwrap();
    assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&taken).await.unwrap().unwrap(), "theirs");
}

#[tokio::test]
async fn rows_that_do_not_fit_the_schema_are_refused_by_name() {
    let store = Store::in_memory();
    let mut strict = people();
    strict.columns[0].nullable = false;
    let nullable = rows(&[(1, "a")]);
    let null_name = arrow::array::StringArray::from(vec![None::<&str>]);
    let with_null =
        RecordBatch::try_new(people().to_arrow(), vec![std::sync::Arc::new(null_name), nullable.column(1).clone()])
            .unwrap();
    let mut writer =
        FileWriter::new(&store, "people", AT, strict.to_arrow(), FileMode::Full, WriterOptions::default()).unwrap();
    let error = writer.write(&with_null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.message().contains("`name`") && error.message().contains("`people`"), "{error:?}");
    assert_eq!(writer.write(&keys(&[1])).await.unwrap_err().kind(), ErrorKind::Internal);
    writer.write(&nullable).await.unwrap();
    assert_eq!(writer.finish().await.unwrap()[0].rows, 1);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let store = Store::in_memory();
    for options in [
        WriterOptions { zstd_level: 99, ..WriterOptions::default() },
        WriterOptions { rows_per_part: 0, ..WriterOptions::default() },
        WriterOptions { row_group_rows: 0, ..WriterOptions::default() },
    ] {
        let refused = FileWriter::new(&store, "people", AT, people().to_arrow(), FileMode::Full, options);
        assert_eq!(refused.map(|_| ()).unwrap_err().kind(), ErrorKind::Config, "{options:?}");
    }
}

#[tokio::test]
async fn columns_come_in_the_order_in_which_they_are_asked_for() {
    let store = Store::in_memory();
    let file = write(&store, 1, FileMode::Full, &rows(&[(1, "a"), (2, "b")])).await.remove(0).file;
    for (projection, names) in
        [(vec![1, 0], vec!["id", "name"]), (vec![1], vec!["id"]), (vec![0, 0], vec!["name", "name"]), (vec![], vec![])]
    {
        let read = reader::read(&store, &file, people().to_arrow(), Some(projection));
        let batches: Vec<RecordBatch> = read.try_collect().await.unwrap();
        assert_eq!(batches[0].schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>(), names);
        assert_eq!(batches[0].num_rows(), 2);
    }
    let beyond = reader::read(&store, &file, people().to_arrow(), Some(vec![2]));
    assert_eq!(beyond.try_collect::<Vec<_>>().await.unwrap_err().kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn every_damage_of_a_file_is_a_data_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(&folder);
    let file = write(&store, 1, FileMode::Full, &many(100)).await.remove(0).file;
    let path = folder.path().join("lake").join(&file.key);
    let whole = fs::read(&path).unwrap();
    read_all(&store, &file).await.unwrap();

    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    let longer = [whole.as_slice(), b"x"].concat();
    for (content, word) in [
        (&whole[..whole.len() - 1], "truncated"),
        (&whole[..0], "truncated"),
        (altered.as_slice(), "altered"),
        (longer.as_slice(), "altered"),
    ] {
        fs::write(&path, content).unwrap();
        let error = read_all(&store, &file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{word}");
        assert_eq!(error.message(), format!("data file `{}` is {word}", file.key));
        assert!(error.hint().is_some());
    }
    fs::remove_file(&path).unwrap();
    let error = read_all(&store, &file).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Data, &*format!("data file `{}` is missing", file.key)));
}

#[tokio::test]
async fn a_file_that_is_not_what_its_manifest_says_is_refused() {
    let store = Store::in_memory();
    let file = write(&store, 1, FileMode::Full, &rows(&[(1, "a")])).await.remove(0).file;

    let rows_wrong = DataFile { rows: 2, ..file.clone() };
    let error = read_all(&store, &rows_wrong).await.unwrap_err();
    assert!(error.message().contains("another number of rows"), "{error:?}");

    let mut other = people();
    other.columns[1].column_type = starlift_core::ColumnType::Int8;
    for schema in [other.to_arrow(), people().key_to_arrow()] {
        let error = reader::read(&store, &file, schema, None).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().contains("has other columns"), "{error:?}");
    }

    // Bytes that were never Parquet, under a right digest.
    let key = "people/2024/11/20/000000000000.parquet";
    for content in ["", "x", "PAR1 and no more PAR1"] {
        let key = format!("{key}{}", content.len());
        store.create(&key, bytes::Bytes::from(content)).await.unwrap();
        let sha256 = starlift_core::digest::sha256_hex(content.as_bytes());
        let file = DataFile { key, rows: 1, bytes: content.len() as u64, sha256, mode: FileMode::Full, tail: None };
        let error = read_all(&store, &file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{content}");
        assert!(error.message().contains("cannot be read"), "{error:?}");
    }
}

#[tokio::test]
async fn damaged_parquet_never_panics_even_where_the_digest_fits() {
    let store = Store::in_memory();
    let file = write(&store, 1, FileMode::Full, &many(50)).await.remove(0).file;
    let whole = store.get(&file.key).await.unwrap().unwrap().to_vec();
    let mut refused = 0;
    for position in (0..whole.len()).step_by(7) {
        let mut altered = whole.clone();
        altered[position] = altered[position].wrapping_add(0x55);
        let sha256 = starlift_core::digest::sha256_hex(&altered);
        let key = format!("people/{position}");
        store.create(&key, altered.into()).await.unwrap();
        // What matters is that this returns at all.
        let read = read_all(&store, &DataFile { key, sha256, ..file.clone() }).await;
        refused += usize::from(read.is_err_and(|e| e.kind() == ErrorKind::Data));
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn a_reader_that_stops_early_holds_nothing_up() {
    let store = Store::in_memory();
    let file = write(&store, 1, FileMode::Full, &many(100_000)).await.remove(0).file;
    let mut batches = reader::read(&store, &file, people().to_arrow(), None);
    assert_eq!(batches.try_next().await.unwrap().unwrap().num_rows(), reader::BATCH_ROWS);
    drop(batches);
    let again = read_all(&store, &file).await.unwrap();
    assert_eq!(again.iter().map(|b| b.num_rows()).sum::<usize>(), 100_000);
}

#[tokio::test]
async fn a_name_that_needs_escaping_is_written_and_read() {
    let (_folder, stores) = both_stores();
    for (label, store) in stores {
        for name in ["_manifests", "a/b", "../x", "Größe #1", "%41"] {
            let at = Micros(AT.0 + name.len() as i64);
            let mut writer =
                FileWriter::new(&store, name, at, people().to_arrow(), FileMode::Full, WriterOptions::default())
                    .unwrap();
            writer.write(&rows(&[(1, "a")])).await.unwrap();
            let file = writer.finish().await.unwrap().remove(0);
            assert!(starlift_core::key::is_data_key(name, &file.key));
            assert_eq!(read_all(&store, &file).await.unwrap()[0].num_rows(), 1, "{label} {name}");
            assert!(store.list("", 99).await.unwrap().contains(&file.key), "{label} {name}");
        }
    }
}
