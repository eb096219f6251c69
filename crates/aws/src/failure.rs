//! What a failed request means: the one place where errors of Secrets Manager and Systems Manager are classified.
//!
//! Of an answer its code is said, and its message only where access was denied, when it names who may not do what: the
//! answer to a wrong signature repeats the request with its token.
//! Codes: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html> and its sibling of Systems Manager.

use std::time::Duration;

use object_store::client::HttpErrorKind;
use starlift_core::event::printable;
use starlift_core::{Error, ErrorKind, Result};

use crate::endpoint::Service;

pub(crate) const HINT_CREDENTIALS: &str =
    "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` (and `AWS_SESSION_TOKEN`), or run under a role";
/// What an ARN may have.
const MAX_NAME: usize = 2048;

/// An attempt that failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Whether the same request may succeed in a moment.
    pub(crate) passes: bool,
}

impl Failed {
    pub(crate) fn for_good(error: Error) -> Failed {
        Failed { error, passes: false }
    }

    fn in_a_moment(error: Error) -> Failed {
        Failed { error, passes: true }
    }

    /// No answer came.
    pub(crate) fn unanswered(service: Service, name: &str, kind: HttpErrorKind) -> Failed {
        let reason = match kind {
            HttpErrorKind::Connect => "no connection to the service",
            HttpErrorKind::Timeout => "the service did not answer in time",
            HttpErrorKind::Interrupted | HttpErrorKind::Request => "the connection to the service broke",
            HttpErrorKind::Decode => "the answer cannot be read",
            _ => "the request did not reach the service",
        };
        Failed::in_a_moment(Error::unavailable(what(service, name)).with_detail(reason).with_hint(
            "check the network: a function in a private subnet needs a NAT gateway or an endpoint of its VPC",
        ))
    }

    /// All attempts together took too long.
    pub(crate) fn in_time(service: Service, name: &str, limit: Duration) -> Failed {
        Failed::for_good(
            Error::unavailable(what(service, name))
                .with_detail(format!("no answer within {} s", limit.as_secs()))
                .with_hint("run again later"),
        )
    }

    /// An answer that says yes and holds nothing that can be read.
    pub(crate) fn unreadable(service: Service, name: &str) -> Failed {
        Failed::in_a_moment(
            Error::unavailable(what(service, name))
                .with_detail("the answer is no JSON object of this service")
                .with_hint("check that `AWS_ENDPOINT_URL` is AWS, or what stands for it"),
        )
    }

    /// The chain of credentials came to nothing. Its errors repeat URLs and tokens: only their kind is said.
    pub(crate) fn no_credentials(service: Service, name: &str, error: &object_store::Error) -> Failed {
        let text = error.to_string();
        let refused = ["status code: 400", "status code: 401", "status code: 403", "status code: 404"];
        // The machine's own service, which answers nobody where there is none.
        let nobody = text.contains("169.254.169.254") || text.contains("169.254.170.2");
        let error = Error::new(
            if nobody || refused.iter().any(|status| text.contains(status)) {
                ErrorKind::Permission
            } else {
                ErrorKind::Unavailable
            },
            what(service, name),
        );
        Failed::for_good(error.with_detail("no AWS credentials are to be had").with_hint(HINT_CREDENTIALS))
    }
}

/// What a service answered that refused.
pub(crate) struct Answer {
    status: u16,
    code: String,
    message: String,
}

