//! Who is let in, over real sockets: users of a password file, and strangers, in all protocols.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::{Signal, kill};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::{Answer, Client, Request, op, status, wait_until};
use crate::clients::{checks_count, run, succeeds, text};
use crate::harness::{Memcached, Server, skip_or_fail};

/// A server that asks for users, and its password file.
struct Guarded {
    server: Server,
    file: PasswordFile,
}

pub(crate) struct PasswordFile {
    directory: TempDir,
}

impl PasswordFile {
    pub(crate) fn new(lines: &str) -> Self {
        let file = Self { directory: TempDir::new().unwrap() };
        file.write(lines);
        file
    }

    pub(crate) fn write(&self, lines: &str) {
        fs::write(self.path(), lines).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
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
        self.member().stat(name)
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

pub(crate) fn plain(user: &str, password: &str) -> Request {
    Request::of(op::SASL_AUTH, "PLAIN").value(format!("\0{user}\0{password}"))
}

pub(crate) fn authenticated() -> Answer {
    Answer { value: b"Authenticated".to_vec(), ..Answer::done(0) }
}

fn continued(challenge: &str) -> Answer {
    Answer { status: 0x21, value: challenge.into(), ..Answer::done(0) }
}

pub(crate) fn refused() -> Answer {
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

/// The client's side of SCRAM-SHA-256, by RFC 5802 and nothing of the server's.
struct Scram {
    first_bare: String,
    password: String,
}

impl Scram {
    fn new(user: &str, password: &str) -> Self {
        Self { first_bare: format!("n={user},r=rOprNGfwEbeRWgbNEkqO"), password: password.into() }
    }

    fn first(&self) -> Request {
        Request::of(op::SASL_AUTH, "SCRAM-SHA-256").value(format!("n,,{}", self.first_bare))
    }

    /// The last message, and what the server has to answer.
    fn last(&self, challenge: &Answer) -> (Request, String) {
        assert_eq!(challenge.status, 0x21);
        let server_first = str::from_utf8(&challenge.value).unwrap();
        let attribute =
            |name| server_first.split(',').find_map(|part: &str| part.strip_prefix(name)).unwrap();
        let salt = BASE64_STANDARD.decode(attribute("s=")).unwrap();
        let rounds = attribute("i=").parse().unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(self.password.as_bytes(), &salt, rounds);
        let hmac = |key: &[u8], text: &[u8]| -> [u8; 32] {
            Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().into()
        };
        let without_proof = format!("c=biws,r={}", attribute("r="));
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, other)| key ^ other).collect();
        let server_signature = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        let message = format!("{without_proof},p={}", BASE64_STANDARD.encode(proof));
        (scram_step(message), format!("v={}", BASE64_STANDARD.encode(server_signature)))
    }
}

fn scram_step(message: impl AsRef<[u8]>) -> Request {
    Request::of(op::SASL_STEP, "SCRAM-SHA-256").value(message)
}

#[test]
fn a_user_gets_in_by_scram_whatever_the_line_is_like() {
    let hashed = passwd("bob", "paper\n");
    let guarded = Guarded::start(&format!("{ANN}{hashed}"), &[]);
    for (user, password) in [("ann", "pencil"), ("bob", "paper")] {
        let mut client = guarded.client();
        let scram = Scram::new(user, password);
        let (last, signature) = scram.last(&client.ask(&scram.first()));
        assert_eq!(client.ask(&last), continued(&signature), "the server knows the password, too");
        assert_eq!(client.ask(&scram_step("")), authenticated());
        client.assert_in_step();
        // The same line is good for PLAIN, again and again.
        for _ in 0..2 {
            assert_eq!(guarded.client().ask(&plain(user, password)), authenticated());
            assert_eq!(guarded.client().ask(&plain(user, "wrong")), refused());
        }
    }
}

#[test]
fn who_does_not_acknowledge_the_servers_proof_is_still_a_stranger() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.client();
    let scram = Scram::new("ann", "pencil");
    let (last, _) = scram.last(&client.ask(&scram.first()));
    assert_eq!(client.ask(&last).status, 0x21);
    assert_eq!(client.ask(&Request::of(op::GET, "key")), refused());
    client.assert_closed();
}

#[test]
fn what_was_overheard_is_of_no_use() {
    let guarded = Guarded::start(ANN, &[]);
    let mut client = guarded.client();
    let scram = Scram::new("ann", "pencil");
    let (last, _) = scram.last(&client.ask(&scram.first()));
    assert_eq!(client.ask(&last).status, 0x21);
    let mut other = guarded.client();
    assert_eq!(other.ask(&scram.first()).status, 0x21);
    assert_eq!(other.ask(&last), refused(), "a proof is good for one exchange");
    assert_eq!(other.ask(&scram_step("")), refused());
}

