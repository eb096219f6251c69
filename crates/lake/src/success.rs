//! Answers that say "200 OK" and hold an error: S3 begins some answers before it knows how the request ends, and what stands
//! between may do so for any (<https://repost.aws/knowledge-center/s3-resolve-200-internalerror>).
//!
//! A listing that is an error would be read as one of an empty bucket, and a put as done. So such an answer is made into
//! what it means, a failure of the server: it is tried again, and its code and message are said.

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// Makes clients that look into the answers which hold no object.
#[derive(Debug, Default)]
pub(crate) struct LookingInside(ReqwestConnector);

#[derive(Debug)]
struct Looking(HttpClient);

impl HttpConnector for LookingInside {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Looking(self.0.connect(options)?)))
    }
}

#[async_trait]
impl HttpService for Looking {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // An object may be anything, an error document too.
        let is_object = matches!(request.method().as_str(), "GET" | "HEAD")
            && !request.uri().query().is_some_and(|query| query.contains("list-type="));
        let answer = self.0.execute(request).await?;
        if is_object || !answer.status().is_success() {
            return Ok(answer);
        }
        let (mut head, body) = answer.into_parts();
        let body = body.bytes().await?;
        if is_error(&body)
            && let Ok(failed) = 500_u16.try_into()
        {
            head.status = failed;
        }
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

/// Whether a body is an error document of S3.
fn is_error(body: &Bytes) -> bool {
    let text = body.trim_ascii_start();
    let root = match text.strip_prefix(b"<?xml") {
        Some(rest) => rest.iter().position(|byte| *byte == b'>').and_then(|end| rest.get(end + 1..)),
        None => Some(text),
    };
    root.is_some_and(|root| root.trim_ascii_start().starts_with(b"<Error>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_document_is_told_from_answers() {
        for error in [
            "<Error><Code>SlowDown</Code></Error>",
            "\n <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code></Error>",
        ] {
            assert!(is_error(&Bytes::from(error)), "{error}");
        }
        for answer in ["", "<ListBucketResult><Key><Error></Key></ListBucketResult>", "<?xml", "<ErrorDocument/>"] {
            assert!(!is_error(&Bytes::from(answer)), "{answer}");
        }
    }
}
