//! The engine alone: no sockets, no threads, one batch after another, and only `Engine::execute` is timed.
//!
//! ```sh
//! cargo bench --bench engine                       # everything, some minutes and 3 GiB of memory
//! cargo bench --bench engine -- --row lookups      # a part of it
//! cargo bench --bench engine -- --smoke            # whether it runs at all
//! ```
//!
//! | row | what it measures |
//! | --- | --- |
//! | `lookups` | processor time of a GET that hits, one that misses, and a SET over an older value, by length of the batch |
//! | `growth` | the longest calls while an empty engine takes all its items |
//! | `full` | the longest calls where every SET evicts, under a look-aside cache's traffic |
//!
//! Every answer is checked, outside of the measured time. The exit status is 1 where one was wrong, 2 where something did
//! not run.

mod bed;
#[path = "../support/histogram.rs"]
#[expect(dead_code, reason = "nothing here runs on several threads, so nothing is merged")]
mod histogram;
#[path = "../support/items.rs"]
mod items;
mod pauses;
#[path = "../support/random.rs"]
mod random;
mod timing;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use memwire::message::Batch;

use crate::bed::{Bed, Kind, missed};
use crate::items::KEY_BYTES;
use crate::pauses::Pauses;
use crate::random::{Random, Zipf};
use crate::timing::cpu_ns;

/// Measures the storage engine alone, in processor time of the thread, and checks every answer.
#[derive(Debug, Parser)]
#[command(name = "engine")]
struct Args {
    /// Only this.
    #[arg(long, value_enum, value_name = "NAME")]
    row: Option<Row>,

    /// Items of `lookups`.
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(64..=200_000_000))]
    items: u32,

    /// Items that `growth` ends with.
    #[arg(long, value_name = "N", default_value_t = 8_000_000, value_parser = clap::value_parser!(u32).range(64..=200_000_000))]
    growth_items: u32,

    /// Operations of each cell of `lookups`, three times.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(64..=1_000_000_000))]
    ops: u32,

    /// Bytes of a value; keys have 16.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=4000))]
    value_bytes: u32,

    /// Memory of the engine in `full`, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=65_536))]
    memory: u32,

    /// Exponent of Zipf's law in `full`.
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99)]
    zipf: f64,

    /// Whether it runs at all: few items, seconds in all.
    #[arg(long)]
    smoke: bool,

    /// cargo gives this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Processor time an operation, by length of the batch.
    Lookups,
    /// The longest calls from no items to all.
    Growth,
    /// The longest calls in a full memory.
    Full,
}

/// Lengths of a batch.
const BATCHES: [usize; 5] = [1, 8, 16, 32, 64];

/// The batch of `growth` and `full`.
const BATCH: usize = 32;

/// Operations between two readings of the clock, which takes as long as an operation.
const OPS_PER_READING: usize = 1024;

const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let mut args = Args::parse();
    // `cargo test --benches` gives no argument at all, and wants to see that it runs.
    if args.smoke || std::env::args_os().len() == 1 {
        args.items = args.items.min(200_000);
        args.growth_items = args.growth_items.min(200_000);
        args.ops = args.ops.min(50_000);
        args.memory = args.memory.min(16);
    }
    match run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} WRONG answers");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("engine: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many answers were wrong.
fn run(args: &Args) -> Result<u64, String> {
    let wants = |row| args.row.is_none_or(|only| only == row);
    let mut wrong = 0;
    if wants(Row::Lookups) {
        wrong += lookups(args)?;
    }
    if wants(Row::Growth) {
        wrong += growth(args)?;
    }
    if wants(Row::Full) {
        wrong += full(args)?;
    }
    Ok(wrong)
}

/// Memory in which `items` are never short of room, also while all of them are overwritten.
fn ample(items: u32, args: &Args) -> usize {
    const OVERHEAD_BYTES_MAX: usize = 110;
    items as usize * (KEY_BYTES + args.value_bytes as usize + OVERHEAD_BYTES_MAX) + (256 << 20)
}

fn lookups(args: &Args) -> Result<u64, String> {
    let mut bed = Bed::new(ample(args.items, args), args.value_bytes as usize)?;
    let (filling, _) = fill(&mut bed, args.items);
    println!(
        "{} items with keys of {KEY_BYTES} B and values of {} B, all there; random keys; ns of CPU an operation, medians \
         of {ROUNDS} times {}; stored at {:.0} ns each\n",
        args.items,
        args.value_bytes,
        args.ops,
        filling.cpu_sum() as f64 / f64::from(args.items)
    );
    let heading: Vec<String> = BATCHES.iter().map(|length| format!("{length:>7} |")).collect();
    println!("| {:<28} | {}", "batches of", heading.join(" "));
    println!("|{:-<30}|{}", "", format!("{:->8}:|", "").repeat(BATCHES.len()));
    let mut random = Random::new(1);
    // SETs last: they are what moves items.
    for (name, kind) in [
        ("GET, hit", Kind::Get),
        ("GET, miss", Kind::Miss),
        ("SET over an older value", Kind::Set { generation: 1 }),
    ] {
        let cells = BATCHES.iter().map(|&length| {
            let mut rounds = [0.0; ROUNDS];
            for round in &mut rounds {
                *round = per_op(&mut bed, kind, length, args, &mut random);
            }
            rounds.sort_by(f64::total_cmp);
            format!("{:>7.0} |", rounds[ROUNDS / 2])
        });
        println!("| {name:<28} | {}", cells.collect::<Vec<String>>().join(" "));
    }
    println!();
    Ok(bed.wrong())
}

