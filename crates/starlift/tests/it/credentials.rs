//! Where credentials may be written, and what they name.

use std::path::{Path, PathBuf};

use starlift::config::{Config, Environment, Overrides, Side};
use starlift_core::Micros;

/// The authorities' file that a connection to the source trusts, with these variables and this URL of a flag.
async fn root_cert(project: &Path, environment: Environment, source_url: Option<&str>) -> Option<PathBuf> {
    let overrides = Overrides { source_url: source_url.map(str::to_string), ..Overrides::default() };
    let config = Config::read(project, environment, overrides).unwrap();
    config.connection(Side::Source, Micros(0)).await.unwrap().root_cert
}

#[tokio::test]
async fn a_relative_file_of_authorities_starts_at_the_project_wherever_it_is_written() {
    let project = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(project.path().join(name), text).unwrap();
    file("starlift.toml", "[pipeline]\nname = \"p\"\n[source]\ncredentials = \"file:c.json\"\n");
    let json = r#"{"user": "u", "host": "h", "database": "d", "sslrootcert": "certs/rds.pem"}"#;
    file("c.json", json);
    let url = "postgres://u@h/d?sslrootcert=certs/rds.pem";
    let expected = Some(project.path().join("certs/rds.pem"));
    let variable = |text| Environment::of([("STARLIFT_SOURCE_CREDENTIALS", "env:IT"), ("IT", text)]);
    for (environment, flag) in [
        (Environment::default(), None),
        (Environment::default(), Some(url)),
        (Environment::of([("STARLIFT_SOURCE_URL", url)]), None),
        (variable(url), None),
        (variable(json), None),
    ] {
        let shown = format!("{environment:?} {flag:?}");
        assert_eq!(root_cert(project.path(), environment, flag).await, expected, "{shown}");
    }
    for (url, expected) in [
        ("postgres://u@h/d?sslrootcert=/etc/ca.pem", Some("/etc/ca.pem")),
        ("postgres://u@h/d?sslrootcert=system", None),
        ("postgres://u@h/d", None),
    ] {
        let found = root_cert(project.path(), Environment::default(), Some(url)).await;
        assert_eq!(found, expected.map(PathBuf::from), "{url}");
    }
}
