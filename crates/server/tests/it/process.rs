//! The program as init systems, containers and shells run it: options, signals, files, exit codes.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tempfile::TempDir;

use crate::client::{Answer, Client, Request, op, wait_until};
use crate::harness::{PATIENCE, Response, Server};

/// As `sysexits.h` has them.
const EXIT_USAGE: i32 = 64;
const EXIT_SYSTEM: i32 = 71;

/// A run of the program with nothing but the options that a test gives it.
struct Run {
    child: Child,
    directory: TempDir,
}

impl Run {
    fn start(args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), args)
    }

    fn start_in(directory: TempDir, args: &[&str]) -> Self {
        let file = |name| File::create(directory.path().join(name)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_memwire"))
            .args(args)
            .env("MEMCACHED_PORT_FILENAME", directory.path().join("ports"))
            .env_remove("RUST_LOG")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The ports that it says it listens on, by family, once it does.
    fn ports(&mut self) -> Vec<(String, u16)> {
        let ports = self.path("ports");
        let child = &mut self.child;
        wait_until("the port file is there", || {
            // A daemon's parent ends with success.
            let failed = child.try_wait().unwrap().filter(|status| !status.success());
            assert_eq!(failed, None, "it ended");
            ports.exists()
        });
        let line = |line: &str| {
            let (family, port) = line.strip_prefix("TCP ")?.split_once(": ")?;
            Some((family.to_owned(), port.parse().ok()?))
        };
        self.text("ports").lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
    }

    fn connect(&mut self) -> Client {
        let (_, port) = self.ports()[0];
        connect(Ipv4Addr::LOCALHOST.into(), port)
    }

    /// Waits for its end.
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let child = &mut self.child;
        wait_until("the process has ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("stdout: {}\nstderr: {}", self.text("stdout"), self.text("stderr"));
        }
    }
}

