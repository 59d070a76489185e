//! Starts the servers of a row and runs it on each of them, in turn.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::cell::{Cell, FLOOR, Line};
use super::rows::{Group, Load, Row};
use super::strangers::Strangers;
use super::{Findings, Settings};
use crate::certificates::Certificates;
use crate::drive::{self, Plan, Report};
use crate::neighbour::Neighbour;
use crate::server::{Kind, Program, Server};
use crate::signals;
use crate::stream::{Greeting, Login};
use crate::syntax::Protocol;
use crate::workload::{Popularity, Values, Workload};

/// The servers of a group.
#[derive(Debug)]
pub(super) struct Contest<'a> {
    group: Group,
    settings: &'a Settings,
    pub(super) programs: Vec<Program>,
    /// Where servers come with TLS.
    certificates: Option<Certificates>,
    /// Where they ask who one is.
    users: Option<NamedTempFile>,
    /// Held while the group runs.
    _neighbour: Option<Neighbour>,
}

const MEMORY_MIB: u64 = 1024;

impl<'a> Contest<'a> {
    /// memwire first, then the others that are installed; without those that do not start.
    ///
    /// # Errors
    /// Where no server starts.
    pub(super) fn new(group: Group, settings: &'a Settings, findings: &mut Findings) -> Result<Self, String> {
        let neighbour = (group == Group::Neighbour).then(Neighbour::start).transpose();
        let neighbour = neighbour.map_err(|error| format!("no neighbour: {error}"))?;
        let certificates = (group == Group::Tls).then(Certificates::make).transpose()?;
        let mut programs = vec![memwire(settings)];
        let protocol = group.protocol();
        if protocol != Protocol::Resp {
            programs.extend([1, 4].into_iter().filter_map(Program::memcached).map(with_options));
        }
        if matches!(protocol, Protocol::Resp | Protocol::Binary) {
            programs.extend(Program::redis().map(with_options));
        }
        let users = (group == Group::Strangers).then(users).transpose()?;
        if let Some(users) = &users {
            let path = users.path().to_string_lossy().into_owned();
            programs = programs.into_iter().map(|program| program.with(&["-Y", &path])).collect();
        }
        if let Some(certificates) = &certificates {
            programs.retain(Program::has_tls);
            programs = programs
                .into_iter()
                .map(|program| program.with_tls(&certificates.chain(), &certificates.key()))
                .collect();
        } else if protocol == Protocol::Binary {
            programs.push(floor((100, 100))?);
        }
        programs.retain(|program| match Server::start(program) {
            Ok(_) => true,
            Err(error) => {
                println!("{error}; it is left out.\n");
                findings.failures += 1;
                false
            }
        });
        if programs.is_empty() {
            return Err("no server starts".to_owned());
        }
        Ok(Self { group, settings, programs, certificates, users, _neighbour: neighbour })
    }

    pub(super) fn print_programs(&self) {
        for program in &self.programs {
            let version = program.version().unwrap_or_default();
            println!("{}: {version} {}", program.name, program.options.join(" "));
        }
        if !self.programs.iter().any(|program| program.name.starts_with("memcached")) {
            println!("No memcached in this group, or none is installed.");
        }
        println!(
            "generator threads: {}; medians of {} runs of {} s each\n",
            self.settings.threads,
            self.settings.rounds,
            self.settings.time.as_secs_f64()
        );
    }

    /// All rounds of a row.
    pub(super) fn run(&self, row: &'static Row, findings: &mut Findings) -> Line {
        let workload = self.workload(row);
        let mut servers: Vec<Option<Server>> = self
            .programs
            .iter()
            .map(|program| {
                let server = self.start(row, program, &workload);
                kept(server, row, program, findings)
            })
            .collect();
        let cells =
            self.programs.iter().map(|program| Cell { name: program.name.clone(), reports: Vec::new() });
        let mut line = Line { group: self.group, row, rate: None, cells: cells.collect() };
        if row.load == Load::HalfOfMemcached {
            line.rate = Some(self.half_rate(row, &workload, &servers, findings));
        }
        for round in 0..self.settings.rounds {
            let mut order: Vec<usize> = (0..self.programs.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                if signals::came() {
                    return line;
                }
                let (program, Some(server)) = (&self.programs[at], &servers[at]) else { continue };
                let plan = self.plan(row, line.rate, server);
                let strangers = Strangers::begin(server.address(), row.strangers);
                let report = plan.and_then(|plan| drive::run(&plan, &workload, self.protocol(program)));
                drop(strangers);
                if let Some(report) = kept(report, row, program, findings) {
                    count_wrong(&report, row, program, findings);
                    line.cells[at].reports.push(report);
                } else {
                    servers[at] = None;
                }
            }
        }
        line
    }

