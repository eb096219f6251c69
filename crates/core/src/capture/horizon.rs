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
    /// When open transactions began, of sessions that show it.
    pub began: Vec<Micros>,
    /// Other open transactions, by a name that lasts as long as they and the server do.
    pub unnamed: Vec<String>,
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
    /// Transactions that do not show when they began, with a time after which they did, where one is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<String, Option<Micros>>,
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
        let known = |line: Option<&Horizon>, name: &String| line.and_then(|line| line.open.get(name).copied());
        let mut open: BTreeMap<String, Option<Micros>> = BTreeMap::new();
        for name in &look.unnamed {
            // It began after the look before, which it was not in.
            let new = before.map(|before| before.at);
            open.insert(name.clone(), known(sessions_before, name).unwrap_or(new));
        }
        let of_sessions = look.began.iter().copied().map(Some).chain(open.values().copied());
        let sessions = earliest(of_sessions.chain([Some(look.at)]));
        let mut all = vec![sessions];
        for name in &look.prepared {
            // At the look before it was one of the sessions, or had not begun.
            let new = before.and_then(|before| before.sessions);
            let began = known(before, name).unwrap_or(new);
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
        }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000;

    fn at(seconds: i64) -> Micros {
        Micros(seconds * SECOND)
    }

    fn look(seconds: i64) -> Look {
        Look { at: at(seconds), server_started: at(0), began: vec![], unnamed: vec![], prepared: vec![] }
    }

    fn unnamed(seconds: i64, names: &[&str]) -> Look {
        Look { unnamed: names.iter().map(|name| name.to_string()).collect(), ..look(seconds) }
    }

    fn prepared(seconds: i64, names: &[&str]) -> Look {
        Look { prepared: names.iter().map(|name| name.to_string()).collect(), ..look(seconds) }
    }

    /// The safe times, margin added again, of looks that follow one another.
    fn safe(looks: &[Look]) -> Vec<Option<i64>> {
        let mut before: Option<Horizon> = None;
        let mut found = Vec::new();
        for (seq, look) in (1..).zip(looks) {
            let horizon = Horizon::next(before.as_ref(), look, seq);
            found.push(horizon.safe.map(|safe| (safe.0 + MARGIN) / SECOND));
            before = Some(horizon);
        }
        found
    }

    #[test]
    fn where_nothing_is_open_the_look_itself_is_safe() {
        assert_eq!(safe(&[look(100), look(400)]), [Some(100), Some(400)]);
    }

    #[test]
    fn the_oldest_beginning_that_shows_holds_the_horizon() {
        let open = |seconds, began: &[i64]| Look { began: began.iter().map(|b| at(*b)).collect(), ..look(seconds) };
        assert_eq!(safe(&[open(100, &[90, 40]), open(400, &[90, 399]), look(700)]), [Some(40), Some(90), Some(700)]);
    }

    #[test]
    fn a_beginning_that_does_not_show_is_after_the_last_look_without_it() {
        let looks =
            [look(100), unnamed(400, &["3/7"]), unnamed(700, &["3/7", "4/1"]), unnamed(900, &["4/1"]), look(950)];
        assert_eq!(safe(&looks), [Some(100), Some(100), Some(100), Some(400), Some(950)]);
    }

    #[test]
    fn what_was_open_at_the_first_look_keeps_every_time_from_being_safe_until_it_ends() {
        let looks = [unnamed(100, &["3/7"]), unnamed(400, &["3/7", "3/8"]), unnamed(700, &["3/8"]), look(900)];
        assert_eq!(safe(&looks), [None, None, Some(100), Some(900)]);
    }

    #[test]
    fn a_prepared_transaction_began_no_later_than_it_was_prepared() {
        // Prepared between the looks at 100 and 400, by a session that was open at 100 since 60.
        let first = Look { began: vec![at(60)], ..look(100) };
        let looks = [first, prepared(400, &["9@1"]), prepared(700, &["9@1", "11@2"]), prepared(900, &["11@2"])];
        assert_eq!(safe(&looks), [Some(60), Some(60), Some(60), Some(400)]);
        assert_eq!(safe(&[prepared(100, &["9@1"]), prepared(400, &["9@1"]), look(700)]), [None, None, Some(700)]);
    }

    #[test]
    fn a_restart_ends_sessions_and_no_prepared_transaction() {
        let restarted = |look: Look| Look { server_started: at(500), ..look };
        let looks = [look(100), unnamed(400, &["3/7"]), restarted(unnamed(700, &["3/7"])), restarted(look(900))];
        // The name is given again: what it means began after the look at 400.
        assert_eq!(safe(&looks), [Some(100), Some(100), Some(400), Some(900)]);
        let looks = [look(100), prepared(400, &["9@1"]), restarted(prepared(700, &["9@1"])), restarted(look(900))];
        assert_eq!(safe(&looks), [Some(100), Some(100), Some(100), Some(900)]);
    }

    #[test]
    fn a_clock_that_went_back_begins_a_new_line() {
        let first = Horizon::next(None, &look(400), 7);
        let second = Horizon::next(Some(&first), &unnamed(300, &["3/7"]), 8);
        assert_eq!((first.since, second.since, second.safe), (7, 8, None));
        let safe = first.safe_time().unwrap();
        assert_eq!(safe.in_line(Some(&first)), Some(Micros(400 * SECOND - MARGIN)));
        assert_eq!((safe.in_line(Some(&second)), safe.in_line(None)), (None, None));
    }

    #[test]
    fn a_planted_bug_trusts_the_look_alone() {
        let open = Look { began: vec![at(40)], ..look(100) };
        let horizon = fault::with_planted("horizon_ignored", || Horizon::next(None, &open, 1));
        assert_eq!(horizon.safe, Some(at(100)));
    }

    #[test]
    fn a_horizon_survives_its_json() {
        let horizon = Horizon::next(None, &unnamed(100, &["3/7"]), 3);
        let text = serde_json::to_string(&horizon).unwrap();
        assert!(text.contains(r#""open":{"3/7":null}"#) && !text.contains("safe"), "{text}");
        assert_eq!(serde_json::from_str::<Horizon>(&text).unwrap(), horizon);
    }

    /// A transaction: begins, perhaps is prepared, ends; perhaps it shows its beginning while it is a session's.
    #[derive(Debug, Clone)]
    struct Life {
        begins: i64,
        prepares: Option<i64>,
        ends: i64,
        shows: bool,
    }

    fn lives() -> impl Strategy<Value = Vec<Life>> {
        let life = (0i64..1_000, 1i64..400, 1i64..400, any::<bool>(), any::<bool>()).prop_map(
            |(begins, first, second, is_prepared, shows)| Life {
                begins,
                prepares: is_prepared.then_some(begins + first),
                ends: begins + first + if is_prepared { second } else { 0 },
                shows,
            },
        );
        prop::collection::vec(life, 1..12)
    }

    proptest! {
        /// Whatever ends after a look has no stamp from before the safe time of that look.
        #[test]
        fn nothing_that_ends_later_is_stamped_before_a_safe_time(
            lives in lives(),
            looks in prop::collection::btree_set(0i64..1_500, 1..12),
            restarts in prop::collection::btree_set(0i64..1_500, 0..2),
        ) {
            // A restart ends what is not prepared.
            let ends = |life: &Life| {
                let sessions_end = life.prepares.unwrap_or(life.ends);
                match restarts.iter().find(|restart| (life.begins..sessions_end).contains(restart)) {
                    Some(restart) => (*restart, None),
                    None => (life.ends, life.prepares),
                }
            };
            let mut before: Option<Horizon> = None;
            for (seq, now) in (1u64..).zip(looks) {
                let mut seen = Look {
                    server_started: restarts.range(..=now).next_back().map_or(at(-1), |restart| at(*restart)),
                    ..look(now)
                };
                for (number, life) in lives.iter().enumerate() {
                    let (ends, prepares) = ends(life);
                    if life.begins > now || ends <= now {
                        continue;
                    }
                    match prepares {
                        Some(prepares) if prepares <= now => seen.prepared.push(format!("{number}@{prepares}")),
                        _ if life.shows => seen.began.push(at(life.begins)),
                        _ => seen.unnamed.push(format!("1/{number}")),
                    }
                }
                let horizon = Horizon::next(before.as_ref(), &seen, seq);
                if let Some(safe) = horizon.safe {
                    for life in lives.iter().filter(|life| ends(life).0 > now) {
                        prop_assert!(at(life.begins).0 >= safe.0 + MARGIN, "{life:?} at {now}: {horizon:?}");
                    }
                }
                before = Some(horizon);
            }
        }
    }
}
