//! TLS by rustls: certificate chain, host name and expiry are always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use starlift_core::{Error, Result};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connector that trusts the authorities of a PEM file, or else of the system.
///
/// # Errors
/// Config where the file cannot be used or no authority is found.
pub(super) fn connector(root_cert: Option<&Path>) -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    match root_cert {
        Some(path) => add_file(&mut roots, path)?,
        None => {
            // Single certificates of the system that cannot be read are left out, as every TLS client does.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::config("this system has no certificate authorities to verify the server with")
                    .with_hint("install the package `ca-certificates`, or name a PEM file with `sslrootcert=FILE`"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("TLS cannot be set up").with_source(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<()> {
    let bad = |detail: String| {
        Error::config(format!("the file `{}` of `sslrootcert` cannot be used", path.display()))
            .with_detail(detail)
            .with_hint(
                "name a PEM file with the certificate of the authority that signed the server's; a relative name starts \
                 at the project, and the zips of functions hold `certs/*.pem` of it",
            )
    };
    // The reader's own text may quote the file; its kind is enough.
    let text = std::fs::read(path).map_err(|e| bad(e.kind().to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| bad("it is no PEM".into()))?;
        roots.add(certificate).map_err(|e| bad(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it holds no certificate".into()));
    }
    Ok(())
}