fn connect(host: IpAddr, port: u16) -> Client {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(host, port), PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

/// Runs it to its end, which is to have this exit code, and answers what it wrote to stdout and to stderr.
#[track_caller]
fn ends(code: i32, args: &[&str]) -> (String, String) {
    let mut run = Run::start(args);
    let status = run.wait();
    let (stdout, stderr) = (run.text("stdout"), run.text("stderr"));
    assert_eq!(status.code(), Some(code), "{args:?}: {stdout}{stderr}");
    (stdout, stderr)
}

#[test]
fn version_help_and_license_are_printed() {
    for version in ["-V", "--version"] {
        let (stdout, stderr) = ends(0, &[version]);
        assert!(stdout.starts_with("memwire ") && stderr.is_empty(), "{stdout}{stderr}");
    }
    for license in ["-i", "--license"] {
        assert!(ends(0, &[license]).0.contains("Copyright"));
    }
    let short = "pUsalmMctIRbCFBDudPrvoVihfnkLAXWNSYZe";
    for help in ["-h", "--help"] {
        let (stdout, stderr) = ends(0, &[help]);
        assert!(stderr.is_empty(), "{stderr}");
        for option in short.chars() {
            let named = stdout.lines().any(|line| line.trim_start().starts_with(&format!("-{option}")));
            assert!(named, "{help} does not name -{option}");
        }
    }
}

#[test]
fn an_unknown_option_is_an_error_with_a_hint() {
    let (_, stderr) = ends(EXIT_USAGE, &["--memory-limits", "5"]);
    assert!(stderr.contains("--memory-limits") && stderr.contains("--memory-limit'"), "{stderr}");
    let (_, stderr) = ends(EXIT_USAGE, &["-o", "hashpow=20"]);
    assert!(stderr.contains("hashpow:") && stderr.contains("hashpower?"), "{stderr}");
    ends(EXIT_USAGE, &["-@"]);
    ends(EXIT_USAGE, &["surplus"]);
}

#[test]
fn a_value_that_cannot_be_followed_names_its_option() {
    for (option, value) in [
        ("-p", "65536"),
        ("-m", "0"),
        ("-c", "0"),
        ("-I", "100"),
        ("-I", "2g"),
        ("-a", "999"),
        ("-l", "127.0.0.1:http"),
        ("-B", "gibberish"),
        ("-o", "ssl_key=file"),
    ] {
        let (_, stderr) = ends(EXIT_USAGE, &[option, value]);
        assert!(stderr.contains(option), "{option} {value}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "one sentence: {stderr}");
    }
    for (option, value) in [("-m", "many"), ("-c", "-5"), ("-t", "")] {
        ends(EXIT_USAGE, &[option, value]);
    }
}

#[test]
fn options_that_protect_are_refused_and_the_server_does_not_start() {
    let (stdout, stderr) = ends(EXIT_USAGE, &["-e", "file"]);
    assert!(stdout.is_empty());
    assert!(stderr.contains("-e") && stderr.contains("not served"), "{stderr}");
}

#[test]
fn options_without_meaning_are_accepted_with_a_warning_each() {
    let args = ["-f", "1.25", "-n", "48", "-k", "-L", "-W", "-U", "11211", "-R", "50", "-o"];
    let mut run = Run::start(&[&args[..], &["modern,hashpower=20", "-l", "127.0.0.1", "-p", "0"]].concat());
    run.connect().assert_in_step();
    let log = run.text("stderr");
    for option in ["-f", "-n", "-k", "-L", "-W", "-U", "-R", "-o modern", "-o hashpower"] {
        let warnings_count =
            log.lines().filter(|line| line.contains("WARN") && line.contains(&format!(" {option}"))).count();
        assert_eq!(warnings_count, 1, "{option}: {log}");
    }
}

#[test]
fn a_client_may_end_the_server_where_the_operator_says_so() {
    let start = |args: &[&str]| Run::start(&[args, &["-l", "127.0.0.1", "-p", "0"]].concat());
    let ask = |run: &mut Run, request: &[u8]| {
        let (_, port) = run.ports()[0];
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[request, b"quit\r\n"].concat()).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        told
    };
    let mut run = start(&[]);
    assert_eq!(ask(&mut run, b"shutdown\r\n"), "ERROR: shutdown not enabled\r\n");
    for request in [&b"shutdown"[..], b"shutdown graceful"] {
        let mut run = start(&["-A"]);
        let request = [b"shutdown hard\r\nmn\r\n", request, b"\r\n"].concat();
        assert_eq!(ask(&mut run, &request), "CLIENT_ERROR invalid shutdown mode\r\nMN\r\n");
        assert!(run.wait().success());
    }
    assert_eq!(ask(&mut run, b"lru_crawler metadump all\r\n"), "END\r\n");
    assert_eq!(ask(&mut start(&["-X"]), b"lru_crawler metadump all\r\n"), "ERROR metadump not allowed\r\n");
}

#[test]
fn any_free_port_is_taken_and_told_in_the_port_file() {
    for port in ["-1", "0"] {
        let mut run = Run::start(&["-l", "127.0.0.1", "-p", port]);
        let ports = run.ports();
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].0, "INET");
        run.connect().assert_in_step();
    }
    // All addresses: one port, and IPv6 where there is any.
    let mut run = Run::start(&["-p", "-1"]);
    let ports = run.ports();
    assert!(ports.iter().all(|(_, port)| *port == ports[0].1 && *port != 0), "{ports:?}");
    run.connect().assert_in_step();
    if has_ipv6() {
        assert_eq!(ports.len(), 2);
        connect(Ipv6Addr::LOCALHOST.into(), ports[0].1).assert_in_step();
    }
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn it_listens_on_every_address_that_is_given() {
    let mut run = Run::start(&["-p", "0", "-l", "127.0.0.1,127.0.0.2", "-l", "127.0.0.3:0"]);
    let ports = run.ports();
    assert_eq!(ports.len(), 3, "{ports:?}");
    for (host, (_, port)) in (1..).zip(&ports) {
        let mut client = connect(Ipv4Addr::new(127, 0, 0, host).into(), *port);
        client.set(host.to_string(), "v");
    }
    let mut client = run.connect();
    assert_eq!(client.stat("curr_items"), 3, "it is one server");
    if !has_ipv6() {
        return println!("skipped: IPv6 is not there");
    }
    let mut run = Run::start(&["-p", "0", "-l", "::1", "-l", "[::1]:0", "-l", "127.0.0.1"]);
    let ports = run.ports();
    let families: Vec<&str> = ports.iter().map(|(family, _)| &family[..]).collect();
    assert_eq!(families, ["INET6", "INET6", "INET"]);
    connect(Ipv6Addr::LOCALHOST.into(), ports[1].1).assert_in_step();
    connect(Ipv4Addr::LOCALHOST.into(), ports[2].1).assert_in_step();
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for args in [&["-l", "127.0.0.1", "-p", &address.port().to_string()][..], &["-l", &address.to_string()]] {
        let (_, stderr) = ends(EXIT_SYSTEM, args);
        assert!(stderr.contains(&address.to_string()) && stderr.contains("in use"), "{stderr}");
    }
    // Nor is it left half open: an address of another machine makes the whole list fail.
    let (_, stderr) = ends(EXIT_SYSTEM, &["-p", "0", "-l", "127.0.0.1,192.0.2.1"]);
    assert!(stderr.contains("192.0.2.1"), "{stderr}");
}

