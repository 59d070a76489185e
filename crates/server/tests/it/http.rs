//! HTTP: keys, health, metrics, the page; and what slow, malformed and unwelcome clients meet.
//!
//! Requests are written and answers taken apart by hand, so that nothing of what the server is built on is believed.

mod restoring;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::client::{self, Client, Request, op, wait_until};
use crate::harness::{PATIENCE, Random, Server, skip_or_fail};

/// As long as a stalled client may take, and then some: no test waits for ever.
const STALL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(40);

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), "application/json");
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Sees that it is an error of this status, told in JSON.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16) {
        assert_eq!(self.status, status, "{:?}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.json()["status"], status);
        assert!(self.json()["error"].as_str().is_some_and(|why| why.len() > 5));
    }
}

/// A connection over which one request follows the other.
pub(crate) struct Http {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("HTTP is accepted");
        stream.set_read_timeout(Some(STALL_PATIENCE)).expect("a read timeout can be set");
        stream.set_write_timeout(Some(STALL_PATIENCE)).expect("a write timeout can be set");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }

    /// Sends a request. `target` may be followed by header fields, a line each.
    pub(crate) fn request(&mut self, method: &str, target: &str, body: &[u8]) {
        let (target, fields) = target.split_once('\n').unwrap_or((target, ""));
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n");
        for field in fields.lines() {
            head.extend([field, "\r\n"]);
        }
        if method == "PUT" && !fields.contains("Content-Length") && !fields.contains("Transfer-Encoding") {
            head.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
        }
        self.send(&[head.as_bytes(), b"\r\n", body].concat());
    }

    /// The next answer, `None` at the end of the connection.
    pub(crate) fn receive(&mut self, method: &str) -> Option<Answer> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).expect("an answer comes") == 0 {
            return None;
        }
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut fields = HashMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a head comes whole");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            fields.insert(name.to_lowercase(), value.to_owned());
        }
        let len = fields.get("content-length").map_or(0, |len| len.parse().expect("a length"));
        let mut body = vec![0; if method == "HEAD" || status == 304 { 0 } else { len }];
        self.stream.read_exact(&mut body).expect("a body comes whole");
        Some(Answer { status, fields, body })
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.request(method, target, body);
        self.receive(method).expect("an answer before the end")
    }

    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, b"")
    }

    pub(crate) fn put(&mut self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("PUT", target, body.as_ref())
    }
}

pub(crate) fn start(args: &[&str]) -> (Server, Http) {
    let server = Server::start(&[&["--http", "0"], args].concat());
    let http = Http::connect(server.http());
    (server, http)
}

#[test]
fn an_item_is_put_and_got_and_deleted_with_flags_and_version() {
    let (server, mut http) = start(&[]);
    let mut binary = Client::connect(&server);
    let stored = http.put("/v1/keys/greeting?flags=7", "hello");
    assert_eq!((stored.status, stored.field("etag"), &stored.body[..]), (204, "\"1\"", &b""[..]));
    assert_eq!(
        binary.ask(&Request::of(op::GET, "greeting")),
        client::Answer::hit(7, "hello", 1),
        "it is the same item"
    );

    let cas = binary.ask(&Request::store(op::SET, "other", "x").extras(client::stored(u32::MAX, 0))).cas;
    let got = http.get("/v1/keys/other");
    assert_eq!((got.status, got.text(), got.field("etag")), (200, "x", &format!("\"{cas}\"")[..]));
    assert_eq!(got.field("x-memwire-flags"), u32::MAX.to_string());
    assert_eq!(got.field("content-type"), "application/octet-stream");
    assert_eq!(got.field("x-content-type-options"), "nosniff", "a value is never a page of this server");

    let head = http.ask("HEAD", "/v1/keys/greeting", b"");
    assert_eq!((head.status, head.field("content-length"), head.field("x-memwire-flags")), (200, "5", "7"));
    assert_eq!(http.put("/v1/keys/greeting\nX-Memwire-Flags: 9", "").status, 204);
    let empty = http.get("/v1/keys/greeting");
    assert_eq!((empty.status, empty.text(), empty.field("x-memwire-flags")), (200, "", "9"));

    assert_eq!(http.ask("DELETE", "/v1/keys/greeting", b"").status, 204);
    http.ask("DELETE", "/v1/keys/greeting", b"").assert_error(404);
    http.get("/v1/keys/greeting").assert_error(404);
    assert_eq!(http.ask("HEAD", "/v1/keys/greeting", b"").status, 404);
    assert_eq!(binary.get("greeting"), None);
}