/// Nanoseconds of one operation among `args.ops`.
fn per_op(bed: &mut Bed, kind: Kind, length: usize, args: &Args, random: &mut Random) -> f64 {
    let mut batches: Vec<_> = (0..OPS_PER_READING / length).map(|_| Batch::default()).collect();
    let (mut spent, mut done) = (0, 0);
    while done < args.ops as usize {
        for batch in &mut batches {
            bed.fill(batch, kind, (0..length).map(|_| random.below(args.items)));
        }
        let begin = cpu_ns();
        for batch in &mut batches {
            bed.execute(batch);
        }
        spent += cpu_ns() - begin;
        done += batches.len() * length;
        for batch in &batches {
            bed.check(batch, kind);
        }
    }
    spent as f64 / done as f64
}

/// Stores the items 0 to `items` - 1, each call timed. The second figure is the items that are there at the end.
fn fill(bed: &mut Bed, items: u32) -> (Pauses, u64) {
    let mut pauses = Pauses::new();
    let mut batch = Batch::default();
    let kind = Kind::Set { generation: 0 };
    for first in (0..items).step_by(BATCH) {
        bed.fill(&mut batch, kind, first..items.min(first + BATCH as u32));
        pauses.time(|| bed.execute(&mut batch));
        bed.check(&batch, kind);
    }
    (pauses, bed.item_count())
}

fn growth(args: &Args) -> Result<u64, String> {
    let items = args.growth_items;
    let mut bed = Bed::new(ample(items, args), args.value_bytes as usize)?;
    let (pauses, stored) = fill(&mut bed, items);
    if stored != u64::from(items) {
        return Err(format!("growth: {stored} of {items} items are there"));
    }
    println!(
        "Growth from 0 to {items} items with values of {} B, batches of {BATCH} SETs; us a call\n",
        args.value_bytes
    );
    Pauses::print_heading();
    pauses.print(&format!("growth, {:.0} ns a SET", pauses.cpu_sum() as f64 / f64::from(items)));
    pauses.of_the_clock().print("the clock, around as much idle work");
    println!();
    Ok(bed.wrong())
}

/// GETs by Zipf's law, in batches; what has missed is stored, in batches. The keys would need ten times the memory.
fn full(args: &Args) -> Result<u64, String> {
    let memory = (args.memory as usize) << 20;
    let keys = (memory * 10 / (KEY_BYTES + args.value_bytes as usize)) as u32;
    let mut bed = Bed::new(memory, args.value_bytes as usize)?;
    let zipf = Zipf::new(keys, args.zipf);
    let mut random = Random::new(2);
    let mut batch = Batch::default();
    let (get, set) = (Kind::Lookaside, Kind::Set { generation: 0 });
    let mut absent: Vec<u32> = Vec::new();
    let (mut gets, mut sets) = (Pauses::new(), Pauses::new());
    let (mut hits, mut asked) = (0, 0);
    // It is full after as many SETs as there is room for, and steady after as many again.
    let room = keys / 10;
    let (mut stored, warm, end) = (0, 2 * room, 4 * room);
    while stored < end {
        bed.fill(&mut batch, get, (0..BATCH).map(|_| zipf.rank(&mut random)));
        if stored < warm {
            bed.execute(&mut batch);
        } else {
            gets.time(|| bed.execute(&mut batch));
            asked += BATCH;
        }
        bed.check(&batch, get);
        let absent_before = absent.len();
        absent.extend(missed(&batch));
        if stored >= warm {
            hits += BATCH - (absent.len() - absent_before);
        }
        if absent.len() >= BATCH {
            bed.fill(&mut batch, set, absent.drain(..BATCH));
            if stored < warm {
                bed.execute(&mut batch);
            } else {
                sets.time(|| bed.execute(&mut batch));
            }
            bed.check(&batch, set);
            stored += BATCH as u32;
        }
    }
    println!(
        "Full memory of {} MiB, look-aside cache of {keys} keys by Zipf's law ({}), {:.1}% hits, {} items there; batches of \
         {BATCH}; us a call\n",
        args.memory,
        args.zipf,
        100.0 * hits as f64 / asked.max(1) as f64,
        bed.item_count()
    );
    Pauses::print_heading();
    sets.print(&format!("SETs that evict, {:.0} ns each", sets.cpu_mean() / BATCH as f64));
    gets.print(&format!("GETs, {:.0} ns each", gets.cpu_mean() / BATCH as f64));
    sets.of_the_clock().print("the clock, around as much idle work");
    println!();
    Ok(bed.wrong())
}
