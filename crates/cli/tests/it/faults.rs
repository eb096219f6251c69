//! Faults: the program is ended at named points and at random times, its databases and its network fail, its disk is full,
//! and bugs are planted in it. After each fault an undisturbed run must come to what a run without faults would have.
//!
//! Every test here has a short form, which runs by itself, and a long one: see [`amount`] and `make soak`.

mod amount;
mod crash_points;
mod disk;
mod kills;
mod network;
mod overlap;
mod planted;
mod servers;
pub(crate) mod shop;
mod shop_sql;
