//! What memory buys, and what it costs: memwire beside memcached and redis, over loopback.
//!
//! ```sh
//! cargo bench --bench memory                       # all rows, a quarter of an hour and 4 GiB of memory
//! cargo bench --bench memory -- --row misses       # one of them
//! cargo bench --bench memory -- --smoke            # whether it runs at all
//! cargo bench --bench memory -- --help
//! ```
//!
//! | row | what it measures |
//! | --- | --- |
//! | `overhead` | resident memory an item, less its key and value |
//! | `shift` | resident memory against `-m` while the sizes of values shift |
//! | `misses` | misses of a look-aside cache at equal `-m`, by Zipf's law and while sizes shift |
//! | `latency` | GETs of one key while another client makes the store grow |
//! | `snapshot` | GETs without and while a snapshot is written, memory meanwhile, and a restart; memwire alone |
//!
//! | module | what it holds |
//! | --- | --- |
//! | `contents` | which value a key has, and how long it is |
//! | `lanes` | connections that are written to and read from in turns; checks every value |
//! | `resp` | RESP beside the binary protocol |
//! | `probe` | resident memory, number of items |
//! | `table` | Markdown |
//!
//! The exit status is 1 where an answer was wrong, 2 where something did not run.

mod contents;
#[path = "../support/histogram.rs"]
#[expect(dead_code, reason = "one thread measures, so nothing is merged")]
mod histogram;
#[path = "../support/items.rs"]
mod items;
mod lanes;
mod latency;
mod misses;
mod overhead;
mod probe;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/server.rs"]
#[expect(dead_code, reason = "figures of the generator and of the machine are not shown here")]
mod server;
mod shift;
#[path = "../support/signals.rs"]
mod signals;
mod snapshot;
#[path = "../support/syntax/mod.rs"]
#[expect(dead_code, reason = "nothing quiet is asked here")]
mod syntax;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use crate::server::Program;

/// Measures memory, misses and growth of memwire beside memcached and redis, where these are installed, and checks every
/// value that is read.
///
/// Each row starts servers of its own, on loopback, and stops them. Tables are in Markdown.
#[derive(Debug, Parser)]
#[command(name = "memory")]
struct Args {
    /// Only this; may be given several times.
    #[arg(long, value_enum, value_name = "NAME")]
    row: Vec<Row>,

    /// Runs of each server, in turns; medians are shown. [default: 3 of latency and snapshot, 1 of misses]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pairs: Option<u32>,

    /// Items of `overhead`.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    items: u32,

    /// `-m` of `shift`.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    memory: u32,

    /// What each phase of `shift` writes, in shares of its memory.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,

    /// Keys and values of `misses`; the cache is a tenth of it.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(640..=65_536))]
    data: u32,

    /// Items that `latency` ends with.
    #[arg(long, value_name = "N", default_value_t = 8_000_000, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    growth_items: u32,

    /// SETs a second of `latency`. [default: 60% of what the slowest server takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    rate: Option<u32>,

    /// Bytes of the file of `snapshot`; in memory it is a tenth more.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    snapshot: u32,

    /// GETs a second of `snapshot`.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    gets: u32,

    /// Where the file of `snapshot` is written. [default: cargo's folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// More options for memwire, separated by spaces.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    memwire: Option<String>,

    /// Whether it runs at all: little of everything, seconds in all.
    #[arg(long)]
    smoke: bool,

    /// cargo gives this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Resident memory an item, less its key and value.
    Overhead,
    /// Resident memory against `-m` while the sizes of values shift.
    Shift,
    /// Misses of a look-aside cache at equal `-m`.
    Misses,
    /// GETs of one key while the store grows.
    Latency,
    /// GETs without and while a snapshot is written, and a restart.
    Snapshot,
}

/// Connections of everything that fills or reads a server.
const LANES: usize = 8;

/// Requests of a turn over all connections: 32 deep on each.
const TURN: usize = LANES * 32;

/// Which servers a row may start, and what was wrong with their answers.
#[derive(Debug)]
struct Bench {
    memwire_options: Vec<String>,
    wrong: u64,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    // `cargo test --benches` gives no argument at all, and wants to see that it runs.
    if args.smoke || std::env::args_os().len() == 1 {
        args.items = args.items.min(20_000);
        args.memory = args.memory.min(16);
        args.turns = 1;
        args.data = 32;
        args.growth_items = args.growth_items.min(20_000);
        args.snapshot = args.snapshot.min(4);
        args.rate = Some(args.rate.unwrap_or(40_000));
        args.pairs = Some(1);
    }
    match run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} WRONG answers");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("memory: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many answers were wrong.
fn run(args: &Args) -> Result<u64, String> {
    signals::note().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let options = args.memwire.as_deref().unwrap_or_default();
    let mut bench =
        Bench { memwire_options: options.split_whitespace().map(str::to_owned).collect(), wrong: 0 };
    for program in bench.programs(4).iter().chain(&Program::redis()) {
        println!("{}: {}", program.name, program.version().unwrap_or_default());
    }
    println!();
    for &row in Row::value_variants() {
        if !args.row.is_empty() && !args.row.contains(&row) {
            continue;
        }
        let begin = Instant::now();
        match row {
            Row::Overhead => overhead::run(&mut bench, args.items)?,
            Row::Shift => shift::run(&mut bench, args.memory, args.turns)?,
            Row::Misses => misses::run(&mut bench, args.data, args.pairs.unwrap_or(1))?,
            Row::Latency => latency::run(&mut bench, args.growth_items, args.rate, args.pairs.unwrap_or(3))?,
            Row::Snapshot => snapshot::run(&mut bench, args)?,
        }
        println!("({} s)\n", begin.elapsed().as_secs());
    }
    Ok(bench.wrong)
}

impl Bench {
    /// memwire, and memcached where it is installed.
    fn programs(&self, memcached_threads: u32) -> Vec<Program> {
        let options: Vec<&str> = self.memwire_options.iter().map(String::as_str).collect();
        let memwire = Program::memwire().with(&options);
        [memwire].into_iter().chain(Program::memcached(memcached_threads)).collect()
    }

    /// Notes what was wrong in a run of `program`.
    fn count(&mut self, program: &Program, tally: &lanes::Tally) {
        self.wrong += tally.wrong;
        if let Some(first) = &tally.first_wrong {
            eprintln!("{}: {} WRONG answers, the first: {first}", program.name, tally.wrong);
        }
    }
}
