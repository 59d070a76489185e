//! Instructions of a request from its bytes to its answer's, without sockets and threads: session, engine, session.
//!
//! ```sh
//! cargo bench --bench instructions              # a table, half a minute; needs valgrind
//! cargo bench --bench instructions -- --smoke   # whether it runs at all, without valgrind
//! ```
//!
//! valgrind's callgrind counts what this program executes when it does one part more each time: nothing, taking the
//! bytes in, parsing them, executing, wording the answers, noting the latency. The differences, by request, are the same
//! in every run and on every machine with the same compiler, which no time is. They say nothing about memory that has to
//! be waited for.
//!
//! The answers are checked first. A protocol that the server does not have is left out.

mod bed;
#[path = "../support/items.rs"]
mod items;
#[path = "../support/random.rs"]
#[expect(dead_code, reason = "all keys are alike here")]
mod random;
#[path = "../support/server.rs"]
#[expect(dead_code, reason = "no server is started here")]
mod server;
#[path = "../support/syntax/mod.rs"]
#[expect(dead_code, reason = "nothing quiet is asked here")]
mod syntax;

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, ValueEnum};

use crate::bed::{Bed, Kind, Part};
use crate::syntax::Protocol;

/// Counts instructions of a GET and a SET in each protocol, by valgrind's callgrind.
#[derive(Debug, Parser)]
#[command(name = "instructions")]
struct Args {
    /// Only this protocol.
    #[arg(long, value_enum, value_name = "NAME")]
    protocol: Option<Protocol>,

    /// Requests that are counted, of each kind and part.
    #[arg(long, value_name = "N", default_value_t = 19_200, value_parser = clap::value_parser!(u32).range(64..=10_000_000))]
    requests: u32,

    /// Bytes of a value; keys have 16.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    value_bytes: u32,

    /// Whether it runs at all: nothing is counted.
    #[arg(long)]
    smoke: bool,

    /// What is counted. This is how the program starts itself.
    #[arg(long, hide = true, value_enum, requires_all = ["kind", "batch", "protocol"])]
    part: Option<Part>,

    #[arg(long, hide = true, value_enum)]
    kind: Option<Kind>,

    #[arg(long, hide = true)]
    batch: Option<u32>,

    /// cargo gives this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is counted at a time.
#[derive(Debug, Clone, Copy)]
struct Case {
    protocol: Protocol,
    kind: Kind,
    /// Requests that come with one read.
    batch: u32,
}

const BATCHES: [u32; 2] = [1, 32];

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    if let (Some(part), Some(protocol), Some(kind), Some(batch)) =
        (args.part, args.protocol, args.kind, args.batch)
    {
        let case = Case { protocol, kind, batch };
        return perform(case, part, args.requests, args.value_bytes);
    }
    // `cargo test --benches` gives no argument at all, and wants to see that it runs.
    let is_smoke = args.smoke || env::args_os().len() == 1;
    let protocols = Protocol::value_variants().iter().copied();
    let protocols: Vec<Protocol> =
        protocols.filter(|&protocol| args.protocol.is_none_or(|only| only == protocol)).collect();
    if !is_smoke && !has_valgrind() {
        println!("instructions: valgrind is not installed, so nothing is counted.");
        return Ok(());
    }
    if !is_smoke {
        println!(
            "Instructions a request; keys of 16 B, values of {} B; {} requests of each kind\n",
            args.value_bytes, args.requests
        );
        println!("| {:<24} | taken in |  parsed | executed |  worded | measured |     all |", "request");
        println!("|{:-<26}|{:->9}:|{:->8}:|{:->9}:|{:->8}:|{:->9}:|{:->8}:|", "", "", "", "", "", "", "");
    }
    for protocol in protocols {
        match Bed::new(protocol, Kind::Get, 1, args.value_bytes) {
            // The binary protocol is what there is without doubt.
            Err(error) if protocol != Protocol::Binary => {
                println!("{}: left out, {error}", name_of(protocol));
                continue;
            }
            bed => bed.map_err(|error| format!("{}: {error}", name_of(protocol)))?,
        };
        for kind in [Kind::Get, Kind::Set] {
            for batch in BATCHES {
                let case = Case { protocol, kind, batch };
                if is_smoke {
                    perform(case, Part::Word, args.requests.min(640), args.value_bytes)?;
                    println!("{}: runs", case.name());
                } else {
                    print_case(case, args)?;
                }
            }
        }
    }
    Ok(())
}

/// Does so much of every request as `part` says.
fn perform(case: Case, part: Part, requests: u32, value_bytes: u32) -> Result<(), String> {
    let bed = Bed::new(case.protocol, case.kind, case.batch, value_bytes);
    let mut bed = bed.map_err(|error| format!("{}: {error}", case.name()))?;
    if part != Part::Nothing {
        (0..requests / case.batch).for_each(|_| bed.round(part));
    }
    Ok(())
}

fn print_case(case: Case, args: &Args) -> Result<(), String> {
    let requests = f64::from(args.requests / case.batch * case.batch);
    let mut counts = Vec::new();
    for part in Part::value_variants() {
        counts.push(count(case, *part, args)? as f64 / requests);
    }
    let steps = counts.windows(2).map(|pair| pair[1] - pair[0]);
    let steps: Vec<f64> = steps.chain([counts[counts.len() - 1] - counts[0]]).collect();
    println!(
        "| {:<24} | {:>8.0} | {:>7.0} | {:>8.0} | {:>7.0} | {:>8.0} | {:>7.0} |",
        case.name(),
        steps[0],
        steps[1],
        steps[2],
        steps[3],
        steps[4],
        steps[5]
    );
    Ok(())
}

/// Instructions of this program when it does so much.
fn count(case: Case, part: Part, args: &Args) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("no path of this program: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for counts: {error}"))?;
    let file = folder.path().join("counts");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(program);
    command.args(["--part", &name_of(part), "--kind", &name_of(case.kind)]);
    command.args(["--protocol", &name_of(case.protocol), "--batch", &case.batch.to_string()]);
    command.args(["--requests", &args.requests.to_string(), "--value-bytes", &args.value_bytes.to_string()]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run valgrind: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "valgrind: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    total_in(&file)
}

/// The line `totals: 1234` at the end of what callgrind writes.
fn total_in(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read the counts: {error}"))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    total
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| "callgrind has counted nothing".to_owned())
}

fn has_valgrind() -> bool {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// As the command line has it.
fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl Case {
    fn name(self) -> String {
        let kind = name_of(self.kind).to_uppercase();
        let batch = if self.batch == 1 { String::new() } else { format!(", {} at once", self.batch) };
        format!("{}: {kind}{batch}", name_of(self.protocol))
    }
}
