//! What can be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use starlift::config::Overrides;

use crate::duration;

/// Lifts an operational PostgreSQL database into a star-schema warehouse: what changed, exactly, and nothing twice.
#[derive(Parser, Debug)]
#[command(
    name = "starlift",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "New here? `starlift demo` shows all of it on a private PostgreSQL in under a minute; `starlift init` makes a project of your own.\n\n\
                  Exit codes:\n  \
                  0   done, or nothing to do\n  \
                  1   something to mend, or a difference found\n  \
                  2   wrong usage\n  \
                  70  a bug\n  \
                  75  something is away: try again\n  \
                  130 interrupted, 143 by SIGTERM"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The project's folder [default: STARLIFT_PROJECT, else the current directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Who reads the log on stderr: people or machines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Log more: what each stage does; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to colour; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// Who reads the log.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    // Lines. Plain comments, because clap would make a list of doc comments.
    Text,
    // One JSON object per line.
    Json,
}

/// When to colour.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Color {
    // On a terminal.
    Auto,
    // Also into a file or pipe.
    Always,
    // Not at all.
    Never,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a new project: its settings, and examples of the credentials
    Init(Init),
    /// Check that everything is there that a run needs, and say what mends it
    Doctor(Doctor),
    /// Show what a run would do now; nothing is written
    Plan(Inspect),
    /// Run the three stages, once or on a beat
    Run(Run),
    /// Copy what changed in the source into the lake
    Ingest(Stage),
    /// Evaluate the models over what is new in the lake
    Transform(Stage),
    /// Bring what is new in the star into the warehouse
    Load(Load),
    /// Compare the warehouse with the source, row by row
    Verify(Verify),
    /// Show where each table and model is; the source is not asked
    Status(Inspect),
    /// List the runs that committed, newest first
    History(History),
    /// Show what each model reads and refers to
    Models(Models),
    /// Create what is missing in the warehouse, or clear it
    #[command(subcommand, arg_required_else_help = true)]
    Warehouse(Warehouse),
    /// Look after the lake and the star
    #[command(subcommand, arg_required_else_help = true)]
    Lake(Lake),
    /// Rows that cannot be carried: list them, go on without them, or try them again
    #[command(subcommand, arg_required_else_help = true)]
    Quarantine(Quarantine),
    /// See it work: a private PostgreSQL, a business with a history, and its next days
    Demo(Demo),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where databases and stores are, over environment and file.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Places (over environment and starlift.toml)")]
pub(crate) struct Places {
    /// URL of the source; other users of this machine may see it, STARLIFT_SOURCE_URL they may not
    #[arg(long, value_name = "URL")]
    pub(crate) source_url: Option<String>,
    /// URL of the warehouse; other users of this machine may see it, STARLIFT_WAREHOUSE_URL they may not
    #[arg(long, value_name = "URL")]
    pub(crate) warehouse_url: Option<String>,
    /// Where the lake is: a folder or URL
    #[arg(long, value_name = "PLACE")]
    pub(crate) lake_ingest: Option<String>,
    /// Where the star is: a folder or URL
    #[arg(long, value_name = "PLACE")]
    pub(crate) lake_transform: Option<String>,
}

impl Places {
    /// The same for the stages.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            source_url: self.source_url.clone(),
            warehouse_url: self.warehouse_url.clone(),
            lake_ingest: self.lake_ingest.clone(),
            lake_transform: self.lake_transform.clone(),
        }
    }
}

/// For people or for machines.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct Print {
    /// Print one JSON object instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
}

/// `init`.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder, which is made where it is missing [default: the project's folder]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) print: Print,
}

/// A command that looks and takes nothing more.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `doctor`.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Print the SQL that makes the two roles of this project, each with the least that it needs, and check nothing
    #[arg(long, conflicts_with = "json")]
    pub(crate) grants: bool,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `run`.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Run again and again on this beat, such as 30s, 5m or 1h; ends with SIGTERM or Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) every: Option<Duration>,
    /// The run's id: the same id again returns the result of the first time [default: made up]
    #[arg(long, value_name = "ID", value_parser = run_id, conflicts_with = "every")]
    pub(crate) run_id: Option<String>,
    /// Give up after this time, such as 4m; the next run does what was not committed [default: none]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) deadline: Option<Duration>,
    /// Write the run's report, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `ingest`, `transform`.
