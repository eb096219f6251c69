//! What one ingest reads from each table: decided here, from the state in the manifest and the source at its snapshot.

mod choice;
mod horizon;
mod turn;

pub use self::choice::{Choice, DEFAULT_CURSOR, DEFAULT_LARGE_FROM_MB, DEFAULT_XID_PASS_EVERY, Offer, Wish, choose};
pub use self::horizon::{Horizon, Look, MARGIN, SafeTime};
pub use self::turn::{PassReason, Turn, decide_turn, state_after_turn};

use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::manifest::{CaptureState, Manifest, Relation, Source};
use crate::time::Micros;
use crate::wal;
use crate::xid::{MAX_SPAN, XidWindow};

/// How a table is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMode {
    /// Read the rows whose `xmin` is in the window; find deletes by count and key reconcile.
    Xid,
    /// Read the rows that are stamped at or after a safe time; now and then an xid pass finds what stamps do not show.
    Cursor,
    /// Read the whole table in every run: for views and tables without a key.
    Full,
    /// Leave the table alone.
    None,
}

impl CaptureMode {
    /// The word that configuration and manifests use.
    pub fn name(self) -> &'static str {
        match self {
            CaptureMode::Xid => "xid",
            CaptureMode::Cursor => "cursor",
            CaptureMode::Full => "full",
            CaptureMode::None => "none",
        }
    }
}

/// Why a table is read in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullReason {
    /// The lake has no state of it.
    First,
    /// Its columns, key, labels or settings changed.
    Schema,
    /// Labels of its enums or fields of its composite types were written since, and may have been others meanwhile.
    Names,
    /// The state came from another cluster, database or timeline.
    Source,
    /// The source went back: it was restored from a backup.
    Restored,
    /// The watermark is 2^31 or more transactions behind.
    Behind,
    /// It is captured in full by setting, or because it has no key.
    Mode,
    /// A person asked for it: the lake differed from the source.
    Repair,
    /// The state held a key twice, so that nothing could be compared with it.
    Doubled,
}

impl FullReason {
    /// The words that a manifest, `plan` and the run's card show.
    pub fn text(self) -> &'static str {
        match self {
            FullReason::First => "first read",
            FullReason::Schema => "schema changed",
            FullReason::Names => "labels or fields changed",
            FullReason::Source => "source changed",
            FullReason::Restored => "source was restored",
            FullReason::Behind => "watermark too far behind",
            FullReason::Mode => "captured in full",
            FullReason::Repair => "repair",
            FullReason::Doubled => "a key was in the lake twice",
        }
    }
}

/// How one ingest reads one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The rows of a window; the state is kept.
    Window(XidWindow),
    /// Every row. The state is replaced where `replaces`, else compared with what was read.
    Full {
        /// Why.
        reason: FullReason,
        /// Whether what is read replaces the state even where rows are equal, because they are stored otherwise.
        replaces: bool,
    },
}

impl Read {
    /// The same read, widened to every row, which is compared with the state: what differs for whatever reason is
    /// written again. A read that is full anyway stays as it is.
    pub fn repairing(self) -> Read {
        match self {
            Read::Window(_) => Read::Full { reason: FullReason::Repair, replaces: false },
            full @ Read::Full { .. } => full,
        }
    }
}

/// Whether the source at this snapshot may follow the newest manifest.
///
/// A standby whose WAL position is behind the last run's lags: Unavailable, to be tried again. On a primary the same
/// means a restore, which [`decide_read`] answers with full reads.
///
/// `lsn_before` is the position that was read before the snapshot; none where it cannot be read, which is a Permission error where
/// the last run's could. The one that `now` holds was read after it: a standby
/// that is catching up may replay past the last run's position between the two, and its snapshot would still be older.
pub fn check_lag(newest: Option<&Manifest>, now: &Source, lsn_before: Option<u64>) -> Result<()> {
    let Some(before) = newest.and_then(Manifest::source) else { return Ok(()) };
    // Manifests of older versions have the position at which a record would begin.
    let reached = wal::record_end(before.lsn);
    if !now.in_recovery || before.identity != now.identity || reached == 0 {
        return Ok(());
    }
    let Some(lsn_before) = lsn_before else {
        return Err(Error::new(ErrorKind::Permission, "the role may not see how far the standby has replayed")
            .with_detail("without its position nobody can tell whether it is behind the last run")
            .with_hint("let a superuser run `grant execute on function pg_catalog.pg_last_wal_replay_lsn() to public` on the primary, or point the source at the primary"));
    };
    if lsn_before < reached {
        return Err(Error::new(ErrorKind::Unavailable, "the standby is behind the last run")
            .with_detail(format!("it has replayed {} bytes less than the last ingest saw", reached - lsn_before))
            .with_hint("run again when it has caught up, or point the source at the primary"));
    }
    Ok(())
}

/// What a table is like at a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape<'a> {
    /// Whether it has a key.
    pub has_key: bool,
    /// The [fingerprint](crate::TableSchema::fingerprint) of its schema and settings.
    pub fingerprint: &'a str,
    /// Which version the labels and fields have that its values show; none where they show none.
    pub names: Option<&'a str>,
}