    fn workload(&self, row: &Row) -> Workload {
        Workload {
            mix: row.mix,
            popularity: Popularity::Uniform,
            key_count: row.key_count.min(self.settings.key_count_max),
            values: Values::new(row.value_bytes.0..=row.value_bytes.1),
        }
    }

    /// The server with all keys stored.
    fn start(&self, row: &Row, program: &Program, workload: &Workload) -> Result<Server, String> {
        let server = match program.kind {
            Kind::Floor => Server::start(&floor(row.value_bytes)?)?,
            Kind::Memcached | Kind::Redis => Server::start(program)?,
        };
        drive::preload(server.address(), self.greeting()?, workload, self.protocol(program))?;
        Ok(server)
    }

    fn greeting(&self) -> Result<Greeting, String> {
        let tls = self.certificates.as_ref().map(Certificates::client).transpose()?;
        Ok(Greeting { tls, login: self.users.as_ref().map(|_| ANN) })
    }

    /// Redis has one protocol only.
    fn protocol(&self, program: &Program) -> Protocol {
        match Protocol::of(program.kind) {
            Protocol::Resp => Protocol::Resp,
            _ => self.group.protocol(),
        }
    }

    /// Half of the requests a second that the better memcached takes; where there is none, memwire.
    fn half_rate(
        &self,
        row: &Row,
        workload: &Workload,
        servers: &[Option<Server>],
        findings: &mut Findings,
    ) -> u32 {
        let has_memcached = self.programs.iter().any(|program| program.name.starts_with("memcached"));
        let mut best: f64 = 0.0;
        for (program, server) in self.programs.iter().zip(servers) {
            let (Some(server), true) = (server, !has_memcached || program.name.starts_with("memcached"))
            else {
                continue;
            };
            let plan = self.plan(row, None, server);
            let report = plan.and_then(|plan| drive::run(&plan, workload, self.protocol(program)));
            if let Some(report) = kept(report, row, program, findings) {
                count_wrong(&report, row, program, findings);
                best = best.max(report.requests_per_second());
            }
            if !has_memcached {
                break;
            }
        }
        ((best / 2.0) as u32).max(1)
    }

    fn plan(&self, row: &Row, rate: Option<u32>, server: &Server) -> Result<Plan, String> {
        Ok(Plan {
            address: server.address(),
            greeting: self.greeting()?,
            connections: row.connections,
            depth: row.depth,
            threads: self.settings.threads,
            warm_up: self.settings.warm_up,
            time_max: self.settings.time,
            requests_max: None,
            rate,
            patience: drive::PATIENCE,
            server_pid: Some(server.pid()),
        })
    }
}

/// A file with the one user.
fn users() -> Result<NamedTempFile, String> {
    let write = || {
        let mut file = NamedTempFile::new()?;
        file.write_all(b"ann:pencil\n")?;
        Ok(file)
    };
    write().map_err(|error: io::Error| format!("no password file: {error}"))
}

/// The user of that file.
const ANN: Login = Login { words: b"set x 0 0 10\r\nann pencil\r\n", answer: b"STORED\r\n" };

fn memwire(settings: &Settings) -> Program {
    let mut program = with_options(Program::memwire());
    program.options.extend(settings.memwire_options.iter().cloned());
    program
}

/// What all have.
fn with_options(program: Program) -> Program {
    let program = program.with_memory(MEMORY_MIB);
    if program.kind == Kind::Memcached { program.with(&["-I", "2m"]) } else { program }
}

/// This program again, which answers from the pattern of the values.
fn floor(value_bytes: (usize, usize)) -> Result<Program, String> {
    let path: PathBuf = env::current_exe().map_err(|error| format!("no path of this program: {error}"))?;
    let program = Program { name: FLOOR.to_owned(), path, options: Vec::new(), kind: Kind::Floor };
    Ok(program.with(&["--floor", &format!("{}-{}", value_bytes.0, value_bytes.1)]))
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
