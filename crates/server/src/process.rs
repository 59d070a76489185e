//! What concerns the process: its user, its background, its limits.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User, chown, daemon, initgroups, setgid, setuid};

use crate::auth::{Users, file};
use crate::config::{Config, Process};
use crate::limits::{HTTP_CONNECTIONS_MAX, USERS_FILE_BYTES_MAX};
use crate::server::Server;

/// File descriptors that are no connections: listeners, signals, logs; and, for each I/O thread, poll and waker.
const OTHER_FILES: u64 = 64;
const FILES_PER_THREAD: u64 = 2;

/// Lets the process have as many files as the connections need.
///
/// # Errors
/// A sentence, where the system's limit is lower and cannot be raised.
pub fn raise_file_limit(config: &Config) -> Result<(), String> {
    let other = OTHER_FILES.saturating_add(FILES_PER_THREAD.saturating_mul(config.threads as u64));
    let http = if config.http.is_empty() { 0 } else { HTTP_CONNECTIONS_MAX as u64 };
    let needed = (config.connections_max as u64).saturating_add(other).saturating_add(http);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("file limit: {error}"))?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).map_err(|error| {
        format!(
            "-c {}: needs {needed} files, the limit is {soft} and cannot be raised ({error}); run as root, or use -c {}",
            config.connections_max,
            hard.saturating_sub(other)
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

/// Reads the users from their password file, where there is one, and lets them in from here on.
///
/// # Errors
/// A sentence that names the file. Nothing has changed then.
pub fn load_users(server: &Server) -> Result<(), String> {
    let (Some(auth), Some(access)) = (&server.config.auth, &server.access) else {
        return Ok(());
    };
    let users =
        read_users(&auth.file).map_err(|why| format!("password file {}: {why}", auth.file.display()))?;
    access.set_users(users);
    Ok(())
}

fn read_users(path: &Path) -> Result<Users, String> {
    let mut text = Vec::new();
    let opened = fs::File::open(path).map_err(|error| error.to_string())?;
    let mode = opened.metadata().map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o007 != 0 {
        log::warn!("password file {}: everybody on this machine can get at it", path.display());
    }
    let read = opened.take(USERS_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| format!("no random numbers: {error}"))?;
    file::parse(&text, secret)
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

/// The user to become, where root was told to.
///
/// # Errors
/// A sentence that names the user, where there is none of that name.
pub fn user_to_become(process: &Process) -> Result<Option<User>, String> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let Some(name) = &process.user else {
        log::warn!("running as root; -u names a user to become");
        return Ok(None);
    };
    let user = User::from_name(name).map_err(|error| format!("-u {name}: {error}"))?;
    Ok(Some(user.ok_or_else(|| format!("-u {name}: no such user"))?))
}

/// Becomes `user`, to whom the Unix socket then belongs.
///
/// # Errors
/// A sentence that names the user.
pub fn become_user(user: &User, unix_socket: Option<&Path>) -> Result<(), String> {
    let refused = |error: &dyn std::fmt::Display| format!("-u {}: {error}", user.name);
    if user.uid.is_root() {
        return Ok(());
    }
    if let Some(path) = unix_socket {
        chown(path, Some(user.uid), Some(user.gid)).map_err(|error| refused(&error))?;
    }
    let name = CString::new(user.name.as_bytes()).map_err(|error| refused(&error))?;
    initgroups(&name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| refused(&error))
}

/// Bytes of the process in memory, as far as the system tells.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
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
