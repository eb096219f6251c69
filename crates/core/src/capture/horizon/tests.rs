//! Safe times of looks that were made up, and of random lives of sessions.

use super::*;
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Micros {
    Micros(seconds * SECOND)
}

fn look(seconds: i64) -> Look {
    Look { at: at(seconds), server_started: at(0), began: BTreeMap::new(), unnamed: BTreeMap::new(), prepared: vec![] }
}

/// Sessions that show themselves, by the number of their process.
fn shown(seconds: i64, began: &[(i64, i64)]) -> Look {
    Look { began: began.iter().map(|(process, began)| (process.to_string(), at(*began))).collect(), ..look(seconds) }
}

/// Transactions by their virtual ids; the session of one is named after what is before the stroke.
fn unnamed(seconds: i64, names: &[&str]) -> Look {
    let session = |name: &&str| (name.split('/').next().unwrap_or_default().to_string(), name.to_string());
    Look { unnamed: names.iter().map(session).collect(), ..look(seconds) }
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
    let looks = [shown(100, &[(1, 90), (2, 40)]), shown(400, &[(1, 90), (3, 399)]), look(700)];
    assert_eq!(safe(&looks), [Some(40), Some(90), Some(700)]);
}

#[test]
fn a_beginning_that_does_not_show_is_after_the_last_look_without_it() {
    let looks = [look(100), unnamed(400, &["3/7"]), unnamed(700, &["3/7", "4/1"]), unnamed(900, &["4/1"]), look(950)];
    assert_eq!(safe(&looks), [Some(100), Some(100), Some(100), Some(400), Some(950)]);
}

#[test]
fn what_was_open_at_the_first_look_keeps_every_time_from_being_safe_until_it_ends() {
    let looks = [unnamed(100, &["3/7"]), unnamed(400, &["3/7", "4/8"]), unnamed(700, &["4/8"]), look(900)];
    assert_eq!(safe(&looks), [None, None, Some(100), Some(900)]);
    // Another transaction may be of the same message, and so have the same stamp.
    let looks = [unnamed(100, &["3/7"]), unnamed(400, &["3/8"]), look(700), unnamed(800, &["3/9"])];
    assert_eq!(safe(&looks), [None, None, Some(700), Some(700)]);
}

#[test]
fn a_session_that_is_open_again_may_be_at_the_same_message() {
    // The message came between 100 and 400, and holds three transactions; another session has one of its own each time.
    let looks = [
        look(100),
        unnamed(400, &["3/7"]),
        unnamed(700, &["3/8", "5/1"]),
        unnamed(900, &["3/9", "4/1"]),
        unnamed(950, &["5/2"]),
    ];
    assert_eq!(safe(&looks), [Some(100), Some(100), Some(100), Some(100), Some(900)]);
}

#[test]
fn a_busy_session_holds_the_safe_time_until_a_look_finds_it_idle_or_sees_more() {
    let busy: Vec<Look> = (1..10).map(|n| unnamed(100 * n, &[&format!("3/{n}")])).collect();
    let all = |next: Look| safe(&[vec![look(50)], busy.clone(), vec![next]].concat()).pop().flatten();
    assert_eq!(all(unnamed(1000, &["3/99"])), Some(50));
    assert_eq!(all(unnamed(1000, &["4/99"])), Some(900));
    assert_eq!(all(shown(1000, &[(3, 990)])), Some(990));
}

#[test]
fn what_showed_itself_is_known_when_it_does_so_no_more() {
    // The right was taken back, or the session stopped to keep track of itself.
    let looks = [shown(100, &[(3, 40), (4, 90)]), unnamed(400, &["3/7", "4/1"]), unnamed(700, &["4/1"])];
    assert_eq!(safe(&looks), [Some(40), Some(40), Some(90)]);
}

#[test]
fn what_an_older_version_kept_is_known_by_the_place_before_the_stroke() {
    let older = r#"{"since":1,"at":"1970-01-01T00:06:40.000000Z","server_started":"1970-01-01T00:00:00.000000Z",
        "safe":"1970-01-01T00:01:38.000000Z","sessions":"1970-01-01T00:01:40.000000Z","open":{"3/7":"1970-01-01T00:01:40.000000Z"}}"#;
    let older: Horizon = serde_json::from_str(older).unwrap();
    let next = |names: &[&str]| Horizon::next(Some(&older), &unnamed(700, names), 2).safe;
    for same in ["3/7", "3/8"] {
        assert_eq!(next(&[same, "4/1"]), Some(Micros(100 * SECOND - MARGIN)), "{same}");
    }
    assert_eq!(next(&["30/7"]), Some(Micros(400 * SECOND - MARGIN)));
}

#[test]
fn a_prepared_transaction_began_no_later_than_it_was_prepared() {
    // Prepared between the looks at 100 and 400, by a session that was open at 100 since 60.
    let first = shown(100, &[(3, 60)]);
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
    let open = shown(100, &[(3, 40)]);
    let horizon = fault::with_planted("horizon_ignored", || Horizon::next(None, &open, 1));
    assert_eq!(horizon.safe, Some(at(100)));
}

