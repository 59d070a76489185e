//! memwire against the memcached of this machine: a table of workloads, each run on all servers in turn.
//!
//! Servers are started afresh for every row, so that no row finds the memory as another one left it. The runs of a row
//! alternate, forwards and backwards, and a ratio is taken within a round: what disturbs the machine for a while
//! disturbs its rounds alike.

use std::fmt::Write as _;
use std::time::Duration;

use crate::drive::{self, Plan, Report};
use crate::server::{MEMWIRE, Program, Server};
use crate::signals;
use crate::syntax::Protocol;
use crate::workload::{Mix, Popularity, Values, Workload};

/// How the table is made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of a cell.
    pub(crate) time: Duration,
    pub(crate) warm_up: Duration,
    /// Runs of each server in a row.
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    /// Rows whose name holds this.
    pub(crate) only: Option<String>,
    /// Keys are cut to so many, where storing them would take longer than reading them.
    pub(crate) key_count_max: u32,
    pub(crate) memwire_options: Vec<String>,
    /// For the heading.
    pub(crate) pinned_to: Option<usize>,
}

/// What the table found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) wrong: u64,
    /// Servers that did not start and runs that broke off.
    pub(crate) failures: u64,
}

struct Row {
    name: &'static str,
    connections: usize,
    depth: usize,
    mix: Mix,
    key_count: u32,
    value_bytes: (usize, usize),
}

const KIB: usize = 1 << 10;

/// Small values where requests are counted, large ones where bytes are.
const ROWS: &[Row] = &[
    row("GET, 1 connection", (1, 1), Mix::Get, 100_000, (100, 100)),
    row("GET, 50 connections", (50, 1), Mix::Get, 100_000, (100, 100)),
    row("GET, 200 connections", (200, 1), Mix::Get, 100_000, (100, 100)),
    row("GET, 8 x 32 deep", (8, 32), Mix::Get, 100_000, (100, 100)),
    row("100 GETKQ + NOOP, 8 conn.", (8, 1), Mix::Batch { gets: 100 }, 100_000, (100, 100)),
    row("SET, 50 connections", (50, 1), Mix::Set, 100_000, (100, 100)),
    row("SET, 8 x 32 deep", (8, 32), Mix::Set, 100_000, (100, 100)),
    row("SET:GET 1:10, 40 conn.", (40, 1), Mix::Ratio { sets: 1, gets: 10 }, 100_000, (32, 500)),
    row("GET 10 KiB, 8 connections", (8, 1), Mix::Get, 4_000, (10 * KIB, 10 * KIB)),
    row("GET 100 KiB, 4 connections", (4, 1), Mix::Get, 400, (100 * KIB, 100 * KIB)),
    row("GET 1 MiB, 2 connections", (2, 1), Mix::Get, 100, (1024 * KIB, 1024 * KIB)),
];

const fn row(
    name: &'static str,
    (connections, depth): (usize, usize),
    mix: Mix,
    key_count: u32,
    value_bytes: (usize, usize),
) -> Row {
    Row { name, connections, depth, mix, key_count, value_bytes }
}

/// Prints the table, a row as soon as it is there.
///
/// # Errors
/// Where there is no server at all or no such row, or the run is interrupted.
pub(crate) fn run(settings: &Settings) -> Result<Findings, String> {
    let only = settings.only.as_deref().unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name.contains(only)).collect();
    if rows.is_empty() {
        return Err(format!("no row has {only:?} in its name"));
    }
    let mut findings = Findings::default();
    let programs = startable(settings, &mut findings)?;
    let table = Table { programs: &programs };
    print_heading(settings, &programs);
    table.print_heading();
    for row in rows {
        let cells = run_row(row, settings, &programs, &mut findings);
        if signals::came() {
            return Err("interrupted".to_owned());
        }
        table.print(row, &cells);
    }
    Ok(findings)
}

