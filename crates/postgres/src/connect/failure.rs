//! Why no connection came about: told by phase, because many of these failures carry no SQLSTATE.

use std::error::Error as StdError;
use std::io;

use starlift_core::{Error, ErrorKind};

use super::options::ConnectOptions;
use crate::sqlstate;

/// Nothing happened within the time that was allowed.
pub(super) fn timed_out(options: &ConnectOptions) -> Error {
    Error::unavailable(what(options))
        .with_detail(format!("no answer within {} s", options.connect_timeout.as_secs_f32()))
        .with_hint("check host and port, and that a firewall or security group lets this machine through")
}

/// What a failed attempt means.
pub(super) fn refused(error: tokio_postgres::Error, options: &ConnectOptions) -> Error {
    let text = error.to_string();
    let what = what(options);
    if error.as_db_error().is_some() {
        return sqlstate::classify(error, what);
    }
    if text.starts_with("error performing TLS") {
        return tls(error, what);
    }
    // The driver asks for a password that was not given, or the server for a method that neither side knows.
    if text.starts_with("invalid configuration") || text.starts_with("authentication error") {
        let detail = match (&options.password, error.source()) {
            (Some(_), Some(cause)) => format!("authentication failed: {cause}"),
            (Some(_), None) => "authentication failed".to_string(),
            (None, _) => "the server asks for a password and none was given".to_string(),
        };
        return Error::new(ErrorKind::Permission, what)
            .with_detail(detail)
            .with_hint("check user and password in the credentials");
    }
    let hint = match cause_of::<io::Error>(&error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "check that PostgreSQL runs there and that the port is right",
        Some(io::ErrorKind::NotFound) => "check that PostgreSQL runs and that its socket is in this directory",
        Some(io::ErrorKind::TimedOut) => "check that a firewall or security group lets this machine through",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            "check that this port is PostgreSQL's, and run again in a moment"
        }
        _ => "check the host name, and that the network is up",
    };
    Error::unavailable(what).with_source(error).with_hint(hint)
}

fn tls(error: tokio_postgres::Error, what: String) -> Error {
    let from_rustls = cause_of::<io::Error>(&error)
        .and_then(|cause| cause.get_ref())
        .and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let (kind, detail, hint) = match from_rustls {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let (detail, hint) = certificate(reason);
            (ErrorKind::Config, detail, hint)
        }
        Some(other) => (
            ErrorKind::Config,
            format!("TLS failed: {other}"),
            "the server must offer TLS 1.2 or 1.3 with a valid certificate",
        ),
        None if cause_of::<io::Error>(&error).is_some() => {
            (ErrorKind::Unavailable, "the connection broke while TLS was set up".into(), "run again in a moment")
        }
        None => (
            ErrorKind::Config,
            "the server does not offer TLS".into(),
            "switch it on at the server (`ssl = on`): rows never cross a network in the clear",
        ),
    };
    Error::new(kind, what).with_detail(detail).with_hint(hint)
}

/// What is wrong with a certificate, and whose it is to mend.
fn certificate(reason: &rustls::CertificateError) -> (String, &'static str) {
    use rustls::CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, UnknownIssuer,
    };
    let hint = match reason {
        // A bad signature is an authority of the same name with another key.
        UnknownIssuer | BadSignature => "name the authority that signed it with `sslrootcert=FILE`",
        NotValidForName | NotValidForNameContext { .. } => "use the host name that the certificate was made for",
        Expired | ExpiredContext { .. } => {
            "renew the server's certificate; the clock of this machine may be wrong, too"
        }
        _ => "give the server a certificate for its host name, and name its authority with `sslrootcert=FILE`",
    };
    (format!("the server's certificate is not valid: {reason}"), hint)
}

fn what(options: &ConnectOptions) -> String {
    let address = if options.host.starts_with('/') { options.host.clone() } else { options.address() };
    format!("cannot connect to database `{}` at {address}", options.database)
}

/// The first cause of a type in the chain behind an error.
fn cause_of<T: StdError + 'static>(error: &tokio_postgres::Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
