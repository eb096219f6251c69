//! A ToteSys, a warehouse, buckets and secrets of its own for each test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use starlift::config::{Config, Environment, Overrides, Place, Project};
use starlift::context::{Context, Unwatched};
use starlift_sandbox::s3::{Implementation, S3Server};
use starlift_sandbox::totesys::{self, Calendar, History};
use starlift_sandbox::{Cluster, ClusterOptions};
use tokio_postgres::Client;

use crate::function::Function;

pub(crate) const BUCKET: &str = "starlift-test";
pub(crate) const SOURCE_SECRET: &str = "totesys_db_credentials";
pub(crate) const WAREHOUSE_SECRET: &str = "totesys_warehouse_credentials";
/// No message, line or answer may hold one of these.
pub(crate) const CANARIES: [&str; 3] = ["canary-of-the-reader", "canary-of-the-loader", "canary-that-was-rotated"];
const CALENDAR: Calendar = Calendar { start_year: 2020, end_year: 2031 };

pub(crate) struct Lab {
    pub(crate) cluster: &'static Cluster,
    /// The PEM of whoever signed its certificate.
    pub(crate) authority: &'static str,
    pub(crate) server: S3Server,
    pub(crate) source: String,
    pub(crate) warehouse: String,
    pub(crate) reader: String,
    pub(crate) loader: String,
}

/// One cluster for all tests, and the PEM of the private authority that signed its certificate for `localhost`. It asks for
/// passwords.
fn cluster() -> &'static (Cluster, String) {
    static SHARED: OnceLock<(Cluster, String)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (issuer, authority) = authority();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tls = (dir.path().join("server.pem"), dir.path().join("server.key"));
        std::fs::write(&tls.0, certificate.pem()).unwrap();
        std::fs::write(&tls.1, key.serialize_pem()).unwrap();
        let options =
            ClusterOptions { password: Some("of-the-superuser".into()), tls: Some(tls), ..Default::default() };
        (Cluster::start(options).expect("a private PostgreSQL"), authority)
    })
}

/// An authority that no system trusts, and its PEM.
pub(crate) fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

impl Lab {
    /// A small history in the source, an empty star in the warehouse, and both secrets.
    pub(crate) async fn new() -> Lab {
        Lab::of_scale(0.005).await
    }

    pub(crate) async fn of_scale(scale: f64) -> Lab {
        let (cluster, authority) = cluster();
        let server = S3Server::start_as(Implementation::Ministack, BUCKET).await.unwrap();
        let source = cluster.fresh_database("source").await.unwrap();
        let warehouse = cluster.fresh_database("warehouse").await.unwrap();
        let (reader, loader) = (format!("{source}_reader"), format!("{warehouse}_loader"));
        let mut client = cluster.connect(&source).await.unwrap();
        totesys::create_source(&client).await.unwrap();
        History { seed: 7, scale }.fill(&mut client).await.unwrap();
        totesys::create_reader(&client, &reader, CANARIES[0]).await.unwrap();
        totesys::create_loader(&cluster.connect(&warehouse).await.unwrap(), &loader, CANARIES[1]).await.unwrap();
        let lab = Lab { cluster, authority, server, source, warehouse, reader, loader };
        lab.put_source_secret(CANARIES[0]).await;
        lab.put_warehouse_secret(CANARIES[1]).await;
        // By the role that loads, which then owns what it needs.
        let port = lab.cluster.port();
        let url = format!("postgres://{}:{}@127.0.0.1:{port}/{}", lab.loader, CANARIES[1], lab.warehouse);
        starlift::warehouse::create(&lab.context_at("", url).await).await.unwrap();
        lab
    }

    pub(crate) async fn put_source_secret(&self, password: &str) {
        self.put_source(password, json!({})).await;
    }

    /// The source's secret with these fields beside the usual ones, or in their place.
    pub(crate) async fn put_source(&self, password: &str, others: serde_json::Value) {
        let mut fields = self.credentials(&self.reader, password, &self.source);
        fields.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
        self.server.put_secret(SOURCE_SECRET, &fields.to_string()).await.unwrap();
    }

