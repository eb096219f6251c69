//! What load has to do: found from the ledger in the warehouse and the manifests of the star.

use crate::error::{Error, Result};
use crate::fault;

/// The newest ledger row of this pipeline and star.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerHead {
    /// The star seq that the warehouse holds.
    pub seq: u64,
    /// SHA-256 of that manifest, as the ledger recorded it.
    pub manifest_sha256: String,
}

/// What one load does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPlan {
    /// The warehouse holds the newest star manifest.
    Nothing,
    /// Bring in the newest star state in one transaction and record its seq.
    Adopt {
        /// The seq to record.
        seq: u64,
    },
    /// Load these manifests in strict order, one transaction each.
    Follow {
        /// The first seq to load.
        first: u64,
        /// The newest seq to load.
        last: u64,
    },
}

/// Plans a load.
///
/// `head` is the ledger's newest row for this star id, `newest` the star's newest seq, and `sha256_at` gives the hash
/// of a star manifest. `adopt` is the user's word to take the warehouse over again.
///
/// Errors: Config where the ledger is ahead of the star or has another hash, which means that one of them was put back.
pub fn plan(
    head: Option<&LedgerHead>,
    newest: Option<u64>,
    sha256_at_head: Option<&str>,
    adopt: bool,
) -> Result<LoadPlan> {
    let hint = "run `starlift load --adopt` to bring the newest star state in and go on from there";
    match (head, newest) {
        (None, None) => Ok(LoadPlan::Nothing),
        (Some(_), None) => Err(Error::config("the warehouse holds manifests of a star that is empty")
            .with_hint("check `lake.transform`: it should point at the star that this warehouse was loaded from")),
        (_, Some(seq)) if adopt => Ok(LoadPlan::Adopt { seq }),
        (None, Some(seq)) => Ok(LoadPlan::Adopt { seq }),
        (Some(head), Some(seq)) if head.seq > seq => {
            Err(Error::config("the ledger of the warehouse is ahead of the star")
                .with_detail(format!("the ledger holds star manifest {}, the newest in the star is {seq}", head.seq))
                .with_hint(hint))
        }
        (Some(head), Some(_)) if sha256_at_head != Some(head.manifest_sha256.as_str()) => {
            Err(Error::config("the ledger of the warehouse and the star disagree")
                .with_detail(format!("star manifest {} is another one than the ledger recorded", head.seq))
                .with_hint(hint))
        }
        (Some(head), Some(seq)) if head.seq == seq => Ok(LoadPlan::Nothing),
        (Some(head), Some(seq)) => Ok(LoadPlan::Follow { first: head.seq + 1, last: seq }),
    }
}

impl LoadPlan {
    /// What the next transaction brings in: a seq, and whether it is the whole star state as of it.
    pub fn next(self) -> Option<(u64, bool)> {
        match self {
            LoadPlan::Nothing => None,
            LoadPlan::Adopt { seq } => Some((seq, true)),
            LoadPlan::Follow { first, .. } => Some((first, false)),
        }
    }
}

/// What a transaction of load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// To bring in the manifest that follows the ledger's head.
    Follow,
    /// To take the warehouse over.
    Adopt,
    /// To mend models of the manifest that the ledger's head names.
    Mend,
}

/// One transaction as it was planned, before it had the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned<'a> {
    /// The star seq that it brings in or mends.
    pub seq: u64,
    /// SHA-256 of that manifest.
    pub manifest_sha256: &'a str,
    /// What it is for.
    pub aim: Aim,
    /// The ledger's head that it was planned from.
    pub head: Option<&'a LedgerHead>,
}

/// What the ledger, read under the lock, says about a planned transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is its turn.
    Go,
    /// The warehouse holds this manifest.
    AlreadyLoaded,
    /// The ledger is not where the transaction was planned from.
    Moved,
}

