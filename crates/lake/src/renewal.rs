//! A credential that a service handed out (of an instance, a container, a web identity), fetched again when the store says that
//! it has expired.
//!
//! object_store keeps such a credential until shortly before the time that came with it, and goes on using it where its time is
//! over for the store: this machine's clock is behind, or the time that came with it was too late. Here the request is signed
//! with a fresh credential and sent once more, parts of a running upload too. Where no other credential can be had, as of one
//! that was given by `AWS_SESSION_TOKEN`, the store's answer stands. So does `AccessDenied`, which AWS answers where a role's
//! sessions were revoked: it may as well be a right that is missing.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use object_store::{ClientOptions, CredentialProvider};
use tokio::sync::Mutex;

use crate::bucket::is_printable;
use crate::success::LookingInside;

const TOKEN: &str = "x-amz-security-token";
const DIGEST: &str = "x-amz-content-sha256";

/// Hands out credentials like the provider that a builder's settings ask for, and can begin anew.
pub(crate) struct Renewable {
    builder: AmazonS3Builder,
    current: RwLock<AwsCredentialProvider>,
    /// One fetches while the others wait for what comes.
    fetching: Mutex<()>,
}

// The builder holds secrets.
impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewable")
    }
}

impl Renewable {
    /// By the settings of a builder, which has its bucket.
    pub(crate) fn of(builder: AmazonS3Builder) -> object_store::Result<Renewable> {
        let current = provider(&builder)?;
        Ok(Renewable { builder, current: RwLock::new(current), fetching: Mutex::new(()) })
    }

    fn current(&self) -> AwsCredentialProvider {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A credential with another token, fetched now unless that has happened meanwhile.
    async fn other_than(&self, expired: &str) -> Option<Arc<AwsCredential>> {
        let _fetching = self.fetching.lock().await;
        let is_other = |credential: &Arc<AwsCredential>| credential.token.as_deref() != Some(expired);
        if let Ok(credential) = self.current().get_credential().await.and_then(fit)
            && is_other(&credential)
        {
            return Some(credential);
        }
        // A new provider has an empty memory.
        let fresh = provider(&self.builder).ok()?;
        let credential = fresh.get_credential().await.and_then(fit).ok().filter(is_other)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Some(credential)
    }

    /// The request with a fresh credential; none where it was not signed with one that can expire, or no other is to be had.
    async fn sign_again(&self, mut request: HttpRequest) -> Option<HttpRequest> {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().ok()?.to_string());
        let (token, digest) = (header(TOKEN)?, header(DIGEST)?);
        // `AWS4-HMAC-SHA256 Credential=<key>/<day>/<region>/s3/aws4_request, …`
        let region = header("authorization")?.split_once("Credential=")?.1.split('/').nth(2)?.to_string();
        let credential = self.other_than(&token).await?;
        request.headers_mut().remove(TOKEN);
        let is_signed = digest != "UNSIGNED-PAYLOAD";
        let digest = unhex(&digest);
        AwsAuthorizer::new(&credential, "s3", &region)
            .with_sign_payload(is_signed)
            .authorize(&mut request, digest.as_deref());
        Some(request)
    }
}

fn provider(builder: &AmazonS3Builder) -> object_store::Result<AwsCredentialProvider> {
    Ok(Arc::clone(builder.clone().build()?.credentials()))
}

/// A credential that the headers of a request can hold: signing with another would end in a panic.
fn fit(credential: Arc<AwsCredential>) -> object_store::Result<Arc<AwsCredential>> {
    if is_printable(&credential.key_id) && credential.token.as_deref().is_none_or(is_printable) {
        return Ok(credential);
    }
    let source = "the credential that was handed out holds characters that no request can carry".into();
    Err(object_store::Error::Generic { store: "S3", source })
}

#[async_trait]
impl CredentialProvider for Renewable {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        fit(self.current().get_credential().await?)
    }
}

/// Makes clients that send a request again, once, whose token the store calls expired.
#[derive(Debug)]
pub(crate) struct SigningAgain {
    inner: LookingInside,
    credentials: Arc<Renewable>,
}

impl SigningAgain {
    /// With fresh credentials from there.
    pub(crate) fn with(credentials: Arc<Renewable>) -> SigningAgain {
        SigningAgain { inner: LookingInside::default(), credentials }
    }
}

impl HttpConnector for SigningAgain {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let (client, credentials) = (self.inner.connect(options)?, Arc::clone(&self.credentials));
        Ok(HttpClient::new(Signing { client, credentials }))
    }
}

#[derive(Debug)]
struct Signing {
    client: HttpClient,
    credentials: Arc<Renewable>,
}

#[async_trait]
impl HttpService for Signing {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // The body of a clone is the same bytes.
        let again = request.clone();
        let answer = self.client.execute(request).await?;
        if answer.status().as_u16() != 400 {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let body = body.bytes().await?;
        // The answer to HEAD has no body that could say why.
        if (again.method().as_str() == "HEAD" || is_expired(&body))
            && let Some(signed) = self.credentials.sign_again(again).await
        {
            tracing::info!("the store calls the credential expired; a fresh one is used");
            return self.client.execute(signed).await;
        }
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

/// Whether an error document of S3 is about a token whose time is over.
fn is_expired(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    ["ExpiredToken", "TokenRefreshRequired"].iter().any(|code| text.contains(&format!("<Code>{code}</Code>")))
}

/// The bytes of a digest in hexadecimal.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_other_texts_are_none() {
        assert_eq!(unhex("00ff1A"), Some(vec![0, 255, 26]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), None);
    }
}
