//! How the operating system treats this process beside others.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// A niceness of 4, as the library counts: 0 to 99 for all levels.
const PRIORITY: u8 = 37;

/// Makes this thread, and those that it starts, give way to a server on the same machine.
///
/// A database that answers wakes its reader for every few kilobytes, and the scheduler lets who is woken take the processor of
/// who woke it: on two cores one COPY of 3 million rows was interrupted 16,000 times, and took a fifth longer. Threads of the
/// policy `SCHED_BATCH` interrupt nobody by being woken (sched(7)).
///
/// Nothing depends on it: where the system says no, all goes on as it is.
pub(crate) fn give_way() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    if let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) {
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy);
    }
}