#[test]
fn scram_tells_nobody_who_is_there() {
    let guarded = Guarded::start(&passwd("bob", "paper"), &[]);
    let mut shapes = Vec::new();
    for user in ["bob", "eve"] {
        let mut client = guarded.client();
        let scram = Scram::new(user, "wrong");
        let challenge = client.ask(&scram.first());
        let (last, _) = scram.last(&challenge);
        assert_eq!(client.ask(&last), refused());
        let parts: Vec<String> =
            str::from_utf8(&challenge.value).unwrap().split(',').map(Into::into).collect();
        let again = guarded.client().ask(&scram.first());
        assert!(str::from_utf8(&again.value).unwrap().ends_with(&parts[1..].join(",")), "the salt stays");
        shapes.push((parts[0].len(), parts[1].len(), parts[2].clone()));
    }
    assert_eq!(shapes[0], shapes[1]);
}

#[test]
fn what_is_not_offered_is_refused() {
    for (option, offered, is_plain) in
        [("sasl_mechs=plain", "PLAIN", true), ("sasl_mechs=scram-sha-256", "SCRAM-SHA-256", false)]
    {
        let guarded = Guarded::start(ANN, &["-o", option]);
        let mut client = guarded.client();
        assert_eq!(client.ask(&Request::new(op::SASL_LIST_MECHS)).value, offered.as_bytes());
        assert_eq!(client.ask(&Scram::new("ann", "pencil").first()).status == 0x20, is_plain);
        assert_eq!(client.ask(&plain("ann", "pencil")) == authenticated(), is_plain);
    }
}

#[test]
fn text_clients_say_first_who_they_are() {
    let guarded = Guarded::start("ann:pencil\nbob:two words\n", &["-o", "auth_failures_max=100"]);
    let mut speaker = guarded.speak();
    for line in ["get key", "version", "mg key", "quit", "stats", "set x 0 0", "set x 0 0 z", "", "touch a 0"]
    {
        speaker.hears(format!("{line}\r\n"), "CLIENT_ERROR unauthenticated\r\n");
    }
    speaker.hears("set x 0 0 10\r\nann pencilxy", "CLIENT_ERROR bad command line termination\r\n");
    speaker.hears("set x 0 0 9\r\nannpencil\r\n", "CLIENT_ERROR bad authentication token format\r\n");
    speaker.hears("set x 0 0 9\r\nann paper\r\n", "CLIENT_ERROR authentication failure\r\n");
    speaker.hears("set x 0 0 10\r\nann pencil\r\nget x\r\n", "STORED\r\nEND\r\n");
    speaker.hears("set key 0 0 5\r\nvalue\r\nget key\r\n", "STORED\r\nVALUE key 0 5\r\nvalue\r\nEND\r\n");
    guarded.speak().hears("set whatever 1 2 13\r\nbob two words\r\nmn\r\n", "STORED\r\nMN\r\n");
}

#[test]
fn text_strangers_are_told_what_memcached_tells_them() {
    let guarded = Guarded::start(ANN, &[]);
    let path = guarded.file.path();
    let user = ["-Y", path.to_str().unwrap()];
    let Some(memcached) = Memcached::start(&user) else {
        return skip_or_fail("memcached");
    };
    // One request a connection: of several in one segment memcached answers the last only.
    for said in [
        "get a\r\n",
        "quit\r\n",
        "\r\n",
        "mn\r\n",
        "set x 0 0\r\n",
        "set x 0 0 -1\r\n",
        "set x 0 0 12abc\r\n",
        "set x 0 0 9\r\nann paper\r\n",
        "set x 0 0 9\r\nannpaperx\r\n",
        "set x 0 0 9\r\nann paperxx",
        "set x 0 0 0\r\n\r\n",
        "set x 0 0 10\r\nann pencil\r\nget x\r\n",
        "set x 0 0 10 noreply\r\nann pencil\r\nmn\r\n",
        "set  x a b 10\nann pencil\r\nmn\r\n",
    ] {
        let [ours, theirs] = [&guarded.server, &memcached].map(|server| {
            let mut client = Client::connect(server);
            client.send(said.as_bytes());
            client.finish_sending();
            String::from_utf8(client.rest().unwrap()).unwrap()
        });
        assert_eq!(ours, theirs, "{said:?}");
    }
}

