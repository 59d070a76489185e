//! The main thread: accepts connections, hands them to the event loops in turn, and waits for signals.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
pub use signal_hook_mio::v1_0::Signals;
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::config::{Config, Listen, Security};
use crate::limits::{ACCEPT_PAUSE_MS, ACCEPTS_PER_TURN, EVENTS_PER_POLL};
use crate::net::addresses::Seat;
use crate::net::event_loop::Handle;
use crate::net::inherited;
use crate::net::socket::{Socket, Transport};
use crate::net::tls::TlsSocket;
use crate::server::Server;
use crate::server::ServerCounters;
use crate::service::reload::What;
use crate::snapshot::Asked;
use crate::tls::Context;

/// What a client reads that came when there were too many. Those of the binary protocol, too.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

const SIGNALS: Token = Token(usize::MAX);

/// The sockets that connections come in by.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Listening>,
    backlog: i32,
}

#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener, Security),
    /// With its file, where the file is ours.
    Unix(UnixListener, Option<PathBuf>),
}

impl Listeners {
    /// Opens them, or takes those that the process was started with.
    ///
    /// # Errors
    /// A sentence that names the address and what the system said.
    pub fn open(config: &Config) -> Result<Self, String> {
        let backlog = config.backlog;
        let inherited = inherited::take()?;
        if !inherited.is_empty() {
            return Ok(Self { sockets: inherited, backlog });
        }
        let sockets = match &config.listen {
            Listen::Unix(path) => {
                vec![listen_unix(path, config.unix_mask, backlog).map_err(cannot(path.display()))?]
            }
            Listen::Tcp(addresses) => {
                let sockets: Result<_, String> = addresses
                    .iter()
                    .map(|(address, security)| {
                        listen_tcp(*address, *security, backlog).map_err(cannot(address))
                    })
                    .collect();
                sockets?
            }
            Listen::TcpAnywhere(port) => listen_anywhere(*port, backlog)?,
        };
        Ok(Self { sockets, backlog })
    }

    /// The TCP addresses, with the ports that the system chose.
    #[must_use]
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(Listening::tcp_address).collect()
    }

    /// The file of the Unix socket, if there is one.
    #[must_use]
    pub fn unix_path(&self) -> Option<&Path> {
        self.sockets.iter().find_map(|socket| match socket {
            Listening::Unix(_, path) => path.as_deref(),
            Listening::Tcp(..) => None,
        })
    }

    /// Accepts and hands over to `loops`, until a signal asks for the end.
    ///
    /// # Errors
    /// What the system reports of the poll.
    pub fn run(mut self, mut signals: Signals, server: &Arc<Server>, loops: &[Handle]) -> io::Result<()> {
        let mut poll = Poll::new()?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            socket.register(&poll, Token(at))?;
        }
        for address in self.tcp_addresses() {
            log::info!("listening on {address}, backlog {}", self.backlog);
        }

        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut ready = vec![false; self.sockets.len()];
        let mut turn = 0;
        loop {
            let timeout = ready.contains(&true).then_some(Duration::ZERO);
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    SIGNALS => {
                        if let Some(signal) =
                            signals.pending().find(|signal| is_meant_to_end(*signal, server))
                        {
                            log::info!("signal {signal}: finishing what is in flight");
                            return Ok(());
                        }
                    }
                    Token(at) => ready[at] = true,
                }
            }
            for (socket, ready) in self.sockets.iter().zip(&mut ready).filter(|(_, ready)| **ready) {
                *ready = accept_some(socket, server, loops, &mut turn);
            }
        }
    }
}

/// Whether a signal asks for the end. One may ask for files to be read again, one for a snapshot.
fn is_meant_to_end(signal: i32, server: &Server) -> bool {
    match signal {
        SIGHUP if server.reloads.is_of_use() => {
            server.reloads.ask(What::All);
            false
        }
        // A server in the background has no terminal that could hang up.
        SIGHUP => !server.config.process.daemon,
        SIGUSR1 => server.snapshots.take() == Asked::Off,
        _ => true,
    }
}

/// From here on a signal that asks for the end does not kill, but waits to be heard by [`Listeners::run`]. To be
/// called before anyone can know that there is somebody to send one to.
///
/// # Errors
/// What the system reports.
pub fn hear_signals() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for socket in &self.sockets {
            if let Listening::Unix(_, Some(path)) = socket {
                // It may have been removed, or replaced by another server's, which is the operator's business.
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Listening {
    fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// The certificates that its connections come with, if any.
    fn tls<'a>(&self, server: &'a Server) -> Option<&'a Arc<Context>> {
        match self {
            Self::Tcp(_, Security::Tls) => server.tls.as_ref(),
            Self::Tcp(_, Security::Clear) | Self::Unix(..) => None,
        }
    }

    fn register(&mut self, poll: &Poll, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener, _) => poll.registry().register(listener, token, Interest::READABLE),
            Self::Unix(listener, _) => poll.registry().register(listener, token, Interest::READABLE),
        }
    }

    /// A connection, and whose it is.
    fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, address) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream, None), Some(address.ip())))
            }
            Self::Unix(listener, _) => Ok((Socket::Unix(listener.accept()?.0), None)),
        }
    }
}

