//! A database whose certificate no system trusts, as those of managed databases are: the authority's comes with the project.

use std::path::Path;

use serde_json::json;
use starlift::config::Project;
use starlift::context::{Context, Unwatched};
use starlift_lambda::Side;

use crate::function::Function;
use crate::lab::{CANARIES, Lab, assert_no_secret, authority, project};

/// A copy of the shipped pipeline, to add something to.
fn copied(to: &Path) {
    for folder in ["", "models", "seeds"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(project().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, to.join(folder).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    std::fs::create_dir(to.join("certs")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_with_a_private_authority_serves_functions_and_command_line() {
    let lab = Lab::new().await;
    let folder = tempfile::tempdir().unwrap();
    copied(folder.path());
    let ca = folder.path().join("certs/ca.pem");
    // By its name: the certificate is made for that.
    let tls = json!({ "host": "localhost", "sslmode": "verify-full", "sslrootcert": "certs/ca.pem" });
    lab.put_source(CANARIES[0], tls).await;
    let environment = lab.environment_with("STARLIFT_PROJECT", &folder.path().to_string_lossy());

    // The process is started elsewhere: what is found is found from the project.
    let mut ingest = Function::start("ingest", &environment).await;
    let (message, line) = ingest.fails("{}", "Starlift.Config").await;
    assert!(message.contains("certs/ca.pem") && message.contains("sslrootcert"), "{message}");
    assert_no_secret(&format!("{message}{line}"));
    std::fs::write(&ca, authority().1).unwrap();
    let (message, _) = ingest.fails("{}", "Starlift.Config").await;
    assert!(message.contains("the server's certificate is not valid"), "{message}");
    std::fs::write(&ca, lab.authority).unwrap();
    assert!(ingest.result("trusted", "{}").await["staff"].is_string());

    let config = Lab::config(folder.path(), &environment);
    let by_hand = Context::new(config, Project::read(folder.path()).unwrap(), std::sync::Arc::new(Unwatched), None);
    let connection = by_hand.connect(Side::Source).await.unwrap();
    let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(connection.client().query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
}
