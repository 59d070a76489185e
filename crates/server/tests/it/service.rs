//! The program as a service: options from a file and the environment, sockets that it is started with, and what it tells
//! the service manager.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use clap::{ArgAction, CommandFactory};
use memwire::args::Args;
use memwire::service::settings::{self, Refusal, Settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::{Client, Request, op, wait_until};
use crate::harness::{PATIENCE, Response, packet};

const NOOP: u8 = 0x0a;
const EXIT_USAGE: i32 = 64;
const EXIT_SYSTEM: i32 = 71;

/// A program that is ended with the test.
struct Run(Child);

impl Run {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    fn end(mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the process has ended", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// The program, in an environment that says nothing to it.
fn memwire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
    command.args(args);
    quiet(&mut command);
    command
}

fn quiet(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("MEMWIRE_"));
        if ours || ["RUST_LOG", "NOTIFY_SOCKET", "LISTEN_FDS"].iter().any(|other| name == *other) {
            command.env_remove(name);
        }
    }
}

/// The program with `socket` as the one that it is started with: file 3, meant for its own process id, which only a shell
/// that becomes the program knows beforehand.
fn with_socket(socket: OwnedFd, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_memwire")]).args(args).stdin(Stdio::from(socket));
    quiet(&mut command);
    command
}

fn client(address: SocketAddr) -> Client {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

#[test]
fn an_inherited_tcp_socket_is_served_instead_of_the_port_that_is_asked_for() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A port that cannot be had: if it were opened, the program would end.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = TempDir::new().unwrap();
    let ports = directory.path().join("ports");
    let mut command = with_socket(socket.into(), &["-l", "127.0.0.1", "-p", &port]);
    let run = Run(command.env("MEMCACHED_PORT_FILENAME", &ports).spawn().unwrap());
    // The queue is open before the program is: this connection waits in it.
    let mut client = client(address);
    client.set("k", "v");
    assert_eq!(client.stat("pid"), u64::from(run.0.id()));
    assert_eq!(fs::read_to_string(&ports).unwrap(), format!("TCP INET: {}\n", address.port()));
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), Some(0));
}

#[test]
fn the_file_of_an_inherited_unix_socket_stays_when_the_server_ends() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    let socket = UnixListener::bind(&path).unwrap();
    let run = Run(with_socket(socket.into(), &["-t", "1"]).spawn().unwrap());
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&packet(NOOP, b"", b"", b"", 0, 7)).unwrap();
    assert_eq!(Response::read(&mut stream).unwrap().unwrap().opaque(), 7);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), Some(0));
    assert!(path.exists(), "it belongs to whoever opened it");
}

#[test]
fn an_inherited_file_that_cannot_accept_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = File::open("/dev/null").unwrap();
    for (socket, why) in [
        (OwnedFd::from(connection), "socket 0 does not listen"),
        (datagrams.into(), "file 0 is no TCP or Unix stream socket"),
        (file.into(), "file 0 is no TCP or Unix stream socket"),
    ] {
        let output = with_socket(socket, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(EXIT_SYSTEM));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let run = Run(memwire(&["-l", "127.0.0.1", "-p", "0", "-t", "1"])
        .envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1")])
        .env("NOTIFY_SOCKET", "")
        .stdin(Stdio::null())
        .spawn()
        .unwrap());
    let status = Path::new("/proc").join(run.0.id().to_string());
    wait_until("it has started its threads", || fs::read_dir(status.join("task")).unwrap().count() > 2);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), Some(0));
}

fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1000];
    let len = socket.recv(&mut buffer).expect("the service manager is told");
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_ends() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let (ports, pid) = (directory.path().join("ports"), directory.path().join("pid"));
    let abstract_name = format!("memwire-{}", std::process::id());
    let by_path = UnixDatagram::bind(&path).unwrap();
    let by_name =
        UnixDatagram::bind_addr(&UnixAddr::from_abstract_name(abstract_name.as_bytes()).unwrap()).unwrap();
    for (socket, name) in [(by_path, path.into_os_string()), (by_name, format!("@{abstract_name}").into())] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = fs::remove_file(&ports);
        let args = ["-l", "127.0.0.1", "-p", "0", "--drain-timeout", "20", "-P", pid.to_str().unwrap()];
        let mut command = memwire(&args);
        let run =
            Run(command.env("NOTIFY_SOCKET", name).env("MEMCACHED_PORT_FILENAME", &ports).spawn().unwrap());
        assert!(told(&socket).contains("READY=1\n"));
        // Not waited for: the port is open when it is said to be.
        let text = fs::read_to_string(&ports).unwrap();
        let port: u16 = text.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        client(SocketAddr::from(([127, 0, 0, 1], port))).assert_in_step();
        assert!(pid.exists());
        run.signal(Signal::SIGTERM);
        let words = told(&socket);
        assert!(words.contains("STOPPING=1\n"), "{words}");
        assert!(words.contains("EXTEND_TIMEOUT_USEC=30000000\n"), "the drain and some: {words}");
        assert_eq!(run.end(), Some(0));
    }
}

