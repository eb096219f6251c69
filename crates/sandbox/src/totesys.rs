//! ToteSys: the business of Terrific Totes, its history, its days, and what its star schema must contain.
//!
//! Everything follows from a seed: no clock, no entropy, no sequence of the database. A database that went through the
//! same calls is the same, to the last row, on any machine; see [`fingerprint`].

mod change;
mod compare;
mod day;
mod history;
mod instant;
mod masters;
mod open_transaction;
mod oracle;
mod orders;
mod plan;
mod project;
mod random;
mod roles;
mod rows;
mod sales;
mod schema;
mod sink;
mod words;
mod zoo;

pub use change::{Change, Effect};
pub use compare::{compare, compare_all};
pub use day::{Day, DayReport, live};
pub use history::{History, HistoryReport};
pub use open_transaction::OpenTransaction;
pub use oracle::{Calendar, STAR_TABLES, expected};
pub use project::project_files;
pub use roles::{create_loader, create_reader};
pub use sales::{Month, orders_present, sales_by_month};
pub use schema::{SOURCE_SQL, SOURCE_TABLES, WAREHOUSE_SQL, create_source, create_warehouse, fingerprint};
pub use zoo::{Habit, HabitReport, Zoo, ZooReport};
