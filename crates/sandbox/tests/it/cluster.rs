use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use starlift_core::ErrorKind;
use starlift_sandbox::{Cluster, ClusterOptions};

/// The processes whose command line names a directory.
fn processes_of(dir: &Path) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,args="]).output().unwrap();
    let needle = dir.to_string_lossy().into_owned();
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains(&needle)).map(str::to_owned).collect()
}

fn assert_gone(dir: &Path) {
    assert!(!dir.exists(), "{} is left", dir.display());
    assert_eq!(processes_of(dir), Vec::<String>::new());
}

async fn answer(cluster: &Cluster) -> i32 {
    let client = cluster.connect("postgres").await.unwrap();
    client.query_one("select 42", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_stopped_cluster_leaves_nothing_behind() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let dir = cluster.dir().to_path_buf();
    assert_eq!(answer(&cluster).await, 42);
    assert!(!processes_of(&dir).is_empty());
    assert!(cluster.bin_dir().join("postgres").exists());
    cluster.stop().unwrap();
    assert_gone(&dir);
}

#[tokio::test]
async fn two_clusters_run_at_once_and_a_dropped_one_leaves_nothing_behind() {
    let first = Cluster::start(ClusterOptions::default()).unwrap();
    let second = Cluster::start(ClusterOptions::default()).unwrap();
    assert_ne!(first.port(), second.port());
    assert_eq!((answer(&first).await, answer(&second).await), (42, 42));
    let dir = first.dir().to_path_buf();
    drop(first);
    assert_gone(&dir);
    assert_eq!(answer(&second).await, 42);
}

#[tokio::test]
async fn data_and_port_survive_restarts_and_connections_do_not() {
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let (database, port) = (cluster.fresh_database("kept").await.unwrap(), cluster.port());
    let client = cluster.connect(&database).await.unwrap();
    client.batch_execute("create table t (a int); insert into t values (7)").await.unwrap();
    for immediate in [false, true] {
        cluster.restart(immediate).unwrap();
        assert!(client.query_one("select 1", &[]).await.is_err());
        let again = cluster.connect(&database).await.unwrap();
        assert_eq!(again.query_one("select a from t", &[]).await.unwrap().get::<_, i32>(0), 7);
    }
    cluster.stop_server(false).unwrap();
    cluster.stop_server(false).unwrap();
    assert_eq!(cluster.connect(&database).await.unwrap_err().kind(), ErrorKind::Unavailable);
    cluster.start_server().unwrap();
    cluster.start_server().unwrap();
    assert_eq!(cluster.port(), port);
    assert_eq!(answer(&cluster).await, 42);
}

#[tokio::test]
async fn a_kept_cluster_can_be_opened_again_and_a_foreign_directory_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    // The server's user has to pass through it.
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let dir = parent.path().join("cluster");
    let keep = |keep| ClusterOptions { dir: Some(dir.clone()), keep, ..ClusterOptions::default() };
    let cluster = Cluster::start(keep(true)).unwrap();
    cluster.create_database("mine").await.unwrap();
    cluster.stop().unwrap();
    assert!(dir.join("data/PG_VERSION").exists());
    assert_eq!(processes_of(&dir), Vec::<String>::new());

    let cluster = Cluster::start(keep(false)).unwrap();
    cluster.connect("mine").await.unwrap();
    cluster.stop().unwrap();
    assert_gone(&dir);

    std::fs::write(parent.path().join("letter"), "dear").unwrap();
    let options = ClusterOptions { dir: Some(parent.path().to_path_buf()), ..ClusterOptions::default() };
    assert_eq!(Cluster::start(options).unwrap_err().kind(), ErrorKind::Config);
    assert!(parent.path().join("letter").exists());
}

#[tokio::test]
async fn a_password_is_asked_for_where_one_is_set() {
    let options = ClusterOptions { password: Some("s3cr?t/é".into()), ..ClusterOptions::default() };
    let cluster = Cluster::start(options).unwrap();
    assert_eq!(answer(&cluster).await, 42);
    let connect = async |url: String| tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map(|_| ());
    connect(cluster.superuser_url("postgres")).await.unwrap();
    assert!(connect(cluster.url("postgres", "postgres")).await.is_err());
    assert!(connect(cluster.superuser_url("postgres").replace("s3cr", "wrong")).await.is_err());
}

#[tokio::test]
async fn settings_and_tls_are_taken_over_and_a_bad_setting_is_shown() {
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let mut options = ClusterOptions { settings, ..ClusterOptions::default() };
    // A certificate needs a tool to make it; Debian's snake oil is not everywhere.
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is needed by this test");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    options.tls = Some((certificate, key));
    let cluster = Cluster::start(options).unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    let row = client.query_one("select current_setting('work_mem'), current_setting('ssl')", &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("7MB".into(), "on".into()));

    let settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap_err();
    assert!(error.detail().unwrap().contains("no_such_setting"), "{error:?}");
}

const CHILD: &str = "STARLIFT_SANDBOX_CHILD";

/// Runs only as the child of the next test: starts a cluster, says where, and waits to be killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test binary that starts itself has no other way to pass a path")]
fn child_that_is_killed() {
    let Some(answer) = std::env::var_os(CHILD) else { return };
    let cluster = Cluster::start(ClusterOptions::default()).unwrap();
    let unfinished = PathBuf::from(&answer).with_extension("tmp");
    std::fs::write(&unfinished, cluster.dir().to_string_lossy().as_bytes()).unwrap();
    std::fs::rename(&unfinished, &answer).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_cluster_whose_process_is_killed_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let answer = dir.path().join("answer");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::child_that_is_killed"])
        .env(CHILD, &answer)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let within = |limit: u64, done: &dyn Fn() -> bool| {
        for _ in 0..limit * 40 {
            if done() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    };
    within(50, &|| answer.exists());
    let cluster_dir = PathBuf::from(std::fs::read_to_string(&answer).unwrap());
    assert!(!processes_of(&cluster_dir).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    within(30, &|| !cluster_dir.exists() && processes_of(&cluster_dir).is_empty());
    assert_gone(&cluster_dir);
}
