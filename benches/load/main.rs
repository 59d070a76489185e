//! A load generator for memcached servers that checks every answer.
//!
//! ```sh
//! cargo bench --bench load                                     # memwire, memcached, redis: tables, 20 minutes
//! cargo bench --bench load -- --group pinned --row GET         # some of them
//! cargo bench --bench load -- --json FILE --svg FILE           # as data, and as a picture
//! cargo bench --bench load -- --smoke                          # whether it runs at all
//! cargo bench --bench load -- --server localhost:11211         # GETs on a server that is running
//! cargo bench --bench load -- --help
//! ```
//!
//! | module | what it holds |
//! | --- | --- |
//! | `workload` | which requests, keys and values; what the right answer is |
//! | `client`, `stream` | one connection; its socket, with TLS or without |
//! | `drive` | the event loop over all connections, closed or open |
//! | `pace` | when requests of an open loop are due |
//! | `probe` | processor time while it runs |
//! | `versus` | the tables |
//! | `floor` | a server that stores nothing |
//! | `certificates` | those of servers with TLS, and whom the generator trusts |
//! | `neighbour` | a process that takes time away |
//! | `args` | the command line |
//! | `support/items` | keys and the bytes of their values |
//! | `support/random` | random numbers, Zipf's law |
//! | `support/syntax` | how a protocol writes a request and reads an answer |
//! | `support/histogram` | latencies |
//! | `support/server` | starting and stopping servers, processor time |
//!
//! The exit status is 1 where an answer was wrong, 2 where something did not run.

mod args;
mod certificates;
mod client;
mod drive;
mod floor;
#[path = "../support/histogram.rs"]
mod histogram;
#[path = "../support/items.rs"]
mod items;
mod neighbour;
mod pace;
mod probe;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/signals.rs"]
mod signals;
mod stream;
#[path = "../support/syntax/mod.rs"]
mod syntax;
mod versus;
mod workload;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::drive::{Plan, Report};
use crate::stream::Greeting;
use crate::workload::{Mix, Values, Workload};

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
    if args.neighbour {
        neighbour::spin();
        return Ok(0);
    }
    if let Some((least, most)) = args.floor {
        floor::serve(&Values::new(least..=most), floor::tell_port)
            .map_err(|error| format!("the floor: {error}"))?;
        return Ok(0);
    }
    signals::note().map_err(|error| format!("cannot wait for signals: {error}"))?;
    match &args.one.server {
        Some(name) => {
            if let Some(cpu) = args.pin {
                server::pin_to(&cpu.to_string())?;
            }
            run_one(args, loopback_address(name)?)
        }
        None => run_table(args),
    }
}

fn run_table(args: &Args) -> Result<u64, String> {
    let findings = versus::run(&args.settings())?;
    if findings.wrong == 0 && findings.failures > 0 {
        return Err(format!("{} servers or runs failed", findings.failures));
    }
    Ok(findings.wrong)
}

fn run_one(args: &Args, address: SocketAddr) -> Result<u64, String> {
    let one = &args.one;
    let workload = one.workload();
    let per_turn = if let Mix::Batch { gets } = workload.mix { u64::from(gets) + 1 } else { 1 };
    let waiting = u64::from(one.connections) * u64::from(one.depth) * per_turn;
    if waiting > WAITING_MAX {
        return Err(format!(
            "connections x depth x batch is {waiting} requests under way, limit is {WAITING_MAX}"
        ));
    }
    let greeting = Greeting { tls: one.tls.as_deref().map(certificates::trusting).transpose()?, login: None };
    if !one.no_preload {
        drive::preload(address, greeting.clone(), &workload, one.protocol)?;
    }
    let plan = Plan {
        address,
        greeting,
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
