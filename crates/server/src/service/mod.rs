//! The server as a service of the system: where its options come from, what of them is read again, how much it logs, and what
//! it tells systemd of its state.

pub mod logging;
pub mod reload;
pub mod settings;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A state of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It reads what it had, and has read so many bytes of so many. To be told again and again.
    Restoring(u64, u64),
    /// It serves.
    Ready,
    /// It has been asked to end, and gives clients so long at most.
    Stopping(Duration),
}

/// How long the threads may take to end, besides what clients are given.
const ENDING: Duration = Duration::from_secs(10);

/// How long a restart may say nothing of how far it is.
const RESTORING: Duration = Duration::from_mins(1);

/// Tells the service manager, where there is one that asks to be told (`NOTIFY_SOCKET`, see `sd_notify(3)`).
pub fn notify(state: State) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(name.as_bytes(), &state.words()) {
        // The service works all the same, until the manager loses its patience.
        log::warn!("NOTIFY_SOCKET {}: {error}", name.display());
    }
}

impl State {
    fn words(self) -> String {
        match self {
            Self::Restoring(bytes, len) => {
                let (mib, len_mib, most) = (bytes >> 20, len >> 20, RESTORING.as_micros());
                format!("STATUS=restoring a snapshot: {mib} of {len_mib} MiB\nEXTEND_TIMEOUT_USEC={most}\n")
            }
            Self::Ready => "READY=1\nSTATUS=serving\n".into(),
            Self::Stopping(drain) => {
                let most = drain.saturating_add(ENDING).as_micros();
                format!("STOPPING=1\nSTATUS=answering what has been asked for\nEXTEND_TIMEOUT_USEC={most}\n")
            }
        }
    }
}

fn send(name: &[u8], words: &str) -> io::Result<()> {
    let address = match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    UnixDatagram::unbound()?.send_to_addr(words.as_bytes(), &address).map(drop)
}
