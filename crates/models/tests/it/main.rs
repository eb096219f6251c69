//! What a user of the crate sees: models in, rows, refusals and errors out.

mod bounds;
mod errors;
mod exactness;
mod incremental;
mod meaning;
mod outside;
mod refusals;
mod support;
mod ties;
mod totesys;
