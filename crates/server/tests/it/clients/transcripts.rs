//! Clients that say what each call answers: the same script against both servers, and the same lines from both.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{bounded, run, succeeds, text};
use crate::harness::{Memcached, Redis, Server, skip_or_fail};

#[test]
fn python_memcached() {
    python("memcache", "python_memcached_text.py", Memcached::start(&[]), &[], 100);
}

#[test]
fn pymemcache() {
    python("pymemcache", "pymemcache_text.py", Memcached::start(&[]), &[], 100);
}

#[test]
fn pylibmc_in_text() {
    python("pylibmc", "pylibmc_text.py", Memcached::start(&[]), &[], 100);
}

#[test]
fn redis_py() {
    for protocol in ["2", "3"] {
        python("redis", "redis_py.py", Redis::start(&[]), &[protocol], 80);
    }
}

#[test]
fn gomemcache() {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("client");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(script("gomemcache_text.go"));
    build
        .env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", directory.path().join("cache"));
    let is_built = build.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    if !is_built {
        return skip_or_fail("go with gomemcache");
    }
    let Some(theirs) = Memcached::start(&[]) else {
        return skip_or_fail("memcached");
    };
    say_the_same(program.to_str().expect("the path is UTF-8"), &[], &theirs, &[], 40);
}

#[test]
fn redis_cli() {
    const COMMANDS: &str = "PING
SET greeting 'hello, world'
GET greeting
GET missing
SET greeting again NX
SET greeting once XX GET
INCR counter
INCRBY counter 41
INCR greeting
APPEND greeting ' more'
GETRANGE greeting -4 -1
MSET a 1 b 2 c 3
MGET a missing c
EXISTS a b missing
TTL a
EXPIRE a 100 LT
EXPIRE a -1
GET a
DEL b missing
TYPE c
DBSIZE
SET c
SET c d e f
NONSENSE
HELLO 4
FLUSHALL
DBSIZE
";
    let Some(theirs) = Redis::start(&[]) else {
        return skip_or_fail("redis-server");
    };
    let ours = Server::start(&[]);
    for protocol in ["-2", "-3"] {
        let [our_lines, their_lines] = [&ours, &theirs].map(|server| {
            let mut command = bounded("redis-cli");
            command.args([protocol, "-h", "127.0.0.1", "-p", &server.port().to_string()]);
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("redis-cli runs");
            child.stdin.take().expect("a pipe").write_all(COMMANDS.as_bytes()).expect("redis-cli reads");
            let output = child.wait_with_output().expect("redis-cli ends");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        assert!(their_lines.lines().count() >= COMMANDS.lines().count(), "{their_lines}");
        assert_eq!(our_lines, their_lines);
    }
}

#[test]
fn redis_benchmark() {
    const TESTS: &str = "ping_mbulk,get,set,incr,mset";
    if !succeeds("redis-benchmark", &["--version"]) {
        return skip_or_fail("redis-benchmark");
    }
    let server = Server::start(&[]);
    let port = server.port().to_string();
    let options = ["-t", TESTS, "-P", "16", "-n", "20000", "-r", "1000", "-d", "100", "--csv", "-e"];
    let output = run("redis-benchmark", &[&["-h", "127.0.0.1", "-p", &port][..], &options].concat());
    let report = String::from_utf8_lossy(&output.stdout);
    let told_count = report.lines().filter(|line| line.starts_with('"') && !line.contains("rps")).count();
    let is_clean = output.status.success() && !report.contains("rror");
    assert!(is_clean && told_count == TESTS.split(',').count(), "{}", text(&output));
}

/// memcached's own tool, in Perl.
#[test]
fn memcached_tool() {
    const TOOL: &str = "/usr/share/memcached/scripts/memcached-tool";
    if !Path::new(TOOL).exists() || !succeeds("perl", &["-v"]) {
        return skip_or_fail("memcached-tool");
    }
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"set greeting 7 0 5\r\nhello\r\nset other 0 0 0 noreply\r\n\r\nget greeting\r\n")
        .unwrap();
    let mut answer = [0; 40];
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    let address = server.addr().to_string();
    for (mode, wanted) in [
        ("display", "\n  1 "),
        ("stats", " curr_items             2\n"),
        ("settings", " maxconns        1024\n"),
        ("sizes", "\n"),
        ("dump", "add greeting 7 0 5\nhello\n"),
    ] {
        let output = run("perl", &[TOOL, &address, mode]);
        let told = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        assert!(output.status.success() && told.contains(wanted), "{mode}: {}", text(&output));
    }
}

fn python(module: &str, name: &str, theirs: Option<Server>, args: &[&str], lines_min: usize) {
    if !succeeds("python3", &["-c", &format!("import {module}")]) {
        return skip_or_fail(module);
    }
    let Some(theirs) = theirs else {
        return skip_or_fail("the server to compare with");
    };
    say_the_same("python3", &[&script(name)], &theirs, args, lines_min);
}

fn script(name: &str) -> String {
    format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs `program` with `before`, the address of a server and `behind`, once for each server.
fn say_the_same(program: &str, before: &[&str], theirs: &Server, behind: &[&str], lines_min: usize) {
    let ours = Server::start(&[]);
    let [our_lines, their_lines] = [&ours, theirs].map(|server| {
        let output = run(program, &[before, &[&server.addr().to_string()], behind].concat());
        assert!(output.status.success(), "{program} {before:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    assert!(their_lines.lines().count() >= lines_min, "{their_lines}");
    assert_eq!(our_lines, their_lines, "{program} {before:?}: ours and theirs");
}
