//! Who is let in, over real sockets: users of a password file, and strangers, in all protocols.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::client::{Answer, Client, Request, op, status};
use crate::harness::{PATIENCE, Server};

/// A server that asks for users, and its password file.
struct Guarded {
    server: Server,
    file: PasswordFile,
}

struct PasswordFile {
    directory: TempDir,
}

impl PasswordFile {
    fn new(lines: &str) -> Self {
        let file = Self { directory: TempDir::new().unwrap() };
        file.write(lines);
        file
    }

    fn write(&self, lines: &str) {
        fs::write(self.path(), lines).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("users")
    }
}

impl Guarded {
    fn start(lines: &str, options: &[&str]) -> Self {
        let file = PasswordFile::new(lines);
        let path = file.path();
        let server = Server::start(&[&["-S", "--sasl-pwdb", path.to_str().unwrap()], options].concat());
        Self { server, file }
    }

    fn client(&self) -> Client {
        Client::connect(&self.server)
    }

    fn member(&self) -> Client {
        let mut client = self.client();
        assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
        client
    }

    fn stat(&self, name: &str) -> u64 {
        self.member().stats("").get(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    fn speak(&self) -> Speaker {
        Speaker(self.server.connect())
    }
}

/// A connection on which lines are spoken.
struct Speaker(TcpStream);

impl Speaker {
    /// Sends `request`, and sees that `answer` is all that comes, as far as it goes.
    #[track_caller]
    fn hears(&mut self, request: impl AsRef<[u8]>, answer: &str) {
        self.0.write_all(request.as_ref()).unwrap();
        let mut heard = vec![0; answer.len()];
        let read = self.0.read_exact(&mut heard);
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(read.is_ok() && heard == answer, "heard {heard:?} ({read:?}) instead of {answer:?}");
    }

    /// Sees that nothing but the end comes.
    #[track_caller]
    fn is_closed(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

fn plain(user: &str, password: &str) -> Request {
    Request::of(op::SASL_AUTH, "PLAIN").value(format!("\0{user}\0{password}"))
}

fn authenticated() -> Answer {
    Answer { value: b"Authenticated".to_vec(), ..Answer::done(0) }
}

fn continued(challenge: &str) -> Answer {
    Answer { status: 0x21, value: challenge.into(), ..Answer::done(0) }
}

fn refused() -> Answer {
    Answer::error(status::AUTH_ERROR)
}

const ANN: &str = "ann:pencil\n";

#[test]
fn a_user_gets_in_by_plain_and_can_do_everything() {
    let guarded = Guarded::start("ann:pencil\nbob:p:q r\n", &[]);
    let mut ann = guarded.member();
    ann.set("key", "value");
    ann.assert_in_step();
    let mut bob = guarded.client();
    assert_eq!(bob.ask(&plain("bob", "p:q r")), authenticated());
    assert_eq!(bob.ask(&Request::of(op::GET, "key")).value, b"value");
}

#[test]
fn mechanisms_and_version_are_told_to_strangers_and_nothing_else() {
    let guarded = Guarded::start(ANN, &[]);
    for _ in 0..2 {
        let mut client = guarded.client();
        let told = client.ask(&Request::new(op::SASL_LIST_MECHS));
        assert_eq!(told, Answer { value: b"SCRAM-SHA-256 PLAIN".to_vec(), ..Answer::done(0) });
        assert!(client.ask(&Request::new(op::VERSION)).value.starts_with(b"1.6"));
        assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
    }
}

#[test]
fn every_other_opcode_ends_a_strangers_connection_and_does_nothing() {
    let guarded = Guarded::start(ANN, &[]);
    guarded.member().set("key", "value");
    let open = [op::VERSION, op::SASL_LIST_MECHS, op::SASL_AUTH, op::SASL_STEP];
    for opcode in (0..=u8::MAX).filter(|opcode| !open.contains(opcode)) {
        let mut client = guarded.client();
        let request = Request::store(opcode, "key", "other");
        // Behind it in the same segment is what must not be executed either.
        client.send(&[request.opaque(7).bytes(), Request::of(op::DELETE, "key").bytes()].concat());
        assert_eq!(client.receive(opcode, 7), refused(), "{opcode:#04x}");
        client.assert_closed();
    }
    assert_eq!(guarded.member().ask(&Request::of(op::GET, "key")).value, b"value");
}

#[test]
fn what_is_wrong_is_refused_and_the_connection_stays() {
    let guarded = Guarded::start(ANN, &["-o", "auth_failures_max=100"]);
    let mut client = guarded.client();
    for (mechanism, message) in [
        ("PLAIN", "\0ann\0paper"),
        ("PLAIN", "\0eve\0pencil"),
        ("PLAIN", "eve\0ann\0pencil"),
        ("PLAIN", "ann\0pencil"),
        ("CRAM-MD5", "\0ann\0pencil"),
        ("plain", "\0ann\0pencil"),
        ("SCRAM-SHA-256", "\0ann\0pencil"),
    ] {
        assert_eq!(
            client.ask(&Request::of(op::SASL_AUTH, mechanism).value(message)),
            refused(),
            "{message:?}"
        );
        let step = Request::of(op::SASL_STEP, "PLAIN").value("\0ann\0pencil");
        assert_eq!(client.ask(&step), refused(), "a step with nothing before it");
    }
    assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
    let stats = client.stats("");
    assert_eq!((stats["auth_cmds"].as_str(), stats["auth_errors"].as_str()), ("15", "14"));
}

#[test]
fn a_mechanism_may_be_chosen_first_and_its_message_come_behind() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.client();
    assert_eq!(client.ask(&Request::of(op::SASL_AUTH, "PLAIN")), continued(""));
    // Half a handshake is none.
    let mut other = guarded.client();
    assert_eq!(other.ask(&Request::of(op::SASL_AUTH, "PLAIN")), continued(""));
    assert_eq!(other.ask(&Request::of(op::GET, "key")), refused());
    other.assert_closed();
    assert_eq!(client.ask(&Request::of(op::SASL_STEP, "PLAIN").value("\0ann\0pencil")), authenticated());
    client.assert_in_step();
}

#[test]
fn who_authenticates_again_is_a_stranger_until_it_has_ended_well() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.member();
    assert_eq!(client.ask(&Request::new(op::SASL_LIST_MECHS)).status, 0);
    client.assert_in_step();
    assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
    client.set("key", "value");
    let (wrong, get) = (plain("ann", "paper").opaque(1), Request::of(op::GET, "key").opaque(2));
    client.send(&[wrong.bytes(), get.bytes()].concat());
    assert_eq!(client.receive(op::SASL_AUTH, 1), refused());
    assert_eq!(client.receive(op::GET, 2), refused());
    client.assert_closed();
}

#[test]
fn what_stands_behind_an_authentication_in_the_same_segment_is_served() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.client();
    let value = "v".repeat(100_000);
    let requests = [
        Request::new(op::SASL_LIST_MECHS).opaque(1),
        plain("ann", "pencil").opaque(2),
        Request::store(op::SET, "key", &value).opaque(3),
        Request::of(op::GET, "key").opaque(4),
    ];
    client.send(&requests.map(|request| request.bytes()).concat());
    assert_eq!(client.receive(op::SASL_LIST_MECHS, 1).status, 0);
    assert_eq!(client.receive(op::SASL_AUTH, 2), authenticated());
    assert_eq!(client.receive(op::SET, 3).status, 0);
    assert_eq!(client.receive(op::GET, 4).value, value.as_bytes());
}

#[test]
fn an_authentication_that_trickles_in_is_one() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.client();
    for byte in plain("ann", "pencil").opaque(5).bytes() {
        client.send(&[byte]);
    }
    assert_eq!(client.receive(op::SASL_AUTH, 5), authenticated());
    client.assert_in_step();
}