#[test]
fn an_item_ends_with_its_ttl() {
    let (_server, mut http) = start(&[]);
    assert_eq!(http.put("/v1/keys/short?ttl=1", "x").status, 204);
    assert_eq!(http.put("/v1/keys/long?ttl=4294967295", "x").status, 204);
    assert_eq!(http.put("/v1/keys/never?ttl=0", "x").status, 204);
    while http.get("/v1/keys/short").status == 200 {
        thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(http.get("/v1/keys/short").status, 404);
    assert_eq!(http.get("/v1/keys/long").status, 200);
    assert_eq!(http.get("/v1/keys/never").status, 200);
}

#[test]
fn conditions_compare_versions() {
    let (_server, mut http) = start(&[]);
    assert_eq!(http.put("/v1/keys/k\nIf-None-Match: *", "1").status, 201, "it is created");
    http.put("/v1/keys/k\nIf-None-Match: *", "2").assert_error(412);
    http.put("/v1/keys/k\nIf-Match: \"7\"", "2").assert_error(412);
    http.put("/v1/keys/k\nIf-Match: \"0\"", "2").assert_error(412);
    http.put("/v1/keys/k\nIf-Match: \"of another server\"", "2").assert_error(412);
    http.put("/v1/keys/missing\nIf-Match: \"1\"", "2").assert_error(412);
    http.put("/v1/keys/missing\nIf-Match: *", "2").assert_error(412);
    assert_eq!(http.get("/v1/keys/k").text(), "1", "nothing of that has changed it");
    let second = http.put("/v1/keys/k\nIf-Match: \"1\"", "2");
    assert_eq!((second.status, second.field("etag")), (204, "\"2\""));
    assert_eq!(http.put("/v1/keys/k\nIf-Match: *", "3").field("etag"), "\"3\"");

    let same = http.get("/v1/keys/k\nIf-None-Match: \"1\", W/\"3\"");
    assert_eq!((same.status, same.field("etag"), &same.body[..]), (304, "\"3\"", &b""[..]));
    assert_eq!(http.get("/v1/keys/k\nIf-None-Match: *").status, 304);
    assert_eq!(http.get("/v1/keys/k\nIf-None-Match: \"2\"").text(), "3");
    assert_eq!(http.get("/v1/keys/k\nIf-Match: \"3\"").text(), "3");
    http.get("/v1/keys/k\nIf-Match: \"2\"").assert_error(412);

    http.ask("DELETE", "/v1/keys/k\nIf-Match: \"2\"", b"").assert_error(412);
    assert_eq!(http.ask("DELETE", "/v1/keys/k\nIf-Match: \"3\"", b"").status, 204);
    http.ask("DELETE", "/v1/keys/k\nIf-Match: \"3\"", b"").assert_error(412);
    for bad in
        ["If-Match: 1", "If-Match: \"1\", \"2\"", "If-None-Match: \"1\"", "If-Match: \"1\"\nIf-Match: \"1\""]
    {
        http.put(&format!("/v1/keys/k\n{bad}"), "").assert_error(400);
    }
}

#[test]
fn where_versions_are_hidden_no_condition_on_one_holds() {
    let (_server, mut http) = start(&["-C"]);
    assert_eq!(http.put("/v1/keys/k", "1").field("etag"), "");
    http.put("/v1/keys/k\nIf-Match: \"1\"", "2").assert_error(412);
    http.ask("DELETE", "/v1/keys/k\nIf-Match: \"1\"", b"").assert_error(412);
    assert_eq!(http.get("/v1/keys/k\nIf-None-Match: \"1\"").text(), "1");
}

#[test]
fn a_key_is_any_bytes_from_1_to_250() {
    let (server, mut http) = start(&[]);
    let mut binary = Client::connect(&server);
    assert_eq!(http.put("/v1/keys/%00%ff%20/a+b%2F%E2%82%AC", "x").status, 204);
    assert_eq!(binary.get(b"\x00\xff /a+b/\xe2\x82\xac").unwrap(), b"x");
    let longest = "k".repeat(250);
    assert_eq!(http.put(&format!("/v1/keys/{longest}"), "y").status, 204);
    assert_eq!(binary.get(&longest).unwrap(), b"y");
    assert_eq!(http.put(&format!("/v1/keys/{}", "%6b".repeat(250)), "z").status, 204, "decoded bytes count");
    assert_eq!(binary.get(&longest).unwrap(), b"z");
    for bad in ["", &"k".repeat(251)] {
        http.get(&format!("/v1/keys/{bad}")).assert_error(400);
        http.put(&format!("/v1/keys/{bad}"), "x").assert_error(400);
    }
}

#[test]
fn values_of_all_lengths_come_back_and_one_that_is_too_long_is_refused() {
    let (_server, mut http) = start(&["-m", "64", "-I", "4m"]);
    let mut random = Random::new(1);
    for len in [0, 1, 100, 2047, 2048, 8000, 10_000, 100_000, (4 << 20) - 1, 4 << 20] {
        let value = random.bytes(len);
        assert_eq!(http.put("/v1/keys/k", &value).status, 204, "{len}");
        let got = http.get("/v1/keys/k");
        assert!(got.status == 200 && got.body == value, "{len} bytes came back as {}", got.body.len());
    }
    let mut other = Http::connect(http.stream.get_ref().peer_addr().unwrap());
    other.request("PUT", "/v1/keys/k\nContent-Length: 4194305", b"the rest is not waited for");
    other.receive("PUT").expect("it is answered").assert_error(413);
    http.get("/v1/keys/k").assert_error(404);
    assert_eq!(http.put("/v1/keys/k", "old").status, 204);
    Http::connect(http.stream.get_ref().peer_addr().unwrap())
        .ask("PUT", "/v1/keys/k\nIf-None-Match: *\nContent-Length: 4194305", b"")
        .assert_error(413);
    assert_eq!(http.get("/v1/keys/k").text(), "old", "an ADD that is refused changes nothing");
}

#[test]
fn a_value_for_which_there_is_no_memory_is_refused() {
    let (_server, mut http) = start(&["-m", "8", "-I", "4m", "-M"]);
    let value = vec![7; 2 << 20];
    let stored = (0..8).take_while(|at| http.put(&format!("/v1/keys/{at}"), &value).status == 204).count();
    assert!((1..4).contains(&stored), "{stored}");
    let mut other = Http::connect(http.stream.get_ref().peer_addr().unwrap());
    other.put("/v1/keys/more", &value).assert_error(507);
    let mut other = Http::connect(http.stream.get_ref().peer_addr().unwrap());
    assert_eq!(other.get("/v1/keys/0").body.len(), value.len());
}

#[test]
fn what_is_not_served_is_refused_by_its_own_status() {
    let (server, mut http) = start(&[]);
    http.get("/nothing").assert_error(404);
    http.get("/v1/keys").assert_error(404);
    for (method, target, allowed) in [
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("POST", "/v1/keys/k", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v1/snapshot", "POST"),
    ] {
        let refused = http.ask(method, target, b"");
        refused.assert_error(405);
        assert_eq!(refused.field("allow"), allowed);
    }
    for (target, status) in [
        ("/v1/keys/k?ttl=soon", 400),
        ("/v1/keys/k?ttl=-1", 400),
        ("/v1/keys/k?ttl=+1", 400),
        ("/v1/keys/k?ttl=4294967296", 400),
        ("/v1/keys/k?flags=4294967296", 400),
        ("/v1/keys/k?flags=1&flags=1", 400),
        ("/v1/keys/k?tll=1", 400),
        ("/v1/keys/k\nX-Memwire-Flags: x", 400),
    ] {
        http.put(target, "").assert_error(status);
    }
    http.get("/v1/keys/k?flags=1").assert_error(400);
    http.get("/v1/keys/k").assert_error(404);
    Http::connect(server.http())
        .ask("PUT", "/v1/keys/k\nTransfer-Encoding: chunked", b"0\r\n\r\n")
        .assert_error(411);
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let (_server, mut http) = start(&[]);
    http.get("/v1/keys/k\nOrigin: http://elsewhere.example").assert_error(403);
    http.ask("POST", "/v1/snapshot\nOrigin: null", b"").assert_error(403);
    assert_eq!(http.get("/v1/stats\nOrigin: http://x").status, 200, "its own page is not");
}

#[test]
fn malformed_requests_are_answered_and_closed() {
    let (server, mut http) = start(&[]);
    for (request, status) in [
        (b"NONSENSE\r\n\r\n".to_vec(), 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n".to_vec(), 400),
        (b"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01".to_vec(), 400),
        (b"PUT /v1/keys/k HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec(), 400),
        (b"PUT /v1/keys/k HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(), 400),
        ([b"GET / HTTP/1.1\r\nA: ", &b"a".repeat(20_000)[..], b"\r\n\r\n"].concat(), 431),
        ([b"GET / HTTP/1.1\r\n", &b"A: b\r\n".repeat(100)[..], b"\r\n"].concat(), 431),
    ] {
        let mut other = Http::connect(server.http());
        other.send(&request);
        let shown = request[..request.len().min(40)].escape_ascii().to_string();
        assert_eq!(other.receive("GET").expect("an answer").status, status, "{shown}");
        assert!(other.receive("GET").is_none(), "{shown}");
    }
    let mut cut = Http::connect(server.http());
    cut.request("PUT", "/v1/keys/k\nContent-Length: 10", b"12345");
    cut.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(cut.receive("PUT").is_none_or(|answer| answer.status == 400));
    http.get("/v1/keys/k").assert_error(404);
}

#[test]
fn slow_clients_are_given_up_and_harm_nobody() {
    let (server, mut http) = start(&["-I", "32m"]);
    let address = server.http();
    assert_eq!(http.put("/v1/keys/large", vec![7; 32 << 20]).status, 204);
    thread::scope(|scope| {
        let head = scope.spawn(move || {
            let mut slow = Http::connect(address);
            slow.send(b"GET / HTTP/1.1\r\nHo");
            let answer = slow.receive("GET").expect("it is told");
            (answer.status, slow.receive("GET"))
        });
        let body = scope.spawn(move || {
            let mut slow = Http::connect(address);
            slow.request("PUT", "/v1/keys/slow\nContent-Length: 100000", b"some");
            slow.receive("PUT").expect("it is told").status
        });
        let idle = scope.spawn(move || {
            let mut idle = Http::connect(address);
            idle.get("/healthz");
            idle.receive("GET")
        });
        let reader = scope.spawn(move || {
            let mut slow = Http::connect(address);
            slow.request("GET", "/v1/keys/large", b"");
            thread::sleep(std::time::Duration::from_secs(12));
            let mut rest = Vec::new();
            let ended = slow.stream.read_to_end(&mut rest);
            ended.is_err() || rest.len() < 32 << 20
        });
        let mut binary = Client::connect(&server);
        while !(head.is_finished() && body.is_finished() && idle.is_finished()) {
            binary.set("k", "v");
            assert_eq!(Http::connect(address).get("/v1/keys/k").text(), "v");
            thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(head.join().unwrap(), (408, None));
        assert_eq!(body.join().unwrap(), 408);
        assert_eq!(idle.join().unwrap(), None, "an idle connection is closed without a word");
        assert!(reader.join().unwrap(), "the answer was cut");
    });
}

/// A connection once ended when its last answer had been handed to what writes it, and not when it was written.
#[test]
fn a_long_answer_is_whole_though_the_body_of_its_request_never_comes() {
    let (_server, mut http) = start(&["-I", "32m", "-m", "100"]);
    let value = vec![7; 20 << 20];
    assert_eq!(http.put("/v1/keys/k", &value).status, 204);
    http.send(b"GET /v1/keys/k HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    assert!(http.receive("GET").is_some_and(|answer| answer.body == value));
    assert_eq!(http.receive("GET"), None, "nobody waits for it");
}

#[test]
fn it_is_healthy_and_ready_until_it_drains() {
    let (server, mut http) = start(&["-I", "32m", "-m", "100"]);
    assert_eq!((http.get("/healthz").status, http.get("/readyz").text()), (200, "ready\n"));
    // A client that does not read what it has asked for makes the end take a while.
    let mut binary = Client::connect(&server);
    binary.set("large", vec![7; 30 << 20]);
    binary.send(&Request::of(op::GET, "large").bytes());
    while !http.get("/metrics").text().contains("memwire_held_bytes{use=\"pinned\"} 3") {
        thread::yield_now();
    }
    nix::sys::signal::kill(server.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    let unready = loop {
        let answer = http.get("/readyz");
        if answer.status != 200 {
            break answer;
        }
    };
    unready.assert_error(503);
    assert_eq!(http.get("/healthz").status, 200);
    drop(binary);
    assert!(server.stop().success());
}

#[test]
fn http_is_off_unless_it_is_asked_for_and_an_address_that_is_taken_is_told() {
    let (server, _http) = start(&[]);
    let taken = server.http().port().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_memwire"))
        .args(["-l", "127.0.0.1", "-p", "-1", "--http", &taken])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(71));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--http: cannot listen on 127.0.0.1:"));
    assert!(std::panic::catch_unwind(|| Server::start(&[]).http()).is_err(), "there is none");
}

/// Samples by name and labels, after everything that the text format asks for has been looked at.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut family = ("", "");
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty() && !families.contains(&name), "{name} is told once");
            families.push(name);
            family = (name, "");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, family.0, "a type follows its help");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{kind}");
            family.1 = kind;
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            let bare = name.split('{').next().unwrap();
            let of =
                bare.strip_prefix(family.0).unwrap_or_else(|| panic!("{name} stands under {}", family.0));
            let allowed: &[&str] =
                if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.contains(&of), "{name}");
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(name.to_owned(), value).is_none(), "{name} stands there twice");
        }
    }
    samples
}

