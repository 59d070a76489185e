//! What every test here needs: a server that runs, and packets in both directions.
//!
//! The packets are built and taken apart by hand. A test that used the crate's own encoder would
//! agree with its mistakes.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

/// The longest wait for a server to listen, to stop, or to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(5);

/// A server process on a free port of 127.0.0.1, ended when this is dropped. One that does not end on
/// SIGTERM fails its test.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Server {
    /// Starts the built `memwire` with `args` and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it cannot be started, exits, or does not listen in time.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_memwire")).args(args))
    }

    /// The same by a command that becomes `memwire` and gives it the arguments that are behind its own.
    pub(crate) fn start_by(command: &mut Command) -> Self {
        Self::spawn(command).unwrap_or_else(|error| panic!("memwire does not start: {error}"))
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The address it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The address on which it serves HTTP.
    pub(crate) fn http(&self) -> SocketAddr {
        *self.https().first().expect("HTTP is served")
    }

    /// All addresses on which it does.
    pub(crate) fn https(&self) -> Vec<SocketAddr> {
        self.addresses("HTTP INET: ")
    }

    /// All addresses on which it serves its other protocols.
    pub(crate) fn tcp(&self) -> Vec<SocketAddr> {
        self.addresses("TCP INET: ")
    }

    fn addresses(&self, of: &str) -> Vec<SocketAddr> {
        let ports =
            fs::read_to_string(self.directory.path().join("port")).expect("the server has told its ports");
        let address = |port: &str| (Ipv4Addr::LOCALHOST, port.parse().expect("a port is a number")).into();
        ports.lines().filter_map(|line| line.strip_prefix(of)).map(address).collect()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits an i32"))
    }

    /// A connection without Nagle's delay, on which no read or write waits for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream =
            TcpStream::connect_timeout(&self.addr(), PATIENCE).expect("the server accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout can be set");
        stream
    }

    /// What it has written to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        fs::read(self.log_path())
            .map_or_else(|error| error.to_string(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// Asks it to end with SIGTERM and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.terminate().expect("the server ends on SIGTERM")
    }

    fn spawn(command: &mut Command) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let port_file = directory.path().join("port");
        command.args(["-l", "127.0.0.1", "-p", "-1"]).env("MEMCACHED_PORT_FILENAME", &port_file);
        let mut server = Self::run(command, directory)?;
        server.port = server.wait_for_port();
        Ok(server)
    }

    fn run(command: &mut Command, directory: TempDir) -> io::Result<Self> {
        let log = File::create(directory.path().join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, port: 0, directory })
    }

    fn wait_for_port(&mut self) -> u16 {
        let path = self.directory.path().join("port");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = fs::read_to_string(&path).ok().as_deref().and_then(tcp_port) {
                return port;
            }
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("the server ended before it listened: {status}");
            }
            assert!(Instant::now() < deadline, "the server does not listen after {PATIENCE:?}");
            thread::sleep(POLL);
        }
    }

    fn terminate(&mut self) -> io::Result<ExitStatus> {
        // A child that has been waited for has no process any more, and its id may be somebody else's.
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill(self.pid(), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        Err(io::Error::new(ErrorKind::TimedOut, format!("still running {PATIENCE:?} after SIGTERM")))
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.terminate();
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- the server on port {} wrote:\n{}---", self.port, self.log());
        } else if let Err(error) = ended {
            panic!("the server had to be killed: {error}");
        }
    }
}

/// The reference server, as Debian packages it.
#[derive(Debug)]
pub(crate) enum Memcached {}

impl Memcached {
    /// Starts `memcached` with `args`, or answers `None` where it is not installed.
    ///
    /// # Panics
    ///
    /// When it is installed and does not listen in time.
    pub(crate) fn start(args: &[&str]) -> Option<Server> {
        let mut command = Command::new("memcached");
        if Uid::effective().is_root() {
            command.args(["-u", "root"]);
        }
        match Server::spawn(command.args(args)) {
            Ok(server) => Some(server),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("memcached does not start: {error}"),
        }
    }
}

/// The reference for RESP, as Debian packages it.
#[derive(Debug)]
pub(crate) enum Redis {}

