//! Load against a private PostgreSQL: small tables of the tests' own, and the warehouse of ToteSys.

mod adoption;
mod aside;
mod calendar;
mod columns;
mod dimensions;
mod facts;
mod fixture;
mod foreign_keys;
mod histories;
mod misfits;
mod outcomes;
mod support;
mod together;
mod totesys;
mod warehouse;
