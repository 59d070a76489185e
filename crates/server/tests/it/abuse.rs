//! Clients that do not read, do not stay, are too many or talk nonsense. The server keeps serving the others, in
//! bounded memory.

mod lines;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::{Answer, Client, Request, number, op, status, stored, wait_until};
use crate::harness::{PATIENCE, Random, Response, Server};
use crate::http::Http;

const MIB: usize = 1 << 20;

/// Memory of the server's process that is there.
pub(crate) fn rss_bytes(server: &Server) -> usize {
    let path = format!("/proc/{}/status", server.pid());
    let status = fs::read_to_string(path).expect("the server runs");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<usize>().ok())
        .expect("a process has a VmRSS");
    kib << 10
}

/// The most memory that the server has while others are served for a while.
#[track_caller]
fn peak_rss_while_serving(server: &Server) -> usize {
    let mut other = Client::connect(server);
    let begun = Instant::now();
    let mut peak = 0;
    for round in 0_u32.. {
        let number = round.to_string();
        other.set("of another client", &number);
        assert_eq!(other.get("of another client").unwrap(), number.as_bytes());
        peak = peak.max(rss_bytes(server));
        if begun.elapsed() > Duration::from_millis(400) {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    peak
}

#[test]
fn clients_that_do_not_read_cost_little_and_get_every_answer_in_the_end() {
    const REQUESTS_PER_CLIENT: u32 = 20_000;
    let server = Server::start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    let mut random = Random::new(4);
    let values: Vec<Vec<u8>> = [8_000, 8_500, 20_000, 1_000, 100_000, 8_192, 50, 12_000]
        .into_iter()
        .map(|len| random.bytes(len))
        .collect();
    for (key, value) in values.iter().enumerate() {
        client.set(key.to_string(), value);
    }
    let mut requests = Vec::new();
    for opaque in 0..REQUESTS_PER_CLIENT {
        let key = (opaque as usize % values.len()).to_string();
        requests.extend(Request::of(op::GET, key).opaque(opaque).bytes());
    }

    let before = rss_bytes(&server);
    let mut idle: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
    for client in &mut idle {
        client.send(&requests[..requests.len() / 40]);
    }
    let mut slow = Client::connect(&server);
    slow.send_meanwhile(&requests, |slow| {
        let growth = peak_rss_while_serving(&server).saturating_sub(before);
        assert!(growth < 64 * MIB, "grew by {growth} bytes");
        for opaque in 0..REQUESTS_PER_CLIENT {
            let answer = slow.receive(op::GET, opaque);
            let value = &values[opaque as usize % values.len()];
            assert!(answer.status == 0 && answer.value == *value, "answer {opaque}");
        }
    });
    slow.assert_in_step();
}

/// A short request with a long answer that is no value: unless it is bounded, what is read in one turn asks for
/// gigabytes.
#[test]
fn dumps_that_nobody_reads_cost_little() {
    const PREFIXES_COUNT: u32 = 4000;
    const DUMPS_COUNT: usize = 300;
    let server = Server::start(&["-D", ":"]);
    let mut client = Client::connect(&server);
    for prefix in 0..PREFIXES_COUNT {
        let key = format!("{prefix:0>200}:");
        client.send(&Request::store(op::SETQ, key, "").bytes());
    }
    client.assert_in_step();
    assert!(client.stats("detail dump")["detailed"].len() > 200 * PREFIXES_COUNT as usize);
    let before = rss_bytes(&server);
    let mut idle = Client::connect(&server);
    idle.send(&Request::of(op::STAT, "detail dump").bytes().repeat(DUMPS_COUNT));
    let growth = peak_rss_while_serving(&server).saturating_sub(before);
    assert!(growth < 64 * MIB, "grew by {growth} bytes");
}

#[test]
fn statistics_in_great_numbers_are_all_answered() {
    const COUNT: u32 = 2000;
    let server = Server::start(&[]);
    let mut client = Client::connect(&server);
    let mut requests = Vec::new();
    for opaque in 0..COUNT {
        requests.extend(Request::of(op::STAT, "settings").opaque(opaque).bytes());
    }
    client.send_meanwhile(&requests, |client| {
        for opaque in 0..COUNT {
            let mut lines_count = 0;
            while client.receive(op::STAT, opaque) != Answer::done(0) {
                lines_count += 1;
            }
            assert!(lines_count > 20, "{lines_count} settings");
        }
    });
    client.assert_in_step();
}

#[test]
fn a_connection_may_be_lost_at_any_point_of_a_request() {
    let server = Server::start(&[]);
    let mut observer = Client::connect(&server);
    observer.set("k", "old");
    let inline = Request::store(op::SET, "k", [b'x'; 1000]).bytes();
    let large = Request::store(op::SET, "k", vec![b'x'; 300_000]).bytes();
    let mut random = Random::new(5);
    println!("seed 5");
    for round in 0..400 {
        let request = if random.chance(1, 2) { &inline } else { &large };
        let cut = match random.below(4) {
            0 => random.below(24),
            1 => 24 + random.below(9),
            2 => 33 + random.below(request.len() - 33),
            _ => request.len() - 1,
        };
        let mut stream = server.connect();
        // Behind a GET whose answer nobody reads: the close becomes a reset, half of the time.
        if random.chance(1, 2) {
            stream.write_all(&Request::of(op::GET, "k").bytes()).unwrap();
        }
        stream.write_all(&request[..cut]).unwrap();
        drop(stream);
        if round % 50 == 0 {
            assert_eq!(observer.get("k").unwrap(), b"old", "round {round}");
        }
    }
    wait_until("the connections are gone", || observer.stat("curr_connections") == 1);
    assert_eq!(observer.get("k").unwrap(), b"old");
    assert_eq!(number(&observer.stats("slabs"), "1:large_bytes"), 0);
}

/// Connections come and go so fast that answers are under way when their connection's place is taken by another.
#[test]
fn no_answer_ever_reaches_another_connection() {
    const THREADS: u32 = 4;
    const CONNECTIONS_PER_THREAD: u32 = 125;
    const REQUESTS: u32 = 40;
    let server = Server::start(&["-t", "2"]);
    let storm = |thread: u32| {
        let mut random = Random::new(u64::from(thread));
        for connection in 0..CONNECTIONS_PER_THREAD {
            let mut client = Client::connect(&server);
            let id = thread << 24 | connection << 8;
            let key = |number: u32| format!("{thread} {connection} {number}");
            let value = |number: u32| format!("value of {}", key(number)).repeat(1 + number as usize);
            let mut stream = Vec::new();
            for number in 0..REQUESTS {
                stream.extend(Request::store(op::SETQ, key(number), value(number)).bytes());
                stream.extend(Request::of(op::GETK, key(number)).opaque(id | number).bytes());
            }
            client.send(&stream);
            // Some leave without reading, some in the middle of it.
            let read_count = match random.below(4) {
                0 => 0,
                1 => random.below(REQUESTS as usize) as u32,
                _ => REQUESTS,
            };
            for number in 0..read_count {
                let answer = client.receive(op::GETK, id | number);
                let expected = Answer::hit(0, value(number), answer.cas).with_key(key(number));
                assert_eq!(answer, expected);
            }
        }
    };
    thread::scope(|scope| {
        for thread in 1..=THREADS {
            scope.spawn(move || storm(thread));
        }
    });
    let mut client = Client::connect(&server);
    wait_until("the connections are gone", || client.stat("curr_connections") == 1);
    assert_eq!(client.stat("total_connections"), u64::from(THREADS * CONNECTIONS_PER_THREAD + 1));
}

#[test]
fn a_connection_too_many_is_told_so_and_there_is_room_again_after_a_close() {
    const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";
    let server = Server::start(&["-c", "5"]);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&server)).collect();
    for client in &mut clients {
        client.assert_in_step();
    }
    for _ in 0..3 {
        let refused = Client::over(server.connect()).rest().expect("an orderly close");
        assert_eq!(refused.escape_ascii().to_string(), TOO_MANY.escape_ascii().to_string());
    }
    for client in &mut clients {
        client.assert_in_step();
    }
    assert_eq!(clients[0].stat("rejected_connections"), 3);
    assert_eq!(clients[0].stat("curr_connections"), 5);
    clients.pop();
    wait_until("there is room again", || {
        let mut stream = server.connect();
        stream.write_all(&Request::new(op::NOOP).bytes()).unwrap();
        Response::read(&mut stream).is_ok_and(|answer| answer.is_some_and(|answer| answer.header[0] == 0x81))
    });
}

