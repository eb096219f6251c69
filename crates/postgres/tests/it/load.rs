//! Load against a private PostgreSQL: small tables of the tests' own, and the warehouse of ToteSys.

mod adoption;
mod aside;
mod bulk;
mod calendar;
mod columns;
mod dimensions;
mod facts;
pub(crate) mod fixture;
mod histories;
mod kept;
mod keys;
mod misfits;
mod outcomes;
mod refusals;
mod support;
mod together;
mod totesys;
mod twins;
mod warehouse;
