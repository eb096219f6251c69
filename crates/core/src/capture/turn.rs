//! What one run does with a table that not every run reads completely.
//!
//! Its watermark is that of its last xid pass or full read, so that the next pass finds whatever changed since, however it
//! was stamped: a cursor's run leaves the watermark where it is. The safe time moves with every run that reads the table.

use super::{CaptureMode, Choice, Read, Shape, decide_read, state_after};
use crate::manifest::{CaptureState, Passes, Relation, Source};
use crate::schema::TableSchema;
use crate::time::Micros;

/// What one run does with one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It reads the table completely: the state is the table's image afterwards. The reason is that of an xid pass of a
    /// table that is not read so by every run.
    Complete(Read, Option<PassReason>),
    /// It reads the rows that are stamped at or after this time. It finds no delete and proves no count.
    Cursor(Micros),
    /// It leaves the table as it is: the next pass is not due.
    Wait,
}

/// Why an xid pass is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassReason {
    /// No run has made one of the table since it is captured so.
    First,
    /// So many runs have gone by.
    Due,
    /// There is no safe time: something that may write was open at the first look, the clock went back, or a run did not look.
    NoSafeTime,
    /// Somebody wants the table's image.
    Asked,
    /// What partitions it has is shown by no stamp.
    Partitions,
    /// Rows of another table refer to keys that the lake does not have.
    Referred,
}

impl PassReason {
    /// The words that a manifest, `plan` and the run's card show.
    pub fn text(self) -> &'static str {
        match self {
            PassReason::First => "first xid pass",
            PassReason::Due => "xid pass is due",
            PassReason::NoSafeTime => "xid pass, because no safe time is known",
            PassReason::Asked => "xid pass was asked for",
            PassReason::Partitions => "xid pass, because partitions came or went",
            PassReason::Referred => "xid pass, because rows refer to keys that the lake did not have",
        }
    }
}

/// What the run of `seq` does with a table that is like `schema` and `names` now, and whose state is `before`. `asked` makes it read the
/// table completely.
pub fn decide_turn(
    choice: &Choice,
    schema: &TableSchema,
    names: Option<&str>,
    before: Option<&Relation>,
    now: &Source,
    seq: u64,
    asked: Option<PassReason>,
) -> Turn {
    let known = before.map(|before| &before.schema);
    let is_other = known.is_some_and(|known| known.partitions != schema.partitions);
    let asked = asked.or(is_other.then_some(PassReason::Partitions));
    let fingerprint = schema.but_for_partitions(known).fingerprint();
    let shape = Shape { has_key: !schema.key.is_empty(), fingerprint: &fingerprint, names };
    turn(choice, shape, before, now, seq, asked)
}

fn turn(
    choice: &Choice,
    shape: Shape,
    before: Option<&Relation>,
    now: &Source,
    seq: u64,
    asked: Option<PassReason>,
) -> Turn {
    let read = decide_read(choice.mode, shape, before, now);
    let Some(every) = choice.xid_pass_every.filter(|_| matches!(read, Read::Window(_))) else {
        return Turn::Complete(read, None);
    };
    let passes = before.and_then(|b| b.capture.as_ref()?.passes.as_ref());
    let because = |reason| Turn::Complete(read, Some(reason));
    let Some(passes) = passes.filter(|_| asked.is_none()) else {
        return because(asked.unwrap_or(PassReason::First));
    };
    if seq.saturating_sub(passes.seq) >= u64::from(every) {
        return because(PassReason::Due);
    }
    if choice.mode != CaptureMode::Cursor {
        return Turn::Wait;
    }
    match passes.safe.and_then(|safe| safe.in_line(now.horizon.as_ref())) {
        Some(time) => Turn::Cursor(time),
        None => because(PassReason::NoSafeTime),
    }
}

/// What the next run of a table starts from, once the run of `seq` has had its turn with it at the snapshot of `source`.
pub fn state_after_turn(
    choice: &Choice,
    turn: Turn,
    before: Option<&CaptureState>,
    source: &Source,
    seq: u64,
    read_at: Micros,
) -> CaptureState {
    let mut state = state_after(choice.mode, source, read_at);
    let Some(every) = choice.xid_pass_every else { return state };
    let kept = before.filter(|_| matches!(turn, Turn::Cursor(_)));
    if let Some(before) = kept {
        // The line of xids is watched up to the newest snapshot, and the pass to come starts where the last one did.
        state.watermark = before.watermark;
    }
    let last = kept.and_then(|before| before.passes.as_ref()).map_or((seq, read_at), |passes| (passes.seq, passes.at));
    let safe = source.horizon.as_ref().filter(|_| choice.mode == CaptureMode::Cursor).and_then(|h| h.safe_time());
    state.passes = Some(Passes { seq: last.0, at: last.1, every, why: choice.why.clone(), safe });
    state
}

