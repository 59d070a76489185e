//! Runs a workload: connections on one or more threads, an event loop each, from the first request to the last answer.
//!
//! Closed loop: a connection keeps so many turns under way and sends the next one when an answer has arrived. Open loop:
//! requests are due at fixed times, whatever the server does, and a latency counts from when its request was due. A
//! server that stalls for a second is then seen with a second's worth of late answers, and not with a single one
//! (Tene, 'How NOT to measure latency': coordinated omission). So whatever was due in the measured time is sent, and its
//! latency counted, when that time is over as well.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::client::{Clock, Connection, Shared, Tally};
use crate::pace::Pace;
use crate::probe::Probe;
use crate::random::Random;
use crate::signals;
use crate::stream::Greeting;
use crate::syntax::{Binary, Meta, Protocol, Resp, Syntax, Text};
use crate::workload::{KeyChoice, Workload};

/// How a workload is run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) greeting: Greeting,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    /// What is sent before anything is counted.
    pub(crate) warm_up: Duration,
    /// The measured time ends here.
    pub(crate) time_max: Duration,
    /// It ends here, too; there is no warm-up then.
    pub(crate) requests_max: Option<u64>,
    /// Turns a second, for an open loop.
    pub(crate) rate: Option<u32>,
    /// No answer for this long: the run is given up.
    pub(crate) patience: Duration,
    pub(crate) server_pid: Option<u32>,
}

/// What a run measured.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    /// What the server's process spent in that time, where its id is known.
    pub(crate) server_cpu: Option<Duration>,
    /// What the generator itself spent.
    pub(crate) own_cpu: Duration,
    /// What everything on this machine spent.
    pub(crate) machine_cpu: Duration,
}

impl Report {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.tally.requests() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn value_bytes_per_second(&self) -> f64 {
        self.tally.value_bytes as f64 / self.elapsed.as_secs_f64()
    }

    /// How many cores the generator kept busy.
    pub(crate) fn own_cores(&self) -> f64 {
        self.own_cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// How many cores others kept busy, where the server's process is known: above 0.1 or so the figures are disturbed.
    pub(crate) fn other_cores(&self) -> Option<f64> {
        let ours = self.own_cpu + self.server_cpu?;
        Some(self.machine_cpu.saturating_sub(ours).as_secs_f64() / self.elapsed.as_secs_f64())
    }

    /// Microseconds of the server's CPU a request.
    pub(crate) fn server_cpu_us(&self) -> Option<f64> {
        let cpu = self.server_cpu?;
        Some(cpu.as_secs_f64() * 1e6 / self.tally.requests().max(1) as f64)
    }
}

/// An event loop wakes this often at least, to look at its clock.
const TICK: Duration = Duration::from_millis(50);

/// The patience of a run that is not a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Answers are read into a buffer of this size, which fits the second-level cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Runs `workload` as `plan` says, in `protocol`.
///
/// # Errors
/// Where a connection cannot be opened, breaks, or stalls.
pub(crate) fn run(plan: &Plan, workload: &Workload, protocol: Protocol) -> Result<Report, String> {
    match protocol {
        Protocol::Binary => run_as(plan, workload, Binary),
        Protocol::Text => run_as(plan, workload, Text),
        Protocol::Meta => run_as(plan, workload, Meta),
        Protocol::Resp => run_as(plan, workload, Resp),
    }
}

fn run_as<S: Syntax>(plan: &Plan, workload: &Workload, syntax: S) -> Result<Report, String> {
    let mut connections = Vec::with_capacity(plan.connections);
    for number in 0..plan.connections {
        let connection = Connection::open(plan.address, &plan.greeting, number);
        connections.push(connection.map_err(|error| {
            format!("cannot open connection {} to {}: {error}", number + 1, plan.address)
        })?);
    }
    let threads = plan.threads.clamp(1, plan.connections);
    let mut parts: Vec<Vec<Connection>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, connection) in connections.into_iter().enumerate() {
        parts[number % threads].push(connection);
    }
    let clock = Clock::start();
    let reports = thread::scope(|scope| {
        let running: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(number, connections)| {
                let shared = Shared {
                    workload,
                    syntax,
                    keys: KeyChoice::new(workload),
                    random: Random::new(number as u64),
                    clock,
                    tally: Tally::new(),
                };
                scope.spawn(move || Loop::new(plan, number, threads, connections, shared)?.run())
            })
            .collect();
        let joined = running.into_iter().map(|thread| match thread.join() {
            Ok(report) => report,
            Err(_) => Err("a thread of the generator panicked".to_owned()),
        });
        joined.collect::<Result<Vec<Report>, String>>()
    })?;
    let mut reports = reports.into_iter();
    let mut whole = reports.next().ok_or("no threads")?;
    for report in reports {
        whole.tally.merge(&report.tally);
        whole.elapsed = whole.elapsed.max(report.elapsed);
    }
    Ok(whole)
}