/// memwire first, then the memcacheds; without those that do not start.
fn startable(settings: &Settings, findings: &mut Findings) -> Result<Vec<Program>, String> {
    let all_have = ["-m", "1024", "-I", "2m"];
    let mut memwire = Program::memwire().with(&all_have);
    memwire.options.extend(settings.memwire_options.iter().cloned());
    let mut programs = vec![memwire];
    match (Program::memcached(1), Program::memcached(4)) {
        (Some(one), Some(four)) => programs.extend([one.with(&all_have), four.with(&all_have)]),
        _ => println!("memcached is not installed: no comparison, memwire runs alone.\n"),
    }
    programs.retain(|program| match Server::start(program) {
        Ok(_) => true,
        Err(error) => {
            println!("{error}; it is left out.\n");
            findings.failures += 1;
            false
        }
    });
    if programs.is_empty() { Err("no server starts".to_owned()) } else { Ok(programs) }
}

fn print_heading(settings: &Settings, programs: &[Program]) {
    for program in programs {
        let version = program.version().unwrap_or_default();
        println!("{}: {version} {}", program.name, program.options.join(" "));
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let pinned = match settings.pinned_to {
        Some(cpu) => format!("servers and generator pinned to CPU {cpu}"),
        None => format!("nothing pinned, {cores} CPUs"),
    };
    println!(
        "{pinned}; generator threads: {}; medians of {} runs of {} s each\n",
        settings.threads,
        settings.rounds,
        settings.time.as_secs_f64()
    );
}

/// The runs of one server in a row.
#[derive(Debug, Clone, Default)]
struct Cell {
    reports: Vec<Report>,
}

fn run_row(row: &Row, settings: &Settings, programs: &[Program], findings: &mut Findings) -> Vec<Cell> {
    let workload = Workload {
        mix: row.mix,
        popularity: Popularity::Uniform,
        key_count: row.key_count.min(settings.key_count_max),
        values: Values::new(row.value_bytes.0..=row.value_bytes.1),
    };
    let mut servers: Vec<Option<Server>> = programs
        .iter()
        .map(|program| {
            let server = Server::start(program).and_then(|server| {
                drive::preload(server.address(), &workload, Protocol::Binary)?;
                Ok(server)
            });
            kept(server, row, program, findings)
        })
        .collect();
    let mut cells = vec![Cell::default(); programs.len()];
    for round in 0..settings.rounds {
        let mut order: Vec<usize> = (0..programs.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            if signals::came() {
                return cells;
            }
            let Some(server) = &servers[at] else { continue };
            let report = drive::run(&plan(row, settings, server), &workload, Protocol::Binary);
            if let Some(report) = kept(report, row, &programs[at], findings) {
                count_wrong(&report, row, &programs[at], findings);
                cells[at].reports.push(report);
            } else {
                servers[at] = None;
            }
        }
    }
    cells
}

fn plan(row: &Row, settings: &Settings, server: &Server) -> Plan {
    Plan {
        address: server.address(),
        connections: row.connections,
        depth: row.depth,
        threads: settings.threads,
        warm_up: settings.warm_up,
        time_max: settings.time,
        requests_max: None,
        rate: None,
        patience: drive::PATIENCE,
        server_pid: Some(server.pid()),
    }
}

/// What came out, or the failure reported and counted.
fn kept<T>(result: Result<T, String>, row: &Row, program: &Program, findings: &mut Findings) -> Option<T> {
    result
        .inspect_err(|error| {
            findings.failures += 1;
            eprintln!("{}, {}: {error}", row.name, program.name);
        })
        .ok()
}

fn count_wrong(report: &Report, row: &Row, program: &Program, findings: &mut Findings) {
    findings.wrong += report.tally.wrong;
    if let Some(first) = &report.tally.first_wrong {
        eprintln!("{}, {}: {} WRONG answers, the first: {first}", row.name, program.name, report.tally.wrong);
    }
}

/// The columns, in Markdown, so that the table can be pasted where it is wanted. The last two are shares of a core, of the
/// server with the most: a generator that needs a whole core is what was measured, and others disturb.
struct Table<'a> {
    programs: &'a [Program],
}

