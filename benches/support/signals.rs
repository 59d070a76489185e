//! SIGINT and SIGTERM end a run with an error instead of the process, so that whoever started a server stops it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};

static CAME: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on both are only noted.
///
/// # Errors
/// Where the system refuses.
pub(crate) fn note() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&CAME))?;
    }
    Ok(())
}

/// Whether there was one.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}