#[test]
fn a_unix_socket_has_the_mask_that_is_asked_for_and_goes_with_the_server() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    // One that an earlier server left.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    for (mask, mode) in [(None, 0o700), (Some("0660"), 0o660), (Some("777"), 0o777)] {
        let mut args = vec!["-s", path.to_str().unwrap()];
        args.extend(mask.into_iter().flat_map(|mask| ["-a", mask]));
        let mut run = Run::start(&args);
        let mut stream = None;
        wait_until("the socket accepts", || {
            stream = UnixStream::connect(&path).ok();
            stream.is_some()
        });
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, mode);
        stream.write_all(&Request::store(op::SET, "k", vec![b'v'; 300_000]).bytes()).unwrap();
        stream.write_all(&Request::of(op::GET, "k").bytes()).unwrap();
        assert_eq!(Response::read(&mut stream).unwrap().unwrap().status(), 0);
        let answer = Response::read(&mut stream).unwrap().unwrap();
        assert_eq!((answer.status(), answer.body.len()), (0, 4 + 300_000));
        assert_eq!(run.text("ports"), "", "there is no TCP");
        run.signal(Signal::SIGTERM);
        assert!(run.wait().success());
        assert!(!path.exists(), "the socket file is gone");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the connection is closed");
    }
}

#[test]
fn who_comes_by_a_unix_socket_belongs_to_no_address() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("socket");
    let mut run = Run::start(&["-s", path.to_str().unwrap(), "--conn-limit-per-address", "1"]);
    wait_until("the socket accepts", || UnixStream::connect(&path).is_ok());
    let streams = [(); 3].map(|()| UnixStream::connect(&path).unwrap());
    for mut stream in &streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"mn\r\n").unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"MN\r\n");
    }
    run.signal(Signal::SIGTERM);
    assert!(run.wait().success());
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced_by_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "data").unwrap();
    let (_, stderr) = ends(EXIT_SYSTEM, &["-s", path.to_str().unwrap()]);
    assert!(stderr.contains("precious"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    ends(EXIT_SYSTEM, &["-s", "/no/such/directory/socket"]);
}

#[test]
fn the_pid_file_names_the_process_and_goes_with_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pid");
    let mut run = Run::start(&["-l", "127.0.0.1", "-p", "0", "-P", path.to_str().unwrap()]);
    run.ports();
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", run.child.id()));
    run.signal(Signal::SIGTERM);
    assert!(run.wait().success());
    assert!(!path.exists());
    let (_, stderr) = ends(EXIT_SYSTEM, &["-l", "127.0.0.1", "-p", "0", "-P", "/no/such/directory/pid"]);
    assert!(stderr.contains("-P /no/such/directory/pid"), "{stderr}");
}

