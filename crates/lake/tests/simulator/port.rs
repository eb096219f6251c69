//! Where a run touches the world: each touch is a point at which another run may go on, or this one may die.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use starlift_core::{Error, Result};

use crate::planted::Planted;
use crate::world::World;

/// One run's way to the world.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    world: Arc<Mutex<World>>,
    pub(crate) run: u32,
    stopped: Arc<AtomicBool>,
    /// Operations that still fail because everything does.
    outage: Arc<AtomicU32>,
}

impl Port {
    pub(crate) fn new(world: &Arc<Mutex<World>>, run: u32) -> Port {
        Port { world: Arc::clone(world), run, stopped: Arc::default(), outage: Arc::default() }
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the run came to a point since this was asked last.
    pub(crate) fn take_stopped(&self) -> bool {
        self.stopped.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn planted(&self, bug: Planted) -> bool {
        self.with(|w| w.planted == Some(bug))
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        let run = self.run;
        self.with(|w| w.record.note(|| format!("run {run}: {}", text())));
    }

    /// Lets the schedule decide who goes on.
    pub(crate) async fn point(&self) {
        let mut is_first = !self.with(|w| w.is_calm);
        poll_fn(|context| {
            if !std::mem::take(&mut is_first) {
                return Poll::Ready(());
            }
            self.stopped.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// One operation on a database that may fail, with nothing done.
    pub(crate) async fn database(&self, what: &str) -> Result<()> {
        self.point().await;
        if self.fails(|w| w.settings.database_fault) {
            self.note(|| format!("{what}: the connection breaks"));
            return Err(Error::unavailable("the connection broke"));
        }
        Ok(())
    }

    /// Whether an operation fails for no reason of its own; some failures are the first of several.
    pub(crate) fn fails(&self, chance: impl FnOnce(&World) -> u32) -> bool {
        self.with(|w| {
            let left = self.outage.load(Ordering::Relaxed);
            if !w.has_faults {
                return false;
            }
            if left > 0 {
                self.outage.store(left - 1, Ordering::Relaxed);
                return true;
            }
            let chance = chance(w);
            let fails = w.random.chance(chance);
            if fails && w.random.chance(150) {
                self.outage.store(1 + w.random.below(15) as u32, Ordering::Relaxed);
            }
            fails
        })
    }
}
