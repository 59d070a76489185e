//! A load generator for memcached servers that checks every answer.
//!
//! ```sh
//! cargo bench --bench load                                     # memwire against memcached, a table
//! cargo bench --bench load -- --smoke                          # the same, a tenth of a second a cell
//! cargo bench --bench load -- --server localhost:11211         # GETs on a server that is running
//! cargo bench --bench load -- --help
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | `workload` | which requests, keys and values; what the right answer is |
//! | `client` | one connection |
//! | `drive` | the event loop over all connections, closed or open |
//! | `versus` | the table |
//! | `support/items` | keys and the bytes of their values |
//! | `support/random` | random numbers, Zipf's law |
//! | `support/syntax` | how a protocol writes a request and reads an answer |
//! | `support/histogram` | latencies |
//! | `support/server` | starting and stopping servers, processor time |
//!
//! The exit status is 1 where an answer was wrong, 2 where something did not run.

mod client;
mod drive;
#[path = "../support/histogram.rs"]
mod histogram;
#[path = "../support/items.rs"]
mod items;
mod pace;
mod probe;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
#[expect(dead_code, reason = "no redis here")]
mod server;
#[path = "../support/signals.rs"]
mod signals;
#[path = "../support/syntax/mod.rs"]
mod syntax;
mod versus;
mod workload;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::drive::{Plan, Report};
use crate::syntax::Protocol;
use crate::workload::{Mix, Popularity, Values, Workload};

/// Measures memcached servers on this machine, and checks every answer.
///
/// Without --server: starts memwire and, where it is installed, memcached, and prints a table of workloads.
/// With --server: one workload on a server that is running. Its keys are stored first.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Args {
    /// Measured time, of each cell in the table.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    seconds: Duration,

    /// Time before that in which nothing is counted.
    #[arg(long, value_name = "SECONDS", default_value = "0.2", value_parser = parse_seconds)]
    warm_up: Duration,

    /// Threads of the generator.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,

    /// Keep the generator, and the servers that it starts, on this one core.
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// Whether it runs at all: a tenth of a second, few keys, one run of each server.
    #[arg(long)]
    smoke: bool,

    #[command(flatten)]
    table: TableArgs,

    #[command(flatten)]
    one: OneArgs,

    /// cargo gives this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The table")]
#[group(conflicts_with = "server")]
struct TableArgs {
    /// Make the table, although that is what happens without --server anyway.
    #[arg(long)]
    versus: bool,

    /// Runs of each server in a row.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: u32,

    /// Only the rows whose name holds this.
    #[arg(long, value_name = "TEXT")]
    row: Option<String>,

    /// More options for memwire, separated by spaces.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    memwire: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "One workload")]
#[group(requires = "server")]
struct OneArgs {
    /// The server to measure, on loopback.
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,

    /// Its process, to report the processor time it needs.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// How to ask: any memcached has the first three, redis has the last.
    #[arg(long, value_enum, default_value = "binary")]
    protocol: Protocol,

    /// What to ask.
    #[arg(long, value_enum, default_value = "get")]
    workload: WorkloadName,

    /// Of the workload `mix`: so many SETs for so many GETs.
    #[arg(long, value_name = "SETS:GETS", default_value = "1:10", value_parser = parse_ratio)]
    ratio: (u32, u32),

    /// Of the workload `batch`: so many gets in each.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,

    /// Connections, all at the same time.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,

    /// Requests (or batches) under way on each connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    depth: u32,

    /// Requests (or batches) a second: an open loop, latency counted from when a request was due. Connections at their
    /// depth make requests late.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    rate: Option<u32>,

    /// Keys, of 16 bytes.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    keys: u32,

    /// Do not store the keys first.
    #[arg(long)]
    no_preload: bool,

    /// Bytes of a value, or a range of them.
    #[arg(long, value_name = "N|A-B", default_value = "100", value_parser = parse_sizes)]
    value_bytes: (usize, usize),

