//! Rows 27, 46 and 47 of docs/bad-input.md, which take the whole program: a full disk, secrets, and a time that is up.

use std::process::Stdio;
use std::time::Duration;

use crate::faults::shop::{PATIENCE, Shop, finish};
use crate::support::{Ran, starlift};

fn manifests(shop: &Shop) -> usize {
    std::fs::read_dir(shop.lake().join("_manifests")).map_or(0, Iterator::count)
}

impl Shop {
    /// The same command where no file may grow beyond so many blocks of 512 bytes.
    async fn on_a_disk_of(&self, blocks: u32, args: &[&str]) -> Ran {
        let wanted = self.command(args);
        let wanted = wanted.as_std();
        let mut command = tokio::process::Command::new("sh");
        // Without the trap, the system would kill the program at the first byte too many.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        command.args(["-c", &script, "sh"]).arg(wanted.get_program()).args(wanted.get_args());
        command.env_clear().envs(wanted.get_envs().filter_map(|(name, value)| Some((name, value?))));
        finish(command.stdin(Stdio::null()).current_dir("/").kill_on_drop(true), PATIENCE).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_27_a_lake_that_takes_no_more_is_named_and_left_without_a_half_file() {
    let mut shop = Shop::new().await;
    for blocks in [0, 1] {
        let ran = shop.on_a_disk_of(blocks, &["ingest"]).await;
        assert_eq!(ran.code, Some(75), "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot write") && ran.stderr.contains("lake/ingest"), "{}", ran.stderr);
        assert_eq!(manifests(&shop), 0);
    }
    // A folder that nobody can write, not even root.
    let ran = shop.run_with(&["ingest"], &[("STARLIFT_LAKE_INGEST", "/proc/starlift-lake")]).await;
    assert!(matches!(ran.code, Some(1 | 75)) && ran.stderr.contains("/proc/starlift-lake"), "{}", ran.stderr);
    std::fs::write(shop.path("file"), "no folder").unwrap();
    let file = shop.path("file").to_str().unwrap().to_string();
    let ran = shop.run_with(&["ingest"], &[("STARLIFT_LAKE_INGEST", &file)]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains(&file) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    shop.mend("a full disk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_46_a_secret_that_is_missing_broken_or_changed_is_never_shown() {
    let mut shop = Shop::new().await;
    let secret = shop.path("secret.json");
    let place = format!("file:{}", secret.display());
    let ingest = async |shop: &Shop| {
        // Without the URL that a test of this shop usually has.
        let mut command = tokio::process::Command::from(starlift(["ingest", "--project"]));
        command
            .arg(shop.dir.path())
            .env("STARLIFT_SOURCE_CREDENTIALS", &place)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        finish(&mut command, PATIENCE).await
    };
    let (port, source) = (shop.cluster.port(), shop.source.clone());
    let credentials = |user: &str| {
        format!(
            r#"{{"user": "{user}", "password": "hunter2", "host": "127.0.0.1", "port": {port}, "database": "{source}"}}"#
        )
    };
    for (content, words) in [
        (None, "cannot read the credentials"),
        (Some(String::new()), "secret.json"),
        (Some("{\"user\": \"hunter2\"".to_string()), "secret.json"),
        (Some("{\"password\": 7, \"hunter2\": []}".to_string()), "secret.json"),
        (Some("hunter2".to_string()), "secret.json"),
        (Some(credentials("no_such_role")), "no_such_role"),
    ] {
        match &content {
            Some(content) => std::fs::write(&secret, content).unwrap(),
            None => assert!(!secret.exists()),
        }
        let ran = ingest(&shop).await;
        assert_eq!(ran.code, Some(1), "{content:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(words), "{content:?}: {}", ran.stderr);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("hunter2"), "{content:?}: {}", ran.stderr);
        assert_eq!(manifests(&shop), 0);
    }
    // The next run opens it anew.
    std::fs::write(&secret, credentials(&format!("{}_reader", shop.source))).unwrap();
    let ran = ingest(&shop).await;
    assert_eq!((ran.code, manifests(&shop)), (Some(0), 1), "{}", ran.stderr);
    shop.mend("a secret that was wrong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_47_a_run_whose_time_is_up_commits_nothing_and_the_next_goes_on() {
    let mut shop = Shop::new().await;
    let mut owner = shop.source_client().await;
    let held = owner.transaction().await.unwrap();
    held.batch_execute("lock table sale in access exclusive mode").await.unwrap();
    let ran = shop.run_with(&["run", "--deadline", "1s"], &[]).await;
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert!(ran.stderr.contains("within its deadline"), "{}", ran.stderr);

    let mut child = shop.command(&["run"]).spawn().unwrap();
    let waiting = async || {
        shop.source_client().await.query_one("select count(*) from pg_locks where not granted", &[]).await.unwrap()
    };
    while waiting().await.get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(child.try_wait().unwrap().is_none(), "the run waits");
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(!ended.success());
    assert_eq!(manifests(&shop), 0);
    held.commit().await.unwrap();
    shop.mend("a run that was ended").await;
}
