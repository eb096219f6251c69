//! What load has to do: found from the ledger in the warehouse and the manifests of the star.

use crate::error::{Error, Result};

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
}
