//! The secrets that this process knows, and the last look for them before anything is said.
//!
//! Nothing below the shells is meant to put a secret into a message: [`Secret`](starlift_postgres::Secret) cannot be
//! printed, URLs are taken apart at once, and foreign errors are classified at their boundary. This is the net below that:
//! whatever is a secret by its place (a password of a URL or of credentials, the keys and tokens of the object store) is
//! made known here once, where it is read, and [`scrub`] puts `***` in its place in every log line, every error, on
//! standard error, in `--json` and in reports, and in what is said of a panic.
//!
//! Found are its plain form, percent-encoded in any way, escaped as in a JSON text or by `Debug`, and in base64 (standard
//! and URL-safe, padded or not, alone or within a longer text that was encoded, as in `user:password`).
//!
//! A secret of fewer than [`MIN_CHARS`] characters is left alone: its place would be found in every other word, and the
//! stars would tell more about it than they hide. Such a password is kept back by the rules above, and by nothing else.
//!
//! The set is the process's own, because a panic and a log line may come from any thread at any time. It only grows.

mod forms;
mod url;

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use starlift_core::Error;

pub use self::forms::MIN_CHARS;
use self::forms::Scrubber;
use crate::config::Environment;

static KNOWN: RwLock<Scrubber> = RwLock::new(Scrubber::new());

/// Makes a secret known. Doing it again changes nothing.
pub fn know(secret: &str) {
    KNOWN.write().unwrap_or_else(PoisonError::into_inner).add(secret);
}

/// Makes known what may be a password in a connection URL, whether or not it is one that can be used.
pub fn know_url(url: &str) {
    for secret in url::passwords(url) {
        know(&secret);
    }
}

/// Makes known the secrets that the environment holds under well-known names: the URLs of both databases, and what of
/// `AWS_*` is a key or a token.
pub fn know_environment(environment: &Environment) {
    for name in ["STARLIFT_SOURCE_URL", "STARLIFT_WAREHOUSE_URL"] {
        know_url(environment.get(name).unwrap_or_default());
    }
    for (name, value) in environment.with_prefix("AWS_") {
        if name.starts_with("AWS_ENDPOINT") {
            know_url(&value);
        }
        if is_secret(&name) {
            know(&value);
        }
    }
}

/// Whether a variable holds a secret itself, and not the path of a file with one.
fn is_secret(name: &str) -> bool {
    let marks = ["ACCESS_KEY", "SECRET", "TOKEN", "PASSWORD"];
    marks.iter().any(|mark| name.contains(mark)) && !name.ends_with("_FILE")
}

/// The text with `***` in place of every secret that is known. It has to be the text itself, before it is escaped or
/// encoded for its way out.
pub fn scrub(text: &str) -> Cow<'_, str> {
    KNOWN.read().unwrap_or_else(PoisonError::into_inner).scrub(text)
}

/// The message of an error as a part of another text, such as a note in a document.
pub(crate) fn message(error: &Error) -> String {
    scrub(error.message()).into_owned()
}

/// The message of an error and its detail, for a note.
pub(crate) fn with_detail(error: &Error) -> String {
    match error.detail() {
        Some(detail) => scrub(&format!("{}: {detail}", error.message())).into_owned(),
        None => message(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_holds_is_known_by_its_name() {
        for name in
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["AWS_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            assert!(!is_secret(name), "{name}");
        }
        know_environment(&Environment::of([
            ("AWS_SESSION_TOKEN", "a token of the unit test"),
            ("STARLIFT_SOURCE_URL", "postgres://u:a%20password%20of%20it@h/d"),
            ("AWS_ENDPOINT_URL_SECRETSMANAGER", "https://u:an%20endpoint%20of%20it@h"),
            ("STARLIFT_PROJECT", "a folder of the unit test"),
        ]));
        assert_eq!(scrub("a token of the unit test, a password of it, an endpoint of it"), "***, ***, ***");
        assert_eq!(scrub("a folder of the unit test"), "a folder of the unit test");
    }
}
