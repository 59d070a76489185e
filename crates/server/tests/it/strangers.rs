//! Clients in great numbers that begin to say who they are and leave: the others are served, in bounded memory.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::{Signal, kill};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;

use crate::abuse::{have_files_for, rss_bytes};
use crate::auth::{PasswordFile, authenticated, plain, refused};
use crate::client::{Client, Request, number, op, wait_until};
use crate::harness::{PATIENCE, Random, Server, skip_or_fail};
use crate::tls::certificates::Material;

/// Strangers at a time.
const STRANGERS: usize = 2000;
const THREADS: usize = 4;
/// Requests of the one who is served meanwhile, at the least.
const REQUESTS: usize = 1000;
/// What a stranger may cost: his connection, some with TLS, and his longest request.
const STRANGER_BYTES: usize = 12 << 10;

/// How far a stranger goes: what he sends, and how much of an answer he waits for.
struct Kind {
    address: SocketAddr,
    sent: Vec<u8>,
    answer_bytes: usize,
}

impl Kind {
    fn all(server: &Server, material: &Material) -> Vec<Self> {
        let [clear, secure] = server.tcp()[..] else { panic!("two addresses") };
        let whole =
            |request: Request, answer_bytes| Self { address: clear, sent: request.bytes(), answer_bytes };
        let part = |address, bytes: &[u8]| Self { address, sent: bytes.to_vec(), answer_bytes: 0 };
        let long = plain("ann", &"x".repeat(900)).bytes();
        let mut hello = Vec::new();
        let name = ServerName::try_from("localhost").unwrap();
        let config = material.authority.client(None, &[&TLS13]);
        ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
        vec![
            whole(Request::of(op::SASL_AUTH, "PLAIN"), 24),
            whole(Request::of(op::SASL_AUTH, "SCRAM-SHA-256").value("n,,n=ann,r=nonce"), 24 + 60),
            whole(Request::new(op::SASL_LIST_MECHS), 24),
            part(clear, &long[..24]),
            part(clear, &long[..long.len() - 1]),
            part(clear, b"set x 0 0 500\r\nann pen"),
            part(clear, b"*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$6\r\npen"),
            part(clear, b""),
            part(secure, &hello[..hello.len() / 2]),
            part(secure, &hello[..hello.len() - 1]),
            // The server has shown its certificate, and waits.
            Self { address: secure, sent: hello, answer_bytes: 500 },
        ]
    }

    fn begin(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&self.sent).expect("the server reads");
        stream.read_exact(&mut vec![0; self.answer_bytes]).expect("a stranger is answered, too");
        stream
    }
}

#[test]
fn two_thousand_that_come_and_go_keep_nobody_from_being_served() {
    if have_files_for(2 * STRANGERS as u64) < 2 * STRANGERS as u64 {
        return skip_or_fail("a file limit that is high enough");
    }
    let (users, material) = (PasswordFile::new("ann:pencil\n"), Material::new());
    let path = users.path();
    let limits = ["-c", "3000", "-o", "auth_timeout=3600,ssl_handshake_timeout=3600"];
    let access = ["-Y", path.to_str().unwrap(), "-Z", "-o", &material.options(), "-l", "notls:127.0.0.1"];
    let server = Server::start(&[&limits[..], &access].concat());
    let kinds = Kind::all(&server, &material);
    let mut member = Client::connect(&server);
    assert_eq!(member.ask(&plain("ann", "pencil")), authenticated());
    member.set("key", "value");
    let before = rss_bytes(&server);

    let (came, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut most = (0, 0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (kinds, came, is_over) = (&kinds, &came, &is_over);
            scope.spawn(move || come_and_go(&mut Random::new(seed as u64), kinds, came, is_over));
        }
        // Whatever becomes of the test, they end.
        let _ends = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        let mut round = 0_usize;
        while round < REQUESTS || came.load(Ordering::Relaxed) < 2 * STRANGERS {
            let value = format!("value of round {round}");
            let key = format!("key {}", round % 97);
            member.set(&key, &value);
            assert_eq!(member.get(&key).as_deref(), Some(value.as_bytes()));
            assert_eq!(member.get("key").as_deref(), Some(&b"value"[..]));
            if round.is_multiple_of(50) {
                most = (most.0.max(rss_bytes(&server)), most.1.max(member.stat("waiting_bytes") as usize));
                // One who knows the password is let in among them.
                let mut other = Client::connect(&server);
                assert_eq!(other.ask(&plain("ann", "pencil")), authenticated());
            }
            round += 1;
        }
        assert!(member.stat("curr_connections") > 1000, "they are there");
    });
    let (rss, waiting) = most;
    assert!(rss < before + STRANGERS * STRANGER_BYTES, "{before} bytes became {rss}");
    assert!(waiting <= STRANGERS << 10, "{waiting} bytes wait, more than a longest request of each");
    wait_until("they have left", || member.stat("curr_connections") == 1);
    assert_eq!(member.stat("waiting_bytes"), 0);
    assert_eq!(member.stat("rejected_connections"), 0);
    member.assert_in_step();
}

/// Holds a share of the strangers: for each that comes, the oldest leaves.
fn come_and_go(random: &mut Random, kinds: &[Kind], came: &AtomicUsize, is_over: &AtomicBool) {
    let mut there = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        if there.len() == STRANGERS / THREADS {
            there.pop_front();
        }
        there.push_back(random.pick(kinds).begin());
        came.fetch_add(1, Ordering::Relaxed);
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// Stops the process, and waits until none of its threads runs.
fn stand_still(server: &Server) {
    kill(server.pid(), Signal::SIGSTOP).unwrap();
    wait_until("it stands still", || {
        let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        threads
            .map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())
            .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, behind_name)| behind_name.starts_with('T')))
    });
}

/// What costs much is done for one stranger at a time, with a member's turn between any two.
#[test]
fn a_member_does_not_wait_for_all_who_try_passwords() {
    // With 0 it is the storage thread that would be busy with them.
    for threads in ["1", "0"] {
        a_member_does_not_wait(threads);
    }
}

fn a_member_does_not_wait(threads: &str) {
    const COUNT: u64 = 200;
    // One iteration, so that tests are fast where nothing is optimized.
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let users = PasswordFile::new(&format!("ann:pencil\nbob:SCRAM-SHA-256$1:c2FsdA==${key}:{key}\n"));
    let server = Server::start(&["-t", threads, "-Y", users.path().to_str().unwrap()]);
    let mut member = Client::connect(&server);
    assert_eq!(member.ask(&plain("ann", "pencil")), authenticated());
    let mut strangers: Vec<_> = (0..COUNT).map(|_| Client::connect(&server)).collect();
    wait_until("all are there", || member.stat("curr_connections") == COUNT + 1);
    // All that is said while it stands still is there at once when it goes on, the member's words last.
    stand_still(&server);
    for stranger in &mut strangers {
        stranger.send(&plain("bob", "wrong").bytes());
    }
    member.ask_for_stats("");
    kill(server.pid(), Signal::SIGCONT).unwrap();
    let tried = number(&member.receive_stats(), "auth_cmds");
    assert!(tried < COUNT / 10, "{tried} passwords were tried before the member's turn");
    wait_until("all are tried", || member.stat("auth_errors") == COUNT);
    for stranger in &mut strangers {
        assert_eq!(stranger.receive(op::SASL_AUTH, 0), refused());
    }
}
