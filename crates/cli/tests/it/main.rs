//! The command `starlift`, run as a person or a machine would run it.

mod bad_input;
mod canaries;
mod cli;
mod demo;
mod faults;
mod journey;
mod memory;
mod signals;
mod support;