#[cfg(test)]
mod tests {
    use super::super::{FullReason, Horizon, Look, MARGIN};
    use super::*;
    use crate::xid::XidWindow;

    const SECOND: i64 = 1_000_000;

    fn shape(fingerprint: &str) -> Shape<'_> {
        Shape { has_key: true, fingerprint, names: None }
    }

    fn source(xmin: u64, xmax: u64, seconds: i64) -> Source {
        let at = Micros(seconds * SECOND);
        let look = Look {
            at,
            server_started: Micros(0),
            began: Default::default(),
            unnamed: Default::default(),
            prepared: vec![],
        };
        Source {
            identity: "1/1/db".into(),
            in_recovery: false,
            server_version: 150_000,
            database: "db".into(),
            schema: "public".into(),
            xmin,
            xmax,
            lsn: xmax,
            tables: vec![],
            horizon: Some(Horizon::next(None, &look, 1)),
        }
    }

    fn choice(mode: CaptureMode, xid_pass_every: Option<u32>) -> Choice {
        let cursor = (mode == CaptureMode::Cursor).then(|| "last_updated".to_string());
        Choice { mode, xid_pass_every, cursor, why: "large".into() }
    }

    fn relation(capture: CaptureState) -> Relation {
        let schema =
            TableSchema { columns: vec![], key: vec!["id".into()], oid: None, partitions: vec![], attributes: vec![] };
        Relation {
            schema,
            fingerprint: "f".into(),
            rows: 1,
            refused: 0,
            last_change: 1,
            base: 1,
            capture: Some(capture),
            model: None,
            run: None,
        }
    }

    /// A table that the run of seq 1 has read in full, and what becomes of it by the runs after it.
    struct Runs {
        choice: Choice,
        relation: Relation,
    }

    impl Runs {
        fn new(choice: Choice) -> Runs {
            let full = Turn::Complete(Read::Full { reason: FullReason::First, replaces: true }, None);
            let state = state_after_turn(&choice, full, None, &source(100, 120, 1_000), 1, Micros(0));
            Runs { choice, relation: relation(state) }
        }

        fn run(&mut self, now: &Source, seq: u64) -> Turn {
            let turn = turn(&self.choice, shape("f"), Some(&self.relation), now, seq, None);
            if turn != Turn::Wait {
                let before = self.relation.capture.as_ref();
                let state = state_after_turn(&self.choice, turn, before, now, seq, now.horizon.as_ref().unwrap().at);
                self.relation.capture = Some(state);
            }
            turn
        }

        fn capture(&self) -> &CaptureState {
            self.relation.capture.as_ref().unwrap()
        }
    }

    fn window(low: u64, high: u64) -> Read {
        Read::Window(XidWindow::new(low, high).unwrap())
    }

    #[test]
    fn a_cursor_moves_its_safe_time_and_not_its_watermark_until_the_pass() {
        let mut runs = Runs::new(choice(CaptureMode::Cursor, Some(3)));
        assert_eq!(runs.run(&source(200, 220, 1_300), 2), Turn::Cursor(Micros(1_000 * SECOND - MARGIN)));
        assert_eq!((runs.capture().watermark, runs.capture().xmax, runs.capture().lsn), (100, 220, 220));
        assert_eq!(runs.run(&source(300, 320, 1_600), 3), Turn::Cursor(Micros(1_300 * SECOND - MARGIN)));
        assert_eq!(runs.capture().passes.as_ref().unwrap().due(), 4);
        assert_eq!(runs.run(&source(400, 420, 1_900), 4), Turn::Complete(window(100, 420), Some(PassReason::Due)));
        assert_eq!((runs.capture().watermark, runs.capture().passes.as_ref().unwrap().seq), (400, 4));
        assert_eq!(runs.run(&source(500, 520, 2_200), 5), Turn::Cursor(Micros(1_900 * SECOND - MARGIN)));
    }

    #[test]
    fn without_a_cursor_the_table_is_left_alone_between_passes() {
        let mut runs = Runs::new(choice(CaptureMode::Xid, Some(3)));
        assert_eq!(runs.run(&source(200, 220, 1_300), 2), Turn::Wait);
        assert_eq!(runs.run(&source(300, 320, 1_600), 3), Turn::Wait);
        assert_eq!(runs.run(&source(400, 420, 1_900), 4), Turn::Complete(window(100, 420), Some(PassReason::Due)));
        let asked =
            turn(&runs.choice, shape("f"), Some(&runs.relation), &source(500, 520, 2_200), 5, Some(PassReason::Asked));
        assert_eq!(asked, Turn::Complete(window(400, 520), Some(PassReason::Asked)));
    }

    #[test]
    fn whatever_breaks_the_line_of_xids_or_of_looks_ends_the_cursor() {
        let runs = || {
            let mut runs = Runs::new(choice(CaptureMode::Cursor, Some(9)));
            runs.run(&source(200, 220, 1_300), 2);
            runs
        };
        let full = |reason| Turn::Complete(Read::Full { reason, replaces: false }, None);
        // After the last pass, and before what the cursor has seen: the restore took versions back that the lake has.
        assert_eq!(runs().run(&source(150, 200, 1_600), 3), full(FullReason::Restored));
        let other = Source { identity: "2/1/db".into(), ..source(300, 320, 1_600) };
        assert_eq!(runs().run(&other, 3), full(FullReason::Source));
        let mut elsewhere = source(300, 320, 1_600);
        elsewhere.horizon.as_mut().unwrap().since = 3;
        assert_eq!(runs().run(&elsewhere, 3), Turn::Complete(window(100, 320), Some(PassReason::NoSafeTime)));
        let before = runs();
        let schema = turn(&before.choice, shape("g"), Some(&before.relation), &source(300, 320, 1_600), 3, None);
        assert_eq!(schema, Turn::Complete(Read::Full { reason: FullReason::Schema, replaces: true }, None));
    }

    #[test]
    fn partitions_that_came_or_went_make_a_pass_and_other_columns_a_full_read() {
        let mut runs = Runs::new(choice(CaptureMode::Cursor, Some(9)));
        let before = TableSchema { partitions: vec![8], ..runs.relation.schema.clone() };
        runs.relation.fingerprint = before.fingerprint();
        runs.relation.schema = before.clone();
        let now = source(200, 220, 1_300);
        let turn = |choice: &Choice, schema: &TableSchema| {
            decide_turn(choice, schema, None, Some(&runs.relation), &now, 2, None)
        };
        assert!(matches!(turn(&runs.choice, &before), Turn::Cursor(_)));
        let with = |partitions: &[u32]| TableSchema { partitions: partitions.to_vec(), ..before.clone() };
        for partitions in [&[8, 9][..], &[], &[9]] {
            let pass = Turn::Complete(window(100, 220), Some(PassReason::Partitions));
            assert_eq!(turn(&runs.choice, &with(partitions)), pass, "{partitions:?}");
            let every = choice(CaptureMode::Xid, None);
            assert_eq!(turn(&every, &with(partitions)), Turn::Complete(window(100, 220), None), "{partitions:?}");
        }
        let other = TableSchema { attributes: vec![4], ..with(&[8, 9]) };
        let full = Turn::Complete(Read::Full { reason: FullReason::Schema, replaces: true }, None);
        assert_eq!(turn(&runs.choice, &other), full);
    }

    #[test]
    fn a_table_that_becomes_large_starts_with_a_pass_and_one_that_does_not_is_read_as_ever() {
        let mut runs = Runs::new(choice(CaptureMode::Xid, None));
        assert_eq!(runs.run(&source(200, 220, 1_300), 2), Turn::Complete(window(100, 220), None));
        assert_eq!(runs.capture().passes, None);
        runs.choice = choice(CaptureMode::Cursor, Some(9));
        assert_eq!(runs.run(&source(300, 320, 1_600), 3), Turn::Complete(window(200, 320), Some(PassReason::First)));
        assert_eq!(runs.run(&source(400, 420, 1_900), 4), Turn::Cursor(Micros(1_600 * SECOND - MARGIN)));
        runs.choice = choice(CaptureMode::Xid, None);
        assert_eq!(runs.run(&source(500, 520, 2_200), 5), Turn::Complete(window(300, 520), None));
    }
}
