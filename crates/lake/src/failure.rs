//! What a failed file or request means: the one place where errors of file systems and object stores are classified.
//!
//! The text of a foreign error is never passed on: the answers of S3 repeat access keys and session tokens, and
//! requests to AWS STS carry tokens in their URL. Only S3's own code and message are taken over.

use std::error::Error as StdError;
use std::io::{self, ErrorKind as IoKind};
use std::path::Path;

use object_store::client::{HttpError, HttpErrorKind};
use starlift_core::{Error, ErrorKind};

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Read,
    Write,
    List,
    Delete,
}

impl Doing {
    fn verb(self) -> &'static str {
        match self {
            Doing::Read => "read",
            Doing::Write => "write",
            Doing::List => "list",
            Doing::Delete => "delete",
        }
    }

    fn grants(self) -> &'static str {
        match self {
            Doing::Read => {
                "grant `s3:GetObject` on the objects and `s3:ListBucket` on the bucket; without the latter S3 answers \
                 that a missing object is denied"
            }
            Doing::Write => "grant `s3:PutObject` on the objects of the bucket",
            Doing::List => "grant `s3:ListBucket` on the bucket",
            Doing::Delete => "grant `s3:DeleteObject` on the objects of the bucket",
        }
    }
}

/// The error of a file or folder.
pub(crate) fn from_io(error: io::Error, doing: Doing, path: &Path) -> Error {
    let message = format!("cannot {} `{}`", doing.verb(), path.display());
    let (kind, hint) = match error.kind() {
        IoKind::PermissionDenied => (ErrorKind::Permission, "let this user read and write the lake's folder"),
        IoKind::ReadOnlyFilesystem => (ErrorKind::Permission, "put the lake on a file system that can be written"),
        IoKind::StorageFull | IoKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "free space on this file system, then run again")
        }
        IoKind::NotADirectory | IoKind::IsADirectory => {
            (ErrorKind::Config, "the lake has to be a folder of its own; see `[lake]` in starlift.toml")
        }
        IoKind::InvalidFilename | IoKind::NotFound => (ErrorKind::Config, "see `[lake]` in starlift.toml"),
        IoKind::Unsupported | IoKind::CrossesDevices => {
            (ErrorKind::Config, "put the lake on a file system that has hard links")
        }
        _ => (ErrorKind::Unavailable, "run again when the file system answers"),
    };
    Error::new(kind, message).with_hint(hint).with_source(error)
}

/// The error of an object store; `place` is the printable URL of the object or folder.
pub(crate) fn from_store(error: &object_store::Error, doing: Doing, place: &str) -> Error {
    let text = error.to_string();
    let answer = Answer::read(&text);
    let (kind, hint) = meaning(error, &text, &answer, doing);
    let detail = answer.describe().unwrap_or_else(|| connection(error));
    Error::new(kind, format!("cannot {} `{place}`", doing.verb())).with_detail(detail).with_hint(hint)
}

/// Whether an object is absent, and not its bucket.
pub(crate) fn is_absent(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !error.to_string().contains("NoSuchBucket")
}

fn meaning(error: &object_store::Error, text: &str, answer: &Answer, doing: Doing) -> (ErrorKind, &'static str) {
    use object_store::Error as E;
    let code = answer.code.as_deref().unwrap_or("");
    let renew = (ErrorKind::Permission, "renew the AWS credentials, then run again");
    match code {
        "NoSuchBucket" => return (ErrorKind::Config, "create the bucket, or correct `[lake]` in starlift.toml"),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" => {
            return (ErrorKind::Config, "set `AWS_REGION` to the bucket's region");
        }
        "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "TokenRefreshRequired" => {
            return renew;
        }
        "RequestTimeTooSkewed" => return (ErrorKind::Config, "set the clock of this machine"),
        "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted" => {
            return (ErrorKind::Unavailable, "run again later");
        }
        _ => {}
    }
    // The key of a bucket is asked by S3, which passes the answer on as 400: `ThrottlingException`, `KMS.InternalException`.
    if ["Throttl", "RequestLimitExceeded", "InternalException", "DependencyTimeout"]
        .iter()
        .any(|word| code.contains(word))
    {
        return (ErrorKind::Unavailable, "run again later");
    }
    if code.starts_with("KMS.") {
        return (
            ErrorKind::Permission,
            "grant `kms:Decrypt` and `kms:GenerateDataKey` on the bucket's key, and see that it is enabled",
        );
    }
    if code.contains("AccessDenied") {
        return (ErrorKind::Permission, doing.grants());
    }
    // The addresses of the services that hand out credentials on EC2 and ECS, asked when none were given.
    if text.contains("169.254.169.254") || text.contains("169.254.170.2") {
        return (ErrorKind::Permission, "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or run under a role");
    }
    if text.contains("redirect without LOCATION") {
        return (ErrorKind::Config, "set `AWS_REGION` to the bucket's region");
    }
    match error {
        E::PermissionDenied { .. } => (ErrorKind::Permission, doing.grants()),
        E::Unauthenticated { .. } => renew,
        E::NotImplemented { .. } | E::NotSupported { .. } => {
            (ErrorKind::Config, "use a store that has create-only puts (`If-None-Match: *`)")
        }
        E::UnknownConfigurationKey { .. } | E::InvalidPath { .. } => {
            (ErrorKind::Config, "see `[lake]` in starlift.toml and the AWS settings")
        }
        _ => match answer.status {
            // A request that the store understood and refuses stays refused; 408 and 429 ask to come again.
            Some(status @ 400..=499) if !matches!(status, 404 | 408 | 409 | 412 | 429) => {
                (ErrorKind::Config, "see `[lake]` in starlift.toml and the AWS settings")
            }
            _ => (ErrorKind::Unavailable, "run again later"),
        },
    }
}

