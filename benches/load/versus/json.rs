//! The results for programs.

use serde_json::{Value, json};

use super::Settings;
use super::cell::{Cell, Line, Ratio};
use super::rows::{Group, Load};
use crate::drive::Report;
use crate::server::Program;

pub(super) fn text(settings: &Settings, cpu: usize, programs: &[Program], lines: &[Line]) -> String {
    let groups: Vec<Value> = settings.groups.iter().map(|&group| of_group(group, lines)).collect();
    let all = json!({
        "seconds": settings.time.as_secs_f64(),
        "rounds": settings.rounds,
        "generator_threads": settings.threads,
        "cpu": cpu,
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "programs": programs.iter().map(of_program).collect::<Vec<Value>>(),
        "groups": groups,
    });
    format!("{all:#}\n")
}

fn of_program(program: &Program) -> Value {
    json!({ "name": program.name, "version": program.version(), "options": program.options })
}

fn of_group(group: Group, lines: &[Line]) -> Value {
    let rows = lines.iter().filter(|line| line.group == group).map(of_row);
    json!({ "name": format!("{group:?}").to_lowercase(), "rows": rows.collect::<Vec<Value>>() })
}

fn of_row(line: &Line) -> Value {
    let servers = line.cells.iter().map(|cell| of_server(line, cell));
    json!({
        "name": line.row.name,
        "connections": line.row.connections,
        "depth": line.row.depth,
        "figure": match line.row.load {
            Load::Closed => "requests_per_second",
            Load::HalfOfMemcached => "p99_us",
        },
        "rate": line.rate,
        "compared_with": line.yardstick().map(|cell| cell.name.as_str()),
        "cpu_ratio": of_ratio(line.cpu_ratio()),
        "servers": servers.collect::<Vec<Value>>(),
    })
}

fn of_server(line: &Line, cell: &Cell) -> Value {
    json!({
        "name": cell.name,
        "ratio": of_ratio(line.ratio(cell)),
        "runs": cell.reports.iter().map(of_run).collect::<Vec<Value>>(),
    })
}

fn of_ratio(ratio: Option<Ratio>) -> Value {
    match ratio {
        Some(Ratio { median, lowest, highest }) => {
            json!({ "median": median, "lowest": lowest, "highest": highest })
        }
        None => Value::Null,
    }
}

fn of_run(report: &Report) -> Value {
    let tally = &report.tally;
    let us = |share: f64| tally.latency.quantile(share) as f64 / 1e3;
    json!({
        "requests_per_second": report.requests_per_second(),
        "value_bytes_per_second": report.value_bytes_per_second(),
        "p50_us": us(0.5),
        "p99_us": us(0.99),
        "p999_us": us(0.999),
        "max_us": tally.latency.max() as f64 / 1e3,
        "latencies": tally.latency.count(),
        "server_cpu_us": report.server_cpu_us(),
        "generator_cpu_us": report.own_cpu.as_secs_f64() * 1e6 / tally.requests().max(1) as f64,
        "other_cores": report.other_cores(),
        "hits": tally.hits,
        "misses": tally.misses,
        "stored": tally.stored,
        "wrong": tally.wrong,
    })
}