impl Answer {
    /// Reads `{"__type": "…#Code", "message": "…"}`, or as much of it as is there.
    pub(crate) fn read(status: u16, bytes: &[u8]) -> Answer {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text =
            |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str()).unwrap_or_default().to_string();
        let code = text(["__type", "code"]);
        let code = code.rsplit('#').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
        Answer {
            status,
            code: code.chars().filter(|c| plain(*c)).take(80).collect(),
            message: text(["message", "Message"]),
        }
    }

    /// What that means.
    pub(crate) fn failed(&self, service: Service, name: &str, region: &str) -> Failed {
        let (thing, action) = (service.thing(), service.action());
        let code = self.code.as_str();
        let is_skew = ["expired", "not yet current", "skew"].iter().any(|word| self.message.contains(word));
        let said = |kind: ErrorKind, hint: String| {
            let detail = match code {
                "" => format!("AWS answered with status {}", self.status),
                code => format!("AWS answered {code}"),
            };
            Error::new(kind, what(service, name)).with_detail(detail).with_hint(hint)
        };
        let person = |kind: ErrorKind, hint: String| Failed::for_good(said(kind, hint));
        match code {
            "ResourceNotFoundException" if self.message.contains("staging label") => {
                Failed::for_good(no_value(service, name))
            }
            "ResourceNotFoundException" => Failed::for_good(missing(ErrorKind::Permission, service, name, region)),
            "ParameterNotFound" | "ParameterVersionNotFound" => {
                Failed::for_good(missing(ErrorKind::Config, service, name, region))
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch" if is_skew => {
                person(ErrorKind::Config, "set the clock of this machine".into())
            }
            // `Credential should be scoped to a valid region, not '…'`: the endpoint is in another one.
            "InvalidSignatureException" | "SignatureDoesNotMatch" if self.message.contains("valid region") => person(
                ErrorKind::Config,
                format!("set `AWS_REGION` to the region of the endpoint; it is `{region}` now"),
            ),
            "RequestExpired" | "RequestTimeTooSkewed" => {
                person(ErrorKind::Config, "set the clock of this machine".into())
            }
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidAccessKeyId"
            | "OptInRequired" => {
                person(ErrorKind::Permission, format!("renew the AWS credentials, and check the region (`{region}`)"))
            }
            "DecryptionFailure" | "InvalidKeyId" | "AccessDeniedToKMSKey" => {
                person(ErrorKind::Permission, format!("grant `kms:Decrypt` on the key of the {thing}"))
            }
            // A secret that is about to be deleted.
            "InvalidRequestException" => {
                person(ErrorKind::Permission, format!("restore the {thing}, if it is marked for deletion"))
            }
            code if code.contains("AccessDenied") || code == "NotAuthorized" => {
                let mut error = said(ErrorKind::Permission, format!("grant `{action}` on this {thing}"));
                if let Some(detail) = self.denied() {
                    error = error.with_detail(detail);
                }
                Failed::for_good(error)
            }
            code if is_throttling(code) || self.status == 429 => {
                Failed::in_a_moment(said(ErrorKind::Unavailable, "run again later: AWS asks to slow down".into()))
            }
            _ if self.status >= 500 || code.starts_with("Internal") || self.status == 408 => {
                Failed::in_a_moment(said(ErrorKind::Unavailable, "run again later".into()))
            }
            _ if matches!(self.status, 401 | 403) => {
                person(ErrorKind::Permission, format!("grant `{action}` on this {thing}"))
            }
            _ => person(ErrorKind::Config, "see the AWS settings: region, endpoint and name".into()),
        }
    }

    /// Who may not do what: `User: arn:… is not authorized to perform: …`.
    fn denied(&self) -> Option<String> {
        let message = self.message.get(..self.message.len().min(400)).unwrap_or(&self.message);
        let one_line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        one_line.contains("not authorized").then(|| format!("AWS answered {}: {one_line}", self.code))
    }
}

fn is_throttling(code: &str) -> bool {
    code.contains("Throttl")
        || matches!(code, "TooManyRequestsException" | "RequestLimitExceeded" | "SlowDown" | "ServiceUnavailable")
}

fn missing(kind: ErrorKind, service: Service, name: &str, region: &str) -> Error {
    let thing = service.thing();
    Error::new(kind, what(service, name))
        .with_detail(format!("there is no such {thing} in the region `{region}` of this account"))
        .with_hint("create it, or correct its name or `AWS_REGION`; docs/aws.md has the commands")
}

/// The secret was made and has not been given a value, or has lost it.
fn no_value(service: Service, name: &str) -> Error {
    let put =
        format!("aws secretsmanager put-secret-value --secret-id {} --secret-string file://FILE", printable(name));
    Error::config(what(service, name))
        .with_detail(format!("the {} has no value yet", service.thing()))
        .with_hint(format!("give it one: `{put}`"))
}

fn what(service: Service, name: &str) -> String {
    format!("cannot read the {} `{}`", service.thing(), printable(name))
}