    pub(crate) async fn put_warehouse_secret(&self, password: &str) {
        let fields = self.credentials(&self.loader, password, &self.warehouse);
        self.server.put_secret(WAREHOUSE_SECRET, &fields.to_string()).await.unwrap();
    }

    fn credentials(&self, user: &str, password: &str, database: &str) -> serde_json::Value {
        let port = self.cluster.port();
        json!({ "user": user, "password": password, "host": "127.0.0.1", "database": database, "port": port })
    }

    /// The variables of a function, as a deployment sets them.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> =
            S3Server::settings(self.server.port()).map(|(name, value)| (name.to_string(), value)).into();
        for (name, value) in [
            ("STARLIFT_PROJECT", project().to_string_lossy().into_owned()),
            ("STARLIFT_SOURCE_CREDENTIALS", format!("aws-secretsmanager:{SOURCE_SECRET}")),
            ("STARLIFT_WAREHOUSE_CREDENTIALS", format!("aws-secretsmanager:{WAREHOUSE_SECRET}")),
            ("STARLIFT_LAKE_INGEST", format!("s3://{BUCKET}/ingest")),
            ("STARLIFT_LAKE_TRANSFORM", format!("s3://{BUCKET}/transform")),
        ] {
            environment.push((name.into(), value));
        }
        environment
    }

    /// The same with one variable of another value.
    pub(crate) fn environment_with(&self, name: &str, value: &str) -> Vec<(String, String)> {
        let mut environment = self.environment();
        environment.retain(|(known, _)| known != name);
        environment.push((name.into(), value.into()));
        environment
    }

    /// What the command line reads of a project and of these variables.
    pub(crate) fn config(project: &Path, variables: &[(String, String)]) -> Config {
        let pairs: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let environment = Environment::of(<[(&str, &str); 9]>::try_from(pairs).expect("nine variables"));
        Config::read(project, environment, Overrides::default()).unwrap()
    }

    pub(crate) async fn function(&self, name: &str) -> Function {
        Function::start(name, &self.environment()).await
    }

    /// What the command line works with, over places with this before their names and a warehouse of its own.
    pub(crate) async fn context(&self, before: &str, warehouse: &str) -> Context {
        self.context_at(before, self.cluster.superuser_url(warehouse)).await
    }

    async fn context_at(&self, before: &str, warehouse_url: String) -> Context {
        let settings = S3Server::settings(self.server.port());
        let environment = Environment::of(settings.each_ref().map(|(name, value)| (*name, value.as_str())));
        let overrides = Overrides {
            source_url: Some(self.cluster.superuser_url(&self.source)),
            warehouse_url: Some(warehouse_url),
            lake_ingest: Some(format!("s3://{BUCKET}/{before}ingest")),
            lake_transform: Some(format!("s3://{BUCKET}/{before}transform")),
        };
        let config = Config::read(&project(), environment, overrides).unwrap().resolved(&Place::ALL).await.unwrap();
        Context::new(config, Project::read(&project()).unwrap(), Arc::new(Unwatched), None)
    }

    pub(crate) async fn source_client(&self) -> Client {
        self.cluster.connect(&self.source).await.unwrap()
    }

    pub(crate) async fn change(&self, sql: &str) {
        self.source_client().await.batch_execute(sql).await.unwrap();
    }

    /// The current views of a warehouse hold what a query on the source says that they must.
    pub(crate) async fn assert_star_equals_source(&self, warehouse: &str) {
        let warehouse = self.cluster.connect(warehouse).await.unwrap();
        let differences = totesys::compare_all(&self.source_client().await, &warehouse, CALENDAR).await.unwrap();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// The shipped pipeline.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys")
}

/// No secret is in what was said.
pub(crate) fn assert_no_secret(said: &str) {
    for canary in CANARIES {
        assert!(!said.contains(canary), "{said}");
    }
}
