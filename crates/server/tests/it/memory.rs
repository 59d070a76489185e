//! `-m` means the process: whatever clients store, ask for, leave unread or leave unfinished, its resident memory stays
//! at `-m`, 5% and 16 MiB at most. What cannot be held is refused, and nothing else breaks.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::client::{Answer, Client, Request, op, status, wait_until};
use crate::harness::{PATIENCE, Random, Server};

const MIB: usize = 1 << 20;
const LIMIT_BYTES: usize = 64 * MIB;
const RSS_BYTES_MAX: usize = LIMIT_BYTES + LIMIT_BYTES / 20 + 16 * MIB;

fn start() -> Server {
    Server::start(&["-m", "64", "-I", "2m", "-c", "2000"])
}

/// Runs `load`, and holds the memory of the server against the bound all the while.
#[track_caller]
fn within_bounds<T>(server: &Server, load: impl FnOnce() -> T) -> T {
    let (done, peak) = (AtomicBool::new(false), AtomicUsize::new(0));
    let path = format!("/proc/{}/statm", server.pid());
    let look = || {
        let statm = fs::read_to_string(&path).expect("the server runs");
        let pages: usize =
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("resident pages");
        peak.fetch_max(pages * 4096, Ordering::Relaxed);
    };
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(load));
        done.store(true, Ordering::Relaxed);
        result
    });
    look();
    let peak = peak.into_inner();
    println!("peak: {} KiB", peak >> 10);
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(peak <= RSS_BYTES_MAX, "{} KiB resident with -m 64", peak >> 10);
    result
}

