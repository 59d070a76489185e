//! GETs of one key while another client makes the store grow.
//!
//! Both are open loops: SETs come at a rate that every server sustains, GETs at their own. A GET that waits for the one
//! before it counts from when it was due; one that the generator itself sends late, because it overslept, from when it
//! was sent. The last column counts all from when they were due.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;

use crate::contents::{Contents, Sizes, generation};
use crate::histogram::Histogram;
use crate::lanes::{Lanes, Request, Tally};
use crate::overhead::store_all;
use crate::server::{Program, Server, cpu_time};
use crate::syntax::Protocol;
use crate::table::{Table, median};
use crate::{Bench, probe};

const GETS_PER_SECOND: u64 = 2000;
const SETS_LANES: usize = 4;
const MEMORY_MIB: u64 = 4096;
const VALUE_BYTES: usize = 100;

/// SETs that are due are sent this often.
const TICK: Duration = Duration::from_millis(1);

/// After a stall not all GETs that are due are sent at once.
const GETS_AT_ONCE_MAX: u64 = 1024;

/// Nor all SETs.
const SETS_PER_TICK_MAX: u64 = 4096;

/// The key that is read. It is not among those that are written.
const HOT_KEY: u32 = u32::MAX;

struct Found {
    from_due: Histogram,
    latency: Histogram,
    sets_per_second: f64,
    cpu: Duration,
}

