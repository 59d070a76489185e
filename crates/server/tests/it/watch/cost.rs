//! What it costs the server that somebody waits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::{Answer, Client, Request, op};
use crate::watch::{until_waiting, waiting};

const WATCH: u8 = 0x77;
const WAITERS: usize = 4000;
/// Files of this process besides: those of other tests.
const OTHER_FILES: u64 = 3000;
const BYTES_MAX: usize = 200;

fn watch(number: usize, wait_ms: u32) -> Vec<u8> {
    Request::of(WATCH, format!("key-{number:06}")).extras(wait_ms.to_be_bytes()).bytes()
}

fn resident_bytes(pid: nix::unistd::Pid) -> usize {
    // Others add up what each core has counted for itself, and are a hundred pages off.
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the server runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// What was measured is some 160 bytes: a request of 38 in an allocation of its own, a note of the storage thread, a place
/// among those whose time runs.
#[test]
fn a_waiter_costs_less_than_200_bytes_besides_its_connection() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process knows its limits");
    let wanted = 2 * WAITERS as u64 + OTHER_FILES;
    if hard < wanted {
        eprintln!("skipped: this process may have {hard} files, {wanted} are needed");
        return;
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).expect("it may be raised so far");
    let connections = format!("{}", WAITERS + 10);
    let (server, mut probe) = crate::http::start(&["--watch", "-t", "1", "-c", &connections]);
    let mut clients: Vec<_> = (0..WAITERS).map(|_| Client::connect(&server)).collect();
    // Whatever else such requests take is there before.
    for _ in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(&watch(number, 0));
        }
        for client in &mut clients {
            assert_eq!(client.receive(WATCH, 0), Answer::done(0));
        }
    }
    assert_eq!(waiting(&mut probe), 0);
    let before = resident_bytes(server.pid());
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&watch(number, 300_000));
    }
    until_waiting(&mut probe, WAITERS);
    let each = resident_bytes(server.pid()).saturating_sub(before) / WAITERS;
    println!("{each} bytes for each of {WAITERS}");
    assert!(each < BYTES_MAX, "{each} bytes");
    let mut writer = Client::connect(&server);
    writer.set("key-000007", "told");
    assert_eq!(clients[7].receive(WATCH, 0).status, 0);
    assert_eq!(writer.ask(&Request::new(op::NOOP)), Answer::done(0));
}