/// Stores every key of `workload` once.
///
/// # Errors
/// As [`run`], and where one is not stored.
pub(crate) fn preload(
    address: SocketAddr,
    greeting: Greeting,
    workload: &Workload,
    protocol: Protocol,
) -> Result<(), String> {
    let plan = Plan {
        address,
        greeting,
        connections: 1,
        depth: 64,
        threads: 1,
        warm_up: Duration::ZERO,
        time_max: Duration::from_mins(10),
        requests_max: Some(u64::from(workload.key_count)),
        rate: None,
        patience: PATIENCE,
        server_pid: None,
    };
    let tally = run(&plan, &workload.preload(), protocol)?.tally;
    match tally.first_wrong {
        Some(first) => Err(format!("{} of the keys are not stored: {first}", tally.wrong)),
        None if tally.stored != u64::from(workload.key_count) => {
            Err(format!("only {} keys were stored in time", tally.stored))
        }
        None => Ok(()),
    }
}

/// The timer of an open loop; connections have their numbers.
const TIMER: Token = Token(usize::MAX);

/// The event loop of a thread.
struct Loop<'a, S> {
    plan: &'a Plan,
    shared: Shared<'a, S>,
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    phase: Phase,
    /// Requests that may still be sent.
    requests_left: u64,
    pace: Option<Pace>,
    /// Open loop: which connection comes next.
    next: usize,
    /// Processor time is of the whole process and of the server, so one thread looks at it.
    probe: Option<Probe>,
    last_answer: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp {
        until: u64,
    },
    Measure {
        since: u64,
        until: u64,
    },
    /// Nothing is asked any more but what was due before; what is under way is waited for, and checked, but only
    /// latencies of an open loop are counted.
    Drain {
        since: u64,
    },
}

