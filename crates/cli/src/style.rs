//! Colour and signs, as far as a stream can show them.

use std::io::IsTerminal;

use starlift::config::Environment;

use crate::args::Color;

/// What one stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    color: bool,
    unicode: bool,
}

impl Style {
    /// The style of a stream. Signs beyond ASCII need a UTF-8 locale.
    pub(crate) fn of(stream: &impl IsTerminal, color: Color, environment: &Environment) -> Style {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: any value that is not empty counts.
            Color::Auto => {
                stream.is_terminal() && environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb")
            }
        };
        Style { color, unicode: is_utf8(environment) }
    }

    /// No colour, and ASCII only.
    #[cfg(test)]
    pub(crate) const PLAIN: Style = Style { color: false, unicode: false };

    /// Whether the stream is coloured.
    pub(crate) fn has_color(self) -> bool {
        self.color
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What is there but not important.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Good news.
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Worth a look.
    pub(crate) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Bad news.
    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// The sign where UTF-8 can be shown, else its ASCII stand-in.
    pub(crate) fn sign(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.unicode { unicode } else { ascii }
    }

    /// The sign of something that is fine.
    pub(crate) fn tick(self) -> String {
        self.good(self.sign("✓", "+"))
    }

    /// The sign of something that is worth a look.
    pub(crate) fn alert(self) -> String {
        self.warning("!")
    }

    /// The sign of something that failed.
    pub(crate) fn cross(self) -> String {
        self.bad(self.sign("✗", "x"))
    }
}

/// POSIX: the first of these that is set decides.
fn is_utf8(environment: &Environment) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| environment.get(name));
    locale.is_some_and(|l| l.to_ascii_lowercase().replace('-', "").contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_that_is_set_decides_about_signs() {
        assert!(is_utf8(&Environment::of([("LANG", "C.UTF-8")])));
        assert!(!is_utf8(&Environment::of([("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")])));
        assert!(!is_utf8(&Environment::of([])));
    }

    #[test]
    fn without_colour_text_stays_as_it_is() {
        assert_eq!(Style::PLAIN.bad("x"), "x");
        let coloured = Style { color: true, unicode: true };
        assert_eq!(coloured.tick(), "\u{1b}[32m✓\u{1b}[0m");
        assert_eq!(coloured.bad(""), "");
    }
}