/// Whether labels and fields are the ones that a state was read with.
///
/// Renaming them waits for no lock of ours, and comes up in the middle of a snapshot: a run that is under way then reads names which its
/// catalog does not show. A state from before this was kept counts as equal.
pub fn same_names(state: &CaptureState, now: Option<&str>) -> bool {
    let known = state.names.as_deref().zip(now);
    fault::planted("names_ignored") || known.is_none_or(|(before, now)| before == now)
}

/// How to read a table which is like this now, [but for partitions](crate::schema::TableSchema::but_for_partitions), and whose state is
/// `before`.
pub fn decide_read(mode: CaptureMode, shape: Shape, before: Option<&Relation>, now: &Source) -> Read {
    let full = |reason, replaces| Read::Full { reason, replaces };
    let Some((relation, state)) = before.and_then(|r| Some((r, r.capture.as_ref()?))) else {
        return full(FullReason::First, true);
    };
    if relation.fingerprint != shape.fingerprint {
        return full(FullReason::Schema, true);
    }
    if mode == CaptureMode::Full || !shape.has_key {
        return full(FullReason::Mode, !shape.has_key);
    }
    match window(state, now) {
        // As with another shape: so that a large table is read in chunks.
        Ok(_) if !same_names(state, shape.names) => full(FullReason::Names, true),
        Ok(window) => Read::Window(window),
        Err(reason) => full(reason, false),
    }
}

/// The window that follows from a state, or why none does.
pub(crate) fn window(state: &CaptureState, now: &Source) -> Result<XidWindow, FullReason> {
    if state.identity != now.identity {
        return Err(FullReason::Source);
    }
    if now.xmax < state.xmax || now.lsn < wal::record_end(state.lsn) {
        return Err(FullReason::Restored);
    }
    if now.xmax - state.watermark.min(now.xmax) >= MAX_SPAN {
        return Err(FullReason::Behind);
    }
    XidWindow::new(state.watermark, now.xmax).ok_or(FullReason::Restored)
}

