//! Files that are read again while the server runs: on a thread of its own, and only what is good is taken.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use tempfile::TempDir;

use crate::auth::{PasswordFile, authenticated, plain, refused};
use crate::client::{Client, wait_until};
use crate::harness::Server;
use crate::tls::certificates::Material;

/// A server with a file of options.
struct Configured {
    server: Server,
    file: PathBuf,
    _directory: TempDir,
}

impl Configured {
    fn start(options: &str, args: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("memwire.toml");
        fs::write(&file, options).unwrap();
        let server = Server::start(&[&["--config", file.to_str().unwrap()], args].concat());
        Self { server, file, _directory: directory }
    }

    fn reload(&self, options: &str) {
        fs::write(&self.file, options).unwrap();
        kill(self.server.pid(), Signal::SIGHUP).unwrap();
    }

    fn verbosity(&self) -> String {
        Client::connect(&self.server).stats("settings")["verbosity"].clone()
    }
}

#[test]
fn the_level_of_the_log_follows_the_file() {
    let configured = Configured::start("", &[]);
    assert_eq!(configured.verbosity(), "0");
    configured.reload("verbose = 2");
    wait_until("more is said", || configured.verbosity() == "2");
    wait_until("it says so", || configured.server.log().contains("the options were read again"));
    configured.reload("");
    wait_until("less is said", || configured.verbosity() == "0");
}

#[test]
fn a_bad_file_changes_nothing_and_what_is_wrong_is_said() {
    let configured = Configured::start("verbose = 1", &[]);
    for (options, why) in [
        ("verbose = 3\nport", "memwire.toml: line 2: "),
        ("verbose = 3\nmemory-limits = 5", "memory-limits: unknown option; did you mean memory-limit?"),
        ("verbose = 3\nmemory-limit = 0", "-m 0: a memory limit is 1"),
        ("verbose = 300", "verbose: a number from 0 to 255 is wanted"),
    ] {
        configured.reload(options);
        wait_until("it is refused", || {
            let log = configured.server.log();
            log.lines().any(|line| line.contains("the options stay as they were: ") && line.contains(why))
        });
        assert_eq!(configured.verbosity(), "1");
    }
    fs::remove_file(&configured.file).unwrap();
    kill(configured.server.pid(), Signal::SIGHUP).unwrap();
    wait_until("it is missed", || configured.server.log().contains("No such file"));
    assert_eq!(configured.verbosity(), "1");
}

#[test]
fn what_holds_after_a_restart_only_is_named() {
    let configured = Configured::start("memory-limit = 100", &[]);
    configured.reload("verbose = 1\nmemory-limit = 200\nconn-limit = 50");
    wait_until("it is said", || {
        configured.server.log().contains("changed options hold after a restart: memory-limit, conn-limit")
    });
    let settings = Client::connect(&configured.server).stats("settings");
    assert_eq!((settings["maxbytes"].as_str(), settings["maxconns"].as_str()), ("104857600", "1024"));
    // Said once.
    configured.reload("verbose = 2\nmemory-limit = 200\nconn-limit = 50");
    wait_until("it is read again", || configured.verbosity() == "2");
    assert_eq!(configured.server.log().matches("hold after a restart").count(), 1);
}

#[test]
fn what_was_typed_wins_over_the_file_as_it_did_at_the_start() {
    let configured = Configured::start("verbose = 1", &["-vv"]);
    configured.reload("verbose = 3\nconn-limit = 50");
    wait_until("it is read again", || configured.server.log().contains("the options were read again"));
    assert_eq!(configured.verbosity(), "2");
}

#[test]
fn the_file_is_found_again_from_the_background() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("memwire.toml"), "").unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_memwire"));
    command.args(["-d", "-l", "127.0.0.1", "-p", "0", "--config", "memwire.toml"]);
    command.args(["-P", &path("pid"), "-u", "root"]).current_dir(directory.path());
    command.env("MEMCACHED_PORT_FILENAME", path("ports"));
    assert!(command.status().unwrap().success());
    wait_until("it serves", || Path::new(&path("ports")).exists());
    let ports = fs::read_to_string(path("ports")).unwrap();
    let port: u16 = ports.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    let pid = fs::read_to_string(path("pid")).unwrap().trim().parse().unwrap();
    let daemon = Daemon(Pid::from_raw(pid));
    let mut client = Client::over(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    fs::write(path("memwire.toml"), "verbose = 1").unwrap();
    kill(daemon.0, Signal::SIGHUP).unwrap();
    wait_until("it is read again", || client.stats("settings")["verbosity"] == "1");
}

/// A process in the background, which is ended with the test.
struct Daemon(Pid);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGTERM);
        wait_until("it ends", || kill(self.0, None).is_err());
    }
}

/// Puts a pipe into the place of a file: whoever reads it waits until it is written to.
fn make_slow(path: &Path) {
    fs::remove_file(path).unwrap();
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

/// The pipe's other end, once somebody reads.
fn once_it_is_read(path: &Path) -> File {
    let mut pipe = None;
    wait_until("it is read", || {
        let nonblocking = OFlag::O_NONBLOCK.bits();
        pipe = OpenOptions::new().write(true).custom_flags(nonblocking).open(path).ok();
        pipe.is_some()
    });
    pipe.unwrap()
}

#[test]
fn nobody_waits_for_a_password_file_that_is_slow() {
    let users = PasswordFile::new("ann:pencil\n");
    let server = Server::start(&["-t", "1", "-Y", users.path().to_str().unwrap()]);
    make_slow(&users.path());
    kill(server.pid(), Signal::SIGHUP).unwrap();
    let mut pipe = once_it_is_read(&users.path());
    // New ones come in, and the users are as they were.
    let mut ann = Client::connect(&server);
    assert_eq!(ann.ask(&plain("ann", "pencil")), authenticated());
    ann.set("key", "value");
    assert_eq!(Client::connect(&server).ask(&plain("bob", "paper")), refused());
    pipe.write_all(b"bob:paper\n").unwrap();
    drop(pipe);
    wait_until("bob is let in", || Client::connect(&server).ask(&plain("bob", "paper")) == authenticated());
}

#[test]
fn nobody_waits_for_certificates_that_are_slow() {
    let material = Material::new();
    let server = Server::start(&["-t", "1", "-v", "-Z", "-o", &material.options(), "-l", "notls:127.0.0.1"]);
    let path = PathBuf::from(material.path("server.pem"));
    let chain = fs::read(&path).unwrap();
    make_slow(&path);
    let mut asks = Client::connect(&server);
    asks.send(b"refresh_certs\r\nmn\r\n");
    asks.finish_sending();
    assert_eq!(asks.rest().unwrap(), b"OK\r\nMN\r\n");
    let mut pipe = once_it_is_read(&path);
    Client::connect(&server).set("key", "value");
    assert!(!server.log().contains("the certificates were read again"));
    pipe.write_all(&chain).unwrap();
    drop(pipe);
    wait_until("they are there", || server.log().contains("the certificates were read again"));
}