#[test]
fn redis_clients_say_first_who_they_are() {
    let guarded = Guarded::start("ann:pencil\ndefault:pen\n", &["-o", "auth_failures_max=100"]);
    let mut speaker = guarded.speak();
    for words in ["GET key", "PING", "COMMAND", "INFO", "CLIENT SETNAME x", "NOSUCH", "FLUSHALL"] {
        speaker.hears(resp(words), "-NOAUTH Authentication required.\r\n");
    }
    speaker.hears(resp("HELLO 3"), "-NOAUTH HELLO must be called");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let mut speaker = guarded.speak();
    speaker.hears("*0\r\n", "");
    speaker.hears(resp("AUTH paper"), wrong);
    speaker.hears(resp("AUTH ann paper"), wrong);
    speaker.hears(resp("HELLO 3 AUTH ann pen"), wrong);
    speaker.hears(resp("AUTH ann pencil"), "+OK\r\n");
    speaker.hears(resp("SET key value"), "+OK\r\n");
    speaker.hears(resp("AUTH ann paper"), wrong);
    speaker.hears(resp("GET key"), "$5\r\nvalue\r\n");

    guarded.speak().hears([resp("AUTH pen"), resp("GET key")].concat(), "+OK\r\n$5\r\nvalue\r\n");
    let mut speaker = guarded.speak();
    speaker.hears(
        [resp("HELLO 3 AUTH ann pencil SETNAME me"), resp("GET none")].concat(),
        "%7\r\n$6\r\nserver\r\n",
    );
    let mut speaker = guarded.speak();
    speaker.hears(resp("QUIT"), "+OK\r\n");
    speaker.is_closed();
}

fn resp(words: &str) -> String {
    let words: Vec<_> = words.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}

#[test]
fn y_is_for_all_protocols_as_s_is() {
    let file = PasswordFile::new(ANN);
    let server = Server::start(&["-Y", file.path().to_str().unwrap()]);
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&Request::of(op::GET, "key")), refused());
    client.assert_closed();
    let mut client = Client::connect(&server);
    assert_eq!(client.ask(&plain("ann", "pencil")), authenticated());
    let settings = client.stats("settings");
    assert_eq!(settings["auth_enabled_sasl"], "yes");
    assert_eq!(settings["auth_enabled_ascii"], file.path().to_str().unwrap());
    let mut speaker = Speaker(server.connect());
    speaker.hears("get key\r\n", "CLIENT_ERROR unauthenticated\r\n");
}

#[test]
fn after_too_many_failures_a_connection_is_closed() {
    let guarded = Guarded::start(ANN, &["-o", "auth_failures_max=2"]);
    let mut client = guarded.client();
    assert_eq!(client.ask(&plain("ann", "a")), refused());
    assert_eq!(client.ask(&plain("ann", "b")), refused());
    client.assert_closed();
    let mut speaker = guarded.speak();
    let failure = "CLIENT_ERROR authentication failure\r\n";
    speaker.hears("set x 0 0 3\r\nann\r\n", "CLIENT_ERROR bad authentication token format\r\n");
    speaker.hears(
        "set x 0 0 5\r\nann a\r\nset x 0 0 5\r\nann b\r\nset x 0 0 10\r\nann pencil\r\n",
        &failure.repeat(2),
    );
    speaker.is_closed();
    let mut speaker = guarded.speak();
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    speaker.hears([resp("AUTH a"), resp("AUTH b"), resp("AUTH ann pencil")].concat(), &wrong.repeat(2));
    speaker.is_closed();
    assert_eq!((guarded.stat("auth_kicks"), guarded.stat("auth_errors")), (3, 6));
}

