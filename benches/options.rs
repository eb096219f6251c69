//! What is measured, and how much of it.

use std::path::{Path, PathBuf};

use crate::Error;

/// The parts in their order.
pub(crate) const PARTS: [&str; 7] = ["startup", "extract", "peers", "load", "first", "changes", "history"];

/// How windows are found in the runs of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By one scan of each table.
    Xid,
    /// By an index on the time of the last change.
    Cursor,
}

impl Mode {
    /// As the setting `capture` says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Xid => "xid",
            Mode::Cursor => "cursor",
        }
    }
}

pub(crate) struct Options {
    /// Rows of `payment` for the extract.
    pub(crate) rows: u64,
    /// Rows of `fact_sales_order` for the load.
    pub(crate) load_rows: u64,
    /// Rows of all tables of ToteSys together.
    pub(crate) sizes: Vec<u64>,
    pub(crate) modes: Vec<Mode>,
    /// Runs of the history.
    pub(crate) runs: usize,
    /// Measurements of each thing, after one that does not count.
    pub(crate) pairs: usize,
    pub(crate) parts: Vec<String>,
    /// The page that keeps the tables.
    pub(crate) write: Option<PathBuf>,
}

impl Options {
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Options, Error> {
        let mut options = Options {
            rows: 3_000_000,
            load_rows: 2_000_000,
            sizes: vec![500_000, 5_000_000, 9_000_000],
            modes: vec![Mode::Xid],
            runs: 1_000,
            pairs: 5,
            parts: Vec::new(),
            write: None,
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rows" => options.rows = count(&value()?)?,
                "--load-rows" => options.load_rows = count(&value()?)?,
                "--sizes" => options.sizes = value()?.split(',').map(count).collect::<Result<_, _>>()?,
                "--modes" => options.modes = value()?.split(',').map(mode).collect::<Result<_, _>>()?,
                "--runs" => options.runs = value()?.parse()?,
                "--pairs" => options.pairs = value()?.parse()?,
                // Cargo runs benchmarks in the folder of their crate.
                "--write" => options.write = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(value()?)),
                "--short" => options.shorten(),
                // Cargo adds it.
                "--bench" => {}
                part if PARTS.contains(&part) => options.parts.push(word),
                other => return Err(format!("`{other}` is unknown: see benches/README.md").into()),
            }
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(str::to_string).to_vec();
        }
        Ok(options)
    }

    /// A tenth of everything: minutes instead of an hour, and figures that are worth less.
    fn shorten(&mut self) {
        self.rows /= 10;
        self.load_rows /= 10;
        self.sizes = vec![50_000, 500_000];
        self.runs = 100;
        self.pairs = 3;
    }

    pub(crate) fn wants(&self, part: &str) -> bool {
        self.parts.iter().any(|name| name == part)
    }
}

/// `500000`, `500k` or `9m`.
fn count(text: &str) -> Result<u64, Error> {
    let (digits, factor) = match text.strip_suffix('m') {
        Some(digits) => (digits, 1_000_000.0),
        None => text.strip_suffix('k').map_or((text, 1.0), |digits| (digits, 1_000.0)),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no number of rows"))?;
    Ok((number * factor).round() as u64)
}

fn mode(text: &str) -> Result<Mode, Error> {
    [Mode::Xid, Mode::Cursor].into_iter().find(|mode| mode.name() == text).ok_or(format!("`{text}` is no mode").into())
}
