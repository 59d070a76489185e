//! What a row is compared with, and how.

use std::time::Duration;

use crate::client::Tally;
use crate::drive::Report;
use crate::server::MEMWIRE;
use crate::versus::Group;
use crate::versus::cell::{Cell, FLOOR, Line, Ratio};
use crate::versus::rows::{Load, Row};

/// One second with so many hits, each of which took so long.
fn report(hits: u64, latency: u64) -> Report {
    let mut tally = Tally::new();
    tally.hits = hits;
    (0..hits).for_each(|_| tally.latency.record(latency));
    let second = Duration::from_secs(1);
    Report { tally, elapsed: second, server_cpu: Some(second / 2), own_cpu: second / 4, machine_cpu: second }
}

fn line(row: &'static Row, servers: &[(&str, &[(u64, u64)])]) -> Line {
    let cells = servers.iter().map(|(name, rounds)| Cell {
        name: (*name).to_owned(),
        reports: rounds.iter().map(|&(hits, latency)| report(hits, latency)).collect(),
    });
    Line { group: Group::Pinned, row, rate: None, cells: cells.collect() }
}

fn row(load: Load) -> &'static Row {
    Group::Pinned.rows().iter().find(|row| row.load == load).unwrap()
}

#[test]
fn the_better_memcached_is_what_others_are_compared_with() {
    let line = line(
        row(Load::Closed),
        &[
            (MEMWIRE, &[(300, 9), (100, 9), (200, 9)]),
            ("memcached -t 1", &[(100, 9), (100, 9), (100, 9)]),
            ("memcached -t 4", &[(150, 9), (200, 9), (1, 9)]),
            ("redis", &[(900, 9), (900, 9), (900, 9)]),
            (FLOOR, &[(999, 9), (999, 9), (999, 9)]),
        ],
    );
    assert_eq!(line.yardstick().unwrap().name, "memcached -t 4");
    let ratio = line.ratio(line.memwire().unwrap()).unwrap();
    assert_eq!(ratio, Ratio { median: 2.0, lowest: 0.5, highest: 200.0 });
    // The same time for so many more requests.
    assert_eq!(line.cpu_ratio().unwrap(), Ratio { median: 0.5, lowest: 0.005, highest: 2.0 });
}

#[test]
fn redis_is_where_there_is_no_memcached() {
    let line =
        line(row(Load::Closed), &[(MEMWIRE, &[(300, 9)]), ("redis", &[(100, 9)]), (FLOOR, &[(900, 9)])]);
    assert_eq!(line.yardstick().unwrap().name, "redis");
    assert_eq!(line.ratio(&line.cells[2]), Some(Ratio { median: 9.0, lowest: 9.0, highest: 9.0 }));
}

#[test]
fn a_shorter_latency_is_more() {
    let line = line(
        row(Load::HalfOfMemcached),
        &[(MEMWIRE, &[(100, 20)]), ("memcached -t 1", &[(100, 40)]), ("memcached -t 4", &[(100, 60)])],
    );
    assert_eq!(line.yardstick().unwrap().name, "memcached -t 1");
    let twice = Ratio { median: 2.0, lowest: 2.0, highest: 2.0 };
    assert_eq!(line.ratio(line.memwire().unwrap()), Some(twice));
}

#[test]
fn a_server_that_did_not_run_has_no_ratio() {
    let line = line(row(Load::Closed), &[(MEMWIRE, &[]), ("memcached -t 1", &[(100, 9)])]);
    assert_eq!(line.ratio(line.memwire().unwrap()), None);
    assert_eq!(line.cpu_ratio(), None);
}
