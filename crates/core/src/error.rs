//! The one error type of starlift, and the one place that says what each kind means to a caller.
//!
//! A kind answers "what should the reader do?"; *where* it happened is context (`table`, `column`, `file`, …).
//! Foreign errors are classified once, at the boundary of an adapter, and kept as the source.

use std::error::Error as StdError;
use std::fmt;

/// A result with starlift's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the reader of an error has to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting, model or flag is wrong.
    Config,
    /// A grant or credential is missing or wrong.
    Permission,
    /// The source changed in a way that the project does not accept.
    Drift,
    /// Rows that cannot be carried, more than allowed; or stored data that is damaged.
    Data,
    /// A type or feature that starlift does not carry.
    Unsupported,
    /// Network, restart, throttling, lock timeout, lagging standby: the same run may succeed later.
    Unavailable,
    /// A bug in starlift.
    Internal,
}

/// What a shell does with an error: see [`ErrorKind::policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The exit code of the process.
    pub exit_code: u8,
    /// Whether running the same thing again can help.
    pub retry: bool,
    /// The error type that AWS Step Functions sees.
    pub aws_type: &'static str,
}

impl ErrorKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [ErrorKind; 7] = [
        ErrorKind::Config,
        ErrorKind::Permission,
        ErrorKind::Drift,
        ErrorKind::Data,
        ErrorKind::Unsupported,
        ErrorKind::Unavailable,
        ErrorKind::Internal,
    ];

    /// Exit code, retry and AWS error type of a kind: the only place where they are decided.
    pub const fn policy(self) -> Policy {
        let (exit_code, retry, aws_type) = match self {
            ErrorKind::Config => (1, false, "Starlift.Config"),
            ErrorKind::Permission => (1, false, "Starlift.Permission"),
            ErrorKind::Drift => (1, false, "Starlift.Drift"),
            ErrorKind::Data => (1, false, "Starlift.Data"),
            ErrorKind::Unsupported => (1, false, "Starlift.Unsupported"),
            ErrorKind::Unavailable => (75, true, "Starlift.Unavailable"),
            ErrorKind::Internal => (70, false, "Starlift.Internal"),
        };
        Policy { exit_code, retry, aws_type }
    }

    /// The command that shows a person what an error of this kind is about, or mends it.
    pub const fn next_command(self) -> &'static str {
        match self {
            ErrorKind::Config | ErrorKind::Permission | ErrorKind::Unsupported => "starlift doctor",
            ErrorKind::Drift => "starlift plan",
            ErrorKind::Data => "starlift quarantine list",
            ErrorKind::Unavailable | ErrorKind::Internal => "starlift status",
        }
    }

    /// The kind's name as documents and machine output write it.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorKind::Config => "Config",
            ErrorKind::Permission => "Permission",
            ErrorKind::Drift => "Drift",
            ErrorKind::Data => "Data",
            ErrorKind::Unsupported => "Unsupported",
            ErrorKind::Unavailable => "Unavailable",
            ErrorKind::Internal => "Internal",
        }
    }
}

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What happened, where, in more detail, and what to do next.
///
/// `Display` prints the message alone; [`Error::render`] prints what a person reads:
///
/// ```text
/// error: column `amount` of table `public.payment` cannot be stored without loss
/// detail: its type is `numeric` without precision; 3 of 8,214 values need more than 10 decimals
/// hint: set `columns.amount = { numeric = "text" }` for this table in starlift.toml
/// ```
///
/// No message, detail, hint or context ever holds a password, a token or a row value (keys may be named).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

impl Error {
    /// An error of a kind; the message starts in lower case and has no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            detail: None,
            hint: None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// A setting, model or flag is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Rows that cannot be carried, or stored data that is damaged.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// Something is away that may come back.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// A bug in starlift.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the line that explains the message.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the line that says what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds where it happened, as a named value (`table`, `model`, `file`, …).
    pub fn with_context(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.context.push((name, value.into()));
        self
    }

    /// Keeps the foreign error that this one was made from.
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the reader has to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// More about what happened, or else the text of the foreign errors behind it.
    pub fn detail(&self) -> Option<String> {
        self.0.detail.clone().or_else(|| {
            let mut causes = Vec::new();
            let mut cause = self.0.source.as_ref().map(|s| s.as_ref() as &dyn StdError);
            while let Some(error) = cause {
                let text = error.to_string();
                // Many libraries repeat their cause in their own text; saying it once is enough.
                if !causes.iter().any(|c: &String| c.contains(&text)) {
                    causes.push(text);
                }
                cause = error.source();
            }
            (!causes.is_empty()).then(|| causes.join(": "))
        })
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Where it happened, as named values.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The lines that a person reads: `error`, then `detail` and `hint` where there are any.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.0.message);
        if let Some(detail) = self.detail() {
            text.push_str(&format!("\ndetail: {detail}"));
        }
        if let Some(hint) = self.hint() {
            text.push_str(&format!("\nhint: {hint}"));
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.kind.name(), self.render())?;
        for (name, value) in &self.0.context {
            write!(f, "\n  {name}: {value}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_is_the_table_of_the_documentation() {
        let table: Vec<_> = ErrorKind::ALL
            .iter()
            .map(|k| (k.name(), k.policy().exit_code, k.policy().retry, k.policy().aws_type))
            .collect();
        assert_eq!(
            table,
            [
                ("Config", 1, false, "Starlift.Config"),
                ("Permission", 1, false, "Starlift.Permission"),
                ("Drift", 1, false, "Starlift.Drift"),
                ("Data", 1, false, "Starlift.Data"),
                ("Unsupported", 1, false, "Starlift.Unsupported"),
                ("Unavailable", 75, true, "Starlift.Unavailable"),
                ("Internal", 70, false, "Starlift.Internal"),
            ]
        );
    }

    #[test]
    fn render_prints_error_detail_and_hint_in_this_order() {
        let error =
            Error::config("no `starlift.toml` here").with_hint("run `starlift demo`").with_detail("looked in /tmp");
        assert_eq!(error.render(), "error: no `starlift.toml` here\ndetail: looked in /tmp\nhint: run `starlift demo`");
    }

    #[test]
    fn a_foreign_error_becomes_the_detail() {
        let error = Error::unavailable("cannot open the store").with_source(std::io::Error::other("disk is away"));
        assert_eq!(error.detail().as_deref(), Some("disk is away"));
    }
}
