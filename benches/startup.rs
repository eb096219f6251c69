//! How long a command takes that does nothing.

use std::process::Command;

use crate::Error;
use crate::measure::{Several, run_short};
use crate::options::Options;
use crate::table::{Goal, Table};

pub(crate) fn bench(options: &Options) -> Result<Table, Error> {
    let mut taken = Several::default();
    for round in 0..=options.pairs * 5 {
        let mut starlift = Command::new(env!("CARGO_BIN_EXE_starlift"));
        starlift.arg("--version");
        let one = run_short(starlift)?;
        if round > 0 {
            taken.push(one);
        }
    }
    let mut table = Table::new("Start-up".into());
    table.alone("`starlift --version`", &taken, Some(Goal::Seconds(0.010)));
    Ok(table)
}