#[test]
fn the_service_manager_waits_for_a_restart_and_for_the_last_snapshot() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let snapshot = directory.path().join("snapshot");
    let serve = || {
        let mut command = memwire(&["-l", "127.0.0.1", "-p", "0", "--snapshot", snapshot.to_str().unwrap()]);
        let run = Run(command.env("NOTIFY_SOCKET", &path).spawn().unwrap());
        let mut words = vec![told(&socket)];
        while !words.last().unwrap().contains("READY=1\n") {
            words.push(told(&socket));
        }
        run.signal(Signal::SIGTERM);
        let end = told(&socket);
        assert!(end.contains("EXTEND_TIMEOUT_USEC=75000000\n"), "a drain, a snapshot and some: {end}");
        assert_eq!(run.end(), Some(0));
        words
    };
    assert_eq!(serve().len(), 1, "there is nothing to restore");
    let words = serve();
    assert!(words[0].contains("STATUS=restoring a snapshot: 0 of 0 MiB\n"), "{words:?}");
    assert!(words[0].contains("EXTEND_TIMEOUT_USEC=60000000\n"), "{words:?}");
}

#[test]
fn a_service_manager_that_is_gone_keeps_nobody_from_serving() {
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("log");
    let mut command = memwire(&["-l", "127.0.0.1", "-p", "0"]);
    command.env("NOTIFY_SOCKET", "/no/such/socket").stderr(File::create(&log).unwrap());
    let run = Run(command.spawn().unwrap());
    wait_until("it has said so", || fs::read_to_string(&log).unwrap().contains("/no/such/socket"));
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), Some(0));
}