    /// Popularity of keys by Zipf's law with this exponent (0.99 is usual), instead of all alike.
    #[arg(long, value_name = "EXPONENT", value_parser = parse_exponent)]
    zipf: Option<f64>,

    /// End after so many requests, if that is earlier. Nothing is warmed up then.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WorkloadName {
    Get,
    Set,
    /// SETs and GETs in random order: --ratio.
    Mix,
    /// Many gets as one (GETKQ and NOOP, get of many keys, mg and mn, MGET): --batch.
    Batch,
}

/// What a run may keep in memory of requests under way, over all connections.
const WAITING_MAX: u64 = 4_000_000;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} WRONG answers");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many answers were wrong.
fn run(args: &Args) -> Result<u64, String> {
    signals::note().map_err(|error| format!("cannot wait for signals: {error}"))?;
    if let Some(cpu) = args.pin {
        server::pin_to(cpu)?;
    }
    match &args.one.server {
        Some(name) => run_one(args, loopback_address(name)?),
        None => run_table(args),
    }
}

fn run_table(args: &Args) -> Result<u64, String> {
    let memwire_options = args.table.memwire.as_deref().unwrap_or_default();
    let findings = versus::run(&versus::Settings {
        time: args.time(),
        warm_up: args.warm_up_time(),
        rounds: if args.is_smoke() { 1 } else { args.table.pairs as usize },
        threads: args.threads as usize,
        only: args.table.row.clone(),
        key_count_max: if args.is_smoke() { 1000 } else { u32::MAX },
        memwire_options: memwire_options.split_whitespace().map(str::to_owned).collect(),
        pinned_to: args.pin,
    })?;
    if findings.wrong == 0 && findings.failures > 0 {
        return Err(format!("{} servers or runs failed", findings.failures));
    }
    Ok(findings.wrong)
}

fn run_one(args: &Args, address: SocketAddr) -> Result<u64, String> {
    let one = &args.one;
    let workload = workload_of(one);
    let per_turn = if let Mix::Batch { gets } = workload.mix { u64::from(gets) + 1 } else { 1 };
    let waiting = u64::from(one.connections) * u64::from(one.depth) * per_turn;
    if waiting > WAITING_MAX {
        return Err(format!(
            "connections x depth x batch is {waiting} requests under way, limit is {WAITING_MAX}"
        ));
    }
    if !one.no_preload {
        drive::preload(address, &workload, one.protocol)?;
    }
    let plan = Plan {
        address,
        connections: one.connections as usize,
        depth: one.depth as usize,
        threads: args.threads as usize,
        warm_up: args.warm_up_time(),
        time_max: args.time(),
        requests_max: one.requests,
        rate: one.rate,
        patience: drive::PATIENCE,
        server_pid: one.server_pid,
    };
    let report = drive::run(&plan, &workload, one.protocol)?;
    print_report(&plan, &workload, &report);
    Ok(report.tally.wrong)
}

fn workload_of(args: &OneArgs) -> Workload {
    Workload {
        mix: match args.workload {
            WorkloadName::Get => Mix::Get,
            WorkloadName::Set => Mix::Set,
            WorkloadName::Mix => Mix::Ratio { sets: args.ratio.0, gets: args.ratio.1 },
            WorkloadName::Batch => Mix::Batch { gets: args.batch },
        },
        popularity: match args.zipf {
            Some(exponent) => Popularity::Zipf { exponent },
            None => Popularity::Uniform,
        },
        key_count: args.keys,
        values: Values::new(args.value_bytes.0..=args.value_bytes.1),
    }
}

impl Args {
    /// `cargo test --benches` gives no argument at all, and wants to see that it runs.
    fn is_smoke(&self) -> bool {
        self.smoke || std::env::args_os().len() == 1
    }

    fn time(&self) -> Duration {
        if self.is_smoke() { Duration::from_millis(100) } else { self.seconds }
    }

