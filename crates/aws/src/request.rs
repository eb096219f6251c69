//! One request: signed, sent, and its answer read.

use std::collections::BTreeMap;

use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use serde_json::Value;
use starlift_core::{Error, Result};
use url::Url;

use crate::credentials;
use crate::endpoint::Service;
use crate::failure::{Answer, Failed};

/// The most bytes of an answer: a secret has at most 64 KiB.
const MAX_BYTES: usize = 1 << 20;

/// Who asks a service, and where.
pub(crate) struct Caller {
    service: Service,
    region: String,
    url: Url,
    chain: AwsCredentialProvider,
    client: HttpClient,
}

impl Caller {
    /// Errors: Config where the settings do not fit together.
    pub(crate) fn new(
        settings: &BTreeMap<String, String>,
        service: Service,
        region: String,
        url: Url,
    ) -> Result<Caller> {
        let chain = credentials::chain(settings)?;
        let client = credentials::client(settings, url.scheme() == "http")?;
        Ok(Caller { service, region, url, chain, client })
    }

    /// Sends the request once. `name` is the secret's or the parameter's, for messages.
    pub(crate) async fn send(&self, name: &str, body: &str) -> Result<Value, Failed> {
        let (service, region) = (self.service, self.region.as_str());
        let credential = credentials::now(&self.chain).await.map_err(|e| Failed::no_credentials(service, name, &e))?;
        credentials::check(&credential).map_err(Failed::for_good)?;
        let mut request = self.request(body).map_err(Failed::for_good)?;
        AwsAuthorizer::new(&credential, service.name(), region).authorize(&mut request, None);
        let answer = self.client.execute(request).await.map_err(|e| Failed::unanswered(service, name, e.kind()))?;
        let status = answer.status().as_u16();
        let bytes = answer.into_body().bytes().await.map_err(|e| Failed::unanswered(service, name, e.kind()))?;
        if status != 200 {
            return Err(Answer::read(status, &bytes).failed(service, name, region));
        }
        let read = (bytes.len() <= MAX_BYTES).then(|| serde_json::from_slice(&bytes).ok()).flatten();
        read.ok_or_else(|| Failed::unreadable(service, name))
    }

    fn request(&self, body: &str) -> Result<HttpRequest> {
        let wrong = || Error::config("the AWS endpoint cannot be used").with_hint("see `AWS_ENDPOINT_URL`");
        let mut request = HttpRequest::new(HttpRequestBody::from(body.to_string()));
        *request.method_mut() = "POST".parse().map_err(|_| wrong())?;
        *request.uri_mut() = self.url.as_str().parse().map_err(|_| wrong())?;
        for (header, value) in [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", self.service.target())]
        {
            request.headers_mut().insert(header, value.parse().map_err(|_| wrong())?);
        }
        Ok(request)
    }
}
