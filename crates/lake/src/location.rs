//! Where a store is, read from what a person wrote in `[lake]`; and which keys are safe in every store.

use std::path::PathBuf;

use object_store::path::Path as ObjectPath;
use starlift_core::{Error, Result};
use url::Url;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A folder of a local file system.
    Folder(PathBuf),
    /// A bucket of S3, or of a store that speaks its protocol, and a prefix without slashes at its ends.
    S3 { bucket: String, prefix: String },
}

impl Location {
    /// Reads a folder, `file:///…` or `s3://bucket/prefix`.
    ///
    /// Errors: Config for anything else. The text is shown only where it cannot hold a password.
    pub(crate) fn parse(text: &str) -> Result<Location> {
        if text.trim().is_empty() {
            return Err(wrong("the place of a lake is empty".into()));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return bucket(rest);
        }
        if text.starts_with("file:") {
            // `file:` and `file://` alone would both mean the root of the file system.
            let path = Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
            return path
                .filter(|path| path.parent().is_some())
                .map(Location::Folder)
                .ok_or_else(|| wrong(format!("`{text}` names no folder of this machine")));
        }
        match text.split_once("://") {
            Some((scheme, _)) => Err(wrong(format!("starlift cannot keep a lake at `{scheme}://`"))),
            None if text.contains('\0') => Err(wrong("the place of a lake holds a zero byte".into())),
            None => Ok(Location::Folder(PathBuf::from(text))),
        }
    }
}

fn wrong(message: String) -> Error {
    Error::config(message)
        .with_hint("write a folder (`lake/ingest`), `file:///absolute/folder` or `s3://bucket/prefix`")
}

fn bucket(rest: &str) -> Result<Location> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    // A secret key may hold a slash, and a setting may have been put behind a `?`: no part of such a text is repeated.
    if rest.contains(['@', '?']) || bucket.contains(':') {
        return Err(Error::config("credentials do not belong in the URL of a lake")
            .with_hint("write `s3://bucket/prefix` and give the credentials as `AWS_ACCESS_KEY_ID` and its siblings"));
    }
    // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) {
        return Err(wrong(format!("`s3://{rest}` names no bucket"))
            .with_detail("a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens"));
    }
    if bucket.ends_with("--x-s3") {
        return Err(Error::config(format!("the directory bucket `{bucket}` cannot hold a lake"))
            .with_detail("directory buckets do not list their keys in order")
            .with_hint("use a general purpose bucket"));
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() {
        check_key(prefix)
            .map_err(|e| wrong(format!("`s3://{rest}` has a prefix that no store keeps")).with_source(e))?;
    }
    Ok(Location::S3 { bucket: bucket.to_string(), prefix: prefix.to_string() })
}

/// Refuses a key that could leave its store or that some store changes: `.` and `..` as segments, empty segments,
/// control characters, `\`, and `#`, by which local staging files are known.
pub(crate) fn check_key(key: &str) -> Result<()> {
    let refused = || Error::internal(format!("`{}` is no object key", key.escape_debug()));
    if key.is_empty() || key.starts_with('/') || key.ends_with('/') || key.contains(['\\', '#']) {
        return Err(refused());
    }
    ObjectPath::parse(key).map(|_| ()).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;
    use starlift_core::ErrorKind;

    #[test]
    fn a_bucket_and_its_prefix_are_told_apart() {
        let s3 = |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Location::parse("s3://lake").unwrap(), s3("lake", ""));
        assert_eq!(Location::parse("s3://lake/").unwrap(), s3("lake", ""));
        assert_eq!(Location::parse("s3://my.lake-1/a/b c/").unwrap(), s3("my.lake-1", "a/b c"));
    }

    #[test]
    fn folders_are_taken_as_they_are_written() {
        assert_eq!(Location::parse("lake/ingest").unwrap(), Location::Folder("lake/ingest".into()));
        assert_eq!(Location::parse("/srv/lake").unwrap(), Location::Folder("/srv/lake".into()));
        assert_eq!(Location::parse("file:///srv/my%20lake").unwrap(), Location::Folder("/srv/my lake".into()));
    }

    #[test]
    fn any_other_place_is_a_setting_to_correct() {
        for text in [
            "",
            " ",
            "gs://bucket/x",
            "https://bucket.s3.amazonaws.com",
            "s3://",
            "s3:///x",
            "s3://UPPER/x",
            "s3://lake//x",
            "s3://lake/../x",
            "s3://lake?x=1",
            "s3://lake--use1-az4--x-s3/x",
            "file://host/x",
            "file:",
            "file://",
        ] {
            let error = Location::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.hint().is_some(), "{text}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let error = Location::parse("s3://AKIA:hunter2@bucket/x").unwrap_err();
        assert!(!error.render().contains("hunter2"), "{}", error.render());
        for text in
            ["s3://AKIA:hun/ter2@bucket/x", "s3://bucket/x?aws_secret_access_key=hunter2", "s3://AKIA:hunter2/x"]
        {
            let error = Location::parse(text).unwrap_err();
            assert!(!error.render().contains("ter2"), "{}", error.render());
        }
        let error = Location::parse("https://user:hunter2@host/x").unwrap_err();
        assert!(!error.render().contains("hunter2"), "{}", error.render());
    }

    #[test]
    fn keys_that_could_leave_their_store_are_refused() {
        for key in ["", "/x", "x/", "..", "a/../b", "a/./b", "a//b", "a\\b", "a#1", "a\nb", "a\0b"] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        for key in ["address/2024/11/20/113500000000.parquet", "%5Fx/1.parquet", "..a/b"] {
            assert!(check_key(key).is_ok(), "{key:?}");
        }
    }
}