/// Refuses a name that none can have: whole documents get pasted into the place of a name.
pub(crate) fn check_name(service: Service, name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@:-!".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let thing = service.thing();
    Err(Error::config(format!("the name of a {thing} cannot be used"))
        .with_detail("a name has letters, digits and `/_+=.@:-!`")
        .with_hint(format!("give the name or ARN of the {thing}, not what it holds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Failed {
        Answer::read(status, body.as_bytes()).failed(Service::SecretsManager, "totesys", "eu-west-2")
    }

    #[test]
    fn codes_become_kinds_that_say_what_to_do() {
        use ErrorKind::{Config, Permission, Unavailable};
        for (status, code, kind, passes, hint) in [
            (400, "ResourceNotFoundException", Permission, false, "AWS_REGION"),
            (400, "com.amazon.coral.service#AccessDeniedException", Permission, false, "secretsmanager:GetSecretValue"),
            (400, "UnrecognizedClientException", Permission, false, "renew"),
            (400, "ExpiredTokenException", Permission, false, "renew"),
            (400, "DecryptionFailure", Permission, false, "kms:Decrypt"),
            (400, "InvalidRequestException", Permission, false, "restore"),
            (400, "ParameterNotFound", Config, false, "AWS_REGION"),
            (400, "ValidationException", Config, false, "settings"),
            (400, "RequestExpired", Config, false, "clock"),
            (400, "ThrottlingException", Unavailable, true, "slow down"),
            (429, "", Unavailable, true, "slow down"),
            (500, "InternalServiceError", Unavailable, true, "later"),
            (503, "", Unavailable, true, "later"),
            (403, "", Permission, false, "grant"),
        ] {
            let failed = answered(status, &format!("{{\"__type\":\"{code}\"}}"));
            assert_eq!((failed.error.kind(), failed.passes), (kind, passes), "{status} {code}");
            assert!(failed.error.hint().unwrap().contains(hint), "{status} {code}: {:?}", failed.error);
            assert!(failed.error.message().contains("totesys"), "{status} {code}");
        }
    }

    #[test]
    fn a_secret_without_a_value_is_told_from_one_that_is_not_there() {
        let body = r#"{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"}"#;
        let failed = answered(400, body);
        assert_eq!((failed.error.kind(), failed.passes), (ErrorKind::Config, false));
        assert_eq!(failed.error.detail().as_deref(), Some("the secret has no value yet"));
        assert!(failed.error.hint().unwrap().contains("put-secret-value --secret-id totesys "), "{:?}", failed.error);
        let body =
            r#"{"__type":"ResourceNotFoundException","Message":"Secrets Manager can't find the specified secret."}"#;
        let failed = answered(400, body);
        assert_eq!(failed.error.kind(), ErrorKind::Permission);
        assert!(
            failed.error.detail().unwrap().contains("no such secret in the region `eu-west-2`"),
            "{:?}",
            failed.error
        );
    }

    #[test]
    fn a_clock_or_region_that_is_wrong_is_told_from_a_key_that_is_wrong() {
        let kind = |message: &str| {
            answered(400, &format!(r#"{{"__type":"InvalidSignatureException","message":"{message}"}}"#)).error.kind()
        };
        assert_eq!(kind("Signature expired: 20241120T113500Z is now earlier than 20241120T120000Z"), ErrorKind::Config);
        assert_eq!(kind("Signature not yet current: 2024"), ErrorKind::Config);
        assert_eq!(kind("Credential should be scoped to a valid region, not 'us-east-1'. "), ErrorKind::Config);
        assert_eq!(kind("The request signature we calculated does not match"), ErrorKind::Permission);
    }

    #[test]
    fn the_message_is_said_where_access_is_denied_and_nowhere_else() {
        let body = |code: &str, message: &str| format!(r#"{{"__type":"{code}","Message":"{message}"}}"#);
        let denied = "User: arn:aws:sts::1:assumed-role/r is not authorized to perform: secretsmanager:GetSecretValue";
        let error = answered(400, &body("AccessDeniedException", denied)).error;
        assert!(error.detail().unwrap().contains("assumed-role/r"), "{error:?}");
        for code in ["InvalidSignatureException", "ValidationException", "Whatever", "AccessDeniedException"] {
            let error = answered(400, &body(code, "x-amz-security-token:hunter2")).error;
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn any_bytes_are_an_answer() {
        for bytes in ["", "[]", "<html>", "{\"__type\":7}", "\u{0}", "{\"__type\":\"a\\nb#c\\nd\"}"] {
            let failed = answered(418, bytes);
            assert_eq!(failed.error.kind(), ErrorKind::Config, "{bytes}");
            assert!(!failed.error.render().contains("c\nd"));
        }
    }

    #[test]
    fn a_name_that_none_can_have_is_refused_and_not_repeated() {
        for name in ["totesys_db_credentials", "/starlift/dev/lake", "arn:aws:secretsmanager:eu-west-2:1:secret:a-B1c"]
        {
            assert!(check_name(Service::SecretsManager, name).is_ok(), "{name}");
        }
        for name in ["", "a b", "{\"password\":\"hunter2\"}", "hunter2\n", &"a".repeat(3000)] {
            let error = check_name(Service::SecretsManager, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