#[test]
fn nothing_long_is_taken_from_a_stranger() {
    let guarded = Guarded::start(ANN, &["-o", "auth_request_max=300"]);
    let long = "x".repeat(300);
    // It is known by its header: no byte of the body needs to come.
    let mut client = guarded.client();
    client.send(&plain("ann", &long).opaque(1).bytes()[..24]);
    assert_eq!(client.receive(op::SASL_AUTH, 1), Answer::error(status::INVALID));
    client.assert_closed();
    for (said, heard) in [
        ("set x 0 0 300\r\n".to_owned(), "CLIENT_ERROR unauthenticated\r\n"),
        ("set x 0 0 18446744073709551615\r\n".to_owned(), "CLIENT_ERROR unauthenticated\r\n"),
        (long.repeat(2), ""),
        ("*2\r\n$4\r\nAUTH\r\n$300\r\n".to_owned(), "-NOAUTH Authentication required.\r\n"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n".to_owned(), "-NOAUTH Authentication required.\r\n"),
        ("*1000000\r\n".to_owned(), "-NOAUTH Authentication required.\r\n"),
    ] {
        let mut speaker = guarded.speak();
        speaker.hears(&said, heard);
        speaker.is_closed();
    }
    assert_eq!(guarded.stat("auth_too_long"), 7);
    // A member's authentication is not longer either.
    let mut client = guarded.member();
    client.send(&plain("ann", &long).opaque(1).bytes()[..24]);
    assert_eq!(client.receive(op::SASL_AUTH, 1), Answer::error(status::INVALID));
    client.assert_closed();
}

#[test]
fn strangers_pin_nothing() {
    let guarded = Guarded::start(ANN, &["-c", "200"]);
    let mut member = guarded.member();
    let part = &plain("ann", &"x".repeat(900)).bytes()[..900];
    let strangers: Vec<_> = (0..100)
        .map(|_| {
            let mut client = guarded.client();
            client.send(part);
            client
        })
        .collect();
    wait_until("the parts are there", || member.stat("waiting_bytes") >= 100 * 900);
    // And what would be a member's to send is not waited for.
    for _ in 0..10 {
        let mut client = guarded.client();
        client.send(&Request::store(op::SET, "key", "v".repeat(60_000)).bytes()[..50_000]);
        client.receive(op::SET, 0);
    }
    let waiting = member.stat("waiting_bytes");
    assert!(waiting <= 100 * 1024, "{waiting} bytes wait for 100 strangers");
    drop(strangers);
}

#[test]
fn who_does_not_say_in_time_who_he_is_is_closed() {
    let guarded = Guarded::start(ANN, &["-o", "auth_timeout=3"]);
    let mut member = guarded.member();
    let mut silent = guarded.client();
    let mut halfway = guarded.client();
    assert_eq!(halfway.ask(&Request::of(op::SASL_AUTH, "PLAIN")), continued(""));
    let mut speaker = guarded.speak();
    speaker.hears("get key\r\n", "CLIENT_ERROR unauthenticated\r\n");
    silent.assert_closed();
    halfway.assert_closed();
    speaker.is_closed();
    assert_eq!(member.stat("auth_timeouts"), 3);
    member.set("key", "value");
}

#[test]
fn who_is_idle_for_too_long_is_closed_and_who_is_not_stays() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut silent = Client::connect(&server);
    silent.set("key", "value");
    let mut busy = Client::connect(&server);
    wait_until("one connection is left", || busy.stat("curr_connections") == 1);
    assert_eq!(busy.stat("idle_kicks"), 1);
    silent.assert_closed();
    assert_eq!(busy.stats("settings")["idle_timeout"], "1");
}

#[test]
fn the_users_are_read_again_on_sighup() {
    let guarded = Guarded::start(ANN, &["-v"]);
    let mut ann = guarded.member();
    guarded.file.write("bob:paper\n");
    kill(guarded.server.pid(), Signal::SIGHUP).unwrap();
    wait_until("bob is let in", || guarded.client().ask(&plain("bob", "paper")) == authenticated());
    assert_eq!(guarded.client().ask(&plain("ann", "pencil")), refused());
    ann.set("key", "who was let in stays in");
    // A bad file changes nothing.
    guarded.file.write("eve:pen\nsecret\n");
    kill(guarded.server.pid(), Signal::SIGHUP).unwrap();
    wait_until("the file is complained about", || guarded.server.log().contains("line 2: no colon"));
    assert!(!guarded.server.log().contains("secret"));
    assert_eq!(guarded.client().ask(&plain("eve", "pen")), refused());
    assert_eq!(guarded.client().ask(&plain("bob", "paper")), authenticated());
}

