//! Listening sockets that the process was started with, as systemd's socket activation hands them over: `LISTEN_FDS` of
//! them, from file 3 on, meant for the process `LISTEN_PID`.
//!
//! They are served instead of what the options name. Their addresses, queues and files are the business of whoever opened
//! them.

use std::os::fd::AsFd;

use listenfd::ListenFd;
use mio::net::{TcpListener, UnixListener};
use socket2::SockRef;

use crate::config::Security;
use crate::net::listener::Listening;

/// Takes them. None, where there are none for this process.
///
/// # Errors
/// A sentence, for a file that is no listening stream socket. To leave it out would leave its clients waiting.
pub(super) fn take() -> Result<Vec<Listening>, String> {
    let mut files = ListenFd::from_env();
    (0..files.len()).map(|at| take_one(&mut files, at).map_err(|why| format!("LISTEN_FDS: {why}"))).collect()
}

fn take_one(files: &mut ListenFd, at: usize) -> Result<Listening, String> {
    // One that is not of the first kind stays where it is, for the second try.
    if let Ok(Some(listener)) = files.take_tcp_listener(at) {
        prepare(&listener, at)?;
        let keepalive = SockRef::from(&listener).set_keepalive(true);
        keepalive.map_err(|error| format!("socket {at}: {error}"))?;
        return Ok(Listening::Tcp(TcpListener::from_std(listener), Security::Tls));
    }
    match files.take_unix_listener(at) {
        Ok(Some(listener)) => {
            prepare(&listener, at)?;
            Ok(Listening::Unix(UnixListener::from_std(listener), None))
        }
        _ => Err(format!("file {at} is no TCP or Unix stream socket")),
    }
}

fn prepare(socket: &impl AsFd, at: usize) -> Result<(), String> {
    let socket = SockRef::from(socket);
    match socket.is_listener() {
        Ok(true) => socket.set_nonblocking(true).map_err(|error| format!("socket {at}: {error}")),
        _ => Err(format!("socket {at} does not listen; with systemd, Accept=no is needed")),
    }
}