/// A connection with a small buffer on this side and small segments, by which the system sizes the buffer on the other
/// side: what is not read stays with the server.
fn narrow(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a buffer's size");
    socket.set_tcp_mss(536).expect("a segment's size");
    socket.connect_timeout(&server.addr().into(), PATIENCE).expect("the server accepts connections");
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// So many bytes that tell whose they are.
fn value(key: &str, version: usize, len: usize) -> Vec<u8> {
    let stamp = format!("{key} {version} ");
    let mut value = stamp.repeat(len / stamp.len() + 1).into_bytes();
    value.truncate(len);
    value
}

/// The statistics of what clients hold.
const HELD: [&str; 4] = ["receiving_bytes", "waiting_bytes", "pinned_bytes", "orphaned_bytes"];

/// A client that stores, and knows what it may read afterwards.
struct Writer {
    client: Client,
    /// By key; None where a refusal has taken the older value.
    stored: HashMap<String, Option<(usize, usize)>>,
    version: usize,
    refused_count: usize,
}

impl Writer {
    fn new(server: &Server) -> Self {
        Self { client: Client::connect(server), stored: HashMap::new(), version: 0, refused_count: 0 }
    }

    /// What there was, for whoever reads of a failure.
    fn print_gauges(&mut self) {
        let stats = self.client.stats("");
        for (name, value) in stats.iter().filter(|(name, _)| name.ends_with("_bytes") || *name == "crowding")
        {
            println!("{name}: {value}");
        }
    }

    /// Waits until nothing is left of what others have asked for or sent.
    fn wait_until_nothing_is_held(&mut self) {
        wait_until("nothing is held", || {
            let stats = self.client.stats("");
            HELD.iter().all(|name| stats[*name] == "0")
        });
    }

    fn set(&mut self, key: &str, len: usize) -> bool {
        self.version += 1;
        let request = Request::store(op::SET, key, value(key, self.version, len)).bytes();
        let answer = self.client.send_meanwhile(&request, |client| client.receive(op::SET, 0));
        let is_stored = answer.status == 0;
        if !is_stored {
            assert_eq!(answer, Answer::error(status::OUT_OF_MEMORY), "{key}");
            self.refused_count += 1;
        }
        self.stored.insert(key.to_owned(), is_stored.then_some((self.version, len)));
        is_stored
    }

    /// Reads it: the value that was stored last, or a miss, or that there is no memory for the answer.
    fn get(&mut self, key: &str) -> bool {
        let answer = self.client.ask(&Request::of(op::GET, key));
        match (answer.status, self.stored.get(key).copied().flatten()) {
            (0, Some((version, len))) => {
                assert!(answer.value == value(key, version, len), "{key} has a wrong value");
                return true;
            }
            (0, None) => panic!("{key} is read though it was refused"),
            (status::OUT_OF_MEMORY, _) => {
                assert_eq!(answer, Answer::error(status::OUT_OF_MEMORY));
                self.refused_count += 1;
            }
            _ => assert_eq!(answer, Answer::error(status::NOT_FOUND)),
        }
        false
    }
}

#[test]
fn values_whose_sizes_drift_keep_the_process_in_its_bounds() {
    let server = start();
    let mut writer = Writer::new(&server);
    let mut random = Random::new(11);
    println!("seed 11");
    within_bounds(&server, || {
        for (phase, (len_max, count)) in
            [(200, 150_000), (8192, 20_000), (200, 150_000)].into_iter().enumerate()
        {
            let filler = vec![b'f'; len_max];
            let mut requests = Vec::new();
            for number in 0..count {
                let len = random.below(len_max);
                let key = format!("{phase} {number}");
                requests.extend(Request::store(op::SETQ, key, &filler[..len]).bytes());
                if requests.len() > MIB {
                    writer.client.send(&requests);
                    requests.clear();
                    let key = format!("large {}", random.below(30));
                    assert!(writer.set(&key, random.below(2 * MIB)));
                    let key = format!("large {}", random.below(30));
                    writer.get(&key);
                }
            }
            writer.client.send(&requests);
            writer.client.assert_in_step();
        }
    });
    assert_eq!(writer.refused_count, 0, "one client at a time finds room");
    assert!(writer.client.stat("evictions") > 100_000);
}

#[test]
fn clients_that_do_not_read_large_values_keep_the_process_in_its_bounds() {
    const CLIENTS: usize = 500;
    const KEYS: usize = 36;
    let key = |number: usize| format!("large {}", number % KEYS);
    let len = |number: usize| if number.is_multiple_of(3) { 100 << 10 } else { MIB };
    let server = start();
    let mut writer = Writer::new(&server);
    let deaf: Vec<_> = within_bounds(&server, || {
        for number in 0..KEYS {
            assert!(writer.set(&key(number), len(number)));
        }
        let mut deaf: Vec<_> = (0..CLIENTS).map(|_| Client::over(narrow(&server))).collect();
        let mut random = Random::new(12);
        println!("seed 12");
        let mut large_count = 0;
        for (at, client) in deaf.iter_mut().enumerate() {
            let asked = (0..KEYS).flat_map(|step| Request::of(op::GET, key(at * 7 + step)).bytes());
            client.send(&asked.collect::<Vec<_>>());
            let number = random.below(KEYS);
            writer.set(&key(number), len(number));
            large_count += usize::from(writer.get(&key(random.below(KEYS))));
            let small = format!("small {}", random.below(100));
            assert!(writer.set(&small, 500), "a small value is stored after {at} clients");
            assert!(writer.get(&small), "a small value is read after {at} clients");
        }
        println!("{} refused, {large_count} large values read", writer.refused_count);
        writer.print_gauges();
        assert!(writer.refused_count > 0, "it was too little to crowd the server");
        let orphaned_bytes = writer.client.stat("orphaned_bytes") as usize;
        assert!(orphaned_bytes < LIMIT_BYTES * 5 / 8, "answers alone hold {orphaned_bytes} bytes");
        deaf
    });
    within_bounds(&server, || {
        drop(deaf);
        writer.wait_until_nothing_is_held();
        for number in 0..KEYS {
            assert!(writer.set(&key(number), len(number)), "there is room again");
            assert!(writer.get(&key(number)), "it is served again");
        }
    });
}

#[test]
fn clients_that_do_not_read_small_values_keep_the_process_in_its_bounds() {
    const CLIENTS: usize = 1000;
    let server = start();
    let mut writer = Writer::new(&server);
    let deaf: Vec<_> = within_bounds(&server, || {
        for number in 0..20 {
            assert!(writer.set(&format!("{number}"), 400 * number));
        }
        // The answers to the first requests are too long for the sockets, and the others wait behind them.
        let gets = (0..20).cycle().take(200).map(|number| Request::of(op::GET, number.to_string()));
        let sets = std::iter::repeat_n(Request::store(op::SETQ, "behind", vec![b'v'; 8000]), 10);
        let asked: Vec<u8> = gets.chain(sets).flat_map(|request| request.bytes()).collect();
        let mut deaf = Vec::new();
        for at in 0..CLIENTS {
            let mut client = narrow(&server);
            client.set_nonblocking(true).expect("a socket that does not block");
            // What the server does not read stays in the sockets, and is not waited for.
            let _ = client.write(&asked);
            deaf.push(client);
            assert!(writer.set("0", 500), "a small value is stored after {at} clients");
            assert!(writer.get("0"), "a small value is read after {at} clients");
        }
        writer.print_gauges();
        let waiting_bytes = writer.client.stat("waiting_bytes") as usize;
        assert!(waiting_bytes > LIMIT_BYTES / 8, "{waiting_bytes} bytes are too little to crowd the server");
        deaf
    });
    within_bounds(&server, || {
        drop(deaf);
        writer.wait_until_nothing_is_held();
        // The cache takes the whole of its memory again.
        for number in 0..80 {
            assert!(writer.set(&format!("large {number}"), MIB));
        }
    });
    assert!(writer.client.stat("evictions") > 0, "the memory was never full");
}

#[test]
fn clients_that_send_half_of_a_request_keep_the_process_in_its_bounds() {
    const CLIENTS: usize = 300;
    let server = start();
    let mut writer = Writer::new(&server);
    within_bounds(&server, || {
        for number in 0..60 {
            assert!(writer.set(&format!("{number}"), MIB));
        }
        let large = Request::store(op::SET, "half", vec![b'h'; MIB]).bytes();
        let inline = Request::store(op::SET, "half", vec![b'h'; 8000]).bytes();
        let mut halves = Vec::new();
        for at in 0..CLIENTS {
            let (mut sender, request) = (narrow(&server), if at % 3 == 0 { &inline } else { &large });
            sender.set_nonblocking(true).expect("a socket that does not block");
            let _ = sender.write(&request[..request.len() / 2]);
            halves.push(sender);
            assert!(writer.set("small", 500), "a small value is stored after {at} clients");
            assert!(writer.get("small"), "a small value is read after {at} clients");
        }
        writer.print_gauges();
        let receiving_bytes = writer.client.stat("receiving_bytes") as usize;
        assert!(receiving_bytes > LIMIT_BYTES / 8, "{receiving_bytes} bytes are too little to be received");
        assert!(writer.client.stat("evictions") > 0, "the memory was never full");
        drop(halves);
        writer.wait_until_nothing_is_held();
        assert!(writer.set("0", MIB) && writer.get("0"), "there is room again");
    });
}
