//! What a transaction of load is for, and what that means for a model. Pure.

use std::collections::BTreeSet;

use starlift_core::load_plan::Aim;

/// Why a star manifest enters the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// It is the next one: each model brings what the manifest changed, these their whole state.
    Follow(&'a BTreeSet<String>),
    /// The warehouse is taken over: each model brings its whole state.
    Adopt,
    /// The warehouse holds it, and these models are mended: they bring their whole state, the others nothing.
    Mend(&'a BTreeSet<String>),
}

impl Purpose<'_> {
    /// What it is in the plan.
    pub(crate) fn aim(self) -> Aim {
        match self {
            Purpose::Follow(_) => Aim::Follow,
            Purpose::Adopt => Aim::Adopt,
            Purpose::Mend(_) => Aim::Mend,
        }
    }

    /// Whether the rows that a model brings are its whole state, so that other keys of its table are to be retracted.
    pub(crate) fn brings_state_of(self, model: &str) -> bool {
        match self {
            Purpose::Adopt => true,
            Purpose::Follow(whole) | Purpose::Mend(whole) => whole.contains(model),
        }
    }
}
