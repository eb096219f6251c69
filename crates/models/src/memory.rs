//! The memory of a session, shared so that what was put aside can always be read again.
//!
//! DataFusion's `FairSpillPool` lets sorts that gather rows take all that is free. A sort that begins later, or that put
//! its rows aside, then finds nothing for the merge that it needs, and fails, depending on which came first. Here:
//!
//! - consumers that can put rows aside have half of the memory, divided evenly, from when there is one of them;
//! - the others take the rest, of which a quarter of all memory is kept for small reservations: those that merges need.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::common::resources_datafusion_err;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};

/// What a sort keeps for its merge, as a part of all memory; so many of them have room in the quarter that is kept.
const MERGE_PART: usize = 64;

/// The bytes that a sort keeps for its merge, where the memory is `limit_bytes`.
pub(crate) fn merge_bytes(limit_bytes: usize) -> usize {
    limit_bytes / MERGE_PART
}

/// Bytes that consumers may hold together; see the module.
#[derive(Debug)]
pub(crate) struct SessionMemory {
    limit_bytes: usize,
    held: Mutex<Held>,
}

/// What consumers hold.
#[derive(Debug, Default)]
struct Held {
    /// How many consumers can put rows aside.
    spillers: usize,
    /// Bytes of those.
    spillable: usize,
    /// Bytes of the others.
    unspillable: usize,
}

impl SessionMemory {
    pub(crate) fn new(limit_bytes: usize) -> SessionMemory {
        SessionMemory { limit_bytes, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes by which a reservation of `size` bytes may grow, where `additional` are asked for.
    fn room(&self, held: &Held, reservation: &MemoryReservation, additional: usize) -> usize {
        let free = self.limit_bytes.saturating_sub(held.spillable.saturating_add(held.unspillable));
        if reservation.consumer().can_spill() {
            let share = self.limit_bytes / 2 / held.spillers.max(1);
            return share.saturating_sub(reservation.size()).min(free);
        }
        let small = reservation.size().saturating_add(additional) <= merge_bytes(self.limit_bytes);
        let for_spillers = if held.spillers > 0 { self.limit_bytes / 2 } else { 0 };
        let for_merges = if small { 0 } else { self.limit_bytes / 4 };
        self.limit_bytes.saturating_sub(for_spillers + for_merges).saturating_sub(held.unspillable).min(free)
    }
}

impl MemoryPool for SessionMemory {
    fn name(&self) -> &str {
        "session"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.held().spillers += usize::from(consumer.can_spill());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.held().spillers -= usize::from(consumer.can_spill());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        *self.held().of(reservation) += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        *self.held().of(reservation) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.held();
        let room = self.room(&held, reservation, additional);
        if additional > room {
            return Err(resources_datafusion_err!(
                "{} asks for {} more and may have {} more; all memory is {}",
                reservation.consumer().name(),
                human_readable_size(additional),
                human_readable_size(room),
                human_readable_size(self.limit_bytes)
            ));
        }
        *held.of(reservation) += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        let held = self.held();
        held.spillable + held.unspillable
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit_bytes)
    }
}

impl Held {
    /// The sum that a reservation counts to.
    fn of(&mut self, reservation: &MemoryReservation) -> &mut usize {
        if reservation.consumer().can_spill() { &mut self.spillable } else { &mut self.unspillable }
    }
}

impl fmt::Display for SessionMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session of {}", human_readable_size(self.limit_bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn consumer(pool: &Arc<dyn MemoryPool>, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new("c").with_can_spill(can_spill).register(pool)
    }

    #[test]
    fn sorts_that_gather_rows_leave_room_for_the_merges_of_others() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SessionMemory::new(6400));
        let sort = consumer(&pool, true);
        assert!(sort.try_grow(3201).is_err());
        sort.try_grow(3200).unwrap();
        let join = consumer(&pool, false);
        assert!(join.try_grow(1601).is_err(), "half is of those that can spill, a quarter of merges");
        join.try_grow(1600).unwrap();
        let merges: Vec<_> = (0..16).map(|_| consumer(&pool, false)).collect();
        for merge in &merges {
            merge.try_grow(merge_bytes(6400)).unwrap();
        }
        assert_eq!(pool.reserved(), 6400);
        assert!(consumer(&pool, false).try_grow(1).is_err());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let pool: Arc<dyn MemoryPool> = Arc::new(SessionMemory::new(6400));
        let (one, two) = (consumer(&pool, true), consumer(&pool, true));
        one.try_grow(1600).unwrap();
        assert!(one.try_grow(1).is_err(), "the half is divided evenly");
        assert_eq!(pool.reserved(), 1600);
        drop(two);
        one.try_grow(1600).unwrap();
        drop(one);
        assert_eq!(pool.reserved(), 0);
        consumer(&pool, false).try_grow(4800).unwrap();
        assert!(consumer(&pool, false).try_grow(usize::MAX).is_err());
    }
}
