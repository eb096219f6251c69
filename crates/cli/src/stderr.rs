//! Standard error: talk. It never fails, because there would be nobody to tell.

use std::io::Write;

use starlift::secrets::scrub;
use starlift::telemetry;
use starlift_core::Error;

use crate::style::Style;

/// Says something for people. Secrets are scrubbed, control characters escaped; line breaks stay.
pub(crate) fn say(text: &str) {
    write(&format!("{}\n", telemetry::lines(&scrub(text))));
}

/// Prints an error with its detail and hint, without the secrets that are known.
pub(crate) fn error(style: Style, error: &Error) {
    write(&format!("{}\n", rendered(style, error)));
}

fn rendered(style: Style, error: &Error) -> String {
    let text = telemetry::lines(&scrub(&error.render()));
    let labels = [("error:", style.bad("error:")), ("detail:", style.dim("detail:")), ("hint:", style.good("hint:"))];
    let painted = text.split('\n').map(|line| {
        let label = labels.iter().find_map(|(label, painted)| Some((painted, line.strip_prefix(label)?)));
        label.map_or_else(|| line.to_string(), |(painted, rest)| format!("{painted}{rest}"))
    });
    painted.collect::<Vec<_>>().join("\n")
}

fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_scrubbed_from_every_line_of_an_error() {
        starlift::secrets::know("canary of stderr");
        let secret = "canary of stderr";
        let error =
            Error::config(format!("m {secret}")).with_detail(format!("d {secret}")).with_hint("canary%20of%20stderr");
        assert_eq!(rendered(Style::PLAIN, &error), "error: m ***\ndetail: d ***\nhint: ***");
    }

    #[test]
    fn an_error_is_shown_in_lines_that_a_terminal_cannot_be_fooled_with() {
        let error = Error::config("no table `a\u{1b}[2J`").with_detail("line one\nline two").with_hint("look");
        let text = rendered(Style::PLAIN, &error);
        assert_eq!(text, "error: no table `a\\u{1b}[2J`\ndetail: line one\nline two\nhint: look");
    }
}