/// Whose turn it is. `head` is the ledger's head now and `at_seq` the hash that it has for the planned seq.
pub fn turn(planned: Planned<'_>, head: Option<&LedgerHead>, at_seq: Option<&str>) -> Turn {
    let is_this = |head: &LedgerHead| head.seq == planned.seq && head.manifest_sha256 == planned.manifest_sha256;
    let may_go = match planned.aim {
        Aim::Follow => head.is_some_and(|head| head.seq.checked_add(1) == Some(planned.seq)),
        Aim::Adopt => true,
        Aim::Mend => head.is_some_and(is_this),
    };
    if (head == planned.head && may_go) || fault::planted("ledger_ignored") {
        Turn::Go
    } else if at_seq == Some(planned.manifest_sha256) && planned.aim != Aim::Mend {
        Turn::AlreadyLoaded
    } else {
        Turn::Moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> LedgerHead {
        LedgerHead { seq, manifest_sha256: "a".into() }
    }

    #[test]
    fn a_warehouse_without_ledger_is_adopted_and_one_with_it_followed() {
        assert_eq!(plan(None, Some(3), None, false).unwrap(), LoadPlan::Adopt { seq: 3 });
        assert_eq!(plan(Some(&head(1)), Some(3), Some("a"), false).unwrap(), LoadPlan::Follow { first: 2, last: 3 });
        assert_eq!(plan(Some(&head(3)), Some(3), Some("a"), false).unwrap(), LoadPlan::Nothing);
        assert_eq!(plan(None, None, None, false).unwrap(), LoadPlan::Nothing);
    }

    #[test]
    fn a_ledger_that_disagrees_stops_unless_adopted() {
        for (head_seq, sha) in [(4, None), (3, Some("b")), (2, None)] {
            assert!(plan(Some(&head(head_seq)), Some(3), sha, false).is_err());
            assert_eq!(plan(Some(&head(head_seq)), Some(3), sha, true).unwrap(), LoadPlan::Adopt { seq: 3 });
        }
    }

    fn at(seq: u64) -> LedgerHead {
        LedgerHead { seq, manifest_sha256: format!("hash {seq}") }
    }

    fn turn_of(seq: u64, from: Option<u64>, aim: Aim, now: Option<u64>, at_seq: Option<&str>) -> Turn {
        let (from, now) = (from.map(at), now.map(at));
        let planned = Planned { seq, manifest_sha256: &format!("hash {seq}"), aim, head: from.as_ref() };
        turn(planned, now.as_ref(), at_seq)
    }

    #[test]
    fn a_load_goes_only_from_the_head_that_it_was_planned_from() {
        assert_eq!(turn_of(4, Some(3), Aim::Follow, Some(3), None), Turn::Go);
        assert_eq!(turn_of(4, Some(3), Aim::Follow, Some(4), Some("hash 4")), Turn::AlreadyLoaded);
        assert_eq!(turn_of(4, Some(3), Aim::Follow, Some(6), Some("hash 4")), Turn::AlreadyLoaded);
        assert_eq!(turn_of(4, Some(3), Aim::Follow, Some(4), Some("another")), Turn::Moved);
        assert_eq!(turn_of(4, Some(3), Aim::Follow, Some(2), None), Turn::Moved);
        assert_eq!(turn_of(4, Some(3), Aim::Follow, None, None), Turn::Moved);
        // A gap is never loaded, whatever the caller planned.
        assert_eq!(turn_of(5, Some(3), Aim::Follow, Some(3), None), Turn::Moved);
        assert_eq!(turn_of(1, None, Aim::Follow, None, None), Turn::Moved);
    }

    #[test]
    fn adoption_goes_once_and_again_only_when_it_was_planned_so() {
        assert_eq!(turn_of(9, None, Aim::Adopt, None, None), Turn::Go);
        assert_eq!(turn_of(9, None, Aim::Adopt, Some(9), Some("hash 9")), Turn::AlreadyLoaded);
        assert_eq!(turn_of(9, Some(9), Aim::Adopt, Some(9), Some("hash 9")), Turn::Go);
        assert_eq!(turn_of(9, Some(12), Aim::Adopt, Some(12), Some("another")), Turn::Go);
        assert_eq!(turn_of(9, None, Aim::Adopt, Some(12), Some("another")), Turn::Moved);
    }

    #[test]
    fn what_is_mended_is_what_the_ledger_holds_and_nothing_else() {
        assert_eq!(turn_of(4, Some(4), Aim::Mend, Some(4), Some("hash 4")), Turn::Go);
        assert_eq!(turn_of(4, Some(4), Aim::Mend, Some(5), Some("hash 4")), Turn::Moved);
        assert_eq!(turn_of(4, Some(4), Aim::Mend, None, None), Turn::Moved);
        let head = at(4);
        let other = Planned { seq: 4, manifest_sha256: "another", aim: Aim::Mend, head: Some(&head) };
        assert_eq!(turn(other, Some(&head), Some("another")), Turn::Moved);
    }
}