/// Accepts a bounded number of connections. Says whether there may be more.
fn accept_some(socket: &Listening, server: &Server, loops: &[Handle], turn: &mut usize) -> bool {
    for _ in 0..ACCEPTS_PER_TURN {
        match socket.accept() {
            Ok((stream, address)) => admit(stream, address, socket.tls(server), server, loops, turn),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if is_peers_fault(&error) => {
                log::debug!("a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                // No file descriptors, or no memory: the connection waits in the backlog until some are given back.
                log::warn!("cannot accept connections for now: {error}");
                ServerCounters::add(&server.counters.listen_disabled_num, 1);
                std::thread::sleep(Duration::from_millis(ACCEPT_PAUSE_MS));
                return true;
            }
        }
    }
    true
}

fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::InvalidInput
    )
}

fn admit(
    stream: Socket,
    address: Option<IpAddr>,
    tls: Option<&Arc<Context>>,
    server: &Server,
    loops: &[Handle],
    turn: &mut usize,
) {
    let counters = &server.counters;
    let seat = match find_seat(address, server) {
        Ok(seat) => seat,
        Err(counter) => {
            ServerCounters::add(counter, 1);
            // A sentence that is not encrypted tells a client of TLS nothing.
            if tls.is_none() {
                reject(stream);
            }
            return;
        }
    };
    let stream = match secure(stream, seat, tls) {
        Ok(stream) => stream,
        Err(error) => return log::error!("a connection cannot have TLS: {error}"),
    };
    ServerCounters::add(&counters.curr_connections, 1);
    ServerCounters::add(&counters.total_connections, 1);
    *turn = (*turn + 1) % loops.len();
    loops[*turn].serve(stream);
}

/// A place for one connection more, or what counts those for which there is none.
fn find_seat(address: Option<IpAddr>, server: &Server) -> Result<Option<Box<Seat>>, &AtomicU64> {
    let counters = &server.counters;
    if counters.curr_connections.load(Ordering::Relaxed) >= server.config.connections_max as u64 {
        log::debug!("too many connections: limit is {}", server.config.connections_max);
        return Err(&counters.rejected_connections);
    }
    let (Some(addresses), Some(address)) = (&server.addresses, address) else { return Ok(None) };
    addresses.enter(address).map(Some).ok_or_else(|| {
        log::debug!("too many connections from {address}");
        &counters.rejected_per_address
    })
}

fn secure(
    stream: Socket,
    seat: Option<Box<Seat>>,
    tls: Option<&Arc<Context>>,
) -> Result<Socket, rustls::Error> {
    Ok(match (stream, tls) {
        (Socket::Tcp(stream, _), Some(tls)) => Socket::Tls(Box::new(TlsSocket::new(stream, tls)?), seat),
        (Socket::Tcp(stream, _), None) => Socket::Tcp(stream, seat),
        (stream, _) => stream,
    })
}

/// A new socket's buffer takes these few bytes; where it does not, the peer is gone.
fn reject(mut stream: Socket) {
    let _ = stream.write_vectored(&[io::IoSlice::new(TOO_MANY)]);
    let _ = stream.shutdown_write();
}

fn listen_tcp(address: SocketAddr, security: Security, backlog: i32) -> io::Result<Listening> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it: a peer that has vanished does not hold its connection for ever.
    socket.set_keepalive(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(Listening::Tcp(TcpListener::from_std(socket.into()), security))
}

/// IPv4, and IPv6 on the same port where the machine has it.
fn listen_anywhere(port: u16, backlog: i32) -> Result<Vec<Listening>, String> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let first = listen_tcp(v4, Security::Tls, backlog).map_err(cannot(v4))?;
    let port = first.tcp_address().map_or(port, |address| address.port());
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match listen_tcp(v6, Security::Tls, backlog) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) => {
            log::info!("no IPv6: {error}");
            Ok(vec![first])
        }
    }
}

/// A socket file that an earlier server left is replaced; anything else under the name is not ours to remove.
fn listen_unix(path: &Path, mask: u32, backlog: i32) -> io::Result<Listening> {
    // Going into the background changes the folder.
    let path = &std::path::absolute(path)?;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mask))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(Listening::Unix(UnixListener::from_std(OwnedFd::from(socket).into()), Some(path.to_owned())))
}

fn cannot(address: impl std::fmt::Display) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot listen on {address}: {error}")
}

/// Writes the TCP ports to the file that `MEMCACHED_PORT_FILENAME` names, as memcached does it for test suites:
/// a line for each address, `TCP INET: 11211`, and for each one of HTTP. The file appears whole.
///
/// # Errors
/// A sentence that names the file.
pub fn write_port_file(path: &Path, addresses: &[SocketAddr], http: &[SocketAddr]) -> Result<(), String> {
    let mut text = Vec::new();
    for (name, address) in
        addresses.iter().map(|address| ("TCP", address)).chain(http.iter().map(|http| ("HTTP", http)))
    {
        let family = if address.is_ipv4() { "INET" } else { "INET6" };
        // Writing to a vector does not fail.
        let _ = writeln!(text, "{name} {family}: {}", address.port());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lck");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|error| format!("MEMCACHED_PORT_FILENAME {}: {error}", path.display()))
}