#[test]
fn a_daemon_lives_on_and_is_stopped_by_the_pid_in_its_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pid");
    let mut run = Run::start(&["-d", "-l", "127.0.0.1", "-p", "0", "-P", path.to_str().unwrap()]);
    assert!(run.wait().success(), "the shell has its prompt back");
    run.ports();
    let pid: i32 = fs::read_to_string(&path).unwrap().trim_end().parse().unwrap();
    let _daemon = Daemon(pid);
    let mut client = run.connect();
    assert_eq!(client.stat("pid"), u64::try_from(pid).unwrap());
    assert_ne!(u32::try_from(pid).unwrap(), run.child.id());
    // A session of its own, away from the directory that it was started in.
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), PathBuf::from("/"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(), PathBuf::from("/dev/null"));
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_until("the daemon has ended", || is_gone(pid));
    assert!(!path.exists(), "the pid file is gone");
    client.assert_closed();
}

/// A daemon is nobody's child: it is ended with the test, where the test has not ended it.
struct Daemon(i32);

impl Drop for Daemon {
    fn drop(&mut self) {
        if !is_gone(self.0) {
            let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
        }
    }
}

/// Whether the process has ended; whoever it fell to may not have waited for it yet.
fn is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
        || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn an_error_before_the_background_is_the_exit_code_of_the_one_who_started_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_, stderr) = ends(EXIT_SYSTEM, &["-d", "-l", &taken.local_addr().unwrap().to_string()]);
    assert!(stderr.contains("in use"), "{stderr}");
}

