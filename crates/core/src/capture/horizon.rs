//! Up to when stamps can be trusted: which stamps a row can have that the snapshot of a run does not see.
//!
//! A transaction stamps its rows with its beginning or later, and commits whenever it likes. So a row that the snapshot does
//! not see, and that a later one will, was written by a transaction that was open at the snapshot or began after it. Each
//! run looks, *before* it takes its snapshot, at what is open; no row that appears later has a stamp from before the oldest of
//! these beginnings, or, where nothing is open, from before the look. That time, less a [`MARGIN`], is the *safe time*.
//!
//! Where PostgreSQL does not show when a transaction began (a session of another role, without `pg_read_all_stats`; a
//! session that does not track its activity; a prepared transaction, always), looks that follow one another bound it: what
//! was not there at one look and is there at the next began after the first. What was there at the first look of all may have
//! begun at any time, and until it ends there is no safe time.
//!
//! `now()` is the time at which the *message* of a transaction came, and one message may hold several transactions, each with an
//! id of its own (`psql -c`, a script that is sent as a whole). So it is sessions that are known again and not transactions: one that is
//! open at two looks in a row keeps the time that the first of them found, whatever it has ended and begun between the two. A
//! session that each look finds open holds the safe time back until one finds it idle, or the role may see more.
//!
//! Nothing here is about stamps that lie: those the xid pass finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault;
use crate::time::Micros;

/// What a safe time is earlier than it would have to be if every clock were right and everything happened at once, in
/// microseconds: a session takes its beginning from the clock before it shows in any list, and clocks are set back.
pub const MARGIN: i64 = 2_000_000;

/// What one look at the source finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The source's clock, before anything else was looked at.
    pub at: Micros,
    /// When the server was started.
    pub server_started: Micros,
    /// When sessions that show it began what they are at, by their process: a transaction, or the message that holds it and others.
    pub began: BTreeMap<String, Micros>,
    /// Sessions with an open transaction that do not show it, by their process, with the transaction's virtual id.
    pub unnamed: BTreeMap<String, String>,
    /// Prepared transactions, by a name that no other has before or after; read after the sessions, so that one which is
    /// prepared meanwhile is in one list or in both.
    pub prepared: Vec<String>,
}

/// What is known of the stamps of rows that a snapshot did not see. A manifest keeps the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// The seq of the run at whose look this line of looks began: safe times of another line say nothing.
    pub since: u64,
    /// The source's clock at the look.
    pub at: Micros,
    /// When the server was started: another start means other sessions.
    pub server_started: Micros,
    /// No row that the snapshot did not see has an honest stamp before this time; absent where nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub safe: Option<Micros>,
    /// The earliest beginning of a session's open transaction, or the look itself; absent where one is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions: Option<Micros>,
    /// Transactions that do not show when they began, with a time after which they did, where one is known. For those of sessions,
    /// versions that do not know `backends` ask here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<String, Option<Micros>>,
    /// Sessions that were open, by their process, with a time that no message of theirs came before which is still at work, where
    /// one is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    backends: BTreeMap<String, Option<Micros>>,
}

impl Horizon {
    /// What follows from a look for the run of `seq`. `before` is what the look before it came to, of the same source;
    /// looks of one run may follow one another too.
    ///
    /// A clock that went back begins a new line, with a new `since`: what began between the looks may have stamps from
    /// before the first.
    pub fn next(before: Option<&Horizon>, look: &Look, seq: u64) -> Horizon {
        let before = before.filter(|before| before.at <= look.at);
        // A server that was started anew has none of its sessions left, and gives their names again.
        let sessions_before = before.filter(|before| before.server_started == look.server_started);
        let mut open: BTreeMap<String, Option<Micros>> = BTreeMap::new();
        let mut backends: BTreeMap<String, Option<Micros>> =
            look.began.iter().map(|(process, began)| (process.clone(), Some(*began))).collect();
        for (process, name) in &look.unnamed {
            // Its message came after the look before, at which it was at nothing.
            let new = before.map(|before| before.at);
            let began = sessions_before.and_then(|before| before.of_session(process, name)).unwrap_or(new);
            open.insert(name.clone(), began);
            let kept = backends.entry(process.clone()).or_insert(began);
            *kept = earliest([*kept, began]);
        }
        let sessions = earliest(backends.values().copied().chain([Some(look.at)]));
        let mut all = vec![sessions];
        for name in &look.prepared {
            // At the look before it was one of the sessions, or had not begun.
            let new = before.and_then(|before| before.sessions);
            let began = before.and_then(|before| before.open.get(name).copied()).unwrap_or(new);
            all.push(began);
            open.insert(name.clone(), began);
        }
        let found = if fault::planted("horizon_ignored") { Some(look.at) } else { earliest(all).map(with_margin) };
        Horizon {
            since: before.map_or(seq, |before| before.since),
            at: look.at,
            server_started: look.server_started,
            // What a snapshot did not see holds for every later one that sees more.
            safe: found.max(before.and_then(|before| before.safe)),
            sessions,
            open,
            backends,
        }
    }

    /// What was known of a session that is open again, or still; none where it was not open.
    fn of_session(&self, process: &str, name: &str) -> Option<Option<Micros>> {
        if !self.backends.is_empty() {
            return self.backends.get(process).copied();
        }
        // A version that kept virtual ids alone: what is before their stroke is the session's place among the others.
        let place = |name: &str| name.split_once('/').map(|(place, _)| place.to_string());
        let its = place(name)?;
        self.open.iter().find(|(known, _)| place(known).as_ref() == Some(&its)).map(|(_, began)| *began)
    }

    /// The safe time with its line, as a table keeps it.
    pub fn safe_time(&self) -> Option<SafeTime> {
        self.safe.map(|time| SafeTime { since: self.since, time })
    }
}

/// The safe time of the snapshot that a table was last read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafeTime {
    /// The line of looks that it belongs to.
    pub since: u64,
    /// No row that the snapshot did not see has an honest stamp before it.
    pub time: Micros,
}

impl SafeTime {
    /// The time, where the source has been looked at without a break since.
    pub fn in_line(self, now: Option<&Horizon>) -> Option<Micros> {
        now.filter(|now| now.since == self.since).map(|_| self.time)
    }
}

/// The earliest of some times; none where one of them is not known.
fn earliest(times: impl IntoIterator<Item = Option<Micros>>) -> Option<Micros> {
    let times: Option<Vec<Micros>> = times.into_iter().collect();
    times?.into_iter().min()
}

fn with_margin(time: Micros) -> Micros {
    Micros(time.0.saturating_sub(MARGIN))
}

#[cfg(test)]
mod tests;
