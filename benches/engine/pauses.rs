//! How long calls took, in processor time and by the wall, and what the clocks themselves add.

use std::hint::black_box;
use std::time::Instant;

use crate::histogram::Histogram;
use crate::random::scramble;
use crate::timing::cpu_ns;

/// The times of many calls.
#[derive(Debug)]
pub(crate) struct Pauses {
    cpu: Histogram,
    wall: Histogram,
    cpu_sum: u64,
    count: u64,
}

const NAME_WIDTH: usize = 36;
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99.9", 0.999), ("p99.99", 0.9999)];

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { cpu: Histogram::new(), wall: Histogram::new(), cpu_sum: 0, count: 0 }
    }

    /// Makes a call and notes its time. The reading of the processor's clock is in both figures.
    #[inline]
    pub(crate) fn time(&mut self, call: impl FnOnce()) {
        let (wall, cpu) = (Instant::now(), cpu_ns());
        call();
        let cpu = cpu_ns() - cpu;
        self.wall.record(wall.elapsed().as_nanos() as u64);
        self.cpu.record(cpu);
        self.cpu_sum += cpu;
        self.count += 1;
    }

    /// Nanoseconds of processor time of all calls.
    pub(crate) fn cpu_sum(&self) -> u64 {
        self.cpu_sum
    }

    /// Nanoseconds of processor time of a call.
    pub(crate) fn cpu_mean(&self) -> f64 {
        self.cpu_sum as f64 / self.count.max(1) as f64
    }

    /// What the clocks show around as many calls that take as long, but touch no memory: interrupts and the host of
    /// a virtual machine make some of these long, too.
    pub(crate) fn of_the_clock(&self) -> Self {
        const TRIAL: u64 = 1_000_000;
        let begin = cpu_ns();
        spin(TRIAL);
        let turns_per_ns = TRIAL as f64 / (cpu_ns() - begin).max(1) as f64;
        let mut empty = Self::new();
        (0..100).for_each(|_| empty.time(|| ()));
        let turns = (self.cpu_mean() - empty.cpu_mean()).max(0.0) * turns_per_ns;
        let mut own = Self::new();
        (0..self.count).for_each(|_| own.time(|| spin(turns as u64)));
        own
    }

    /// The head of a table in microseconds.
    pub(crate) fn print_heading() {
        let mut columns = Vec::new();
        for clock in ["CPU", "wall"] {
            columns.extend(SHARES.iter().map(|(name, _)| format!("{clock} {name}")));
            columns.push(format!("{clock} worst"));
        }
        let heading: Vec<String> = columns.iter().map(|name| format!("{name:>11} |")).collect();
        println!("| {:<NAME_WIDTH$} | {}", "", heading.join(" "));
        println!("|{:-<1$}|{2}", "", NAME_WIDTH + 2, format!("{:->12}:|", "").repeat(columns.len()));
    }

    pub(crate) fn print(&self, name: &str) {
        let us = |nanoseconds: u64| format!("{:>11.1} |", nanoseconds as f64 / 1e3);
        let cells = [&self.cpu, &self.wall].into_iter().flat_map(|times| {
            let shares = SHARES.iter().map(|&(_, share)| us(times.quantile(share)));
            shares.chain([us(times.max())])
        });
        println!("| {name:<NAME_WIDTH$} | {}", cells.collect::<Vec<String>>().join(" "));
    }
}

fn spin(turns: u64) {
    let mut value = 1;
    for _ in 0..turns {
        value = scramble(black_box(value));
    }
    black_box(value);
}