#[derive(Args, Debug)]
pub(crate) struct Stage {
    /// The event, as JSON; `-` for standard input [default: all there is to do]
    #[arg(long, value_name = "FILE")]
    pub(crate) event: Option<PathBuf>,
    /// The run's id: the same id again returns the result of the first time [default: made up]
    #[arg(long, value_name = "ID", value_parser = run_id)]
    pub(crate) run_id: Option<String>,
    /// Give up after this time, such as 4m; the next run does what was not committed [default: none]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) deadline: Option<Duration>,
    /// Write the stage's report, as JSON, to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `load`.
#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Bring the newest star state in even if the warehouse's ledger disagrees, and go on from there
    #[arg(long)]
    pub(crate) adopt: bool,
}

/// `verify`.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Only these tables and models
    #[arg(value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// First run the stages, so that only what commits meanwhile is pending
    #[arg(long)]
    pub(crate) settle: bool,
    /// Settle, mend what differs, and compare again: tables are read in full, models evaluated, rows of the warehouse
    /// written again; nothing is deleted
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `history`.
#[derive(Args, Debug)]
pub(crate) struct History {
    /// How many runs of each stage; compactions among them do not count
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `models`.
#[derive(Args, Debug)]
pub(crate) struct Models {
    /// How to draw them
    #[arg(long, value_name = "FORMAT", default_value = "tree", conflicts_with = "json")]
    pub(crate) format: ModelsFormat,
    /// Show the tests of their headers, and what they last found
    #[arg(long, conflicts_with = "format")]
    pub(crate) tests: bool,
    #[command(flatten)]
    pub(crate) print: Print,
}

/// How to draw the models.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelsFormat {
    // A tree of text.
    Tree,
    // A Mermaid flowchart.
    Mermaid,
}

/// `warehouse`.
#[derive(Subcommand, Debug)]
pub(crate) enum Warehouse {
    /// Create the tables, views, indexes and ledger that are missing
    Create(Inspect),
    /// Empty the tables of the star schema and forget what was loaded; the next load fills them again
    Clear {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        inspect: Inspect,
    },
}

/// `quarantine`.
#[derive(Subcommand, Debug)]
pub(crate) enum Quarantine {
    /// List the rows that stand aside in lake, star and warehouse, with the reason
    List {
        /// Only of these tables and models
        #[arg(value_name = "NAME")]
        only: Vec<String>,
        #[command(flatten)]
        inspect: Inspect,
    },
    /// Run the stages without the rows that they refuse, however many they are
    Accept(Again),
    /// Run the stages, and read or evaluate again what has rows that stand aside
    Replay(Again),
}

/// `quarantine accept` and `quarantine replay`.
#[derive(Args, Debug)]
pub(crate) struct Again {
    /// Only of these tables and models
    #[arg(value_name = "NAME")]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `lake`.
#[derive(Subcommand, Debug)]
pub(crate) enum Lake {
    /// Merge the small files of lake and star, and list the large ones in the key index
    Compact(Compact),
    /// List what dead and superseded runs left in lake and star, and remove it with --delete
    Vacuum(Vacuum),
}

/// `lake compact`.
#[derive(Args, Debug)]
pub(crate) struct Compact {
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `lake vacuum`.
#[derive(Args, Debug)]
pub(crate) struct Vacuum {
    /// Remove what is found; without it nothing is
    #[arg(long, visible_alias = "yes")]
    pub(crate) delete: bool,
    /// How long ago a run must have begun for what it left to be garbage, such as 90m, 24h or 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    pub(crate) older_than: Duration,
    #[command(flatten)]
    pub(crate) print: Print,
    #[command(flatten)]
    pub(crate) places: Places,
}

/// `demo`.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// How large the history is: 1 is about 6,000 orders over three years
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub(crate) scale: f64,
    /// Which of the possible histories; the same seed shows the same again
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many working days to live after the history
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=250))]
    pub(crate) days: u32,
    /// Keep the databases, the lake and the project, and say where they are
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) print: Print,
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (0.01..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("give a number from 0.01 to 1000".into()),
    }
}

/// A run id goes into manifests, logs and the name of database connections.
fn run_id(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_string()) } else { Err("use 1 to 128 ASCII characters without spaces".into()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_id_is_one_short_word() {
        assert_eq!(
            run_id("arn:aws:states:eu-west-2:1:execution:x:1").as_deref(),
            Ok("arn:aws:states:eu-west-2:1:execution:x:1")
        );
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(run_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_scale_is_a_number_in_its_range() {
        assert_eq!(scale("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(scale(bad).is_err(), "{bad}");
        }
    }
}
