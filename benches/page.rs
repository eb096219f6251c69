//! docs/performance.md: each table between two marks, so that parts can be measured one by one.

use std::path::Path;
use std::process::Command;

use starlift_sandbox::Cluster;

use crate::Error;
use crate::table::Table;

/// The machine and the versions, in a line.
pub(crate) fn machine(cluster: &Cluster) -> Result<String, Error> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    let cores = std::thread::available_parallelism()?;
    let said = |command: &mut Command| -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&command.output()?.stdout).trim().to_string())
    };
    let postgres = said(Command::new(cluster.bin_dir().join("postgres")).arg("--version"))?;
    let starlift = said(Command::new(env!("CARGO_BIN_EXE_starlift")).arg("--version"))?;
    let built = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
    let date = said(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?;
    Ok(format!(
        "{date}: {cores} cores of {cpu}, {:.0} GB, {postgres} on the same machine with fsync off, {starlift} ({built})",
        kilobytes.unwrap_or(0) as f64 / 1e6
    ))
}

/// Writes a table over the one of the same part, or at the end.
pub(crate) fn keep(path: &Path, part: &str, machine: &str, table: &Table) -> Result<(), Error> {
    let page = std::fs::read_to_string(path).unwrap_or_else(|_| "# Performance\n".to_string());
    let (begin, end) = (format!("<!-- measured: {part} -->"), format!("<!-- end: {part} -->"));
    let section = format!("{begin}\n{}\n*{machine}.*\n{end}", table.text());
    let page = match (page.find(&begin), page.find(&end)) {
        (Some(from), Some(to)) if from < to => {
            let (before, rest) = page.split_at(from);
            let after = rest.get(to - from + end.len()..).unwrap_or_default();
            format!("{before}{section}{after}")
        }
        _ => format!("{}\n\n{section}\n", page.trim_end()),
    };
    std::fs::write(path, page)?;
    Ok(())
}
