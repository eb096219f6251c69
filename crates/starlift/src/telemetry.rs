//! Logs: short lines for people, one JSON object per line for machines. Both shells use it.
//!
//! * A line is written with one call, so that lines of several tasks never mix.
//! * Secrets that are known are scrubbed, whoever wrote them: see [`crate::secrets`].
//! * Crates of others are not heard below INFO, whatever the filter asks for: at DEBUG and TRACE drivers, engines and HTTP
//!   clients write the statements, rows and headers that pass through them.
//! * Control characters and the marks that turn the direction of text are escaped: no log line can be forged or hidden
//!   by a name from a database.
//! * `tracing` has no level above ERROR: an ERROR event with the field `critical = true` is written as CRITICAL.
//!
//! A machine's line has `timestamp` (RFC 3339, UTC, microseconds), `level` (DEBUG, INFO, WARNING, ERROR, CRITICAL) and the same
//! as `severity`, then `stage`, `run_id`, `table` where the event has them, `message`, its other fields, and last those of
//! [`describe`].

use std::fmt;
use std::sync::{PoisonError, RwLock};

use starlift_core::alarm::CRITICAL;
use starlift_core::{Error, Micros, Result};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::context::now;
use crate::secrets::scrub;

/// Who reads the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Machines: one JSON object per line.
    Json,
}

/// How the log is written.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Who reads it.
    pub format: LogFormat,
    /// Whether levels are coloured; only in text.
    pub color: bool,
    /// The least level of starlift's own events; other crates are heard from WARNING on, or from this level if it is
    /// higher.
    pub level: Level,
    /// The filter of `STARLIFT_LOG` (directives of `tracing_subscriber::EnvFilter`); it replaces `level`. Of other crates it
    /// lets INFO through at most.
    pub filter: Option<String>,
}

/// Starts logging for the whole process.
///
/// Errors: Config where the filter cannot be read; Internal where logging was started before.
pub fn start<W>(settings: &LogSettings, writer: W) -> Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = Lines { format: settings.format, color: settings.color && settings.format == LogFormat::Text };
    let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(writer).log_internal_errors(false);
    let subscriber = tracing_subscriber::registry().with(filter(settings)?).with(filter_fn(may_be_heard)).with(layer);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|e| Error::internal("logging was started twice").with_source(e))
}

/// What of other crates speaks of rows is not written, whoever asks for it.
fn may_be_heard(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("starlift") || *metadata.level() <= Level::INFO
}

fn filter(settings: &LogSettings) -> Result<EnvFilter> {
    let own = settings.level;
    // Levels compare by how much they let through.
    let others = own.min(Level::WARN);
    let directives = settings.filter.clone().unwrap_or_else(|| format!("{others},starlift={own}"));
    parsed(&directives)
}

/// Whether `STARLIFT_LOG` may have this value: who logs all the same can say what is wrong with it.
///
/// Errors: Config where it cannot be read.
pub fn check_filter(directives: &str) -> Result<()> {
    parsed(directives).map(|_| ())
}

fn parsed(directives: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(directives).map_err(|e| {
        Error::config("STARLIFT_LOG cannot be read")
            .with_detail(e.to_string())
            .with_hint("give a level or directives, such as `debug` or `warn,starlift=debug`")
    })
}

