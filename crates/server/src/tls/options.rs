//! What the command line says of TLS: memcached's `-Z` with `-o ssl_*`, and plain long options for the same.

use std::path::PathBuf;

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The server's certificate, and those between it and its root.
    pub chain_cert: PathBuf,
    /// Its private key, where that does not stand with the certificate.
    pub key: Option<PathBuf>,
    /// Whose certificates clients may show.
    pub ca_cert: Option<PathBuf>,
    /// Whether clients are to show any.
    pub verify: Verify,
    /// The least version that is spoken.
    pub least_version: LeastVersion,
    /// Whether sessions can be resumed.
    pub resumption: Resumption,
    /// How long a handshake may take.
    pub handshake_ms_max: u64,
}

/// Whether clients are to show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// They are not asked.
    #[default]
    None,
    /// They may; a bad one is refused.
    Request,
    /// They must.
    Require,
}

/// The least version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeastVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// Whether sessions can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resumption {
    /// Each connection shakes hands in full.
    #[default]
    No,
    /// Some hundred are remembered, until the certificates are read again.
    Yes,
}

const HANDSHAKE_SECONDS: u64 = 10;
const HANDSHAKE_SECONDS_MAX: u64 = 3600;

/// What was given on the command line, one by one.
#[derive(Debug, Default)]
pub struct Given {
    is_enabled: bool,
    /// The first of the options that mean nothing without TLS.
    first: Option<String>,
    chain_cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca_cert: Option<PathBuf>,
    verify: Verify,
    least_version: LeastVersion,
    resumption: Resumption,
    handshake_seconds_max: Option<u64>,
}

impl Given {
    /// `-Z`.
    pub fn enable(&mut self) {
        self.is_enabled = true;
    }

    /// An option of `-o`, the name of which begins with `ssl_`.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn take(&mut self, name: &str, value: &str, warnings: &mut Vec<String>) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("-o {name}={value}: {why}"));
        self.note(&format!("-o {name}"));
        match (name, value) {
            ("ssl_chain_cert" | "ssl_key" | "ssl_ca_cert", "") => return wrong("needs a file"),
            ("ssl_chain_cert", file) => self.chain_cert = Some(file.into()),
            ("ssl_key", file) => self.key = Some(file.into()),
            ("ssl_ca_cert", file) => self.ca_cert = Some(file.into()),
            ("ssl_verify_mode", "0") => self.verify = Verify::None,
            ("ssl_verify_mode", "1") => self.verify = Verify::Request,
            ("ssl_verify_mode", "2" | "3") => self.verify = Verify::Require,
            ("ssl_verify_mode", _) => return wrong("0 (none), 1 (request), 2 or 3 (require)"),
            ("ssl_min_version", "0" | "1") => {
                warnings.push(format!("-o {name}={value}: TLS 1.2 is the least that is spoken"));
            }
            ("ssl_min_version", "2") => self.least_version = LeastVersion::Tls12,
            ("ssl_min_version", "3") => self.least_version = LeastVersion::Tls13,
            ("ssl_min_version", _) => return wrong("2 (TLS 1.2) or 3 (TLS 1.3)"),
            ("ssl_session_cache", _) => self.resumption = Resumption::Yes,
            ("ssl_handshake_timeout", seconds) => match seconds.parse() {
                Ok(seconds @ 1..=HANDSHAKE_SECONDS_MAX) => self.handshake_seconds_max = Some(seconds),
                _ => return wrong("1 to 3600 seconds"),
            },
            ("ssl_keyformat", "1" | "PEM" | "pem") => {}
            ("ssl_keyformat", _) => return wrong("only PEM is read"),
            ("ssl_ciphers", _) => {
                warnings.push("-o ssl_ciphers: only suites that are safe are spoken".into());
            }
            ("ssl_wbuf_size" | "ssl_kernel_tls", _) => {
                warnings.push(format!("-o {name}: has no meaning here"));
            }
            _ => return Err(format!("-o {name}: unknown option")),
        }
        Ok(())
    }

    /// The long options. `--tls-cert` alone is enough to have TLS.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn take_long(
        &mut self,
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
        ca: Option<&PathBuf>,
        verify: Option<&str>,
    ) -> Result<(), String> {
        if cert.is_some() {
            self.enable();
        }
        for (name, file, slot) in [
            ("--tls-cert", cert, &mut self.chain_cert),
            ("--tls-key", key, &mut self.key),
            ("--tls-ca", ca, &mut self.ca_cert),
        ] {
            if let Some(file) = file {
                *slot = Some(file.clone());
                self.first.get_or_insert_with(|| name.into());
            }
        }
        if let Some(verify) = verify {
            self.note("--tls-verify");
            self.verify = match verify {
                "none" => Verify::None,
                "request" => Verify::Request,
                "require" => Verify::Require,
                _ => return Err(format!("--tls-verify {verify}: none, request or require")),
            };
        }
        Ok(())
    }

    /// What all of it comes to, where there is to be TLS.
    ///
    /// # Errors
    /// A sentence that names what is missing.
    pub fn resolve(self) -> Result<Option<Options>, String> {
        if !self.is_enabled {
            let in_clear =
                |first| format!("{first}: without -Z everything would go over the network in clear");
            return self.first.map_or(Ok(None), |first| Err(in_clear(first)));
        }
        let Some(chain_cert) = self.chain_cert else {
            return Err("-Z: needs a certificate: -o ssl_chain_cert=FILE or --tls-cert FILE".into());
        };
        if self.verify != Verify::None && self.ca_cert.is_none() {
            return Err(
                "client certificates: need -o ssl_ca_cert=FILE or --tls-ca FILE, who signs them".into()
            );
        }
        // Going into the background changes the folder.
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Some(Options {
            chain_cert: absolute(chain_cert)?,
            key: self.key.map(absolute).transpose()?,
            ca_cert: self.ca_cert.map(absolute).transpose()?,
            verify: self.verify,
            least_version: self.least_version,
            resumption: self.resumption,
            handshake_ms_max: 1000 * self.handshake_seconds_max.unwrap_or(HANDSHAKE_SECONDS),
        }))
    }

    fn note(&mut self, option: &str) {
        self.first.get_or_insert_with(|| option.into());
    }
}