impl Redis {
    /// Starts `redis-server` with `args`, keeping nothing on disk, or answers `None` where it is not installed.
    ///
    /// # Panics
    ///
    /// When it is installed and does not listen in time.
    pub(crate) fn start(args: &[&str]) -> Option<Server> {
        // It does not choose a port. One that was free a moment ago mostly is; if not, it ends, and another is tried.
        let mut ports = (0..10).map(|_| Self::start_on(free_port(), args));
        match ports.find(|started| !matches!(started, Err(error) if error.kind() == ErrorKind::AddrInUse)) {
            Some(Ok(server)) => Some(server),
            Some(Err(error)) if error.kind() == ErrorKind::NotFound => None,
            other => panic!("redis does not start: {other:?}"),
        }
    }

    fn start_on(port: u16, args: &[&str]) -> io::Result<Server> {
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
        ]);
        let mut server = Server::run(command.args(args), TempDir::new()?)?;
        server.port = port;
        let deadline = Instant::now() + PATIENCE;
        while !server.log().contains("Ready to accept connections") {
            if server.child.try_wait()?.is_some() {
                return Err(ErrorKind::AddrInUse.into());
            }
            assert!(Instant::now() < deadline, "redis does not listen after {PATIENCE:?}");
            thread::sleep(POLL);
        }
        Ok(server)
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// Says that a test is skipped since `what` is missing.
///
/// # Panics
///
/// Where the environment says `CI=true`: there everything is installed, and a skipped test is a hole.
pub(crate) fn skip_or_fail(what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{what} is not installed");
    // Past the test runner, which shows what a test prints only where it fails.
    let _ = io::stderr().write_all(format!("skipped: {what} is not installed\n").as_bytes());
}

/// One request of the binary protocol.
pub(crate) fn packet(opcode: u8, key: &[u8], extras: &[u8], value: &[u8], cas: u64, opaque: u32) -> Vec<u8> {
    let body_len = extras.len() + key.len() + value.len();
    let mut packet = Vec::with_capacity(24 + body_len);
    packet.extend([0x80, opcode]);
    packet.extend(u16::try_from(key.len()).expect("a key length has 16 bits").to_be_bytes());
    packet.push(u8::try_from(extras.len()).expect("an extras length has 8 bits"));
    packet.extend([0, 0, 0]);
    packet.extend(u32::try_from(body_len).expect("a body length has 32 bits").to_be_bytes());
    packet.extend(opaque.to_be_bytes());
    packet.extend(cas.to_be_bytes());
    packet.extend(extras);
    packet.extend(key);
    packet.extend(value);
    packet
}

/// One response, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) header: [u8; 24],
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Reads the next response, or `None` where the peer has closed instead.
    ///
    /// # Errors
    ///
    /// Those of `stream`, and `UnexpectedEof` when the stream ends inside a response.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; 24];
        let first_len = loop {
            match stream.read(&mut header) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if first_len == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[first_len..])?;
        let body_len = u32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
        let mut body = vec![0; body_len as usize];
        stream.read_exact(&mut body)?;
        Ok(Some(Self { header, body }))
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.header[1]
    }

    pub(crate) fn status(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    pub(crate) fn opaque(&self) -> u32 {
        u32::from_be_bytes(self.header[12..16].try_into().expect("four bytes"))
    }

    pub(crate) fn cas(&self) -> u64 {
        u64::from_be_bytes(self.header[16..24].try_into().expect("eight bytes"))
    }
}

/// Splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): the same
/// numbers from the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not including `bound`. The bias towards small numbers is of no
    /// account for the bounds that tests use.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True `numerator` times in `denominator`.
    pub(crate) fn chance(&mut self, numerator: usize, denominator: usize) -> bool {
        self.below(denominator) < numerator
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.flatten().take(count).collect()
    }
}

/// The port in the file that `MEMCACHED_PORT_FILENAME` names, once its line is complete.
fn tcp_port(text: &str) -> Option<u16> {
    text.split_inclusive('\n')
        .find_map(|line| line.strip_prefix("TCP INET: ")?.strip_suffix('\n')?.parse().ok())
}

#[test]
fn memwire_ends_with_success_on_sigterm() {
    let server = Server::start(&[]);
    drop(server.connect());
    assert!(server.stop().success());
}

#[test]
fn memcached_runs_under_the_same_harness() {
    let Some(server) = Memcached::start(&[]) else {
        return skip_or_fail("memcached");
    };
    let mut stream = server.connect();
    stream.write_all(&packet(0x0a, b"", b"", b"", 0, 7)).unwrap();
    let answer = Response::read(&mut stream).unwrap().expect("a NOOP is answered");
    assert_eq!((answer.opcode(), answer.status(), answer.opaque(), answer.cas()), (0x0a, 0, 7, 0));
    let status = server.stop();
    assert!(status.success(), "{status}");
}