/// A connection from another address of the loopback interface.
fn connect_from(address: [u8; 4], server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

#[test]
fn an_address_has_its_share_of_connections_and_others_have_theirs() {
    const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";
    let server = Server::start(&["--conn-limit-per-address", "3", "--http", "0"]);
    let mut clients: Vec<Client> = (0..2).map(|_| Client::connect(&server)).collect();
    let mut http = Http::connect(server.http());
    assert_eq!(http.get("/healthz").status, 200, "HTTP counts as well");
    for _ in 0..2 {
        let refused = Client::over(server.connect()).rest().expect("an orderly close");
        assert_eq!(refused.escape_ascii().to_string(), TOO_MANY.escape_ascii().to_string());
    }
    let refused = TcpStream::connect(server.http()).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!((&refused).read(&mut [0]).unwrap(), 0, "closed");
    let mut others: Vec<_> = (0..3).map(|_| Client::over(connect_from([127, 0, 0, 2], &server))).collect();
    for client in clients.iter_mut().chain(&mut others) {
        client.assert_in_step();
    }
    assert_eq!(clients[0].stat("rejected_per_address"), 3);
    assert_eq!(clients[0].stat("rejected_connections"), 0);
    assert_eq!(clients[0].stats("settings")["maxconns_per_address"], "3");
    let metrics = http.get("/metrics");
    assert!(metrics.text().contains("\nmemwire_connections_rejected_per_address_total 3\n"));
    clients.pop();
    wait_until("there is room again", || {
        let mut stream = server.connect();
        stream.write_all(&Request::new(op::NOOP).bytes()).unwrap();
        Response::read(&mut stream).is_ok_and(|answer| answer.is_some_and(|answer| answer.header[0] == 0x81))
    });
}

/// A client sends its first request without waiting. It is told all the same: a reset must not overtake the text.
#[test]
fn a_connection_too_many_that_has_sent_a_request_is_told_so_and_closed_in_order() {
    let server = Server::start(&["-c", "1"]);
    let mut only = Client::connect(&server);
    only.assert_in_step();
    for round in 0..20 {
        let mut stream = server.connect();
        let _ = stream.write_all(&Request::new(op::NOOP).bytes().repeat(100));
        let mut told = Vec::new();
        let end = stream.read_to_end(&mut told);
        assert_eq!(
            told.escape_ascii().to_string(),
            "ERROR Too many open connections\\r\\n",
            "round {round}: {end:?}"
        );
    }
    only.assert_in_step();
}

/// Raises the limit of files, and says for how many connections there are enough. The server has the same limit, and some
/// files of its own.
pub(crate) fn have_files_for(connections: u64) -> u64 {
    const OTHER_FILES: u64 = 500;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let wanted = connections + OTHER_FILES;
    if hard < wanted {
        // Root may raise it.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted);
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted.min(hard)), hard).unwrap();
    connections.min(hard - OTHER_FILES)
}