/// What every machine's line says of where it was written, unless its event says so itself: function, request, run. Empty
/// again by an empty list.
static DESCRIBED: RwLock<Vec<(&'static str, serde_json::Value)>> = RwLock::new(Vec::new());

/// Puts these fields into every machine's line from now on, in place of those before. The process does one thing at a time.
pub fn describe(fields: Vec<(&'static str, serde_json::Value)>) {
    *DESCRIBED.write().unwrap_or_else(PoisonError::into_inner) = fields;
}

/// Logs that a stage failed fatally: the one line that raises the alarm.
pub fn critical(stage: &str, run_id: &str, error: &Error) {
    stage_failed(stage, run_id, error, true);
}

/// Logs that a stage failed and is tried again by whoever started it, so that no person has to hear of it yet.
pub fn to_be_tried_again(stage: &str, run_id: &str, error: &Error) {
    stage_failed(stage, run_id, error, false);
}

fn stage_failed(stage: &str, run_id: &str, error: &Error, critical: bool) {
    let policy = error.kind().policy();
    let place = |name: &str| error.context().iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
    tracing::error!(
        critical,
        stage,
        run_id,
        table = place("table").or(place("model")),
        window = place("window"),
        kind = error.kind().name(),
        error_type = policy.aws_type,
        retry = policy.retry,
        detail = error.detail(),
        hint = error.hint(),
        next = error.kind().next_command(),
        "{error}"
    );
}

/// Logs that something other than a stage failed.
pub fn failed(error: &Error) {
    tracing::error!(kind = error.kind().name(), detail = error.detail(), hint = error.hint(), "{error}");
}

/// Text with control characters and direction marks escaped, fit for one line of a log.
pub fn one_line(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for text of several lines, such as a rendered error: line breaks stay.
pub fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        if hidden && !keep(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

struct Lines {
    format: LogFormat,
    color: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = Line { level: level(event.metadata(), fields.critical), fields };
        let text = match self.format {
            LogFormat::Text => line.text(self.color),
            LogFormat::Json => line.json(now()),
        };
        writeln!(writer, "{text}")
    }
}

fn level(metadata: &Metadata<'_>, critical: bool) -> &'static str {
    match *metadata.level() {
        Level::ERROR if critical => CRITICAL,
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// The fields of an event; the named ones have a place of their own in a line.
#[derive(Default)]
struct Fields {
    critical: bool,
    stage: Option<String>,
    run_id: Option<String>,
    table: Option<String>,
    message: String,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: serde_json::Value) {
        let text = || match &value {
            // Before it is escaped: afterwards some secrets would not be found.
            serde_json::Value::String(text) => one_line(&scrub(text)),
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(),
            "stage" => self.stage = Some(text()),
            "run_id" => self.run_id = Some(text()),
            "table" => self.table = Some(text()),
            "critical" => self.critical = value == true,
            name => {
                let value = if value.is_string() { text().into() } else { value };
                self.others.push((name, value));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

struct Line {
    level: &'static str,
    fields: Fields,
}

impl Line {
    /// `INFO     ingest address: table is in the lake (rows 30, deleted 0)`
    fn text(&self, color: bool) -> String {
        let level = format!("{:<8}", self.level);
        let mut line = match (color, self.level) {
            (true, "CRITICAL" | "ERROR") => format!("\u{1b}[31m{level}\u{1b}[0m"),
            (true, "WARNING") => format!("\u{1b}[33m{level}\u{1b}[0m"),
            (true, _) => format!("\u{1b}[2m{level}\u{1b}[0m"),
            (false, _) => level,
        };
        let place: Vec<&str> =
            [&self.fields.stage, &self.fields.table].into_iter().flatten().map(String::as_str).collect();
        if !place.is_empty() {
            line.push_str(&format!(" {}:", place.join(" ")));
        }
        line.push_str(&format!(" {}", self.fields.message));
        // A list of tables is for machines: the message of such an event names them.
        let others = self.fields.others.iter().filter(|(name, _)| *name != "tables");
        let others = others.map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        });
        let others: Vec<String> = others.collect();
        if !others.is_empty() {
            line.push_str(&format!(" ({})", others.join(", ")));
        }
        line
    }

    fn json(&self, at: Micros) -> String {
        let named = [("stage", &self.fields.stage), ("run_id", &self.fields.run_id), ("table", &self.fields.table)];
        let mut pairs: Vec<(&str, serde_json::Value)> =
            vec![("timestamp", at.to_string().into()), ("level", self.level.into()), ("severity", self.level.into())];
        pairs.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?.into()))));
        pairs.push(("message", self.fields.message.as_str().into()));
        let taken: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        // A library's event may use one of our names for something else.
        let others = self.fields.others.iter().filter(|(name, _)| !taken.contains(name));
        pairs.extend(others.map(|(name, value)| (*name, value.clone())));
        let described = DESCRIBED.read().unwrap_or_else(PoisonError::into_inner);
        let missing = described.iter().filter(|(name, _)| !pairs.iter().any(|(taken, _)| taken == name));
        let missing: Vec<_> = missing.map(|(name, value)| (*name, value.clone())).collect();
        pairs.extend(missing);
        // By hand, because a map of serde_json sorts its keys and a reader wants the time first.
        let members: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(*name))).collect();
        format!("{{{}}}", members.join(","))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, act: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Lines { format, color: false })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(filter_fn(may_be_heard)).with(layer),
            act,
        );
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn people_get_a_short_line() {
        let text = logged(LogFormat::Text, || {
            tracing::info!(stage = "ingest", run_id = "r1", table = "address", rows = 30u64, "table is in the lake");
        });
        assert_eq!(text, "INFO     ingest address: table is in the lake (rows 30)\n");
    }

    #[test]
    fn machines_get_one_object_with_the_named_keys_first() {
        let text = logged(LogFormat::Json, || {
            tracing::warn!(stage = "ingest", run_id = "r1", rows = 3u64, empty = false, "nothing\nnew");
        });
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(Micros::parse(value["timestamp"].as_str().unwrap()).is_some());
        assert!(text.starts_with("{\"timestamp\":\""), "{text}");
        let rest = &text[text.find("\"level\"").unwrap()..];
        assert_eq!(
            rest,
            "\"level\":\"WARNING\",\"severity\":\"WARNING\",\"stage\":\"ingest\",\"run_id\":\"r1\",\"message\":\"nothing\\\\nnew\",\"rows\":3,\"empty\":false}\n"
        );
    }

    #[test]
    fn a_fatal_error_is_one_critical_line_with_what_to_do() {
        let error = Error::unavailable("the source is away").with_hint("try again").with_context("table", "payment");
        let text = logged(LogFormat::Json, || critical("ingest", "r1", &error));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["level"], &value["severity"]), (&"CRITICAL".into(), &"CRITICAL".into()));
        assert_eq!(starlift_core::alarm::matches(starlift_core::alarm::PATTERN, &text), Some(true));
        assert_eq!((&value["table"], &value["next"]), (&"payment".into(), &"starlift status".into()));
        assert_eq!(value["message"], "the source is away");
        assert_eq!(value["error_type"], "Starlift.Unavailable");
        assert_eq!(value["retry"], true);
        assert_eq!(value["hint"], "try again");
        assert!(value.get("critical").is_none() && value.get("detail").is_none());
    }

    #[test]
    fn a_name_cannot_forge_or_hide_a_line() {
        let text = logged(LogFormat::Text, || tracing::info!(table = "a\nCRITICAL \u{1b}[2K", "seen \u{202e}"));
        assert_eq!(text, "INFO     a\\nCRITICAL \\u{1b}[2K: seen \\u{202e}\n");
        assert_eq!(lines("a\nb\u{7}"), "a\nb\\u{7}");
    }

    #[test]
    fn a_secret_is_scrubbed_from_every_field_of_a_line() {
        crate::secrets::know("canary \"of\" telemetry");
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                let secret = "canary \"of\" telemetry";
                tracing::info!(table = secret, other = secret, debugged = ?Some(secret), "with {secret}, %22of%22");
            });
            assert!(!text.contains("canary"), "{text}");
            assert_eq!(text.matches("***").count(), 4, "{text}");
        }
    }

    #[test]
    fn other_crates_are_not_heard_below_info() {
        let text = logged(LogFormat::Text, || {
            tracing::trace!("ours");
            tracing::info!(target: "hyper", "theirs");
            tracing::debug!(target: "hyper", "rows");
        });
        assert_eq!(text, "DEBUG    ours\nINFO     theirs\n");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_a_config_error() {
        let settings =
            LogSettings { format: LogFormat::Text, color: false, level: Level::INFO, filter: Some("=a=b=".into()) };
        assert_eq!(filter(&settings).unwrap_err().kind(), starlift_core::ErrorKind::Config);
    }
}
