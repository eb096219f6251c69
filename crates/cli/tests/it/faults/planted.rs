//! Planted bugs: for each of them a history that shows what it loses, doubles or leaves stale, and that the same history
//! without it does no harm. A bug that another layer would hide is planted together with one that takes the layer off, and
//! the history is gone through with the layer off alone, too.

mod capture;
mod commit;
mod evaluation;
mod load;

use std::path::PathBuf;

use tokio::process::Child;

use super::shop::{Shop, wait_for};
use crate::support::Ran;

/// A shop whose program has bugs.
pub(crate) struct Buggy {
    pub(crate) shop: Shop,
    bugs: &'static str,
}

/// A run that waits at a point.
pub(crate) struct Waiting {
    child: Child,
    go: PathBuf,
}

impl Buggy {
    /// A shop that has been through its first run.
    pub(crate) async fn new(bugs: &'static str) -> Buggy {
        Buggy::of(Shop::new().await, bugs).await
    }

    pub(crate) async fn of(shop: Shop, bugs: &'static str) -> Buggy {
        let mut buggy = Buggy { shop, bugs };
        buggy.run().await;
        buggy
    }

    /// From now on every model is evaluated whole.
    pub(crate) fn evaluates_whole(&self) {
        let settings = self.shop.path("starlift.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, format!("{text}\n[transform]\nincremental = false\n")).unwrap();
    }

    /// Runs the stages, which come through.
    pub(crate) async fn run(&mut self) {
        let ran = self.try_run(&["run"]).await;
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
        self.shop.note_versions().await;
    }

    pub(crate) async fn try_run(&self, args: &[&str]) -> Ran {
        self.shop.run_with(args, &[("STARLIFT_PLANTED", self.bugs)]).await
    }

    /// A run that dies at a point.
    pub(crate) async fn crash(&self, args: &[&str], point: &str) {
        let ran = self.shop.run_with(args, &[("STARLIFT_PLANTED", self.bugs), ("STARLIFT_FAULT", point)]).await;
        assert_eq!(ran.code, None, "{point} was not passed: {}", ran.stderr);
    }

    /// Starts a run that waits at a point, and returns when it does.
    pub(crate) async fn start(&self, args: &[&str], point: &str) -> Waiting {
        let go = self.shop.path("go");
        let met = self.shop.path("go.met");
        let _ = (std::fs::remove_file(&go), std::fs::remove_file(&met));
        let mut command = self.shop.command(args);
        command.env("STARLIFT_PLANTED", self.bugs).env("STARLIFT_FAULT", format!("{point}:wait={}", go.display()));
        let child = command.spawn().expect("the program starts");
        wait_for(&met).await;
        Waiting { child, go }
    }

    /// What differs between source and warehouse now.
    pub(crate) async fn differences(&self) -> Vec<String> {
        self.shop.differences().await
    }

    /// Waits until every transaction of the cluster is newer than what has been committed, so that no watermark is held
    /// back by somebody else and hides a bug.
    pub(crate) async fn outlive_older_transactions(&self) {
        let client = self.shop.source_client().await;
        let newest: i64 = client.query_one("select pg_current_xact_id()::text::bigint", &[]).await.unwrap().get(0);
        for _ in 0..1_800 {
            let oldest = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
            if client.query_one(oldest, &[]).await.unwrap().get::<_, i64>(0) > newest {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("an older transaction did not end");
    }
}

impl Waiting {
    /// Lets the run go on to its end.
    pub(crate) async fn go(self) -> Ran {
        std::fs::write(&self.go, "").unwrap();
        let ended = tokio::time::timeout(super::shop::PATIENCE, self.child.wait_with_output()).await;
        ended.expect("the run ends").unwrap().into()
    }
}

/// The history does harm with the bug, such as `wanted` says, and none without.
pub(crate) fn assert_caught(without: &[String], with: &[String], wanted: &str) {
    assert_eq!(without, &[] as &[String], "there is harm without the bug");
    assert!(with.iter().any(|harm| harm.contains(wanted)), "the bug was not caught: {with:?}");
}