impl<'a, S: Syntax> Loop<'a, S> {
    fn new(
        plan: &'a Plan,
        number: usize,
        threads: usize,
        mut connections: Vec<Connection>,
        shared: Shared<'a, S>,
    ) -> Result<Self, String> {
        let poll = Poll::new().map_err(|error| format!("cannot make a poll: {error}"))?;
        for (token, connection) in connections.iter_mut().enumerate() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(connection.stream.source(), Token(token), interest)
                .map_err(|error| format!("cannot register a connection: {error}"))?;
        }
        let now = shared.clock.now();
        // The first thread takes what does not divide.
        let share =
            |whole: u64| whole / threads as u64 + if number == 0 { whole % threads as u64 } else { 0 };
        let pace = plan.rate.map(|rate| {
            let interval = 1e9 * threads as f64 / f64::from(rate);
            Pace::new(now, interval, poll.registry(), TIMER)
        });
        let warm_up = if plan.requests_max.is_some() { Duration::ZERO } else { plan.warm_up };
        Ok(Self {
            plan,
            poll,
            connections,
            buffer: vec![0; BUFFER_BYTES],
            phase: Phase::WarmUp { until: now + warm_up.as_nanos() as u64 },
            requests_left: plan.requests_max.map_or(u64::MAX, share),
            pace: pace.transpose().map_err(|error| format!("cannot make a timer: {error}"))?,
            next: 0,
            probe: (number == 0).then(|| Probe::new(plan.server_pid)),
            last_answer: now,
            shared,
        })
    }

    fn run(mut self) -> Result<Report, String> {
        let mut events = Events::with_capacity(1024);
        let mut measured = None;
        self.advance(self.shared.clock.now())?;
        for at in 0..self.connections.len() {
            self.send(at)?;
        }
        loop {
            self.send_due()?;
            match self.poll.poll(&mut events, Some(TICK)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot poll: {error}")),
            }
            let mut has_answers = false;
            for event in &events {
                let Token(at) = event.token();
                let Some(connection) = self.connections.get_mut(at) else { continue };
                if event.is_readable() || event.is_error() {
                    has_answers = true;
                    connection.receive(&mut self.buffer, &mut self.shared)?;
                }
                self.send(at)?;
            }
            let now = self.shared.clock.now();
            if has_answers {
                self.last_answer = now;
            }
            if let Some(report) = self.advance(now)? {
                measured = Some(report);
            }
            if matches!(self.phase, Phase::Drain { .. }) && self.waiting() == 0 && !self.is_late(now) {
                break;
            }
        }
        let mut report = measured.ok_or("the run ended before it was measured")?;
        report.tally.merge_wrong(&self.shared.tally);
        if self.pace.is_some() {
            report.tally.latency.merge(&self.shared.tally.latency);
        }
        Ok(report)
    }

    /// Closed loop: fills a connection up to its depth. Either loop: writes what waits to be written.
    #[inline]
    fn send(&mut self, at: usize) -> Result<(), String> {
        let connection = &mut self.connections[at];
        let depth = match (self.phase, &self.pace) {
            (Phase::WarmUp { .. } | Phase::Measure { .. }, None) => self.plan.depth,
            _ => 0,
        };
        let due = self.shared.clock.now();
        loop {
            while connection.turns() < depth && self.requests_left > 0 && !connection.is_full() {
                let asked = connection.ask(&mut self.shared, due);
                self.requests_left = self.requests_left.saturating_sub(asked);
            }
            connection.flush().map_err(|error| cannot_write(&error))?;
            if connection.is_full() || connection.turns() >= depth || self.requests_left == 0 {
                return Ok(());
            }
        }
    }

    /// Open loop: sends what is due, on one connection after another. Where all are at their depth it waits, and its
    /// latency has begun.
    fn send_due(&mut self) -> Result<(), String> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let now = self.shared.clock.now();
        let count = self.connections.len();
        while let Some(due) = pace.next_due().filter(|&due| due <= now && self.requests_left > 0) {
            let has_room = |at: &usize| {
                self.connections[*at].turns() < self.plan.depth && !self.connections[*at].is_full()
            };
            let next = (0..count).map(|skipped| (self.next + skipped) % count).find(has_room);
            let Some(at) = next else { return Ok(()) };
            let asked = self.connections[at].ask(&mut self.shared, due);
            self.requests_left = self.requests_left.saturating_sub(asked);
            self.connections[at].flush().map_err(|error| cannot_write(&error))?;
            self.next = (at + 1) % count;
            pace.advance();
        }
        pace.set_alarm(now).map_err(|error| format!("cannot set a timer: {error}"))
    }

    /// Open loop: whether something was due and could not be sent.
    fn is_late(&self, now: u64) -> bool {
        self.requests_left > 0 && self.pace.as_ref().is_some_and(|pace| pace.overdue(now) > 0)
    }

    /// Begins and ends the measured time; its report is given once, at its end.
    fn advance(&mut self, now: u64) -> Result<Option<Report>, String> {
        if signals::came() {
            return Err("interrupted".to_owned());
        }
        let patience_ns = self.plan.patience.as_nanos() as u64;
        if now.saturating_sub(self.last_answer) > patience_ns && self.waiting() > 0 {
            return Err(format!(
                "no answer for {} s, {} requests wait for one",
                self.plan.patience.as_secs_f64(),
                self.waiting()
            ));
        }
        if let Phase::Drain { since } = self.phase
            && now.saturating_sub(since) > patience_ns
            && self.is_late(now)
        {
            let overdue = self.pace.as_ref().map_or(0, |pace| pace.overdue(now));
            return Err(format!("the rate is too high: {overdue} turns were due and could not be sent"));
        }
        match self.phase {
            Phase::WarmUp { until } if now >= until => {
                let unmeasured = self.restart_tally();
                self.shared.tally.merge_wrong(&unmeasured);
                if let Some(probe) = &mut self.probe {
                    probe.begin()?;
                }
                let until = now.saturating_add(self.plan.time_max.as_nanos() as u64);
                self.phase = Phase::Measure { since: now, until };
                Ok(None)
            }
            Phase::Measure { since, until } if now >= until || self.is_done() => {
                self.phase = Phase::Drain { since: now };
                if let Some(pace) = &mut self.pace {
                    pace.end_at(until);
                }
                let spent = self.probe.as_ref().map(Probe::end).transpose()?.unwrap_or_default();
                Ok(Some(Report {
                    tally: self.restart_tally(),
                    elapsed: Duration::from_nanos(now - since),
                    server_cpu: spent.server,
                    own_cpu: spent.own,
                    machine_cpu: spent.machine,
                }))
            }
            _ => Ok(None),
        }
    }

    fn is_done(&self) -> bool {
        self.requests_left == 0 && self.waiting() == 0
    }

    fn waiting(&self) -> usize {
        self.connections.iter().map(Connection::waiting).sum()
    }

    fn restart_tally(&mut self) -> Tally {
        std::mem::replace(&mut self.shared.tally, Tally::new())
    }
}

fn cannot_write(error: &io::Error) -> String {
    format!("cannot write: {error}")
}