/// What the next run of a table starts from, once a run has read it at the snapshot of `source`.
///
/// The watermark is the snapshot's `xmin`, never its `xmax`: transactions that were running between the two may still
/// commit. The names are for the caller to fill.
pub fn state_after(mode: CaptureMode, source: &Source, read_at: Micros) -> CaptureState {
    CaptureState {
        mode: mode.name().into(),
        identity: source.identity.clone(),
        watermark: if fault::planted("watermark_is_xmax") { source.xmax } else { source.xmin },
        xmax: source.xmax,
        lsn: source.lsn,
        read_at,
        names: None,
        passes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableSchema;

    fn source(xmin: u64, xmax: u64, lsn: u64) -> Source {
        Source {
            identity: "1/1/db".into(),
            in_recovery: false,
            server_version: 150000,
            database: "db".into(),
            schema: "public".into(),
            xmin,
            xmax,
            lsn,
            tables: vec![],
            horizon: None,
        }
    }

    fn state(watermark: u64, xmax: u64) -> Relation {
        Relation {
            schema: TableSchema {
                columns: vec![],
                key: vec!["id".into()],
                oid: None,
                partitions: vec![],
                attributes: vec![],
            },
            fingerprint: "f".into(),
            rows: 1,
            refused: 0,
            last_change: 1,
            base: 1,
            capture: Some(CaptureState {
                mode: "xid".into(),
                identity: "1/1/db".into(),
                watermark,
                xmax,
                lsn: 0,
                read_at: Micros(0),
                names: None,
                passes: None,
            }),
            model: None,
            run: None,
        }
    }

    fn shape(fingerprint: &str) -> Shape<'_> {
        Shape { has_key: true, fingerprint, names: Some("n") }
    }

    fn decide(before: &Relation, now: &Source) -> Read {
        decide_read(CaptureMode::Xid, shape("f"), Some(before), now)
    }

    fn manifest(source: Source) -> Manifest {
        let draft = crate::succession::Draft {
            pipeline: "p".into(),
            new_id: "lake".into(),
            run_id: "r".into(),
            write_id: "w".into(),
            version: "0".into(),
            at: Micros(5),
            started: Micros(1),
            finished: Micros(2),
            origin: crate::manifest::Origin::Ingest { source },
            relations: Default::default(),
            upkept: Default::default(),
            compaction: false,
        };
        crate::succession::next(None, Default::default(), draft)
    }

    #[test]
    fn a_standby_lags_until_it_had_replayed_the_last_run_before_its_snapshot() {
        let newest = manifest(source(100, 120, 5_000));
        let standby = |lsn| Source { in_recovery: true, ..source(90, 110, lsn) };
        // It replayed past the last run between its snapshot and the look at its position after it.
        let error = check_lag(Some(&newest), &standby(5_100), Some(4_900)).unwrap_err();
        assert_eq!(
            (error.kind(), error.detail().as_deref()),
            (ErrorKind::Unavailable, Some("it has replayed 100 bytes less than the last ingest saw"))
        );
        assert!(check_lag(Some(&newest), &standby(4_900), Some(4_800)).is_err());
        assert!(check_lag(Some(&newest), &standby(5_100), Some(5_000)).is_ok());
        assert!(check_lag(None, &standby(1), Some(1)).is_ok());
        // A position that cannot be read is none, and no lag of everything that ever was.
        let hidden = check_lag(Some(&newest), &standby(0), None).unwrap_err();
        assert_eq!(hidden.kind(), ErrorKind::Permission);
        assert!(hidden.hint().unwrap().contains("pg_last_wal_replay_lsn"));
        assert!(check_lag(Some(&manifest(source(100, 120, 0))), &standby(0), None).is_ok(), "it never could be read");
        // Where a record would have begun behind the header of a page.
        let at_rest = manifest(source(100, 120, 3 * 8_192 + 24));
        assert!(check_lag(Some(&at_rest), &standby(3 * 8_192), Some(3 * 8_192)).is_ok());
        assert!(check_lag(Some(&at_rest), &standby(3 * 8_192), Some(3 * 8_192 - 8)).is_err());
        // Another timeline has positions of its own, and a primary does not lag: it was restored.
        let elsewhere = Source { identity: "1/2/db".into(), ..standby(4_000) };
        assert!(check_lag(Some(&newest), &elsewhere, Some(4_000)).is_ok());
        assert!(check_lag(Some(&newest), &source(90, 110, 4_000), Some(4_000)).is_ok());
    }

    #[test]
    fn each_table_finds_out_for_itself_that_the_source_went_back() {
        let restored = source(125, 130, 4_000);
        let read_at = |lsn| {
            let mut relation = state(100, 120);
            relation.capture.as_mut().unwrap().lsn = lsn;
            relation
        };
        let full = Read::Full { reason: FullReason::Restored, replaces: false };
        assert_eq!(decide(&read_at(5_000), &restored), full);
        // A run of other tables has been there since, and its manifest says 4,000: this table was not among them.
        assert_eq!(decide(&read_at(5_000), &Source { lsn: 4_900, ..restored.clone() }), full);
        assert!(matches!(decide(&read_at(4_000), &restored), Read::Window(_)));
        let kept = state_after(CaptureMode::Xid, &restored, Micros(1));
        assert_eq!((kept.watermark, kept.xmax, kept.lsn), (125, 130, 4_000));
    }

    #[test]
    fn the_window_starts_at_the_watermark_not_at_the_last_xmax() {
        let read = decide(&state(100, 120), &source(130, 140, 0));
        assert_eq!(read, Read::Window(XidWindow::new(100, 140).unwrap()));
    }

    #[test]
    fn a_repair_reads_everything_and_compares_it_with_the_state() {
        let window = decide(&state(100, 120), &source(130, 140, 0));
        assert_eq!(window.repairing(), Read::Full { reason: FullReason::Repair, replaces: false });
        let keyless = Read::Full { reason: FullReason::Mode, replaces: true };
        assert_eq!(keyless.repairing(), keyless);
    }

    #[test]
    fn whatever_breaks_the_line_of_xids_means_a_full_read() {
        let reason = |read| match read {
            Read::Full { reason, .. } => reason,
            Read::Window(_) => panic!("a window"),
        };
        let before = state(100, 120);
        let mut other = source(130, 140, 0);
        other.identity = "2/1/db".into();
        assert_eq!(reason(decide(&before, &other)), FullReason::Source);
        assert_eq!(reason(decide(&before, &source(100, 119, 0))), FullReason::Restored);
        assert_eq!(reason(decide(&before, &source(1 << 32, 100 + MAX_SPAN, 0))), FullReason::Behind);
        assert_eq!(
            reason(decide_read(CaptureMode::Xid, shape("g"), Some(&before), &source(130, 140, 0))),
            FullReason::Schema
        );
        assert_eq!(reason(decide_read(CaptureMode::Xid, shape("f"), None, &source(130, 140, 0))), FullReason::First);
        let keyless = Shape { has_key: false, ..shape("f") };
        assert_eq!(
            decide_read(CaptureMode::Xid, keyless, Some(&before), &source(130, 140, 0)),
            Read::Full { reason: FullReason::Mode, replaces: true }
        );
    }

    #[test]
    fn names_that_were_written_since_mean_one_full_read_however_long_a_writer_is_open() {
        // The writer of id 100 is open all the time, and the label came by id 1,000.
        let read_with = |names: Option<&str>| {
            let mut relation = state(100, 1_100);
            relation.capture.as_mut().unwrap().names = names.map(str::to_string);
            decide(&relation, &source(100, 1_200, 0))
        };
        let window = Read::Window(XidWindow::new(100, 1_200).unwrap());
        assert_eq!(read_with(Some("before")), Read::Full { reason: FullReason::Names, replaces: true });
        assert_eq!(read_with(Some("n")), window);
        // A manifest from before names were kept.
        assert_eq!(read_with(None), window);
        // Whatever breaks the line comes first.
        let mut relation = state(100, 1_100);
        relation.capture.as_mut().unwrap().names = Some("before".into());
        let restored = Read::Full { reason: FullReason::Restored, replaces: false };
        assert_eq!(decide(&relation, &source(100, 1_000, 0)), restored);
    }
}
