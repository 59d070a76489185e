//! Why there is nothing to print.

use std::fmt;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use wire::KeyError;

use crate::arguments::Speech;

pub(crate) enum Failure {
    Usage(String),
    /// The protocol has no words for what is asked.
    Unsayable(Speech, Unsayable),
    File {
        path: String,
        error: io::Error,
    },
    NoServer {
        address: String,
        error: io::Error,
    },
    Lost(io::Error),
    Nonsense(String),
    Output(io::Error),
}

/// What a protocol does not have.
pub(crate) struct Unsayable(pub(crate) &'static str);

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::Unsayable(..) | Self::File { .. } | Self::Output(_) => 2,
            Self::NoServer { .. } | Self::Lost(_) => 3,
            Self::Nonsense(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => write!(f, "{what}"),
            Self::Unsayable(protocol, Unsayable(what)) => write!(f, "--protocol {protocol} has no {what}"),
            Self::File { path, error } => write!(f, "cannot read {path}: {error}"),
            Self::NoServer { address, error } => write!(
                f,
                "no server at {address}: {error}\n\
                 Start one with `cargo run --release --bin memwire`, or name another with --server HOST:PORT."
            ),
            Self::Lost(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    write!(f, "no answer in time; --timeout SECONDS waits longer")
                }
                _ => write!(f, "connection lost: {error}"),
            },
            Self::Nonsense(what) => write!(f, "the server answered nonsense: {what}"),
            Self::Output(error) => write!(f, "cannot write to stdout: {error}"),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Usage(error.to_string())
    }
}
