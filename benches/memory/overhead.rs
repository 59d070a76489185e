//! Resident memory an item, less its key and value, in a server that holds all of them.

use std::thread;
use std::time::Duration;

use crate::contents::{Contents, Sizes, generation};
use crate::items::KEY_BYTES;
use crate::lanes::{Lanes, Request};
use crate::random::Random;
use crate::server::{Program, Server, cpu_time};
use crate::syntax::Protocol;
use crate::table::Table;
use crate::{Bench, LANES, TURN, probe};

const VALUE_BYTES: [usize; 3] = [32, 100, 1000];

/// Enough for all.
const MEMORY_MIB: u64 = 4096;

/// Items that are read back.
const SAMPLE: usize = 20_000;

/// Time for what a server does behind its clients' backs, as memcached the growing of its table.
fn settling_time(items: u32) -> Duration {
    Duration::from_micros(u64::from(items / 2)).clamp(Duration::from_millis(50), Duration::from_secs(2))
}

pub(crate) fn run(bench: &mut Bench, items: u32) -> Result<(), String> {
    let programs: Vec<Program> = bench
        .programs(4)
        .into_iter()
        .chain(Program::redis())
        .map(|program| program.with_memory(MEMORY_MIB.max(u64::from(items) * 2 / 1024)))
        .collect();
    println!(
        "Overhead: {items} items with keys of {KEY_BYTES} B; whole resident memory less keys and values, B an item; in \
         brackets without what the empty server has\n"
    );
    let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    let mut table = Table::new(&[&["values of"], &names[..], &["CPU s"]].concat());
    for value_bytes in VALUE_BYTES {
        let mut row = vec![format!("{value_bytes} B")];
        let mut cpu = Vec::new();
        for program in &programs {
            let found = measure(bench, program, items, value_bytes)?;
            row.push(format!("{:.1} ({:.1})", found.per_item, found.per_item_above_empty));
            cpu.push(format!("{:.1}", found.cpu.as_secs_f64()));
        }
        row.push(cpu.join(" / "));
        table.push(row);
    }
    table.print();
    Ok(())
}

struct Found {
    per_item: f64,
    per_item_above_empty: f64,
    cpu: Duration,
}

fn measure(bench: &mut Bench, program: &Program, items: u32, value_bytes: usize) -> Result<Found, String> {
    let protocol = Protocol::of(program.kind);
    let contents = Contents::new(&[Sizes::Exactly(value_bytes)]);
    let server = Server::start(program)?;
    let empty = probe::rss_bytes(server.pid())?;
    let mut lanes = Lanes::open(server.address(), protocol, LANES, &contents)?;
    store_all(&mut lanes, items)?;
    thread::sleep(settling_time(items));
    let mut random = Random::new(1);
    let sample: Vec<Request> = (0..SAMPLE).map(|_| Request::get(random.below(items))).collect();
    for requests in sample.chunks(TURN) {
        lanes.exchange(requests, |_, _| ())?;
    }
    bench.count(program, &lanes.tally);
    let (stored, hits) = (lanes.tally.stored, lanes.tally.hits);
    let there = probe::item_count(server.address(), protocol)?;
    if (stored, hits, there) != (u64::from(items), SAMPLE as u64, u64::from(items)) {
        return Err(format!(
            "{}: {stored} of {items} items were stored, {there} are there, {hits} of {SAMPLE} were read",
            program.name
        ));
    }
    let rss = probe::rss_bytes(server.pid())?;
    let per_item = |bytes: u64| bytes as f64 / f64::from(items) - (KEY_BYTES + value_bytes) as f64;
    Ok(Found {
        per_item: per_item(rss),
        per_item_above_empty: per_item(rss.saturating_sub(empty)),
        cpu: cpu_time(server.pid())?,
    })
}

/// Stores the items 0 to `items` - 1. One turn is under way while the next one is made.
pub(crate) fn store_all(lanes: &mut Lanes<'_>, items: u32) -> Result<(), String> {
    for first in (0..items).step_by(TURN) {
        let keys = first..items.min(first + TURN as u32);
        let requests: Vec<Request> = keys.map(|key| Request::set(key, generation(0, 0))).collect();
        lanes.send(&requests)?;
        lanes.receive(TURN / LANES, |_, _| ())?;
    }
    lanes.receive(0, |_, _| ())
}
