//! memwire beside the memcached and the redis of this machine: tables of workloads, each run on all servers in turn.
//!
//! Servers are started afresh for every row, so that no row finds the memory as another one left it. The runs of a row
//! alternate, forwards and backwards, and a ratio is taken within a round: what disturbs the machine for a while
//! disturbs its rounds alike.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `rows` | the groups and their workloads |
//! | `contest` | servers started, rows run |
//! | `strangers` | who comes and goes meanwhile, in one of the groups |
//! | `cell` | what the runs of a server in a row come to, and the ratio |
//! | `table` | in Markdown |
//! | `json` | for programs |
//! | `chart` | as a picture |

pub(crate) mod cell;
pub(crate) mod chart;
mod contest;
mod json;
pub(crate) mod rows;
mod strangers;
mod table;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use rows::Group;

use crate::server::{self, Program};
use crate::signals;
use cell::Line;
use contest::Contest;

/// How the tables are made.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) groups: Vec<Group>,
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
    /// Where what is pinned is pinned to: a core of this process, the last of them where none is said.
    pub(crate) cpu: Option<usize>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
}

/// What the tables found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) wrong: u64,
    /// Servers that did not start and runs that broke off.
    pub(crate) failures: u64,
}

/// Prints the tables, a row as soon as it is there, and writes the files when all are.
///
/// # Errors
/// Where there is no server at all or no such row, a file cannot be written, or the run is interrupted.
pub(crate) fn run(settings: &Settings) -> Result<Findings, String> {
    let allowed = server::allowed_cpus()?;
    let cpu = settings.cpu.or_else(|| last_in(&allowed)).ok_or("no CPU to pin to")?;
    let mut findings = Findings::default();
    let mut lines: Vec<Line> = Vec::new();
    let mut programs: Vec<Program> = Vec::new();
    let mut pinned_to = allowed.clone();
    for &group in &settings.groups {
        let rows = group.rows().iter();
        let rows: Vec<_> =
            rows.filter(|row| row.name.contains(settings.only.as_deref().unwrap_or_default())).collect();
        if rows.is_empty() {
            continue;
        }
        let cpus = if group.is_pinned() { cpu.to_string() } else { allowed.clone() };
        if cpus != pinned_to {
            server::pin_to(&cpus)?;
            pinned_to = cpus;
        }
        let contest = Contest::new(group, settings, &mut findings)?;
        println!("## {group}{}\n", if group.is_pinned() { format!(", CPU {cpu}") } else { String::new() });
        contest.print_programs();
        table::print_heading(&contest.programs);
        for row in rows {
            let line = contest.run(row, &mut findings);
            if signals::came() {
                return Err("interrupted".to_owned());
            }
            table::print(&line);
            lines.push(line);
        }
        println!();
        for program in contest.programs {
            if programs.iter().all(|known| known.name != program.name) {
                programs.push(program);
            }
        }
    }
    if lines.is_empty() {
        return Err(format!("no row has {:?} in its name", settings.only.as_deref().unwrap_or_default()));
    }
    let write = |file: &Option<PathBuf>, text: &dyn Fn() -> String| match file {
        Some(file) => fs::write(file, text()).map_err(|error| format!("{}: {error}", file.display())),
        None => Ok(()),
    };
    write(&settings.json, &|| json::text(settings, cpu, &programs, &lines))?;
    write(&settings.svg, &|| chart::svg(&chart::bars(&lines)))?;
    Ok(findings)
}

/// The last CPU of a list like `0-3,5`.
fn last_in(list: &str) -> Option<usize> {
    list.rsplit([',', '-']).next()?.trim().parse().ok()
}
