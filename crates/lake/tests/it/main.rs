//! The lake over real folders, memory, a store that fails on purpose, and a small S3 on loopback.

mod claims_and_commits;
mod costs;
mod counting;
mod data_files;
mod differences;
mod faults;
mod fixture;
mod folders;
mod histories;
mod manifest_chains;
mod quarantines;
mod s3;
mod states;
mod types;
mod upkeep;
mod vacuum;
