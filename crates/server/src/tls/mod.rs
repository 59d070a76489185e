//! TLS, as far as it is no connection's own: certificates, which can be read again while the server runs, and figures.
//!
//! A connection keeps what it began with; one that comes after new certificates were read has those.

pub mod options;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use options::Options;
use options::{LeastVersion, Resumption, Verify};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::clock::Clock;

/// What all TLS connections of a server share.
#[derive(Debug)]
pub struct Context {
    /// What the operator asked for.
    pub options: Options,
    /// What was counted.
    pub counters: TlsCounters,
    config: RwLock<Arc<ServerConfig>>,
    clock: Clock,
    /// The uptime at which the certificates were read last.
    refreshed_at: AtomicU64,
}

/// What was counted of handshakes and certificates.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Those that failed, for whatever reason.
    pub handshake_errors: AtomicU64,
    /// Those of them that took too long.
    pub handshake_timeouts: AtomicU64,
    /// Times that certificates were bad which were to be read again.
    pub refresh_errors: AtomicU64,
}

impl Context {
    /// Reads the certificates.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn load(options: Options, clock: Clock) -> Result<Self, String> {
        let config = RwLock::new(Arc::new(read(&options)?));
        let refreshed_at = AtomicU64::new(clock.uptime());
        Ok(Self { options, counters: TlsCounters::default(), config, clock, refreshed_at })
    }

    /// Reads the certificates again, for connections to come. Where that fails, nothing changes. The log tells both.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn reload(&self) -> Result<(), String> {
        let config = read(&self.options).inspect_err(|why| {
            log::error!("the certificates stay as they were: {why}");
            self.counters.refresh_errors.fetch_add(1, Ordering::Relaxed);
        })?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.refreshed_at.store(self.clock.uptime(), Ordering::Relaxed);
        log::info!("the certificates were read again");
        Ok(())
    }

    /// The server's side of one connection.
    ///
    /// # Errors
    /// What rustls reports.
    pub fn accept(&self) -> Result<ServerConnection, rustls::Error> {
        ServerConnection::new(self.config())
    }

    /// What a connection begins with that comes now.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Seconds since the certificates were read last.
    #[must_use]
    pub fn since_refresh(&self) -> u64 {
        self.clock.uptime().saturating_sub(self.refreshed_at.load(Ordering::Relaxed))
    }
}

impl TlsCounters {
    /// `stats reset`.
    pub fn reset(&self) {
        self.handshake_errors.store(0, Ordering::Relaxed);
        self.handshake_timeouts.store(0, Ordering::Relaxed);
        self.refresh_errors.store(0, Ordering::Relaxed);
    }
}

fn read(options: &Options) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let versions = match options.least_version {
        LeastVersion::Tls12 => &[&TLS13, &TLS12][..],
        LeastVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = match verifier(options, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let chain_path = &options.chain_cert;
    let chain = certificates(chain_path)?;
    let key_path = options.key.as_ref().unwrap_or(chain_path);
    let key = key(key_path)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("{} with {}: {error}", chain_path.display(), key_path.display()))?;
    if options.resumption == Resumption::No {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

type Verifier = Arc<dyn rustls::server::danger::ClientCertVerifier>;

/// Who looks at clients' certificates, where anybody does.
fn verifier(options: &Options, provider: Arc<CryptoProvider>) -> Result<Option<Verifier>, String> {
    let (Some(path), Verify::Request | Verify::Require) = (&options.ca_cert, options.verify) else {
        return Ok(None);
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(cannot(path))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if options.verify == Verify::Request { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(cannot(path))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = fs::read(path).map_err(cannot(path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(cannot(path))?;
    if found.is_empty() { Err(format!("{}: holds no certificate in PEM", path.display())) } else { Ok(found) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = fs::read(path).map_err(cannot(path))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("{}: holds no private key in PEM that needs no password", path.display())
        }
        error => cannot(path)(error),
    })
}

fn cannot<E: Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}
