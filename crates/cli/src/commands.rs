//! The commands, a file for each: read the arguments, call the stages, show what came back.

pub(crate) mod completions;
pub(crate) mod doctor;
mod document;
mod event;
pub(crate) mod every;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod lake;
mod mermaid;
pub(crate) mod models;
pub(crate) mod plan;
pub(crate) mod quarantine;
pub(crate) mod report_file;
pub(crate) mod run;
pub(crate) mod stage;
pub(crate) mod status;
mod summary;
pub(crate) mod verdicts;
pub(crate) mod verify;
pub(crate) mod warehouse;
