//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::syntax::Protocol;
use crate::versus::{Group, Settings};
use crate::workload::{Mix, Popularity, Values, Workload};

/// Measures memcached servers on this machine, and checks every answer.
///
/// Without --server: starts memwire and, where they are installed, memcached and redis, and prints tables of workloads.
/// With --server: one workload on a server that is running. Its keys are stored first.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub(crate) struct Args {
    /// Measured time, of each cell in a table.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,

    /// Time before that in which nothing is counted.
    #[arg(long, value_name = "SECONDS", default_value = "0.2", value_parser = parse_seconds)]
    pub(crate) warm_up: Duration,

    /// Threads of the generator.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,

    /// The core for all that is pinned: the generator and the servers that it starts. Without it, the last one.
    #[arg(long, value_name = "CPU")]
    pub(crate) pin: Option<usize>,

    /// Whether it runs at all: a moment for each cell, few keys, one run of each server.
    #[arg(long)]
    pub(crate) smoke: bool,

    /// Serve as the floor, with values of so many bytes. This is how the program starts itself.
    #[arg(long, hide = true, value_name = "A-B", value_parser = parse_sizes)]
    pub(crate) floor: Option<(usize, usize)>,

    /// Use a core. This is how the program starts itself.
    #[arg(long, hide = true)]
    pub(crate) neighbour: bool,

    #[command(flatten)]
    pub(crate) table: TableArgs,

    #[command(flatten)]
    pub(crate) one: OneArgs,

    /// cargo gives this to every benchmark.
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The tables")]
#[group(conflicts_with = "server")]
pub(crate) struct TableArgs {
    /// Only these tables.
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    pub(crate) group: Vec<Group>,

    /// Runs of each server in a row.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) pairs: u32,

    /// Only the rows whose name holds this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) row: Option<String>,

    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw the ratios into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// More options for memwire, separated by spaces.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub(crate) memwire: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "One workload")]
#[group(requires = "server")]
pub(crate) struct OneArgs {
    /// The server to measure, on loopback.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,

    /// Its process, to report the processor time it needs.
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// Ask over TLS, and trust the certificates in this file, in PEM. The server's is for `localhost`.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls: Option<PathBuf>,

    /// How to ask: any memcached has the first three, redis has the last.
    #[arg(long, value_enum, default_value = "binary")]
    pub(crate) protocol: Protocol,

    /// What to ask.
    #[arg(long, value_enum, default_value = "get")]
    pub(crate) workload: WorkloadName,

    /// Of the workload `mix`: so many SETs for so many GETs.
    #[arg(long, value_name = "SETS:GETS", default_value = "1:10", value_parser = parse_ratio)]
    pub(crate) ratio: (u32, u32),

    /// Of the workload `batch`: so many gets in each.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) batch: u32,

    /// Connections, all at the same time.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,

    /// Requests (or batches) under way on each connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) depth: u32,

    /// Requests (or batches) a second: an open loop, latency counted from when a request was due. Connections at their
    /// depth make requests late.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rate: Option<u32>,

    /// Keys, of 16 bytes.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) keys: u32,

    /// Do not store the keys first.
    #[arg(long)]
    pub(crate) no_preload: bool,

    /// Bytes of a value, or a range of them.
    #[arg(long, value_name = "N|A-B", default_value = "100", value_parser = parse_sizes)]
    pub(crate) value_bytes: (usize, usize),

    /// Popularity of keys by Zipf's law with this exponent (0.99 is usual), instead of all alike.
    #[arg(long, value_name = "EXPONENT", value_parser = parse_exponent)]
    pub(crate) zipf: Option<f64>,

    /// End after so many requests, if that is earlier. Nothing is warmed up then.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkloadName {
    Get,
    Set,
    /// SETs and GETs in random order: --ratio.
    Mix,
    /// Many gets as one (GETKQ and NOOP, get of many keys, mg and mn, MGET): --batch.
    Batch,
}

impl Args {
    /// `cargo test --benches` gives no argument at all, and wants to see that it runs.
    pub(crate) fn is_smoke(&self) -> bool {
        self.smoke || std::env::args_os().len() == 1
    }

    pub(crate) fn time(&self) -> Duration {
        if self.is_smoke() { Duration::from_millis(30) } else { self.seconds }
    }

    pub(crate) fn warm_up_time(&self) -> Duration {
        if self.is_smoke() { Duration::from_millis(5) } else { self.warm_up }
    }

    pub(crate) fn settings(&self) -> Settings {
        let table = &self.table;
        let memwire_options = table.memwire.as_deref().unwrap_or_default();
        Settings {
            groups: if table.group.is_empty() {
                Group::value_variants().to_vec()
            } else {
                table.group.clone()
            },
            time: self.time(),
            warm_up: self.warm_up_time(),
            rounds: if self.is_smoke() { 1 } else { table.pairs as usize },
            threads: self.threads as usize,
            only: table.row.clone(),
            key_count_max: if self.is_smoke() { SMOKE_KEYS } else { u32::MAX },
            memwire_options: memwire_options.split_whitespace().map(str::to_owned).collect(),
            cpu: self.pin,
            json: table.json.clone(),
            svg: table.svg.clone(),
        }
    }
}

/// Enough to see whether it runs.
const SMOKE_KEYS: u32 = 40;

impl OneArgs {
    pub(crate) fn workload(&self) -> Workload {
        Workload {
            mix: match self.workload {
                WorkloadName::Get => Mix::Get,
                WorkloadName::Set => Mix::Set,
                WorkloadName::Mix => Mix::Ratio { sets: self.ratio.0, gets: self.ratio.1 },
                WorkloadName::Batch => Mix::Batch { gets: self.batch },
            },
            popularity: match self.zipf {
                Some(exponent) => Popularity::Zipf { exponent },
                None => Popularity::Uniform,
            },
            key_count: self.keys,
            values: Values::new(self.value_bytes.0..=self.value_bytes.1),
        }
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
