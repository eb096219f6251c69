//! Adapter to AWS: a secret of Secrets Manager and a parameter of Systems Manager, by name.
//!
//! There is no AWS SDK here. Credentials, signature (SigV4) and HTTP client are those of `object_store`, so that a secret is
//! read as whoever reads `s3://`, with the same settings.
//!
//! Guarantees:
//! * a text that was read is handed to the caller and to nobody else: no error, log line or `Debug` form holds it, nor a key or
//!   token of the request;
//! * only TLS leaves this machine: an endpoint of `http://` is refused unless it is loopback or `AWS_ALLOW_HTTP` says so;
//! * no wait is for ever: an attempt ends after [`ATTEMPT_TIMEOUT`], and all attempts after [`TOTAL_TIMEOUT`];
//! * what passes by itself (throttling, 5xx, a network that fails) is tried again, and nothing else is.
//!
//! Nothing is written and nothing is kept, so a crash leaves nothing behind.

mod credentials;
mod endpoint;
mod failure;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use starlift_core::digest::sha256_hex;
use starlift_core::{Error, Result};

use crate::endpoint::Service;
use crate::failure::Failed;
use crate::request::Caller;

/// How long one attempt may take.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long all attempts together may take.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a request is sent at most.
const ATTEMPTS: u32 = 5;
/// The wait before the second attempt; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// AWS as settings describe it.
#[derive(Clone)]
pub struct Aws {
    settings: BTreeMap<String, String>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("settings", &self.settings.keys()).finish()
    }
}

impl Aws {
    /// AWS by settings under their environment names (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …), as the lake
    /// takes them; unknown ones are left alone. Asks nobody anything.
    pub fn new(settings: &BTreeMap<String, String>) -> Aws {
        let settings = settings.iter().filter(|(_, value)| !value.is_empty());
        Aws { settings: settings.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    /// The current text of a secret in Secrets Manager, by its name or ARN.
    ///
    /// # Errors
    /// Permission where there is no such secret or it may not be read, Config where its name or the settings cannot be used,
    /// it has no value yet or it holds bytes, Unavailable where AWS did not answer.
    pub async fn secret(&self, name: &str) -> Result<String> {
        let answer = self.ask(Service::SecretsManager, name, &json!({ "SecretId": name })).await?;
        text_at(answer, &["SecretString"]).ok_or_else(|| {
            Error::config(format!("the secret `{name}` holds no text"))
                .with_hint("store it as a text (`SecretString`), not as bytes")
        })
    }

    /// The value of a parameter in Systems Manager, by its name (`/starlift/dev/lake_ingest`) or ARN; decrypted where it is a
    /// `SecureString`.
    ///
    /// # Errors
    /// Those of [`Aws::secret`], but for a parameter that is not there, which is Config.
    pub async fn parameter(&self, name: &str) -> Result<String> {
        let asked = json!({ "Name": name, "WithDecryption": true });
        let answer = self.ask(Service::Parameters, name, &asked).await?;
        text_at(answer, &["Parameter", "Value"])
            .ok_or_else(|| Error::unavailable(format!("the answer for the parameter `{name}` has no value")))
    }

    /// Sends a request until it is answered, or cannot be.
    async fn ask(&self, service: Service, name: &str, asked: &Value) -> Result<Value> {
        failure::check_name(service, name)?;
        let region = endpoint::region(&self.settings, name);
        let url = endpoint::url(service, &self.settings, &region)?;
        let caller = Caller::new(&self.settings, service, region, url)?;
        let body = asked.to_string();
        let attempts = async {
            let mut attempt = 1;
            loop {
                let failed = match caller.send(name, &body).await {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => failed,
                };
                if !failed.passes || attempt == ATTEMPTS {
                    return Err(failed.error);
                }
                tracing::debug!(attempt, "AWS is asked again: {}", failed.error);
                tokio::time::sleep(wait(name, attempt)).await;
                attempt += 1;
            }
        };
        tokio::time::timeout(TOTAL_TIMEOUT, attempts)
            .await
            .unwrap_or_else(|_| Err(Failed::in_time(service, name, TOTAL_TIMEOUT).error))
    }
}

/// How long to wait after an attempt that failed: twice as long each time, and for each name a little differently, so that
/// those who were refused together do not come back together.
fn wait(name: &str, attempt: u32) -> Duration {
    let hash = sha256_hex(format!("{name} {attempt}").as_bytes());
    let bits = hash.get(..4).and_then(|hex| u16::from_str_radix(hex, 16).ok()).unwrap_or_default();
    (FIRST_WAIT * (1 << attempt.saturating_sub(1).min(6))).mul_f64(0.5 + f64::from(bits) / f64::from(u16::MAX))
}

/// The text at a path of names.
fn text_at(mut value: Value, path: &[&str]) -> Option<String> {
    for name in path {
        value = value.get_mut(*name)?.take();
    }
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_half_and_one_and_a_half() {
        for attempt in 1..ATTEMPTS {
            let middle = FIRST_WAIT * (1 << (attempt - 1));
            let waited = wait("totesys_db_credentials", attempt);
            assert!(waited >= middle / 2 && waited <= middle * 3 / 2, "{attempt}: {waited:?}");
        }
    }

    #[test]
    fn what_is_printed_of_it_holds_no_setting() {
        let settings = BTreeMap::from([("AWS_SECRET_ACCESS_KEY".to_string(), "hunter2".to_string())]);
        let shown = format!("{:?}", Aws::new(&settings));
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_text_is_found_at_its_path_alone() {
        let answer = json!({ "Parameter": { "Value": "s3://lake" } });
        assert_eq!(text_at(answer.clone(), &["Parameter", "Value"]).as_deref(), Some("s3://lake"));
        assert_eq!(text_at(answer.clone(), &["SecretString"]), None);
        assert_eq!(text_at(answer, &["Parameter"]), None);
    }
}
