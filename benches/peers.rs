//! What a user would otherwise pick for the extract: each tool in a Python environment of the project's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use starlift_sandbox::Cluster;

use crate::Error;
use crate::extract::DATABASE;
use crate::measure::{Several, run};
use crate::options::Options;
use crate::table::Table;

/// The tools of benches/peers.py, with what they make of money.
const TOOLS: [(&str, &str); 4] = [
    ("duckdb", "DuckDB; money as double"),
    ("connectorx", "ConnectorX and pyarrow"),
    ("adbc", "ADBC and pyarrow"),
    ("dlt", "dlt, pyarrow backend"),
];

/// Times that a slow tool is measured.
const MOST: usize = 3;

/// How a tool is run, each time anew; what is missing, where it cannot be.
pub(crate) fn command<'a>(
    cluster: &Cluster,
    tool: &'a str,
    dir: &Path,
) -> Result<impl Fn() -> Command + use<'a>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/peers.py");
    let python = python()?;
    let (url, out) = (cluster.superuser_url(DATABASE), dir.join(tool));
    let make = move |verb: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).args([verb, tool, &url]).arg(&out);
        command
    };
    let check = make("check").output().map_err(|e| e.to_string())?;
    if !check.status.success() {
        let said = String::from_utf8_lossy(&check.stderr);
        return Err(format!("{tool}: {}", said.lines().last().unwrap_or("it does not start")));
    }
    Ok(move || make("run"))
}

fn python() -> Result<PathBuf, String> {
    // `make bench` makes the environment and names it.
    let python = std::env::var_os("STARLIFT_BENCH_PYTHON").map(PathBuf::from);
    python.filter(|path| path.exists()).ok_or_else(|| "the Python environment is missing: run `make bench`".to_string())
}

pub(crate) fn bench(cluster: &Cluster, options: &Options) -> Result<Table, Error> {
    let dir = tempfile::tempdir()?;
    let mut limit = Several::default();
    let mut table = Table::new(format!("Other tools: `payment`, {} rows, to zstd Parquet", options.rows));
    let mut lines = Vec::new();
    for (tool, name) in TOOLS {
        match command(cluster, tool, dir.path()) {
            Err(missing) => table.note(format!("Not measured: {missing}")),
            Ok(command) => {
                let (mut taken, mut beside) = (Several::default(), Several::default());
                for _ in 0..options.pairs.min(MOST) {
                    let mut psql = Command::new(cluster.bin_dir().join("psql"));
                    let copy = "copy payment to stdout (format binary)";
                    psql.args(["-X", "-q", "-c", copy, &cluster.superuser_url(DATABASE)]);
                    let one = run(psql)?;
                    beside.push(one);
                    limit.push(one);
                    taken.push(run(command())?);
                }
                lines.push((name, taken, beside));
            }
        }
    }
    table.limit("limit: `psql` COPY BINARY to nowhere", &limit);
    for (name, taken, beside) in lines {
        table.line(name, &taken, &beside, None);
    }
    Ok(table)
}