impl Table<'_> {
    const NAME_WIDTH: usize = 26;
    const RATE_WIDTH: usize = 17;
    const RATIO_WIDTH: usize = 18;
    const LIST_WIDTH: usize = 22;
    const SHARE_WIDTH: usize = 9;

    /// Whether there is a memwire, and something to compare it with.
    fn compares(&self) -> bool {
        self.programs.len() > 1 && self.programs[0].name == MEMWIRE
    }

    fn print_heading(&self) {
        let mut heading = format!("| {:1$} |", "requests/s", Self::NAME_WIDTH);
        let mut rule = format!("|{:-<1$}|", "", Self::NAME_WIDTH + 2);
        let mut column = |name: &str, width: usize| {
            let _ = write!(heading, " {name:>width$} |");
            let _ = write!(rule, "{:->1$}:|", "", width + 1);
        };
        for program in self.programs {
            column(&program.name, Self::RATE_WIDTH);
        }
        if self.compares() {
            column("to the better", Self::RATIO_WIDTH);
        }
        column("CPU us/request", Self::LIST_WIDTH);
        column("p99 us", Self::LIST_WIDTH);
        column("generator", Self::SHARE_WIDTH);
        column("others", Self::SHARE_WIDTH);
        println!("{heading}\n{rule}");
    }

    fn print(&self, row: &Row, cells: &[Cell]) {
        let mut line = format!("| {:1$} |", row.name, Self::NAME_WIDTH);
        let mut column = |text: String, width: usize| {
            let _ = write!(line, " {text:>width$} |");
        };
        for cell in cells {
            column(cell.rate(row), Self::RATE_WIDTH);
        }
        if self.compares() {
            column(ratio(cells).unwrap_or_else(|| "-".to_owned()), Self::RATIO_WIDTH);
        }
        let list = |figure: fn(&Report) -> Option<f64>| {
            let figures = cells.iter().map(|cell| match cell.median(figure) {
                Some(figure) => three_digits(figure),
                None => "-".to_owned(),
            });
            figures.collect::<Vec<String>>().join(" / ")
        };
        column(list(Report::server_cpu_us), Self::LIST_WIDTH);
        column(list(|report| Some(report.tally.latency.quantile(0.99) as f64 / 1e3)), Self::LIST_WIDTH);
        for cores in [|report: &Report| Some(report.own_cores()), Report::other_cores] {
            let most = cells.iter().filter_map(|cell| cell.median(cores)).fold(0.0, f64::max);
            column(format!("{:.0}%", most * 100.0), Self::SHARE_WIDTH);
        }
        println!("{line}");
        for (cell, program) in cells.iter().zip(self.programs) {
            let misses: u64 = cell.reports.iter().map(|report| report.tally.misses).sum();
            if misses > 0 {
                eprintln!("{}, {}: {misses} misses", row.name, program.name);
            }
        }
    }
}

impl Cell {
    fn median(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        median(self.reports.iter().filter_map(figure).collect())
    }

    fn rate(&self, row: &Row) -> String {
        let Some(rate) = self.median(|report| Some(report.requests_per_second())) else {
            return "-".to_owned();
        };
        let bytes = self.median(|report| Some(report.value_bytes_per_second()));
        match bytes {
            Some(bytes) if row.value_bytes.0 >= 10 * KIB => {
                format!("{} {:.2} GB/s", thousands(rate), bytes / 1e9)
            }
            _ => thousands(rate),
        }
    }
}

/// memwire's throughput to that of the better one of the others, round by round: median, lowest, highest.
fn ratio(cells: &[Cell]) -> Option<String> {
    let (first, others) = cells.split_first()?;
    let rates = |cell: &Cell| -> Vec<f64> { cell.reports.iter().map(Report::requests_per_second).collect() };
    let better = others
        .iter()
        .map(rates)
        .filter_map(|rates| Some((median(rates.clone())?, rates)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, rates)| rates)?;
    let ratios: Vec<f64> = rates(first).into_iter().zip(better).map(|(first, other)| first / other).collect();
    let lowest = ratios.iter().copied().reduce(f64::min)?;
    let highest = ratios.iter().copied().reduce(f64::max)?;
    Some(format!("{:.2} ({lowest:.2}-{highest:.2})", median(ratios)?))
}

/// The middle one, of an even number the upper of the two.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn thousands(figure: f64) -> String {
    match figure {
        1e6.. => format!("{:.2}M", figure / 1e6),
        1e4.. => format!("{:.0}k", figure / 1e3),
        1e3.. => format!("{:.1}k", figure / 1e3),
        _ => format!("{figure:.0}"),
    }
}

fn three_digits(figure: f64) -> String {
    match figure {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
