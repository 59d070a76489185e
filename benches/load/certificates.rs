//! Certificates that are made when they are needed: for servers that the generator starts, and for itself.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::CertifiedKey;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

/// A certificate of `localhost`, signed by itself, and its key.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// # Errors
    /// A sentence, where they cannot be made or written.
    pub(crate) fn make() -> Result<Self, String> {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(|error| error.to_string())?;
        let write = || -> io::Result<Self> {
            let made = Self { folder: tempfile::tempdir()? };
            fs::write(made.chain(), cert.pem())?;
            fs::write(made.key(), signing_key.serialize_pem())?;
            Ok(made)
        };
        write().map_err(|error| format!("no certificates: {error}"))
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// A client that trusts it.
    ///
    /// # Errors
    /// As [`trusting`].
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        trusting(&self.chain())
    }
}

/// A client that trusts what is signed with the certificates in this file, in PEM.
///
/// # Errors
/// A sentence that names the file.
pub(crate) fn trusting(path: &std::path::Path) -> Result<Arc<ClientConfig>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| failed(&error))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