#[test]
fn a_horizon_survives_its_json() {
    let horizon = Horizon::next(None, &unnamed(100, &["3/7"]), 3);
    let text = serde_json::to_string(&horizon).unwrap();
    assert!(text.contains(r#""open":{"3/7":null},"backends":{"3":null}"#) && !text.contains("safe"), "{text}");
    assert_eq!(serde_json::from_str::<Horizon>(&text).unwrap(), horizon);
}

/// A transaction: begins, perhaps is prepared, ends. Its message came earlier, perhaps with others before it.
#[derive(Debug, Clone)]
struct Life {
    stamp: i64,
    begins: i64,
    prepares: Option<i64>,
    ends: i64,
}

/// What one session does, message by message; perhaps it shows when it began with one.
#[derive(Debug, Clone)]
struct Session {
    shows: bool,
    messages: Vec<Vec<Life>>,
}

/// When a message ends, as far as its session goes.
fn end(message: &[Life]) -> i64 {
    message.last().map_or(0, |last| last.prepares.unwrap_or(last.ends))
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let transaction = (1i64..200, prop::option::of(1i64..400));
    let message = (1i64..200, prop::collection::vec(transaction, 1..4));
    let session =
        (any::<bool>(), 0i64..800, prop::collection::vec(message, 1..4)).prop_map(|(shows, start, messages)| {
            let mut now = start;
            let mut lived = Vec::new();
            for (pause, transactions) in messages {
                now += pause;
                let stamp = now;
                let mut lives = Vec::new();
                for (length, prepared) in transactions {
                    let (begins, leaves) = (now, now + length);
                    lives.push(Life {
                        stamp,
                        begins,
                        prepares: prepared.map(|_| leaves),
                        ends: leaves + prepared.unwrap_or(0),
                    });
                    // Whoever shows the message shows it between two transactions, too.
                    now = leaves + if shows { length / 2 } else { 0 };
                }
                now = end(&lives);
                lived.push(lives);
            }
            Session { shows, messages: lived }
        });
    prop::collection::vec(session, 1..8)
}

/// What a restart leaves of a session: what it was at ends there, unless it is prepared, and the rest never comes.
fn cut(session: &Session, restarts: &std::collections::BTreeSet<i64>) -> Session {
    let cut_message = |message: &Vec<Life>| {
        let stamp = message.first().map_or(0, |first| first.stamp);
        let Some(restart) = restarts.range(stamp + 1..=end(message)).next() else { return message.clone() };
        let mut lives: Vec<Life> = message.iter().filter(|life| life.begins < *restart).cloned().collect();
        for life in &mut lives {
            if life.prepares.unwrap_or(life.ends) >= *restart {
                (life.ends, life.prepares) = (*restart, None);
            }
        }
        lives
    };
    Session { messages: session.messages.iter().map(cut_message).collect(), ..session.clone() }
}

proptest! {
    /// Whatever ends after a look has no stamp from before the safe time of that look.
    #[test]
    fn nothing_that_ends_later_is_stamped_before_a_safe_time(
        sessions in sessions(),
        looks in prop::collection::btree_set(0i64..1_800, 1..12),
        restarts in prop::collection::btree_set(0i64..1_800, 0..2),
    ) {
        let sessions: Vec<Session> = sessions.iter().map(|session| cut(session, &restarts)).collect();
        let mut before: Option<Horizon> = None;
        for (seq, now) in (1u64..).zip(looks) {
            let mut seen = Look {
                server_started: restarts.range(..=now).next_back().map_or(at(-1), |restart| at(*restart)),
                ..look(now)
            };
            for (process, session) in sessions.iter().enumerate() {
                for (number, message) in session.messages.iter().enumerate() {
                    let stamp = message.first().map_or(0, |first| first.stamp);
                    let is_at_work = stamp <= now && now < end(message);
                    if is_at_work && session.shows {
                        seen.began.insert(process.to_string(), at(stamp));
                    }
                    for (place, life) in message.iter().enumerate().filter(|(_, life)| life.begins <= now && now < life.ends) {
                        match life.prepares {
                            Some(prepares) if prepares <= now => seen.prepared.push(format!("{process}.{number}.{place}@{prepares}")),
                            _ if session.shows => {}
                            _ => drop(seen.unnamed.insert(process.to_string(), format!("{process}/{number}.{place}"))),
                        }
                    }
                }
            }
            let horizon = Horizon::next(before.as_ref(), &seen, seq);
            if let Some(safe) = horizon.safe {
                let all = sessions.iter().flat_map(|session| session.messages.iter().flatten());
                for life in all.filter(|life| life.ends > now) {
                    prop_assert!(at(life.stamp).0 >= safe.0 + MARGIN, "{life:?} at {now}: {horizon:?}");
                }
            }
            before = Some(horizon);
        }
    }
}
