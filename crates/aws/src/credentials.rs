//! Who asks: the credentials that `s3://` would use with the same settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::{RetryConfig, StaticCredentialProvider};
use starlift_core::{Error, ErrorKind, Result};

use crate::failure::HINT_CREDENTIALS;
use crate::{ATTEMPT_TIMEOUT, TOTAL_TIMEOUT};

/// The chain of credentials: keys of the settings, a web identity, a container's role, the machine's role.
///
/// Errors: Config where the settings do not fit together.
pub(crate) fn chain(settings: &BTreeMap<String, String>) -> Result<AwsCredentialProvider> {
    let set = |name: &str| settings.get(name).cloned();
    // What a function of AWS has: nobody needs to be asked, and no client to be made.
    if let (Some(key_id), Some(secret_key)) = (set("AWS_ACCESS_KEY_ID"), set("AWS_SECRET_ACCESS_KEY")) {
        let credential = AwsCredential { key_id, secret_key, token: set("AWS_SESSION_TOKEN") };
        return Ok(Arc::new(StaticCredentialProvider::new(credential)));
    }
    let client = ClientOptions::new().with_timeout(ATTEMPT_TIMEOUT);
    let retry = RetryConfig { max_retries: 2, retry_timeout: TOTAL_TIMEOUT / 2, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retry);
    for (name, value) in settings {
        let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
        // Places of S3 itself, which the credentials do not depend on.
        if matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint | AmazonS3ConfigKey::Bucket) {
            continue;
        }
        builder = builder.with_config(key, value);
    }
    // No bucket is asked for: its name is only what the builder insists on.
    let built = builder.with_bucket_name("starlift").build().map_err(|e| {
        Error::config("the AWS settings do not fit together").with_source(e).with_hint(HINT_CREDENTIALS)
    })?;
    Ok(Arc::clone(built.credentials()))
}

/// What the chain yields now, fit for the headers of a request.
pub(crate) async fn now(chain: &AwsCredentialProvider) -> Result<Arc<AwsCredential>, object_store::Error> {
    chain.get_credential().await
}

/// Refuses keys and tokens that no header can hold: signing would end in a panic.
pub(crate) fn check(credential: &AwsCredential) -> Result<()> {
    let plain = |text: &str| text.bytes().all(|b| (0x21..=0x7e).contains(&b));
    if plain(&credential.key_id) && credential.token.as_deref().is_none_or(plain) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Permission, "the AWS credentials cannot be used")
        .with_detail("the access key or the session token holds blanks, line breaks or characters outside ASCII")
        .with_hint(HINT_CREDENTIALS))
}

/// A client for requests to a service.
pub(crate) fn client(settings: &BTreeMap<String, String>, http: bool) -> Result<HttpClient> {
    let mut options =
        ClientOptions::new().with_timeout(ATTEMPT_TIMEOUT).with_connect_timeout(ATTEMPT_TIMEOUT).with_allow_http(http);
    if let Some(proxy) = settings.get("AWS_PROXY_URL") {
        options = options.with_proxy_url(proxy);
    }
    object_store::client::ReqwestConnector::default().connect(&options).map_err(|e| {
        Error::config("no connection to AWS can be set up").with_source(e).with_hint("see the AWS settings")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_header_can_hold_is_refused_and_not_repeated() {
        let credential = |key_id: &str, token: Option<&str>| AwsCredential {
            key_id: key_id.into(),
            secret_key: "any\n".into(),
            token: token.map(Into::into),
        };
        assert!(check(&credential("AKIA", None)).is_ok());
        assert!(check(&credential("AKIA", Some("FwoGZXIvYXdzE+/="))).is_ok());
        for (key_id, token) in [("hunter2\n", None), ("AKIA", Some("hunter2 ü")), ("hunter2 ", None)] {
            let error = check(&credential(key_id, token)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Permission);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