#[test]
fn the_drain_waits_for_a_client_no_longer_than_it_is_told_to() {
    let value = vec![b'v'; 1_000_000];
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let run = Run(with_socket(socket.into(), &["--drain-timeout", "0"]).spawn().unwrap());
    let mut greedy = client(address);
    greedy.set("k", &value);
    // More than any socket's buffers hold, and never read: the default would wait for seconds, an hour's drain for ever.
    for _ in 0..40 {
        greedy.send(&Request::of(op::GET, "k").bytes());
    }
    wait_until("answers have come", || client(address).stat("bytes_written") > 1_000_000);
    run.signal(Signal::SIGTERM);
    assert_eq!(run.end(), Some(0));
    let output = memwire(&["--drain-timeout", "3601"]).output().unwrap();
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    assert!(stderr(&output).contains("--drain-timeout 3601"), "{}", stderr(&output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What holds with this file, these variables and these arguments.
fn gather(file: Option<&str>, variables: &[(&str, &str)], args: &[&str]) -> Result<Settings, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("memwire.toml");
    let mut typed: Vec<OsString> = vec!["memwire".into()];
    if let Some(text) = file {
        fs::write(&path, text).unwrap();
        typed.extend(["--config".into(), path.into_os_string()]);
    }
    typed.extend(args.iter().map(OsString::from));
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    settings::gather(&typed, variables).map_err(|refusal| match refusal {
        Refusal::Usage(error) => error.to_string(),
        Refusal::Sentence(sentence) => sentence,
    })
}

#[test]
fn the_command_line_wins_over_the_environment_and_both_over_the_file() {
    let file = "memory-limit = 100\nconn-limit = 100\nport = 100\nlisten = ['127.0.0.1', '::1']\nverbose = 2\n\
                daemon = true\nmax-item-size = '2m'\nextended = 'modern'\n";
    let variables = [
        ("MEMWIRE_CONN_LIMIT", "200"),
        ("MEMWIRE_PORT", "200"),
        ("MEMWIRE_LISTEN", "127.0.0.2,127.0.0.3"),
        ("MEMWIRE_DAEMON", "false"),
        ("MEMWIRE_EXTENDED", ""),
    ];
    let args = gather(Some(file), &variables, &["-p", "300", "-v"]).unwrap().args;
    assert_eq!((args.memory_limit, args.conn_limit, args.port, args.threads), (100, 200, 300, None));
    assert_eq!((args.listen_backlog, &args.max_item_size[..]), (1024, "2m"));
    assert_eq!(args.listen, ["127.0.0.2", "127.0.0.3"], "a list is replaced, not added to");
    assert_eq!((args.verbose, args.daemon), (1, false));
    assert_eq!(args.extended, ["modern"], "an empty variable says nothing");
    let args = gather(Some(file), &variables, &["-l", "a", "-l", "b"]).unwrap().args;
    assert_eq!(args.listen, ["a", "b"], "typed twice is two of them");
    let args = gather(Some(file), &[], &[]).unwrap().args;
    assert_eq!((args.listen, args.verbose, args.daemon), (vec!["127.0.0.1".into(), "::1".into()], 2, true));
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("memwire.toml");
    fs::write(&path, "memory-limit = 100").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(gather(None, &[("MEMWIRE_CONFIG", path)], &[]).unwrap().args.memory_limit, 100);
    let args = gather(Some("port = 7"), &[("MEMWIRE_CONFIG", path)], &[]).unwrap().args;
    assert_eq!((args.memory_limit, args.port), (64, 7), "the one on the command line is read");
}

#[test]
fn what_the_file_gets_wrong_is_named_with_a_hint() {
    for (file, why) in [
        ("memory-limits = 5", "memwire.toml: memory-limits: unknown option; did you mean memory-limit?"),
        ("memory_limit = 5", "memory_limit: unknown option; did you mean memory-limit?"),
        ("help = true", "help: unknown option"),
        ("print-config = true", "print-config: unknown option"),
        ("config = 'other'", "config: unknown option"),
        ("'memory-limit=5' = true", "memory-limit=5: unknown option"),
        ("[memory-limit]\nx = 1", "memory-limit: a number or a text in quotes is wanted"),
        ("memory-limit = 'many'", "memory-limit: invalid value 'many'"),
        ("memory-limit = -5", "memory-limit: invalid value '-5'"),
        ("daemon = 1", "daemon: true or false is wanted"),
        ("verbose = 256", "verbose: a number from 0 to 255 is wanted"),
        ("unix-mask = 0o700", "unix-mask: a text in quotes is wanted"),
        ("listen = [1]", "listen: a text in quotes is wanted"),
        ("\"port\\nx\" = 5", "port\\nx: unknown option"),
        ("memory-limit = \"5\\rx\"", "memory-limit: invalid value '5 x'"),
        ("port = 1\nport = 2", "line 2: duplicate key"),
        ("port = 1\n\nport", "line 3: "),
    ] {
        let error = gather(Some(file), &[], &[]).unwrap_err();
        assert!(error.contains(why), "{file}: {error}");
        assert_eq!(error.lines().count(), 1, "one sentence: {error}");
    }
    // Nothing hides it: a wrong line is an error even where something else wins over it.
    assert!(gather(Some("memory-limit = 'many'"), &[], &["-m", "5"]).is_err());
    let output = memwire(&["--config", "/no/such/file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(EXIT_USAGE));
    assert!(stderr(&output).starts_with("memwire: /no/such/file: No such file"), "{}", stderr(&output));
    let output = memwire(&["--config", "/dev/zero"]).output().unwrap();
    assert!(stderr(&output).contains("longer than 1048576 bytes"), "{}", stderr(&output));
}

#[test]
fn variables_that_are_no_options_are_told_and_those_of_orchestrators_are_left_alone() {
    let variables = [
        ("MEMWIRE_MEMORY_LIMITS", "5"),
        ("MEMWIRE_PORT", "tcp://10.0.0.1:11211"),
        ("MEMWIRE_PORT_11211_TCP_ADDR", "10.0.0.1"),
        ("MEMWIRE_SERVICE_HOST", "10.0.0.1"),
        ("MEMCACHED_MEMORY", "5"),
    ];
    let settings = gather(None, &variables, &[]).unwrap();
    assert_eq!(settings.args.port, 11211);
    assert_eq!(settings.warnings, ["MEMWIRE_MEMORY_LIMITS: no such option; did you mean memory-limit?"]);
    let error = gather(None, &[("MEMWIRE_MEMORY_LIMIT", "many")], &[]).unwrap_err();
    assert!(error.starts_with("MEMWIRE_MEMORY_LIMIT: invalid value 'many'"), "{error}");
    let error = gather(None, &[("MEMWIRE_DAEMON", "perhaps")], &[]).unwrap_err();
    assert_eq!(error, "MEMWIRE_DAEMON: true or false is wanted");
}

/// A value for each option that its own default is not, as the file and the environment have it.
fn samples() -> Vec<(String, String, String)> {
    let command = Args::command();
    let sample = |arg: &clap::Arg| {
        let name = arg.get_long().unwrap_or_else(|| panic!("{} has no long name", arg.get_id())).to_owned();
        let possible = arg.get_possible_values().pop().map(|value| value.get_name().to_owned());
        let text = possible.unwrap_or_else(|| "3".into());
        match arg.get_action() {
            ArgAction::SetTrue => Some((name, "true".into(), "true".into())),
            ArgAction::Count => Some((name, "3".into(), "3".into())),
            ArgAction::Append => Some((name, format!("[\"{text}\"]"), text)),
            ArgAction::Set => {
                // A number stands without quotes where the option is one.
                let is_number = gather(Some(&format!("{name} = 3")), &[], &[]).is_ok();
                let value = if is_number { text.clone() } else { format!("\"{text}\"") };
                Some((name, value, text))
            }
            _ => None,
        }
    };
    let orders = ["config", "print-config", "license"];
    let samples: Vec<_> = command.get_arguments().filter_map(sample).collect();
    assert!(samples.len() > 25, "the walk found the options");
    samples.into_iter().filter(|(name, ..)| !orders.contains(&&name[..])).collect()
}

#[test]
fn every_option_works_in_the_file_and_in_the_environment_and_is_printed_as_it_is_read() {
    for (name, value, text) in samples() {
        let line = format!("{name} = {value}");
        let from_file = gather(Some(&line), &[], &[]).unwrap_or_else(|why| panic!("{line}: {why}")).to_toml();
        let printed = from_file.lines().any(|printed| printed == line || printed == format!("{line}.0"));
        assert!(printed, "{line} is not in\n{from_file}");
        let variable = format!("MEMWIRE_{}", name.replace('-', "_").to_uppercase());
        let settings = gather(None, &[(&variable, &text)], &[]).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(settings.warnings, [""; 0]);
        assert_eq!(settings.to_toml(), from_file, "{variable}");
        assert_ne!(from_file, gather(None, &[], &[]).unwrap().to_toml(), "{name}: the sample is the default");
    }
}

#[test]
fn what_is_printed_can_be_read_back() {
    let lines: Vec<_> = samples().iter().map(|(name, value, _)| format!("{name} = {value}")).collect();
    let all = lines.join("\n");
    let numbers = "slab-growth-factor = 1e5\nconn-limit = '18446744073709551615'\nthreads = '+3'";
    for file in
        ["", &all, numbers, "listen = ['a', 'b']\nunix-socket = 'with \"quotes\" and \\'", "port = -1"]
    {
        let printed = gather(Some(file), &[], &[]).unwrap().to_toml();
        assert_eq!(gather(Some(&printed), &[], &[]).unwrap().to_toml(), printed);
    }
    let output = memwire(&["--print-config", "-m", "100"]).env("MEMWIRE_PORT", "7").output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && printed.contains("\nmemory-limit = 100\n"), "{printed}");
    assert!(printed.contains("port = 7\n") && printed.contains("# user =\n"), "{printed}");
    // What would not start is not printed as if it held.
    let output = memwire(&["--print-config", "-m", "0"]).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(EXIT_USAGE), &b""[..]));
}

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path)
}

#[test]
fn the_file_that_the_package_brings_is_one_that_can_be_served() {
    let path = packaging("memwire.toml");
    let output = memwire(&["--config", path.to_str().unwrap(), "--print-config"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("listen = [\"127.0.0.1\"]\n"));
    // What is commented out is right as well.
    let text = fs::read_to_string(&path).unwrap();
    let all = text.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).filter(|line| {
        line.split_once(" = ").is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '))
    });
    let all: Vec<_> = all.collect();
    assert!(all.len() > 5, "{all:?}");
    gather(Some(&all.join("\n")), &[], &[]).unwrap();
}