#[test]
fn ten_thousand_idle_connections_cost_little_memory() {
    const CONNECTIONS_AIM: u64 = 10_000;
    let count = have_files_for(CONNECTIONS_AIM);
    let server = if count == CONNECTIONS_AIM {
        Server::start(&["-c", "12000"])
    } else {
        println!("skipped: {CONNECTIONS_AIM} connections, with {count} for the file limit");
        Server::start(&["-c", &(count + 10).to_string()])
    };
    let mut observer = Client::connect(&server);
    observer.set("k", "v");
    let before = rss_bytes(&server);

    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..count {
        let mut stream = server.connect();
        // Each has been of use before it idles, so that what it had needed must have been given back.
        stream.write_all(&Request::of(op::GET, "k").bytes()).unwrap();
        idle.push(stream);
    }
    for stream in &mut idle {
        let mut answer = [0; 29];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer[28], b'v');
    }
    assert_eq!(observer.stat("curr_connections"), count + 1);
    let growth = rss_bytes(&server).saturating_sub(before);
    assert!(growth < count as usize * 2048, "{growth} bytes for {count} connections");
    observer.assert_in_step();
    drop(idle);
    wait_until("the connections are gone", || observer.stat("curr_connections") == 1);
}

/// A stream of nonsense: bytes, headers with lengths at random, or good requests with a few bytes changed.
fn nonsense(random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    match random.below(3) {
        0 => {
            let len = random.below(500);
            stream = random.bytes(len);
        }
        1 => {
            for _ in 0..=random.below(20) {
                let key_len = random.below(300);
                let key = random.bytes(key_len);
                let mut request = Request::of(random.below(48) as u8, key)
                    .extras(vec![0; *random.pick(&[0, 4, 8, 20, 255])])
                    .cas(random.next())
                    .bytes();
                let at = 2 + random.below(10);
                request[at] = random.next() as u8;
                stream.extend(request);
            }
        }
        _ => {
            for number in 0..=random.below(50) {
                let key = format!("k{}", random.below(10));
                let value_len = random.below(20_000);
                stream.extend(
                    match number % 4 {
                        0 => Request::store(op::SET, key, vec![b'1'; value_len]).extras(stored(0, 100)),
                        1 => Request::of(op::GETKQ, key),
                        2 => Request::concat(op::APPENDQ, key, vec![b'2'; value_len]),
                        _ => Request::count(op::INCR, key, 1, 1, 0),
                    }
                    .bytes(),
                );
            }
            for _ in 0..random.below(4) {
                let at = random.below(stream.len());
                stream[at] ^= 1 << random.below(8);
            }
        }
    }
    stream
}