    fn warm_up_time(&self) -> Duration {
        if self.is_smoke() { Duration::from_millis(10) } else { self.warm_up }
    }
}

fn print_report(plan: &Plan, workload: &Workload, report: &Report) {
    let tally = &report.tally;
    let sizes = workload.values.sizes();
    println!(
        "{:?}, keys: {:?} of {}, values: {} to {} B, connections: {}, depth: {}, threads: {}",
        workload.mix,
        workload.popularity,
        workload.key_count,
        sizes.start(),
        sizes.end(),
        plan.connections,
        plan.depth,
        plan.threads
    );
    println!(
        "throughput   {:.0} requests/s, {:.1} MB/s of values; {} requests in {:.3} s",
        report.requests_per_second(),
        report.value_bytes_per_second() / 1e6,
        tally.requests(),
        report.elapsed.as_secs_f64()
    );
    if let Some(rate) = plan.rate {
        println!("intended     {rate} requests or batches/s; latency counts from when each was due");
    }
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    println!(
        "latency      p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, max {:.1} us",
        us(tally.latency.quantile(0.5)),
        us(tally.latency.quantile(0.99)),
        us(tally.latency.quantile(0.999)),
        us(tally.latency.max())
    );
    println!(
        "answers      {} hits, {} misses, {} stored, {} wrong",
        tally.hits, tally.misses, tally.stored, tally.wrong
    );
    if let (Some(cpu), Some(us)) = (report.server_cpu, report.server_cpu_us()) {
        let cores = cpu.as_secs_f64() / report.elapsed.as_secs_f64();
        println!("server CPU   {us:.2} us/request, {:.0}% of a core", cores * 100.0);
    }
    println!(
        "generator    {:.2} us/request, {:.0}% of a core",
        report.own_cpu.as_secs_f64() * 1e6 / tally.requests().max(1) as f64,
        report.own_cores() * 100.0
    );
    if let Some(cores) = report.other_cores() {
        println!("others       {:.0}% of a core", cores * 100.0);
    }
    if let Some(first) = &tally.first_wrong {
        println!("first wrong  {first}");
    }
}

/// An address of this machine: a load generator is a weapon elsewhere.
fn loopback_address(name: &str) -> Result<SocketAddr, String> {
    let mut addresses = name.to_socket_addrs().map_err(|error| format!("--server {name}: {error}"))?;
    let first = addresses.next().ok_or_else(|| format!("--server {name}: no address"))?;
    match addresses.chain([first]).find(|address| !address.ip().is_loopback()) {
        Some(address) => {
            Err(format!("--server {name} is {}, not on loopback: load is for this machine", address.ip()))
        }
        None => Ok(first),
    }
}

fn parse_ratio(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once(':').ok_or("two numbers with a colon between them, 1:10")?;
    let number = |part: &str| match part.parse() {
        Ok(number @ 0..=1_000_000) => Ok(number),
        _ => Err(format!("{part:?} is not a number up to 1000000")),
    };
    match (number(parts.0)?, number(parts.1)?) {
        (0, 0) => Err("one of the two has to be more than 0".to_owned()),
        ratio => Ok(ratio),
    }
}

/// Values up to this size; a server takes no more than 1 GiB, and memcached 1 MiB unless told otherwise.
const VALUE_BYTES_MAX: usize = 64 << 20;

fn parse_sizes(text: &str) -> Result<(usize, usize), String> {
    let number = |part: &str| match part.parse() {
        Ok(number @ 0..=VALUE_BYTES_MAX) => Ok(number),
        _ => Err(format!("{part:?} is not a number up to {VALUE_BYTES_MAX}")),
    };
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (number(least)?, number(most)?) {
        (least, most) if least > most => Err(format!("{least} is more than {most}")),
        sizes => Ok(sizes),
    }
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(exponent @ 0.01..=5.0) => Ok(exponent),
        _ => Err("a number from 0.01 to 5".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.0..=3600.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number up to 3600".to_owned()),
    }
}
