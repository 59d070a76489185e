//! What concerns the process: its user, its background, its limits.

use std::fs;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User, daemon, initgroups, setgid, setuid};

use crate::config::{Config, Process};

/// File descriptors that are no connections: listeners, polls, wakers, logs.
const OTHER_FILES: u64 = 64;

/// Lets the process have as many files as the connections need.
///
/// # Errors
/// A sentence, where the system's limit is lower and cannot be raised.
pub fn raise_file_limit(config: &Config) -> Result<(), String> {
    let needed = config.connections_max as u64 + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("file limit: {error}"))?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).map_err(|error| {
        format!(
            "-c {}: needs {needed} files, the limit is {soft} and cannot be raised ({error}); run as root, or use -c {}",
            config.connections_max,
            hard.saturating_sub(OTHER_FILES)
        )
    })
}

/// Lets core files have any size, as far as the system allows.
pub fn allow_core_dumps() {
    let unlimited = setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY);
    if let Err(error) = unlimited.or_else(|_| {
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
        setrlimit(Resource::RLIMIT_CORE, hard, hard)
    }) {
        log::warn!("-r: {error}");
    }
}

/// Goes into the background. To be called before any thread is started: only the calling thread survives.
///
/// # Errors
/// A sentence.
pub fn go_into_background(process: &Process, verbosity: u8) -> Result<(), String> {
    if !process.daemon {
        return Ok(());
    }
    // With -v the log still goes to the terminal.
    daemon(false, verbosity > 0).map_err(|error| format!("-d: {error}"))
}

/// Becomes another user, where root was told to.
///
/// # Errors
/// A sentence that names the user.
pub fn become_user(process: &Process) -> Result<(), String> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let Some(name) = &process.user else {
        log::warn!("running as root; -u names a user to become");
        return Ok(());
    };
    let refused = |error: &dyn std::fmt::Display| format!("-u {name}: {error}");
    let user = User::from_name(name).map_err(|error| refused(&error))?;
    let user = user.ok_or_else(|| refused(&"no such user"))?;
    let c_name = std::ffi::CString::new(name.as_bytes()).map_err(|error| refused(&error))?;
    if user.uid.is_root() {
        return Ok(());
    }
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| refused(&error))
}

/// The file with the process id. It goes when the server ends.
#[derive(Debug)]
pub struct PidFile<'a>(Option<&'a Path>);

impl<'a> PidFile<'a> {
    /// Writes it, if there is to be one.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn write(process: &'a Process) -> Result<Self, String> {
        let path = process.pidfile.as_deref();
        if let Some(path) = path {
            fs::write(path, format!("{}\n", std::process::id()))
                .map_err(|error| format!("-P {}: {error}", path.display()))?;
        }
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // A process that has given up root may not be allowed to; the file is then stale, as memcached's is.
            let _ = fs::remove_file(path);
        }
    }
}