#[test]
fn nonsense_neither_crashes_nor_stalls_the_server() {
    assert_stands_nonsense(&Server::start(&["-B", "binary"]), |answers| {
        answers.first().is_none_or(|first| *first == 0x81)
    });
    assert_stands_nonsense(&Server::start(&[]), |_| true);
}

#[track_caller]
fn assert_stands_nonsense(server: &Server, is_answer: impl Fn(&[u8]) -> bool) {
    let mut observer = Client::connect(server);
    for seed in 0..500 {
        let stream = nonsense(&mut Random::new(seed));
        let mut client = server.connect();
        let mut writer = client.try_clone().expect("a socket can be cloned");
        thread::scope(|scope| {
            scope.spawn(move || {
                // The server may close first.
                let _ = writer.write_all(&stream);
                let _ = writer.shutdown(Shutdown::Write);
            });
            // It closes, in order or not, and does not wait for what does not come.
            let mut answers = Vec::new();
            if let Err(error) = client.read_to_end(&mut answers) {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "seed {seed}: no end");
            }
            assert!(is_answer(&answers), "seed {seed}");
        });
        observer.assert_in_step();
    }
    assert_eq!(observer.stat("pid"), u64::try_from(server.pid().as_raw()).unwrap());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn memory_keeps_its_limit_whatever_is_stored() {
    const STORED_BYTES: usize = 200_000_000;
    const LIMIT_BYTES: usize = 64 * MIB;
    const KEYS_COUNT: usize = 40_000;
    let server = Server::start(&["-m", "64"]);
    let mut client = Client::connect(&server);
    let mut random = Random::new(6);
    println!("seed 6");
    let pattern = random.bytes(700_000);
    // The value of a key: which part of the pattern it was last set to.
    let mut parts = vec![(0, 0); KEYS_COUNT];
    let mut sent = 0;
    let mut requests = Vec::new();
    let mut peak = 0;
    while sent < STORED_BYTES {
        // Sizes drift, as they do over the life of a cache.
        let len = match (random.below(100), sent < STORED_BYTES / 2) {
            (0, _) => random.below(600_000),
            (1..10, _) => random.below(20_000),
            (_, true) => random.below(500),
            (_, false) => random.below(3000),
        };
        let key = random.below(KEYS_COUNT);
        let start = random.below(pattern.len() - len);
        parts[key] = (start, len);
        let request = Request::store(op::SETQ, format!("key {key}"), &pattern[start..start + len]);
        requests.extend(request.bytes());
        sent += len + 40;
        if requests.len() > MIB {
            client.send(&requests);
            client.assert_in_step();
            requests.clear();
            peak = peak.max(rss_bytes(&server));
        }
    }
    client.send(&requests);
    client.assert_in_step();
    peak = peak.max(rss_bytes(&server));
    assert!(peak < LIMIT_BYTES * 105 / 100 + 16 * MIB, "{} MiB with -m 64", peak / MIB);
    let stats = client.stats("");
    assert!(number(&stats, "curr_items") > 0 && number(&stats, "evictions") > 0);
    assert!(number(&stats, "bytes") <= LIMIT_BYTES as u64);
    let mut hits_count = 0;
    for (key, &(start, len)) in parts.iter().enumerate() {
        let answer = client.ask(&Request::of(op::GET, format!("key {key}")));
        if answer.status == status::NOT_FOUND {
            continue;
        }
        hits_count += 1;
        assert!(answer.value == pattern[start..start + len], "key {key} has a wrong value");
    }
    // Buffers count, too, and come and go with the requests: a few items may have been evicted for them meanwhile.
    let (before, after) = (number(&stats, "curr_items"), client.stat("curr_items"));
    assert!(
        (after..=before).contains(&hits_count),
        "{hits_count} hits, {before} items before and {after} after"
    );
    assert!(after >= before * 9 / 10, "{before} items before and {after} after");
}
