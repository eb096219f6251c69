//! Rows 28 to 32: a store that refuses or is silent, and files and manifests that are not what they were.

use std::path::PathBuf;

use starlift::config::{Environment, Overrides};
use starlift::{Context, Outcome};
use starlift_core::manifest::{DataFile, FORMAT, Manifest};
use starlift_core::{Error, ErrorKind};
use starlift_lake::{Store, WriterOptions, reader};
use starlift_sandbox::s3::{Implementation, S3Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{manifests, says, transform_fails};
use crate::capture::lab::{Lab, SALE};
use crate::world::{World, files_below};

/// The world's lake in a bucket behind a port.
fn in_bucket(world: &World, port: u16) -> Context {
    let overrides = Overrides { lake_ingest: Some("s3://starlift-test/ingest".into()), ..world.overrides() };
    let settings = S3Server::settings(port);
    let environment = Environment::of(settings.each_ref().map(|(name, value)| (*name, value.as_str())));
    world.try_context(overrides, environment).unwrap()
}

/// A server that gives every request the same answer.
async fn answers(status: &'static str, code: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                while connection.read(&mut request).await.unwrap_or(0) > 0 {
                    let body = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if connection.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_28_what_a_store_refuses_is_told_from_what_passes() {
    let world = World::new().await;
    let ingest = |port: u16| {
        let context = in_bucket(&world, port);
        tokio::spawn(async move { starlift::ingest(&context, None).await.unwrap_err() })
    };
    let cases = [
        ("403 Forbidden", "AccessDenied", ErrorKind::Permission),
        ("400 Bad Request", "ExpiredToken", ErrorKind::Permission),
        ("404 Not Found", "NoSuchBucket", ErrorKind::Config),
        ("301 Moved Permanently", "PermanentRedirect", ErrorKind::Config),
        ("403 Forbidden", "RequestTimeTooSkewed", ErrorKind::Config),
        ("503 Slow Down", "SlowDown", ErrorKind::Unavailable),
        ("500 Internal Server Error", "InternalError", ErrorKind::Unavailable),
        ("200 OK", "InternalError", ErrorKind::Unavailable),
    ];
    // At once, because some of them are tried for seconds before they are given up.
    let mut errors = Vec::new();
    for (status, code, _) in cases {
        errors.push(ingest(answers(status, code).await));
    }
    for ((status, code, kind), error) in cases.iter().zip(errors) {
        let error: Error = error.await.unwrap();
        assert_eq!(error.kind(), *kind, "{status} {code}: {error:?}");
        assert!(error.render().contains("s3://starlift-test/ingest"), "{status} {code}: {}", error.render());
        assert!(error.render().contains(code) || *code == "PermanentRedirect", "{status} {code}: {}", error.render());
    }
    let nobody = ingest(1).await.unwrap();
    assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody:?}");
}

/// Passes everything on, but for the answer to the first put of a manifest: the server has it, and nobody is told.
async fn loses_an_answer(server: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let lost = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        while let Ok((mut client, _)) = listener.accept().await {
            let lost = lost.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut sent, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
                let mut losing = false;
                loop {
                    tokio::select! {
                        read = client.read(&mut sent) => {
                            let Ok(bytes @ 1..) = read else { return };
                            let head = String::from_utf8_lossy(&sent[..bytes]);
                            losing |= head.starts_with("PUT ") && head.contains("_manifests/")
                                && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
                            server.write_all(&sent[..bytes]).await.unwrap();
                        }
                        read = server.read(&mut answered) => {
                            let Ok(bytes @ 1..) = read else { return };
                            if losing || client.write_all(&answered[..bytes]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_29_a_put_whose_answer_is_lost_is_looked_up_and_believed() {
    for implementation in [Implementation::Ministack, Implementation::Moto] {
        let world = World::new().await;
        let server = S3Server::start_as(implementation, "starlift-test").await.unwrap();
        let context = in_bucket(&world, loses_an_answer(server.port()).await);
        let report = starlift::ingest(&context, None).await.unwrap();
        assert_eq!((report.outcome, report.seq), (Outcome::Committed, Some(1)), "its own manifest, not another run's");
        let listed = context.lake().unwrap().list("_manifests", 9).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let again = starlift::ingest(&in_bucket(&world, server.port()), None).await.unwrap();
        assert!(again.result.is_empty(), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_30_a_data_file_that_is_not_what_was_written_is_named() {
    let world = World::new().await;
    world.create_warehouse().await;
    world.ingest().await;
    let files = files_below(&world.lake());
    let name = files.iter().find(|file| file.starts_with("sales_order/")).unwrap();
    let other = files.iter().find(|file| file.starts_with("staff/")).unwrap();
    let path = world.lake().join(name);
    let good = std::fs::read(&path).unwrap();
    let flipped: Vec<u8> =
        good.iter().enumerate().map(|(i, byte)| if i == good.len() / 3 { byte ^ 4 } else { *byte }).collect();
    for bad in [&good[..good.len() - 1], &good[..0], &flipped, &std::fs::read(world.lake().join(other)).unwrap()] {
        std::fs::write(&path, bad).unwrap();
        transform_fails(&world, ErrorKind::Data, &[name, "restore"]).await;
    }
    std::fs::remove_file(&path).unwrap();
    transform_fails(&world, ErrorKind::Data, &[name, "is missing"]).await;
    std::fs::write(&path, &good).unwrap();
    world.run().await;
    world.assert_star_equals_source().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_31_a_file_that_unpacks_to_much_more_is_read_in_small_batches_and_its_counts_are_checked() {
    use futures::TryStreamExt;
    // A thousand equal texts of 256 KiB are one entry of a dictionary: 256 MiB out of a few KiB.
    let lab = Lab::new(
        "create table bomb (id int primary key, v text); insert into bomb select i, repeat('x', 262144) from generate_series(1, 1000) i",
    )
    .await;
    lab.ingest().await;
    let manifest = lab.newest().await;
    let table = &manifest.relations["bomb"];
    let file: &DataFile = &table.run.as_ref().unwrap().files[0];
    assert!(file.bytes < 1 << 20, "{} bytes", file.bytes);
    let store = Store::open(lab.lake().to_str().unwrap(), &Default::default()).unwrap();
    let schema = table.schema.to_arrow();
    let batches = reader::read(&store, file, schema.clone(), None);
    let largest =
        batches.try_fold(0, async |largest, batch| Ok(largest.max(batch.get_array_memory_size()))).await.unwrap();
    assert!(largest <= 64 << 20, "a batch of {largest} bytes");
    // A manifest that was made to fit, but for a number of rows that is not there.
    let lying = DataFile { rows: file.rows * 1_000_000, ..file.clone() };
    let error = reader::read(&store, &lying, schema, None).try_collect::<Vec<_>>().await.unwrap_err();
    says(&error, ErrorKind::Data, &["another number of rows"]);
    assert!(WriterOptions::default().bytes_per_part <= 128 << 20, "a reader holds one part");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_32_a_manifest_that_does_not_follow_from_the_one_before_stops_every_run() {
    let lab = Lab::new(SALE).await;
    for _ in 0..4 {
        lab.run("update sale set v = v + 1 where id = 1").await;
        lab.catch_up().await;
    }
    let folder = lab.lake().join("_manifests");
    let mut paths: Vec<PathBuf> = files_below(&folder).iter().map(|name| folder.join(name)).collect();
    // The newest comes first.
    paths.sort();
    let (newest, before) = (paths[0].clone(), paths[1].clone());
    let (good, good_before) = (std::fs::read(&newest).unwrap(), std::fs::read(&before).unwrap());
    let rewritten = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = Manifest::from_bytes("k", &good).unwrap();
        change(&mut manifest);
        manifest.to_bytes().unwrap()
    };
    for (what, bad, kind) in [
        ("another format", rewritten(&|m| m.format = FORMAT + 1), ErrorKind::Config),
        (
            "a wrong checksum",
            String::from_utf8(good.clone()).unwrap().replace("\"rows\"", "\"rowz\"").into_bytes(),
            ErrorKind::Data,
        ),
        ("half a file", good[..good.len() / 2].to_vec(), ErrorKind::Data),
        ("a chain to another manifest", rewritten(&|m| m.previous_sha256 = Some("0".repeat(64))), ErrorKind::Data),
        ("the seq of the one before", rewritten(&|m| m.seq = 3), ErrorKind::Data),
        ("another lake", rewritten(&|m| m.id = "elsewhere".into()), ErrorKind::Data),
    ] {
        std::fs::write(&newest, &bad).unwrap();
        let error = lab.try_ingest().await.expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        assert!(error.hint().is_some(), "{what}: {error:?}");
        assert_eq!(lab.manifests(), 4, "{what}");
    }
    std::fs::write(&newest, &good).unwrap();
    std::fs::remove_file(&before).unwrap();
    let error = lab.try_ingest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error:?}");
    std::fs::write(&before, &good_before).unwrap();
    lab.catch_up().await;
    assert_eq!(manifests(files_below(&lab.lake())), 5);
}
