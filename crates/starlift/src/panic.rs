//! A panic is our bug. It is said in one place and in few words, because its own message may quote a row.

use std::panic::{Location, PanicHookInfo};

use starlift_core::Error;

/// Replaces Rust's report of a panic, on every thread: where it was, and nothing of what it was about.
pub fn install(report: impl Fn(Error) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| report(error(info.location()))));
}

fn error(location: Option<&Location<'_>>) -> Error {
    let place =
        location.map_or_else(|| "an unknown place".to_string(), |l| format!("{}:{}", shortened(l.file()), l.line()));
    Error::internal("starlift has a bug and stopped")
        .with_detail(format!("it panicked at {place}"))
        .with_hint("nothing half-done is visible, and running again is safe; please report the place with the version")
}

/// The path inside the crate's sources: where they were on the machine that built it is nobody's business.
fn shortened(file: &str) -> &str {
    for marker in ["/registry/src/", "/rustc/"] {
        if let Some((_, rest)) = file.split_once(marker) {
            return rest.split_once('/').map_or(rest, |(_, inner)| inner);
        }
    }
    match file.rfind("/crates/") {
        Some(at) => file.get(at + 1..).unwrap_or(file),
        None => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_the_crate_and_not_the_machine() {
        assert_eq!(shortened("/home/x/.cargo/registry/src/index-1/tokio-1.0/src/a.rs"), "tokio-1.0/src/a.rs");
        assert_eq!(shortened("/home/x/starlift/crates/core/src/key.rs"), "crates/core/src/key.rs");
        assert_eq!(shortened("crates/core/src/key.rs"), "crates/core/src/key.rs");
    }

    #[test]
    fn the_error_holds_the_place_and_no_message() {
        let error = error(Some(Location::caller()));
        assert!(error.detail().is_some_and(|d| d.starts_with("it panicked at crates/starlift/src/panic.rs:")));
        assert_eq!(error.kind(), starlift_core::ErrorKind::Internal);
    }
}