pub(crate) fn run(bench: &mut Bench, items: u32, rate: Option<u32>, pairs: u32) -> Result<(), String> {
    let mut programs = bench.programs(1);
    programs.extend(bench.programs(4).into_iter().skip(1));
    let programs: Vec<Program> =
        programs.into_iter().map(|program| program.with_memory(MEMORY_MIB)).collect();
    let contents = Contents::new(&[Sizes::Exactly(VALUE_BYTES)]);
    let rate = match rate {
        Some(rate) => u64::from(rate),
        None => sustainable(bench, &programs, &contents, items.min(1_000_000))? * 6 / 10,
    };
    println!(
        "GETs of one key, {GETS_PER_SECOND} a second, while the store grows from 0 to {items} items with values of {VALUE_BYTES} B, \
         {rate} SETs a second on {SETS_LANES} connections; us, medians of {pairs} runs\n"
    );
    let mut found: Vec<Vec<Found>> = programs.iter().map(|_| Vec::new()).collect();
    for pair in 0..pairs {
        let mut order: Vec<usize> = (0..programs.len()).collect();
        if pair % 2 == 1 {
            order.reverse();
        }
        for at in order {
            found[at].push(measure(bench, &programs[at], &contents, items, rate)?);
        }
    }
    let heading = ["server", "p50", "p99", "p99.9", "p99.99", "max", "p99.99 from due", "SETs/s", "CPU s"];
    let mut table = Table::new(&heading);
    for (program, runs) in programs.iter().zip(&found) {
        let middle = |figure: &dyn Fn(&Found) -> f64| median(runs.iter().map(figure).collect());
        let us = |figure: &dyn Fn(&Found) -> u64| {
            format!("{:.0}", middle(&|found| figure(found) as f64 / 1e3).unwrap_or_default())
        };
        let quantile = |share: f64| us(&|found| found.latency.quantile(share));
        table.push(vec![
            program.name.clone(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(0.9999),
            us(&|found| found.latency.max()),
            us(&|found| found.from_due.quantile(0.9999)),
            format!("{:.0}", middle(&|found| found.sets_per_second).unwrap_or_default()),
            format!("{:.1}", middle(&|found| found.cpu.as_secs_f64()).unwrap_or_default()),
        ]);
    }
    table.print();
    Ok(())
}

/// SETs a second that the slowest of all takes.
fn sustainable(
    bench: &mut Bench,
    programs: &[Program],
    contents: &Contents,
    items: u32,
) -> Result<u64, String> {
    let mut slowest = u64::MAX;
    for program in programs {
        let server = Server::start(program)?;
        let mut lanes = Lanes::open(server.address(), Protocol::of(program.kind), SETS_LANES, contents)?;
        let begin = Instant::now();
        store_all(&mut lanes, items)?;
        slowest = slowest.min((f64::from(items) / begin.elapsed().as_secs_f64()) as u64);
        bench.count(program, &lanes.tally);
    }
    Ok(slowest)
}

fn measure(
    bench: &mut Bench,
    program: &Program,
    contents: &Contents,
    items: u32,
    rate: u64,
) -> Result<Found, String> {
    let protocol = Protocol::of(program.kind);
    let server = Server::start(program)?;
    let ends = AtomicBool::new(false);
    let (gets, sets, elapsed) = thread::scope(|scope| {
        let gets = scope.spawn(|| read(server.address(), protocol, contents, &ends));
        let begin = Instant::now();
        let sets = grow(server.address(), protocol, contents, items, rate);
        let elapsed = begin.elapsed();
        ends.store(true, Ordering::Relaxed);
        let gets = gets.join().unwrap_or_else(|_| Err("a thread of the generator panicked".to_owned()));
        Ok::<_, String>((gets?, sets?, elapsed))
    })?;
    bench.count(program, &sets);
    bench.count(program, &gets.tally);
    let there = probe::item_count(server.address(), protocol)?;
    if gets.tally.misses > 0 || there != u64::from(items) + 1 {
        return Err(format!(
            "{}: {there} items instead of {items} and one, {} misses of it",
            program.name, gets.tally.misses
        ));
    }
    Ok(Found {
        from_due: gets.from_due,
        latency: gets.latency,
        sets_per_second: f64::from(items) / elapsed.as_secs_f64(),
        cpu: cpu_time(server.pid())?,
    })
}

/// GETs in an open loop.
pub(crate) struct Gets {
    pub(crate) from_due: Histogram,
    pub(crate) latency: Histogram,
    pub(crate) tally: Tally,
}

/// Stores the key and reads it at its rate until the end.
fn read(
    address: SocketAddr,
    protocol: Protocol,
    contents: &Contents,
    ends: &AtomicBool,
) -> Result<Gets, String> {
    let mut lanes = Lanes::open(address, protocol, 1, contents)?;
    lanes.exchange(&[Request::set(HOT_KEY, generation(0, 0))], |_, _| ())?;
    let mut gets = Gets::new();
    gets.read(&mut lanes, GETS_PER_SECOND, || HOT_KEY, || !ends.load(Ordering::Relaxed))?;
    Ok(gets)
}

impl Gets {
    pub(crate) fn new() -> Self {
        Self { from_due: Histogram::new(), latency: Histogram::new(), tally: Tally::default() }
    }

    /// Reads keys at a rate as long as `goes_on` holds.
    ///
    /// # Errors
    /// As [`Lanes::exchange`].
    pub(crate) fn read(
        &mut self,
        lanes: &mut Lanes<'_>,
        per_second: u64,
        mut key: impl FnMut() -> u32,
        goes_on: impl Fn() -> bool,
    ) -> Result<(), String> {
        // A sleep ends within a microsecond or so of its time, and not within 50.
        set_timerslack(1).map_err(|error| format!("cannot set the timer's slack: {error}"))?;
        let begin = Instant::now();
        let (mut sent, mut last_answered) = (0, begin);
        let due = |number: u64| begin + Duration::from_nanos(number * 1_000_000_000 / per_second);
        let mut requests = Vec::new();
        while goes_on() {
            thread::sleep(due(sent).saturating_duration_since(Instant::now()));
            let now = Instant::now();
            // All that became due since the last look go together, or a generator that is kept from running would fall
            // behind for good.
            let until = (sent..sent + GETS_AT_ONCE_MAX).find(|&number| due(number) > now);
            let numbers = sent..until.unwrap_or(sent + GETS_AT_ONCE_MAX);
            requests.clear();
            requests.extend(numbers.clone().map(|_| Request::get(key())));
            lanes.exchange(&requests, |_, _| ())?;
            let answered = Instant::now();
            for number in numbers.clone() {
                let due = due(number);
                self.latency
                    .record((answered - if due < last_answered { due } else { now }).as_nanos() as u64);
                self.from_due.record((answered - due).as_nanos() as u64);
            }
            (sent, last_answered) = (numbers.end, answered);
        }
        self.tally = lanes.tally.clone();
        Ok(())
    }
}

/// Stores the items at `rate` a second.
fn grow(
    address: SocketAddr,
    protocol: Protocol,
    contents: &Contents,
    items: u32,
    rate: u64,
) -> Result<Tally, String> {
    let mut lanes = Lanes::open(address, protocol, SETS_LANES, contents)?;
    let mut requests = Vec::new();
    let (begin, mut sent) = (Instant::now(), 0);
    while sent < u64::from(items) {
        let due = (begin.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
        let until = due.min(sent + SETS_PER_TICK_MAX).min(u64::from(items));
        requests.clear();
        requests.extend((sent..until).map(|key| Request::set(key as u32, generation(0, 0))));
        lanes.exchange(&requests, |_, _| ())?;
        sent = until;
        let next = Duration::from_nanos((sent * 1_000_000_000).div_ceil(rate)) + TICK;
        thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    Ok(lanes.tally)
}