#[test]
fn a_server_does_not_start_without_the_users_it_asks_for() {
    let file = PasswordFile::new("ann\n");
    let path = file.path();
    let path = path.to_str().unwrap();
    for (args, environment, complaint) in [
        (&["-S"][..], None, "-S: needs a password file"),
        (&["-S"], Some(path), "line 1: no colon behind a user's name"),
        (&["-S", "--sasl-pwdb", "/nowhere/users"], Some(path), "/nowhere/users"),
        (&["-Y", path], None, "line 1: no colon behind a user's name"),
        (&["--sasl-pwdb", path], None, "without -S"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
        command.args(["-l", "127.0.0.1", "-p", "-1"]).args(args).env_remove("MEMCACHED_SASL_PWDB");
        command.envs(environment.map(|path| ("MEMCACHED_SASL_PWDB", path)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(complaint), "{args:?}: {said}");
    }
}

#[test]
fn no_secret_is_logged() {
    let guarded = Guarded::start(ANN, &["-vvv"]);
    drop(guarded.member());
    assert_eq!(guarded.client().ask(&plain("ann", "a-wrong-password")), refused());
    guarded.speak().hears("set x 0 0 10\r\nann pencil\r\n", "STORED\r\n");
    guarded.speak().hears(resp("AUTH ann pencil"), "+OK\r\n");
    let log = guarded.server.log();
    assert!(!log.contains("pencil") && !log.contains("a-wrong-password"), "{log}");
}

#[test]
fn python_binary_memcached() {
    real_client("python3", &["-c", "import bmemcached"], "bmemcached_auth.py");
}

#[test]
fn pylibmc() {
    // The package brings its own libmemcached, whose SCRAM breaks off in the middle, and its own Cyrus SASL without any
    // mechanisms: it takes the system's.
    let Some(mechanisms) = sasl_mechanisms() else { return skip_or_fail("libsasl2-modules") };
    let is_there = ["-c", "import pylibmc; assert pylibmc.support_sasl"];
    if !succeeds("python3", &is_there) {
        return skip_or_fail("pylibmc");
    }
    let python = [&format!("SASL_PATH={}", mechanisms.display()), "python3"];
    real_client_with(&["-o", "sasl_mechs=plain"], "env", &python, "pylibmc_auth.py");
}

#[test]
fn redis_cli() {
    if !succeeds("redis-cli", &["--version"]) {
        return skip_or_fail("redis-cli");
    }
    let guarded = Guarded::start(&format!("{}{}", passwd("ann", "pencil"), passwd("default", "pen")), &[]);
    let port = guarded.server.port().to_string();
    let says = |user: &[&str], words: &[&str]| {
        let output = run("redis-cli", &[&["-p", &port, "--no-auth-warning"], user, words].concat());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let ann = ["--user", "ann", "--pass", "pencil"];
    assert_eq!(says(&ann, &["SET", "key", "value"]), "OK");
    assert_eq!(says(&[&["-3"], &ann[..]].concat(), &["GET", "key"]), "value");
    assert_eq!(says(&["-a", "pen"], &["GET", "key"]), "value");
    assert_eq!(says(&[], &["GET", "key"]), "NOAUTH Authentication required.");
    assert!(says(&["-a", "pencil"], &["GET", "key"]).ends_with("NOAUTH Authentication required."));
}

fn sasl_mechanisms() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|folder| folder.path().join("sasl2"));
    folders.into_iter().find(|folder| folder.join("libplain.so").exists())
}

#[test]
fn php_memcached() {
    real_client(
        "php",
        &["-r", "exit(method_exists('Memcached', 'setSaslAuthData') ? 0 : 1);"],
        "php_auth.php",
    );
}

#[test]
fn dalli() {
    real_client("ruby", &["-e", "require 'dalli'"], "dalli_auth.rb");
}

#[test]
fn memjs() {
    real_client("node", &["-e", "require('memjs')"], "memjs_auth.js");
}

fn real_client(interpreter: &str, is_there: &[&str], script: &str) {
    if !succeeds(interpreter, is_there) {
        return skip_or_fail(script);
    }
    real_client_with(&[], interpreter, &[], script);
}

/// Runs a script of `tests/clients` against a server that knows two users: one whose password is in the file, and one
/// whose line is made by `memwire passwd`.
fn real_client_with(options: &[&str], program: &str, args: &[&str], script: &str) {
    let guarded = Guarded::start(&format!("{ANN}{}", passwd("bob", "p a:p=e,r")), options);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let address = guarded.server.addr().to_string();
    for (user, password) in [("ann", "pencil"), ("bob", "p a:p=e,r")] {
        let output = run(program, &[args, &[path.to_str().unwrap(), &address, user, password]].concat());
        let count = checks_count(&output);
        assert!(
            output.status.success() && count.is_some_and(|count| count > 0),
            "{script}: {}",
            text(&output)
        );
    }
    // What it says of a wrong password may be that there is no server.
    assert!(guarded.stat("auth_errors") > 0, "{script} has tried a wrong password");
    assert_eq!(guarded.member().get("stranger"), None, "and could store nothing");
}

/// The line that `memwire passwd` makes.
fn passwd(user: &str, password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memwire"));
    let mut child =
        command.args(["passwd", user]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
