//! Real clients against the built server.
//!
//! Each script below `tests/clients` exercises what its library offers, checks every answer, and
//! says how many checks it made. What the scripts expect is what Debian's memcached 1.6.18 does.
//! [`transcripts`] has those that say what each call answers, which is compared with what the other server makes of it.

mod transcripts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{Random, Server, skip_or_fail};

/// Longer than any client needs: one that still runs waits for an answer that does not come.
const CLIENT_SECONDS_MAX: &str = "120";

#[test]
fn memccapable_passes_all_its_tests() {
    if !succeeds("memccapable", &["-V"]) {
        return skip_or_fail("memccapable");
    }
    let server = Server::start(&[]);
    // memcached 1.6.18 passes them all, too.
    for (option, protocol) in [("-b", "binary "), ("-a", "ascii ")] {
        let output = run("memccapable", &[option, "-h", "127.0.0.1", "-p", &server.port().to_string()]);
        let report = String::from_utf8_lossy(&output.stdout);
        let passed_count =
            report.lines().filter(|line| line.starts_with(protocol) && line.ends_with("[pass]")).count();
        assert!(
            output.status.success() && passed_count == 27,
            "{passed_count} of 27 passed: {}",
            text(&output)
        );
    }
}

#[test]
fn pylibmc() {
    python("pylibmc", "pylibmc_binary.py");
}

#[test]
fn python_binary_memcached() {
    python("bmemcached", "bmemcached_binary.py");
}

#[test]
fn memjs() {
    if !succeeds("node", &["-e", "require('memjs')"]) {
        return skip_or_fail("memjs");
    }
    passes("node", "memjs_binary.js");
}

#[test]
fn php_memcached() {
    if !succeeds("php", &["-r", "exit(class_exists('Memcached') ? 0 : 1);"]) {
        return skip_or_fail("php-memcached");
    }
    passes("php", "php_binary.php");
}

#[test]
fn dalli() {
    if !succeeds("ruby", &["-e", "require 'dalli'"]) {
        return skip_or_fail("dalli");
    }
    passes("ruby", "dalli_binary.rb");
}

#[test]
fn libmemcached_tools() {
    if !succeeds("memccp", &["--help"]) {
        return skip_or_fail("memccp of libmemcached-tools");
    }
    use_tools(&["--binary"]);
    use_tools(&[]);
}

fn use_tools(protocol: &'static [&'static str]) {
    let server = Server::start(&[]);
    let address = format!("--servers={}", server.addr());
    let tools = Tools { server: address, protocol, directory: TempDir::new().unwrap() };
    let large = Random::new(1).bytes(500_000);
    tools.write("text", b"hello \0world");
    tools.write("empty", b"");
    tools.write("large", &large);

    assert!(tools.succeeds("memccp", &["--flags=7", "text", "empty", "large"]));
    assert_eq!(tools.output("memccat", &["text"]), b"hello \0world\n");
    assert_eq!(tools.output("memccat", &["--flags", "text"]), b"7\nhello \0world\n");
    assert_eq!(tools.output("memccat", &["empty"]), b"\n");
    assert!(tools.succeeds("memccat", &["--file=copy", "large"]));
    assert!(fs::read(tools.path("copy")).unwrap() == large, "the large value came back changed");
    assert!(!tools.succeeds("memccat", &["missing"]));

    assert!(tools.succeeds("memcexist", &["text"]));
    // memcexist asks with an ADD that has expired already: the first may not make the second succeed.
    assert!(!tools.succeeds("memcexist", &["missing"]));
    assert!(!tools.succeeds("memcexist", &["missing"]));
    assert!(tools.succeeds("memctouch", &["--expire=1000", "text"]));
    assert!(!tools.succeeds("memctouch", &["--expire=1000", "missing"]));

    assert!(!tools.succeeds("memccp", &["--add", "text"]));
    assert!(tools.succeeds("memccp", &["--replace", "text"]));
    assert!(tools.succeeds("memcrm", &["text"]));
    assert!(!tools.succeeds("memcrm", &["text"]));
    assert!(!tools.succeeds("memccp", &["--replace", "text"]));
    assert!(tools.succeeds("memccp", &["--add", "text"]));

    let stats = String::from_utf8_lossy(&tools.output("memcstat", &[])).into_owned();
    assert!(stats.contains("\tpid: ") && stats.contains("\tcurr_items: 3\n"), "{stats}");

    // It speaks text only.
    assert!(!protocol.is_empty() || tools.succeeds("memcping", &[]));
    assert!(tools.succeeds("memcflush", &[]));
    assert!(!tools.succeeds("memcexist", &["text"]));
    assert!(!tools.succeeds("memcexist", &["large"]));
}

/// The command-line tools of libmemcached, run where the files are that they copy.
struct Tools {
    server: String,
    /// What chooses it: without an option it is text.
    protocol: &'static [&'static str],
    directory: TempDir,
}

impl Tools {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn succeeds(&self, tool: &str, args: &[&str]) -> bool {
        self.run(tool, args).status.success()
    }

    fn output(&self, tool: &str, args: &[&str]) -> Vec<u8> {
        let output = self.run(tool, args);
        assert!(output.status.success(), "{tool} {args:?}: {}", text(&output));
        output.stdout
    }

    fn run(&self, tool: &str, args: &[&str]) -> Output {
        let mut command = bounded(tool);
        command.arg(&self.server).args(self.protocol).args(args).current_dir(&self.directory);
        let output = command.output().expect("timeout of coreutils runs");
        // The tools say 1 for 'no', so anything else is no answer.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{tool} {args:?}: {}", text(&output));
        output
    }
}

fn python(module: &str, script: &str) {
    if !succeeds("python3", &["-c", &format!("import {module}")]) {
        return skip_or_fail(module);
    }
    passes("python3", script);
}

/// Runs a script of `tests/clients` against a server of its own.
fn passes(interpreter: &str, script: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let server = Server::start(&[]);
    let output = run(interpreter, &[path.to_str().expect("the path is UTF-8"), &server.addr().to_string()]);
    let count = checks_count(&output);
    assert!(output.status.success() && count.is_some_and(|count| count > 0), "{script}: {}", text(&output));
}

/// The number in the line `ok: N checks`.
pub(crate) fn checks_count(output: &Output) -> Option<u32> {
    let stdout = str::from_utf8(&output.stdout).ok()?;
    stdout.lines().last()?.strip_prefix("ok: ")?.strip_suffix(" checks")?.parse().ok()
}

/// Whether the program is there and ends with success.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

pub(crate) fn run(program: &str, args: &[&str]) -> Output {
    bounded(program).args(args).output().expect("timeout of coreutils runs")
}

fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([CLIENT_SECONDS_MAX, program]).stdin(Stdio::null());
    command
}

pub(crate) fn text(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{stdout}\n{stderr}", output.status)
}
