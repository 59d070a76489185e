//! What the runs of a server in a row come to, and how servers compare.

use super::rows::{Group, Load, Row};
use crate::drive::Report;
use crate::server::MEMWIRE;

/// The name of the server that stores nothing.
pub(crate) const FLOOR: &str = "floor";

/// A row, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) group: Group,
    pub(crate) row: &'static Row,
    /// Of an open loop.
    pub(crate) rate: Option<u32>,
    pub(crate) cells: Vec<Cell>,
}

/// The runs of one server in a row.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) reports: Vec<Report>,
}

/// Of a figure, round by round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
}

impl Cell {
    pub(crate) fn median(&self, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        median(self.reports.iter().filter_map(figure).collect())
    }

    pub(crate) fn is_memcached(&self) -> bool {
        self.name.starts_with("memcached")
    }

    pub(crate) fn is_memwire(&self) -> bool {
        self.name == MEMWIRE
    }
}

impl Line {
    /// What the row is about, so that more is better: throughput, or how short the latency is.
    pub(crate) fn score(&self, report: &Report) -> f64 {
        match self.row.load {
            Load::Closed => report.requests_per_second(),
            Load::HalfOfMemcached => 1e9 / report.tally.latency.quantile(0.99).max(1) as f64,
        }
    }

    pub(crate) fn memwire(&self) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.is_memwire())
    }

    /// What the others are compared with: the better memcached, and redis where there is none.
    pub(crate) fn yardstick(&self) -> Option<&Cell> {
        let best = |is_one: fn(&Cell) -> bool| {
            let cells = self.cells.iter().filter(|cell| is_one(cell));
            let scored =
                cells.filter_map(|cell| Some((cell.median(|report| Some(self.score(report)))?, cell)));
            scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, cell)| cell)
        };
        best(Cell::is_memcached).or_else(|| best(|cell| !cell.is_memwire() && cell.name != FLOOR))
    }

    /// The score of a server to that of the yardstick.
    pub(crate) fn ratio(&self, cell: &Cell) -> Option<Ratio> {
        ratio(cell, self.yardstick()?, |report| Some(self.score(report)))
    }

    /// memwire's processor time a request to that of the yardstick.
    pub(crate) fn cpu_ratio(&self) -> Option<Ratio> {
        ratio(self.memwire()?, self.yardstick()?, Report::server_cpu_us)
    }
}

/// Round by round.
fn ratio(cell: &Cell, other: &Cell, figure: impl Fn(&Report) -> Option<f64>) -> Option<Ratio> {
    let rounds = cell.reports.iter().zip(&other.reports);
    let ratios = rounds.filter_map(|(report, other)| Some(figure(report)? / figure(other)?));
    let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
    Some(Ratio {
        lowest: ratios.iter().copied().reduce(f64::min)?,
        highest: ratios.iter().copied().reduce(f64::max)?,
        median: median(ratios)?,
    })
}

/// The middle one, of an even number the upper of the two.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
