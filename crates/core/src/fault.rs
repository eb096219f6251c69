//! Fault points and planted bugs: how tests end a run at a named instruction, and how they prove that they would see a bug.
//!
//! Both exist only where `debug_assertions` are on, as they are in the profiles of `cargo build` and `cargo test` and not
//! in the release profile: there [`point`] is empty and [`planted`] is `false`, and the compiler leaves nothing of them.
//! Nothing happens here by itself: what a point does is installed by a shell that was asked to.

/// Every fault point, stage by stage. A test compares this list with the points that its runs pass.
pub const POINTS: &[&str] = &[
    // Ingest: the source is connected; the tables are locked and the snapshot is taken; the time is claimed.
    "ingest.connected",
    "ingest.snapshot",
    "ingest.claimed",
    "ingest.mid_copy",
    "ingest.table_copied",
    "ingest.keys_compared",
    "ingest.tombstones_written",
    "ingest.table_done",
    "ingest.chunk_copied",
    "ingest.chunk_committed",
    "ingest.source_released",
    "ingest.before_manifest",
    "ingest.after_manifest",
    // Any object of a lake or star: data file, claim, manifest.
    "lake.mid_file",
    "lake.file_complete",
    "lake.file_published",
    "lake.object_staged",
    "lake.object_linked",
    "lake.checkpoint",
    // The upkeep of files: some were merged, and a part of the key index is written.
    "lake.merged",
    "lake.indexed",
    "transform.star_read",
    "transform.planned",
    "transform.claimed",
    "transform.mid_model",
    "transform.rows_written",
    "transform.retractions_written",
    "transform.model_done",
    "transform.before_manifest",
    "transform.after_manifest",
    "load.star_read",
    "load.ledger_read",
    "load.locked",
    "load.mid_stage",
    "load.model_staged",
    "load.calendar_written",
    "load.dimensions_written",
    "load.foreign_keys_dropped",
    "load.fact_appended",
    "load.foreign_keys_added",
    "load.retractions_written",
    "load.before_ledger",
    "load.before_commit",
    "load.commit_sent",
    "load.after_commit",
];

/// Every bug that can be planted, after limits that a test lowers.
pub const PLANTS: &[&str] = &[
    "small_checkpoint",
    "small_index",
    "endless_index",
    "small_first_load",
    "small_chunks",
    "short_silence",
    "short_idle",
    "slow_writer",
    "stopped_clock",
    // Capture.
    "no_lock",
    "watermark_is_xmax",
    "not_visible",
    "naive_xid",
    "one_watermark",
    "state_from_names",
    "durability_ignored",
    "horizon_ignored",
    "closing_from_last_chunk",
    "attached_ignored",
    "names_ignored",
    "session_idles",
    // Commit.
    "claim_ignored",
    "exists_is_success",
    "manifest_overwritten",
    "links_unchecked",
    "run_id_ignored",
    // The key index.
    "index_unchecked",
    "index_part_skipped",
    "blocks_unchecked",
    "merged_keeps_oldest",
    "merged_away_unseen",
    // Evaluation.
    "tombstones_ignored",
    "inputs_now",
    "new_rows_only",
    // Load.
    "ledger_ignored",
    "ledger_after_commit",
    "versions_not_compared",
    "versions_out_of_order",
];

#[cfg(debug_assertions)]
pub use hooks::{Hooks, install, with_planted};

/// Passes a fault point. It may not return.
#[inline(always)]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    hooks::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether a bug is planted.
#[inline(always)]
pub fn planted(name: &'static str) -> bool {
    #[cfg(debug_assertions)]
    return hooks::is_planted(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}

/// The future itself, which passes a point when it has begun and waits: what was asked for is under way, and nobody has
/// read the answer.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn under_way<F: Future>(_name: &'static str, future: F) -> F {
    future
}

/// The future itself, which passes a point when it has begun and waits: what was asked for is under way, and nobody has
/// read the answer.
#[cfg(debug_assertions)]
pub fn under_way<F: Future>(name: &'static str, future: F) -> impl Future<Output = F::Output> {
    let mut future = Box::pin(future);
    let mut is_passed = false;
    std::future::poll_fn(move |context| {
        let polled = future.as_mut().poll(context);
        if polled.is_pending() && !std::mem::replace(&mut is_passed, true) {
            point(name);
        }
        polled
    })
}

#[cfg(debug_assertions)]
mod hooks {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::sync::OnceLock;

    static HOOKS: OnceLock<Hooks> = OnceLock::new();

    thread_local! {
        static PLANTED_HERE: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// What a process does at its points, and which bugs it has.
    pub struct Hooks {
        /// Called with the name of each point that is passed.
        pub at_point: Box<dyn Fn(&'static str) + Send + Sync>,
        /// The bugs, of [`PLANTS`](super::PLANTS).
        pub planted: BTreeSet<String>,
    }

    /// Installs the hooks of this process. The first call decides; `false` means that there were hooks already.
    pub fn install(hooks: Hooks) -> bool {
        HOOKS.set(hooks).is_ok()
    }

    /// Runs something pure with a bug planted on this thread alone: for unit tests.
    pub fn with_planted<T>(name: &'static str, run: impl FnOnce() -> T) -> T {
        PLANTED_HERE.with_borrow_mut(|planted| planted.insert(name));
        let outcome = run();
        PLANTED_HERE.with_borrow_mut(|planted| planted.remove(name));
        outcome
    }

    pub(super) fn pass(name: &'static str) {
        if let Some(hooks) = HOOKS.get() {
            (hooks.at_point)(name);
        }
    }

    pub(super) fn is_planted(name: &'static str) -> bool {
        HOOKS.get().is_some_and(|hooks| hooks.planted.contains(name))
            || PLANTED_HERE.with_borrow(|planted| planted.contains(name))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn names_are_given_once() {
        for names in [POINTS, PLANTS] {
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        }
    }

    #[test]
    fn a_bug_is_planted_only_where_and_while_it_was_asked_for() {
        assert!(!planted("naive_xid"));
        with_planted("naive_xid", || {
            assert!(planted("naive_xid"));
            assert!(!planted("no_lock"));
            assert!(!std::thread::spawn(|| planted("naive_xid")).join().unwrap());
        });
        assert!(!planted("naive_xid"));
    }

    #[test]
    fn a_future_that_passes_a_point_yields_what_it_yields() {
        let future = pin!(under_way("load.commit_sent", std::future::ready(7)));
        assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
