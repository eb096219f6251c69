//! Planted bugs, each of which has to be caught: in the product itself (`core::fault::planted`), or where the simulator
//! stands in for a decision of the product.

/// One bug. Where another layer would hide it, that layer is left out with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The newest data file's name says how far the lake is complete, whether a manifest names it or not.
    StateFromNames,
    /// The next window starts at the snapshot's `xmax`.
    WatermarkIsXmax,
    /// A run that reads some tables moves the watermark of all.
    OneWatermark,
    /// Transaction ids are compared as if they never wrapped.
    NaiveXids,
    /// Rows are new where the last snapshot's list of transactions did not have theirs; subtransactions are not in it.
    TopLevelXids,
    /// Counts are not compared, so deletes are not looked for.
    CountsIgnored,
    /// Readers pass tombstones over.
    TombstonesIgnored,
    /// An altered table is read by its window.
    FingerprintIgnored,
    /// Another timeline, a lower WAL position or a lower `xmax` changes nothing.
    RestoreIgnored,
    /// How far a standby is, is looked at after the snapshot.
    LagCheckedAfter,
    /// A new base does not hide what was before it.
    BaseIgnored,
    /// A manifest is put over one that is there.
    ManifestOverwritten,
    /// "Already exists" is taken for one's own success.
    ExistsIsSuccess,
    /// A put whose outcome is not known is repeated under the next seq.
    AmbiguousIsFailure,
    /// A superseded run puts what it has on top of the winner's manifest.
    SupersededGoesOn,
    /// No claim is made (and uploads replace what is there, as those in parts do).
    ClaimIgnored,
    /// A run that comes again with its id does everything again.
    RunIdIgnored,
    /// Transform reads the newest state of each input when it comes to it.
    InputsReadNow,
    /// Transform says that it covers whatever is newest when it commits.
    CoversNewest,
    /// Load does not look at the ledger again under the lock.
    TurnIgnored,
    /// Load brings in the newest star manifest alone (and does not look under the lock).
    OnlyNewestLoaded,
    /// The ledger's row has a transaction of its own.
    LedgerAfterCommit,
    /// Dimensions and facts have a transaction each.
    FactsAfterCommit,
    /// A COMMIT whose outcome is not known is sent again (and facts are not compared).
    UnknownSentAgain,
    /// Facts are appended whether they differ or not.
    FactsNotCompared,
    /// Retractions are not loaded.
    RetractionsIgnored,
    /// An adopted warehouse keeps keys that the star does not have.
    AdoptionKeepsAll,
    /// Vacuum removes whatever no manifest names yet.
    VacuumByAge,
    /// Vacuum removes what is not live as of the newest manifest.
    VacuumKeepsLive,
    /// What is merged holds the oldest entry of each key.
    MergedKeepsOldest,
}

impl Planted {
    pub(crate) const ALL: [Planted; 30] = [
        Planted::StateFromNames,
        Planted::WatermarkIsXmax,
        Planted::OneWatermark,
        Planted::NaiveXids,
        Planted::TopLevelXids,
        Planted::CountsIgnored,
        Planted::TombstonesIgnored,
        Planted::FingerprintIgnored,
        Planted::RestoreIgnored,
        Planted::LagCheckedAfter,
        Planted::BaseIgnored,
        Planted::ManifestOverwritten,
        Planted::ExistsIsSuccess,
        Planted::AmbiguousIsFailure,
        Planted::SupersededGoesOn,
        Planted::ClaimIgnored,
        Planted::RunIdIgnored,
        Planted::InputsReadNow,
        Planted::CoversNewest,
        Planted::TurnIgnored,
        Planted::OnlyNewestLoaded,
        Planted::LedgerAfterCommit,
        Planted::FactsAfterCommit,
        Planted::UnknownSentAgain,
        Planted::FactsNotCompared,
        Planted::RetractionsIgnored,
        Planted::AdoptionKeepsAll,
        Planted::VacuumByAge,
        Planted::VacuumKeepsLive,
        Planted::MergedKeepsOldest,
    ];

    /// The name under which the product itself has this bug, where it has.
    pub(crate) fn in_product(self) -> Option<&'static str> {
        match self {
            Planted::WatermarkIsXmax => Some("watermark_is_xmax"),
            Planted::NaiveXids => Some("naive_xid"),
            Planted::ExistsIsSuccess => Some("exists_is_success"),
            Planted::ClaimIgnored => Some("claim_ignored"),
            Planted::RunIdIgnored => Some("run_id_ignored"),
            Planted::TurnIgnored => Some("ledger_ignored"),
            Planted::MergedKeepsOldest => Some("merged_keeps_oldest"),
            _ => None,
        }
    }
}
