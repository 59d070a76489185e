//! The tables, in Markdown, so that they can be pasted where they are wanted. The last two columns are shares of a core, of
//! the server with the most: a generator that needs a whole core is what was measured, and others disturb.

use std::fmt::Write as _;

use super::cell::{Cell, Line, Ratio};
use super::rows::{KIB, Load};
use crate::drive::Report;
use crate::server::Program;

const NAME_WIDTH: usize = 26;
const RATE_WIDTH: usize = 15;
const RATIO_WIDTH: usize = 18;
const SHARE_WIDTH: usize = 9;

/// Of a column with a figure of each server.
fn list_width(servers: usize) -> usize {
    (servers * 8).saturating_sub(3).max(14)
}

pub(super) fn print_heading(programs: &[Program]) {
    let mut heading = format!("| {:1$} |", "requests/s", NAME_WIDTH);
    let mut rule = format!("|{:-<1$}|", "", NAME_WIDTH + 2);
    let mut column = |name: &str, width: usize| {
        let _ = write!(heading, " {name:>width$} |");
        let _ = write!(rule, "{:->1$}:|", "", width + 1);
    };
    for program in programs {
        column(&program.name, RATE_WIDTH);
    }
    column("to the better", RATIO_WIDTH);
    column("CPU us/request", list_width(programs.len()));
    column("CPU to its", RATIO_WIDTH);
    column("p99 us", list_width(programs.len()));
    column("generator", SHARE_WIDTH);
    column("others", SHARE_WIDTH);
    println!("{heading}\n{rule}");
}

pub(super) fn print(line: &Line) {
    let mut text = format!("| {:1$} |", line.row.name, NAME_WIDTH);
    let mut column = |cell: String, width: usize| {
        let _ = write!(text, " {cell:>width$} |");
    };
    for cell in &line.cells {
        column(headline(line, cell), RATE_WIDTH);
    }
    column(ratio_text(line.memwire().and_then(|cell| line.ratio(cell))), RATIO_WIDTH);
    let list = |figure: fn(&Report) -> Option<f64>| {
        let figures = line.cells.iter().map(|cell| cell.median(figure).map_or("-".to_owned(), three_digits));
        figures.collect::<Vec<String>>().join(" / ")
    };
    let width = list_width(line.cells.len());
    column(list(Report::server_cpu_us), width);
    column(ratio_text(line.cpu_ratio()), RATIO_WIDTH);
    column(list(|report| Some(p99_us(report))), width);
    for cores in [|report: &Report| Some(report.own_cores()), Report::other_cores] {
        let most = line.cells.iter().filter_map(|cell| cell.median(cores)).fold(0.0, f64::max);
        column(format!("{:.0}%", most * 100.0), SHARE_WIDTH);
    }
    println!("{text}");
    if let Some(rate) = line.rate {
        eprintln!("{}: p99 in us at {} requests/s", line.row.name, thousands(f64::from(rate)));
    }
    for cell in &line.cells {
        let misses: u64 = cell.reports.iter().map(|report| report.tally.misses).sum();
        if misses > 0 {
            eprintln!("{}, {}: {misses} misses", line.row.name, cell.name);
        }
    }
}

/// What the row is about.
fn headline(line: &Line, cell: &Cell) -> String {
    let rate = cell.median(|report| Some(report.requests_per_second()));
    let bytes = cell.median(|report| Some(report.value_bytes_per_second()));
    match (line.row.load, rate, bytes) {
        (_, None, _) => "-".to_owned(),
        (Load::HalfOfMemcached, ..) => cell
            .median(|report| Some(p99_us(report)))
            .map_or("-".to_owned(), |us| format!("{} us", three_digits(us))),
        (Load::Closed, Some(rate), Some(bytes)) if line.row.value_bytes.0 >= 10 * KIB => {
            format!("{} {:.2} GB/s", thousands(rate), bytes / 1e9)
        }
        (Load::Closed, Some(rate), _) => thousands(rate),
    }
}

fn p99_us(report: &Report) -> f64 {
    report.tally.latency.quantile(0.99) as f64 / 1e3
}

fn ratio_text(ratio: Option<Ratio>) -> String {
    match ratio {
        Some(Ratio { median, lowest, highest }) => format!("{median:.2} ({lowest:.2}-{highest:.2})"),
        None => "-".to_owned(),
    }
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