/// What S3 answered: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
}

impl Answer {
    fn read(text: &str) -> Answer {
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (value, _) = rest.split_once('<')?;
            Some(value.chars().take(300).collect::<String>())
        };
        let status =
            text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).and_then(|digits| digits.parse().ok());
        Answer { status, code: element("Code"), message: element("Message") }
    }

    fn describe(&self) -> Option<String> {
        match (&self.code, &self.message, self.status) {
            (Some(code), Some(message), _) => Some(format!("the store answered {code}: {message}")),
            (Some(code), None, _) => Some(format!("the store answered {code}")),
            (None, _, Some(status)) => Some(format!("the store answered with status {status}")),
            (None, _, None) => None,
        }
    }
}

/// Why no answer came, from the kinds of the errors behind it alone.
fn connection(error: &object_store::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(http) = current.downcast_ref::<HttpError>() {
            let reason = match http.kind() {
                HttpErrorKind::Connect => "no connection to the store",
                HttpErrorKind::Timeout => "the store did not answer in time",
                HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection to the store broke",
                HttpErrorKind::Decode => "the answer of the store cannot be read",
                _ => "the request did not reach the store",
            };
            return reason.into();
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io.kind().to_string();
        }
        cause = current.source();
    }
    "the store gave no reason".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_string().into() }
    }

    #[test]
    fn kinds_of_file_errors_follow_what_a_person_has_to_do() {
        let kind = |io: IoKind| from_io(io.into(), Doing::Write, Path::new("/srv/lake")).kind();
        assert_eq!(kind(IoKind::PermissionDenied), ErrorKind::Permission);
        assert_eq!(kind(IoKind::ReadOnlyFilesystem), ErrorKind::Permission);
        assert_eq!(kind(IoKind::StorageFull), ErrorKind::Unavailable);
        assert_eq!(kind(IoKind::NotADirectory), ErrorKind::Config);
        assert_eq!(kind(IoKind::TimedOut), ErrorKind::Unavailable);
        let error = from_io(IoKind::PermissionDenied.into(), Doing::Write, Path::new("/srv/lake"));
        assert!(error.message().contains("/srv/lake") && error.hint().is_some());
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let answer = |code: &str| object_store::Error::NotFound {
            path: "x".into(),
            source: format!("status code: 404 Not Found: <Error><Code>{code}</Code></Error>").into(),
        };
        assert!(is_absent(&answer("NoSuchKey")));
        assert!(!is_absent(&answer("NoSuchBucket")));
        assert_eq!(from_store(&answer("NoSuchBucket"), Doing::Read, "s3://x").kind(), ErrorKind::Config);
    }

    #[test]
    fn throttling_and_outages_may_be_tried_again() {
        for text in [
            "Server returned non-2xx status code: 503 Slow Down: <Code>SlowDown</Code>",
            "Server returned non-2xx status code: 500 Internal Server Error: ",
            "Server returned non-2xx status code: 429 Too Many Requests: ",
            "Server returned non-2xx status code: 400 Bad Request: <Code>ThrottlingException</Code><Message>KMS</Message>",
            "Server returned non-2xx status code: 400 Bad Request: <Code>KMS.ThrottlingException</Code>",
            "Server returned non-2xx status code: 400 Bad Request: <Code>KMS.InternalException</Code>",
            "connection closed",
        ] {
            assert_eq!(from_store(&generic(text), Doing::Write, "s3://x").kind(), ErrorKind::Unavailable, "{text}");
        }
    }

    #[test]
    fn wrong_credentials_and_grants_need_a_person() {
        for text in [
            "status code: 400 Bad Request: <Code>ExpiredToken</Code><Message>old</Message>",
            "Error performing PUT http://169.254.169.254/latest/api/token in 1s",
            "status code: 400 Bad Request: <Code>KMS.DisabledException</Code>",
        ] {
            assert_eq!(from_store(&generic(text), Doing::Read, "s3://x").kind(), ErrorKind::Permission, "{text}");
        }
        let denied = object_store::Error::PermissionDenied { path: "x".into(), source: "no".into() };
        let error = from_store(&denied, Doing::Read, "s3://x");
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.hint().unwrap().contains("s3:ListBucket"));
    }

    #[test]
    fn tokens_in_the_answer_of_a_store_stay_there() {
        let text = "Error performing GET https://sts/?WebIdentityToken=secret1 status code: 400 Bad Request: \
                    <Error><Code>ExpiredToken</Code><Message>The token has expired</Message><Token-0>secret2</Token-0>\
                    <AWSAccessKeyId>secret3</AWSAccessKeyId></Error>";
        let shown = format!("{:?}", from_store(&generic(text), Doing::Read, "s3://lake/x"));
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("The token has expired"), "{shown}");
    }
}
