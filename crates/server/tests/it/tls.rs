//! TLS: every protocol over it, certificates of both sides, handshakes that come to nothing, and new certificates.

pub(crate) mod certificates;
mod clients;
mod socket;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use crate::client::{Client, Request, op, wait_until};
use crate::harness::{Memcached, PATIENCE, Random, Response, Server, packet, skip_or_fail};
use certificates::{Authority, Identity, Material, Validity};

/// A client's end of a TLS connection.
pub(crate) type Tls<S = TcpStream> = StreamOwned<ClientConnection, S>;

fn start(material: &Material, args: &[&str]) -> Server {
    Server::start(&[&["-vv", "-Z", "-o", &material.options()], args].concat())
}

pub(crate) fn over<S: Read + Write>(socket: S, config: &Arc<ClientConfig>) -> Tls<S> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket)
}

fn connect(server: &Server, material: &Material) -> Tls {
    over(server.connect(), &material.authority.client(None, &[&TLS13, &TLS12]))
}

/// Sends `request`, and reads as much as `expected` has.
#[track_caller]
fn asks<S: Read + Write>(tls: &mut Tls<S>, request: &[u8], expected: &[u8]) {
    tls.write_all(request).unwrap();
    let mut answer = vec![0; expected.len()];
    tls.read_exact(&mut answer).unwrap();
    assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// Statistics, asked for in text.
#[track_caller]
pub(crate) fn stats(tls: &mut Tls, group: &str) -> String {
    tls.write_all(format!("stats{group}\r\n").as_bytes()).unwrap();
    let mut lines = String::new();
    let mut reader = BufReader::new(tls);
    while !lines.ends_with("END\r\n") {
        assert_ne!(reader.read_line(&mut lines).unwrap(), 0, "closed within {lines}");
    }
    lines
}

/// What becomes of a handshake and one request.
fn outcome(server: &Server, config: &Arc<ClientConfig>) -> io::Result<()> {
    let mut tls = over(server.connect(), config);
    tls.write_all(b"mn\r\n")?;
    tls.read_exact(&mut [0; 4])
}

#[test]
fn every_protocol_is_served_in_both_versions() {
    let material = Material::new();
    let server = start(&material, &[]);
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    for version in versions {
        let config = material.authority.client(None, &[version]);
        let mut text = over(server.connect(), &config);
        asks(&mut text, b"set k 5 0 3\r\nabc\r\nget k\r\n", b"STORED\r\nVALUE k 5 3\r\nabc\r\nEND\r\n");
        assert_eq!(text.conn.protocol_version(), Some(version.version));
        asks(&mut text, b"mg k v\r\nmn\r\n", b"VA 3\r\nabc\r\nMN\r\n");

        let mut resp = over(server.connect(), &config);
        asks(&mut resp, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"$3\r\nabc\r\n");

        let mut binary = over(server.connect(), &config);
        binary.write_all(&packet(op::GET, b"k", b"", b"", 0, 7)).unwrap();
        let response = Response::read(&mut binary).unwrap().expect("an answer");
        assert_eq!((response.status(), response.opaque(), &response.body[4..]), (0, 7, &b"abc"[..]));
    }
}

#[test]
fn large_values_go_both_ways() {
    let material = Material::new();
    let server = start(&material, &["-I", "8m"]);
    let mut tls = connect(&server, &material);
    for bytes in [2000, 16_384, 70_000, 1 << 20, 5_000_001] {
        let value = Random::new(bytes as u64).bytes(bytes);
        let head = format!("set k 0 0 {bytes}\r\n");
        asks(&mut tls, &[head.as_bytes(), &value, b"\r\n"].concat(), b"STORED\r\n");
        let head = format!("VALUE k 0 {bytes}\r\n");
        tls.write_all(b"get k\r\n").unwrap();
        let mut answer = vec![0; head.len() + bytes + 7];
        tls.read_exact(&mut answer).unwrap();
        assert!(
            answer == [head.as_bytes(), &value, b"\r\nEND\r\n"].concat(),
            "{bytes} bytes came back changed"
        );
    }
}

#[test]
fn answers_that_are_read_late_come_whole_and_in_order() {
    const COUNT: usize = 4000;
    let material = Material::new();
    let server = start(&material, &[]);
    let mut tls = connect(&server, &material);
    let values: Vec<_> = (0..7_usize).map(|at| Random::new(at as u64).bytes(700 * (at + 1))).collect();
    for (at, value) in values.iter().enumerate() {
        let head = format!("set k{at} 0 0 {}\r\n", value.len());
        asks(&mut tls, &[head.as_bytes(), value, b"\r\n"].concat(), b"STORED\r\n");
    }
    // Answers of 11 MB: more than the sockets hold, so that writing stops and goes on.
    let requests: Vec<_> = (0..COUNT).map(|at| format!("mg k{} v\r\n", at % 7)).collect();
    tls.write_all(requests.concat().as_bytes()).unwrap();
    for at in 0..COUNT {
        let value = &values[at % 7];
        let expected = [format!("VA {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat();
        let mut answer = vec![0; expected.len()];
        tls.read_exact(&mut answer).unwrap();
        assert!(answer == expected, "answer {at} is another one's");
    }
    asks(&mut tls, b"mn\r\n", b"MN\r\n");
}

/// A socket that takes a byte at a time.
struct Trickle(TcpStream);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_byte_at_a_time_is_as_good() {
    let material = Material::new();
    let server = start(&material, &[]);
    let config = material.authority.client(None, &[&TLS13, &TLS12]);
    let mut tls = over(Trickle(server.connect()), &config);
    asks(&mut tls, b"set k 0 0 3\r\nabc\r\n", b"STORED\r\n");
    asks(&mut tls, b"get k\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n");
}

#[test]
fn an_end_is_said_on_both_sides() {
    let material = Material::new();
    let server = start(&material, &[]);
    let mut quits = connect(&server, &material);
    quits.write_all(b"quit\r\n").unwrap();
    // Without a goodbye this is an error.
    assert_eq!(quits.read_to_end(&mut Vec::new()).unwrap(), 0);

    let mut says_goodbye = connect(&server, &material);
    asks(&mut says_goodbye, b"mn\r\n", b"MN\r\n");
    says_goodbye.conn.send_close_notify();
    says_goodbye.flush().unwrap();
    assert_eq!(says_goodbye.read_to_end(&mut Vec::new()).unwrap(), 0);

    let mut stays = connect(&server, &material);
    asks(&mut stays, b"mn\r\n", b"MN\r\n");
    assert!(server.stop().success());
    assert_eq!(stays.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn handshakes_that_come_to_nothing_are_counted_and_harm_nobody() {
    let material = Material::new();
    let server = start(&material, &["-o", "ssl_handshake_timeout=3600"]);
    let mut tls = connect(&server, &material);
    let errors = |tls: &mut Tls, count: u64| {
        wait_until("the handshake is counted", || {
            stats(tls, "").contains(&format!("STAT ssl_handshake_errors {count}\r\n"))
        });
    };

    let mut plain = server.connect();
    plain.write_all(b"get k\r\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert");
    errors(&mut tls, 1);
    assert!(server.log().contains("speaks no TLS"));

    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    let config = material.authority.client(None, &[&TLS13]);
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    for (count, cut) in [(2, 0), (3, 1), (4, 5), (5, hello.len() / 2), (6, hello.len() - 1), (7, hello.len())]
    {
        let mut cut_off = server.connect();
        cut_off.write_all(&hello[..cut]).unwrap();
        drop(cut_off);
        errors(&mut tls, count);
    }
}

#[test]
fn a_handshake_has_its_time() {
    let material = Material::new();
    let server = start(&material, &["-o", "ssl_handshake_timeout=1"]);
    let mut tls = connect(&server, &material);
    asks(&mut tls, b"mn\r\n", b"MN\r\n");
    let mut silent = server.connect();
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "closed");
    // The one that came before has had its time, too.
    let stats = stats(&mut tls, "");
    assert!(stats.contains("STAT ssl_handshake_timeouts 1\r\n"), "{stats}");
    assert!(stats.contains("STAT ssl_handshake_errors 1\r\n"), "{stats}");
}

#[test]
fn only_clients_with_the_right_certificate_come_in() {
    let material = Material::new();
    let stranger = Authority::new("stranger");
    let ca = format!("ssl_ca_cert={}", material.path("ca.pem"));
    let right = material.authority.issue("right", Validity::Valid);
    let late = material.authority.issue("late", Validity::Expired);
    let foreign = stranger.issue("foreign", Validity::Valid);
    for mode in ["0", "1", "2", "3"] {
        let server = start(&material, &["-o", &ca, "-o", &format!("ssl_verify_mode={mode}")]);
        for version in [&TLS12, &TLS13] {
            let comes_in = |identity: Option<&Identity>| {
                outcome(&server, &material.authority.client(identity, &[version])).is_ok()
            };
            assert!(comes_in(Some(&right)), "mode {mode}");
            assert_eq!(comes_in(None), matches!(mode, "0" | "1"), "mode {mode}");
            assert_eq!(comes_in(Some(&late)), mode == "0", "mode {mode}");
            assert_eq!(comes_in(Some(&foreign)), mode == "0", "mode {mode}");
        }
        let log = server.log();
        let asked = matches!(mode, "1" | "2" | "3");
        assert_eq!(log.contains("shows no certificate"), matches!(mode, "2" | "3"), "{log}");
        assert_eq!(log.contains("has expired"), asked, "{log}");
        assert_eq!(log.contains("signed by nobody in ssl_ca_cert"), asked, "{log}");
    }
}

#[test]
fn a_client_reads_why_it_is_refused() {
    let material = Material::new();
    let server = start(&material, &["--tls-ca", &material.path("ca.pem"), "--tls-verify", "require"]);
    let late = material.authority.issue("late", Validity::Expired);
    let error = outcome(&server, &material.authority.client(Some(&late), &[&TLS13])).unwrap_err();
    assert!(error.to_string().contains("CertificateExpired"), "{error}");
}

#[test]
fn an_address_may_be_without() {
    let material = Material::new();
    let server = start(&material, &["-l", "notls:127.0.0.1"]);
    // The harness adds the one with TLS behind it.
    let mut clear = Client::connect(&server);
    clear.set("k", "abc");
    let socket = TcpStream::connect(server.tcp()[1]).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = over(socket, &material.authority.client(None, &[&TLS13]));
    asks(&mut tls, b"get k\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n");
    assert_eq!(clear.ask(&Request::of(op::GET, "k")).value, b"abc");
}

#[test]
fn certificates_are_read_again_and_bad_ones_refused() {
    let material = Material::new();
    let server = start(&material, &[]);
    let shown = |server: &Server| {
        let mut tls = connect(server, &material);
        asks(&mut tls, b"mn\r\n", b"MN\r\n");
        tls.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let mut old = connect(&server, &material);
    asks(&mut old, b"set k 0 0 3\r\nabc\r\n", b"STORED\r\n");
    let first = shown(&server);

    material.renew();
    assert_eq!(shown(&server), first, "not before it is asked for");
    asks(&mut old, b"refresh_certs\r\n", b"OK\r\n");
    wait_until("the certificate is another one", || shown(&server) != first);
    let second = shown(&server);

    material.renew();
    kill(server.pid(), Signal::SIGHUP).unwrap();
    wait_until("the signal is heard", || shown(&server) != second);
    let third = shown(&server);

    // A key of another certificate, no certificate, no file.
    let key = fs::read(material.path("server.key")).unwrap();
    fs::write(material.path("server.key"), &material.authority.issue("other", Validity::Valid).key).unwrap();
    let refused = |count: usize| {
        wait_until("it is refused", || {
            server.log().matches("the certificates stay as they were").count() == count
        });
    };
    asks(&mut old, b"refresh_certs\r\n", b"OK\r\n");
    refused(1);
    fs::write(material.path("server.key"), key).unwrap();
    fs::write(material.path("server.pem"), b"nothing").unwrap();
    asks(&mut old, b"refresh_certs\r\n", b"OK\r\n");
    refused(2);
    fs::remove_file(material.path("server.pem")).unwrap();
    kill(server.pid(), Signal::SIGHUP).unwrap();
    refused(3);
    wait_until("it is counted", || stats(&mut old, "").contains("STAT ssl_refresh_errors 3\r\n"));
    assert_eq!(shown(&server), third);
    asks(&mut old, b"get k\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n");
}

#[test]
fn what_is_missing_is_said_before_it_serves() {
    let material = Material::new();
    let (cert, key) = (material.path("server.pem"), material.path("server.key"));
    for (args, why) in [
        (vec!["-Z"], "-Z: needs a certificate"),
        (vec!["--tls-key", &key], "--tls-key: without -Z"),
        (vec!["-o", "ssl_verify_mode=2"], "-o ssl_verify_mode: without -Z"),
        (vec!["--tls-cert", &cert, "--tls-verify", "require"], "client certificates: need"),
        (vec!["--tls-cert", &cert], "holds no private key"),
        (vec!["--tls-cert", &key, "--tls-key", &key], "holds no certificate"),
        (vec!["--tls-cert", "/nowhere", "--tls-key", &key], "/nowhere: No such file"),
        (vec!["-Z", "-o", "ssl_verify_mode=4"], "-o ssl_verify_mode=4"),
        (vec!["-Z", "-o", "ssl_nonsense=4"], "-o ssl_nonsense: unknown option"),
    ] {
        let mut command = Command::new("timeout");
        command.args(["10", env!("CARGO_BIN_EXE_memwire"), "-l", "127.0.0.1", "-p", "-1"]).args(args);
        let output = command.output().expect("timeout of coreutils runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{why}: {said}");
    }
}

#[test]
fn memcached_says_the_same() {
    let material = Material::new();
    let options = material.options();
    let Some(theirs) = Memcached::start(&["-Z", "-o", &options]) else {
        return skip_or_fail("memcached");
    };
    let ours = start(&material, &[]);
    let [theirs, ours] = [theirs, ours].map(|server| {
        let mut tls = connect(&server, &material);
        asks(&mut tls, b"set k 0 0 3\r\nabc\r\n", b"STORED\r\n");
        asks(&mut tls, b"refresh_certs\r\n", b"OK\r\n");
        let lines = [stats(&mut tls, ""), stats(&mut tls, " settings")].concat();
        let lines = lines.lines().filter(|line| line.contains("ssl_")).map(String::from);
        lines.collect::<Vec<_>>()
    });
    // What sizes buffers, moves ciphers into the kernel, or is ours alone.
    let only_theirs = ["ssl_wbuf_size", "ssl_kernel_tls"];
    let only_ours = ["ssl_handshake_timeout", "ssl_refresh_errors"];
    let without = |lines: Vec<String>, names: &[&str]| {
        lines.into_iter().filter(|line| !names.iter().any(|name| line.contains(name))).collect::<Vec<_>>()
    };
    assert_eq!(without(ours, &only_ours), without(theirs, &only_theirs));
}

/// What a program answers that reads `input`.
pub(crate) fn talk(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let mut command = Command::new("timeout");
    command.args(["60", program]).args(args);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("timeout of coreutils runs");
    let mut stdin = child.stdin.take().unwrap();
    match stdin.write_all(input.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{program}: {error}"),
        _ => drop(stdin),
    }
    let output = child.wait_with_output().unwrap();
    // What timeout says of a program that is not there.
    (output.status.code() != Some(127)).then_some(output)
}

#[test]
fn openssl_is_served() {
    let material = Material::new();
    let server = start(&material, &[]);
    let (address, ca) = (server.addr().to_string(), material.path("ca.pem"));
    for version in ["-tls1_2", "-tls1_3"] {
        let args = [
            "s_client",
            "-quiet",
            "-ign_eof",
            "-verify_return_error",
            "-CAfile",
            &ca,
            version,
            "-connect",
            &address,
        ];
        let Some(output) = talk("openssl", &args, "set k 0 0 3\r\nabc\r\nget k\r\nquit\r\n") else {
            return skip_or_fail("openssl");
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("STORED\r\nVALUE k 0 3\r\nabc\r\nEND\r\n"), "{output:?}");
    }
}

#[test]
fn redis_cli_is_served() {
    let material = Material::new();
    let server = start(&material, &[]);
    let (port, ca) = (server.port().to_string(), material.path("ca.pem"));
    let args = ["-p", &port, "--tls", "--cacert", &ca];
    let Some(output) = talk("redis-cli", &args, "SET k abc\nGET k\n") else {
        return skip_or_fail("redis-cli");
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "OK\nabc\n", "{output:?}");
}

#[test]
fn pymemcache_and_redis_py_are_served() {
    let material = Material::new();
    let server = start(&material, &[]);
    let (port, ca) = (server.port().to_string(), material.path("ca.pem"));
    let pymemcache = "import ssl, sys, pymemcache\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        client = pymemcache.Client(('localhost', int(sys.argv[1])), tls_context=context)\n\
        client.set('large', b'x' * 500000, noreply=False)\n\
        assert client.get('large') == b'x' * 500000\n\
        assert client.get('none') is None\n";
    let redis = "import sys, redis\n\
        client = redis.Redis(port=int(sys.argv[1]), ssl=True, ssl_ca_certs=sys.argv[2])\n\
        client.set('large', b'x' * 500000)\n\
        assert client.get('large') == b'x' * 500000\n\
        assert client.get('none') is None\n";
    for (module, script) in [("pymemcache", pymemcache), ("redis", redis)] {
        let is_there = talk("python3", &["-c", &format!("import {module}")], "");
        if is_there.is_none_or(|output| !output.status.success()) {
            skip_or_fail(module);
            continue;
        }
        let output = talk("python3", &["-c", script, &port, &ca], "").unwrap();
        assert!(output.status.success(), "{module}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