#[test]
fn metrics_count_under_the_exporters_names_and_histograms_add_up() {
    let (server, mut http) = start(&["-m", "100", "-c", "500", "-t", "2"]);
    let mut binary = Client::connect(&server);
    binary.set("k", "v");
    for _ in 0..30 {
        binary.get("k");
    }
    binary.get("missing");
    binary.ask(&Request::of(op::DELETE, "k"));
    // How long a request has taken is known when its answer is written, and then its client may ask at once.
    let last = "\nmemwire_latency_seconds_count{kind=\"delete\"} 1\n";
    wait_until("the last request is counted", || http.get("/metrics").text().contains(last));
    let answer = http.get("/metrics");
    assert_eq!(answer.field("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let samples = samples(answer.text());
    for (name, expected) in [
        ("memcached_up", 1.0),
        ("memcached_version{version=\"1.6.45\"}", 1.0),
        ("memcached_limit_bytes", f64::from(100 << 20)),
        ("memcached_max_connections", 500.0),
        ("memcached_current_connections", 1.0),
        ("memcached_current_items", 0.0),
        ("memcached_items_total", 1.0),
        ("memcached_items_evicted_total", 0.0),
        ("memcached_commands_total{command=\"get\",status=\"hit\"}", 30.0),
        ("memcached_commands_total{command=\"get\",status=\"miss\"}", 1.0),
        ("memcached_commands_total{command=\"set\",status=\"hit\"}", 1.0),
        ("memcached_commands_total{command=\"delete\",status=\"hit\"}", 1.0),
        ("memwire_latency_seconds_count{kind=\"read\"}", 31.0),
        ("memwire_latency_seconds_count{kind=\"write\"}", 1.0),
        ("memwire_latency_seconds_count{kind=\"delete\"}", 1.0),
        ("memwire_latency_seconds_count{kind=\"count\"}", 0.0),
        ("memwire_latency_seconds_bucket{kind=\"read\",le=\"+Inf\"}", 31.0),
        ("memwire_batch_requests_sum", 33.0),
        ("memwire_batch_requests_bucket{le=\"1\"}", 33.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name}");
    }
    for name in ["memcached_read_bytes_total", "memcached_written_bytes_total", "memwire_resident_bytes"] {
        assert!(samples[name] > 500.0, "{name}");
    }
    assert!(samples["memwire_latency_seconds_sum{kind=\"read\"}"] > 0.0);
    let buckets = answer.text().lines().filter(|line| line.contains("bucket{kind=\"read\""));
    let counts: Vec<f64> = buckets.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(counts.len() == 17 && counts.is_sorted(), "{counts:?}");
    let uses = samples.iter().filter(|(name, _)| name.starts_with("memwire_memory_bytes"));
    assert_eq!(uses.map(|(_, bytes)| bytes).sum::<f64>() as u64, 100 << 20, "all of the limit is told");
}

#[test]
fn prometheus_reads_the_metrics() {
    let parses = "import sys; from prometheus_client.parser import text_string_to_metric_families as parse\n\
        print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
    let installed = Command::new("python3").args(["-c", "import prometheus_client"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        return skip_or_fail("prometheus-client");
    }
    let (_server, mut http) = start(&[]);
    let text = http.get("/metrics").text().to_owned();
    let mut python = Command::new("python3")
        .args(["-c", parses])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let told = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), told.to_string());
}

#[test]
fn the_page_asks_nobody_else_and_its_figures_are_there() {
    let (server, mut http) = start(&["-m", "100"]);
    let page = http.get("/");
    assert_eq!((page.status, page.field("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.field("content-security-policy").starts_with("default-src 'none'"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.text().contains(outside), "{outside}");
    }
    assert!(page.text().contains("prefers-color-scheme"));
    let mut binary = Client::connect(&server);
    binary.set("k", "v");
    let stats = http.get("/v1/stats").json();
    assert_eq!((&stats["stage"], &stats["items"]), (&"ready".into(), &1.into()));
    assert_eq!(stats["connections"]["open"], 1);
    assert_eq!(stats["counters"]["cmd_set"], 1);
    assert_eq!(stats["latency_us"]["write"]["count"], 1);
    let parts = stats["memory"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap());
    assert_eq!(parts.sum::<u64>(), 100 << 20);
}

#[test]
fn a_browser_shows_the_page_with_figures_in_it() {
    if !Command::new("chromium").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip_or_fail("chromium");
    }
    let (server, _http) = start(&["-m", "100"]);
    let mut binary = Client::connect(&server);
    binary.set("k", "v");
    binary.get("k");
    let profile = tempfile::TempDir::new().unwrap();
    let output = Command::new("timeout")
        .args(["60", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", &format!("http://{}/", server.http())])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    for shown in [">100.0 %<", ">ready<", "<td>write</td>", "free 9", "small queue"] {
        assert!(dom.contains(shown), "{shown} is not in {dom}");
    }
}

#[test]
fn a_snapshot_is_asked_for() {
    let (_server, mut http) = start(&[]);
    http.ask("POST", "/v1/snapshot", b"").assert_error(501);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("snapshot");
    let (_server, mut http) = start(&["--snapshot", file.to_str().unwrap()]);
    assert_eq!(http.put("/v1/keys/k", "in the file").status, 204);
    assert_eq!(http.ask("POST", "/v1/snapshot", b"").status, 202);
    while !std::fs::read(&file).is_ok_and(|bytes| bytes.windows(11).any(|part| part == b"in the file")) {
        thread::yield_now();
    }
}