#[test]
fn on_a_signal_what_was_asked_is_answered_and_the_exit_code_is_0() {
    const REQUESTS_COUNT: u32 = 3000;
    let value = vec![b'v'; 5000];
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut run = Run::start(&["-l", "127.0.0.1", "-p", "0", "-t", "2"]);
        let mut idle = run.connect();
        idle.set("k", &value);
        let mut clients: Vec<Client> = (0..4).map(|_| run.connect()).collect();
        let mut requests = Vec::new();
        for opaque in 0..REQUESTS_COUNT {
            requests.extend(Request::of(op::GET, "k").opaque(opaque).bytes());
        }
        for client in &mut clients {
            // Served, and so known to the server; what follows lies in its sockets.
            client.assert_in_step();
            client.send(&requests);
        }
        run.signal(signal);
        for client in &mut clients {
            for opaque in 0..REQUESTS_COUNT {
                let answer = client.receive(op::GET, opaque);
                assert!(answer.value == value, "{signal}: answer {opaque} of {REQUESTS_COUNT}");
            }
            client.assert_closed();
        }
        idle.assert_closed();
        assert_eq!(run.wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_end_up_for_seconds_only() {
    let mut run = Run::start(&["-l", "127.0.0.1", "-p", "0"]);
    let mut stuck = run.connect();
    stuck.set("k", vec![b'v'; 1_000_000]);
    stuck.send(&Request::of(op::GET, "k").bytes().repeat(100));
    let mut other = run.connect();
    other.assert_in_step();
    run.signal(Signal::SIGTERM);
    let begun = Instant::now();
    assert!(run.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// Whoever sees the port file may send the signal at once.
#[test]
fn a_signal_as_soon_as_the_port_file_is_there_ends_it_in_order() {
    let pid_directory = TempDir::new().unwrap();
    let pid = pid_directory.path().join("pid");
    for _ in 0..20 {
        let mut run = Run::start(&["-l", "127.0.0.1", "-p", "0", "-P", pid.to_str().unwrap()]);
        let ports = run.path("ports");
        let begun = Instant::now();
        while !ports.exists() {
            assert!(begun.elapsed() < PATIENCE);
            std::hint::spin_loop();
        }
        run.signal(Signal::SIGTERM);
        assert_eq!(run.wait().code(), Some(0));
        assert!(!pid.exists(), "the pid file is gone");
    }
}

#[test]
fn root_becomes_the_user_that_is_named() {
    if !Uid::effective().is_root() {
        return println!("skipped: only root can become another user");
    }
    let nobody = User::from_name("nobody").unwrap().expect("there is a nobody");
    for option in ["-u", "--user"] {
        // The port file must be where nobody may write.
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut run = Run::start_in(directory, &["-l", "127.0.0.1", "-p", "0", option, "nobody"]);
        run.connect().assert_in_step();
        let process = fs::metadata(format!("/proc/{}", run.child.id())).unwrap();
        assert_eq!((process.uid(), process.gid()), (nobody.uid.as_raw(), nobody.gid.as_raw()));
        let status = fs::read_to_string(format!("/proc/{}/status", run.child.id())).unwrap();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        assert!(!groups.split_whitespace().any(|group| group == "0"), "root's group is given up");
        run.signal(Signal::SIGTERM);
        assert!(run.wait().success());
    }
    let (_, stderr) = ends(EXIT_SYSTEM, &["-l", "127.0.0.1", "-p", "0", "-u", "no-such-user"]);
    assert!(stderr.contains("-u no-such-user"), "{stderr}");
}

#[test]
fn more_is_said_with_every_v() {
    for (verbosity, listening, refused) in
        [(None, false, false), (Some("-v"), true, false), (Some("-vv"), true, true)]
    {
        let mut args = vec!["-l", "127.0.0.1", "-p", "0"];
        args.extend(verbosity);
        let mut run = Run::start(&args);
        let mut client = run.connect();
        let told = client.stats("settings")["verbosity"].clone();
        assert_eq!(told, verbosity.map_or(0, |v| v.len() - 1).to_string());
        // A key that is too long.
        client.send(&Request::of(op::GET, [b'k'; 251]).bytes());
        client.rest().unwrap();
        run.signal(Signal::SIGTERM);
        run.wait();
        let log = run.text("stderr");
        assert_eq!(log.contains("listening on 127.0.0.1:"), listening, "{verbosity:?}: {log}");
        assert_eq!(log.contains("key too long: 251 bytes"), refused, "{verbosity:?}: {log}");
    }
}

#[test]
fn more_connections_than_the_system_has_files_for_are_an_error_that_names_the_option() {
    let (_, stderr) = ends(EXIT_SYSTEM, &["-l", "127.0.0.1", "-p", "0", "-c", "2000000000"]);
    assert!(stderr.contains("-c 2000000000"), "{stderr}");
}

#[test]
fn the_debian_unit_files_options_serve() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pid");
    let args = ["-m", "64", "-p", "-1", "-u", "root", "-l", "127.0.0.1", "-l", "::1", "-P"];
    let mut args = [&args[..], &[path.to_str().unwrap()]].concat();
    if !has_ipv6() {
        args.retain(|arg| *arg != "::1");
    }
    let mut run = Run::start(&args);
    let mut client = run.connect();
    assert_eq!(client.ask(&Request::new(op::NOOP)), Answer::done(0));
    assert_eq!(run.text("stderr"), "", "nothing to complain about");
}

#[test]
fn a_second_server_on_the_same_port_is_refused_and_the_first_serves_on() {
    let mut first = Run::start(&["-l", "127.0.0.1", "-p", "0"]);
    let port = first.ports()[0].1.to_string();
    ends(EXIT_SYSTEM, &["-l", "127.0.0.1", "-p", &port]);
    first.connect().assert_in_step();
    first.signal(Signal::SIGTERM);
    assert!(first.wait().success());
    // The port is free at once.
    let mut third = Run::start(&["-l", "127.0.0.1", "-p", &port]);
    third.connect().assert_in_step();
    let refused = TcpStream::connect(("127.0.0.2", port.parse().unwrap()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused, "only where it was told to");
}

fn thread_names(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let mut names: Vec<_> =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap()).collect();
    names.sort();
    names
}

/// A thread gives itself its name when it first runs, which may be after the server is ready.
#[track_caller]
fn assert_threads(server: &Server, names: &[&str]) {
    wait_until(&format!("its threads are {names:?}"), || thread_names(server) == names);
}

#[test]
fn the_storage_thread_serves_where_there_is_no_other() {
    let server = Server::start(&["-t", "2"]);
    assert_threads(&server, &["io-0\n", "io-1\n", "memwire\n", "storage\n"]);
    let server = Server::start(&["-t", "0"]);
    assert_threads(&server, &["memwire\n", "storage\n"]);
    let mut clients = [Client::connect(&server), Client::connect(&server)];
    for number in 0..100 {
        clients[number % 2].set(number.to_string(), "value");
    }
    for number in 0..100 {
        assert_eq!(clients[1 - number % 2].get(number.to_string()).unwrap(), b"value");
    }
    assert_eq!(clients[0].stat("threads"), 1);
    assert!(server.stop().success());
}
