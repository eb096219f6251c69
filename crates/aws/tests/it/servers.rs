//! Against what stands in for AWS: both servers, the same answers.

use std::collections::BTreeMap;

use starlift_aws::Aws;
use starlift_core::ErrorKind;
use starlift_sandbox::s3::{Implementation, S3Server};

async fn holds(implementation: Implementation) {
    let server = S3Server::start_as(implementation, "starlift-test").await.unwrap();
    let settings: BTreeMap<String, String> =
        S3Server::settings(server.port()).map(|(name, value)| (name.to_string(), value)).into();
    let aws = Aws::new(&settings);

    let missing = aws.secret("totesys_db_credentials").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Permission, "{missing:?}");
    assert!(missing.render().contains("us-east-1"), "{missing:?}");
    let credentials = "{\"user\": \"u\", \"password\": \"hunter2 \\\"ö\"}\n";
    server.put_secret("totesys_db_credentials", credentials).await.unwrap();
    assert_eq!(aws.secret("totesys_db_credentials").await.unwrap(), credentials);
    server.put_secret("totesys_db_credentials", "rotated").await.unwrap();
    assert_eq!(aws.secret("totesys_db_credentials").await.unwrap(), "rotated");

    let missing = aws.parameter("/starlift/dev/lake_ingest").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config, "{missing:?}");
    for (name, value, is_secret) in
        [("/starlift/dev/lake_ingest", "s3://lake/ingest", false), ("/starlift/dev/source", "{\"a\":1}", true)]
    {
        server.put_parameter(name, value, is_secret).await.unwrap();
        assert_eq!(aws.parameter(name).await.unwrap(), value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_and_a_parameter_are_read_from_ministack() {
    holds(Implementation::Ministack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_and_a_parameter_are_read_from_moto() {
    holds(Implementation::Moto).await;
}
