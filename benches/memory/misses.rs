//! Misses of a look-aside cache: what is not there is stored. Every server has the same memory and gets the same requests.
//!
//! memcached moves memory between its classes by the clock, once a second at most, so a run over sizes that shift should
//! not be made much shorter than it is.

use std::time::Duration;

use crate::contents::{Contents, Sizes, generation, phase_of};
use crate::items::KEY_BYTES;
use crate::lanes::{Lanes, Request, Seen, Tally};
use crate::random::{Random, Zipf};
use crate::server::{Program, Server, cpu_time};
use crate::syntax::Protocol;
use crate::table::{Table, median};
use crate::{Bench, LANES, TURN, probe};

/// Twitter's values: half of them are shorter than this.
const STEADY: &[Sizes] = &[Sizes::Lognormal { median: 230.0, sigma: 1.0 }];

const SHIFTING: &[Sizes] =
    &[Sizes::Around(100), Sizes::Around(1024), Sizes::Around(200), Sizes::Around(4096), Sizes::Around(100)];

/// What is played to all servers.
struct Play {
    name: &'static str,
    phases: &'static [Sizes],
    exponent: f64,
    updates: Updates,
}

/// What is stored besides what was missed. Without it popular items would keep the size that they once had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Updates {
    Never,
    /// One key for so many GETs, by the same popularity.
    OneIn(u32),
    /// What was read and is of an earlier phase, as in a trace whose requests have the sizes of their time.
    WhatIsOlder,
}

const PLAYS: &[Play] = &[
    Play { name: "zipf 1.0", phases: STEADY, exponent: 1.0, updates: Updates::Never },
    Play { name: "zipf 0.9", phases: STEADY, exponent: 0.9, updates: Updates::Never },
    Play {
        name: "zipf 1.0, sizes shift, what is read is renewed",
        phases: SHIFTING,
        exponent: 1.0,
        updates: Updates::WhatIsOlder,
    },
    Play {
        name: "zipf 1.0, sizes shift, 1 SET for 10 GETs",
        phases: SHIFTING,
        exponent: 1.0,
        updates: Updates::OneIn(10),
    },
];

/// GETs of each phase for each key; before the first one as many again that are not counted.
const GETS_PER_KEY: u32 = 2;

/// A play with its numbers.
struct Stage {
    contents: Contents,
    keys: u32,
    memory_mib: u64,
}

struct Found {
    /// GETs that were counted, and how many of them missed.
    whole: Gets,
    /// The same of each phase.
    phases: Vec<Gets>,
    /// At the end: a limit does not say what a server takes.
    rss_bytes: u64,
    cpu: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Gets {
    hits: u64,
    misses: u64,
}

pub(crate) fn run(bench: &mut Bench, data_mib: u32, pairs: u32) -> Result<(), String> {
    println!("Misses of a look-aside cache that holds a tenth of the keys and values, -m the same for all\n");
    let programs = bench.programs(4);
    let mut heading = vec!["requests".to_owned(), "keys".to_owned(), "-m".to_owned()];
    heading.extend(programs.iter().map(|program| program.name.clone()));
    heading.extend(["misses, memwire's to memcached's".to_owned(), "RSS MiB".to_owned(), "CPU s".to_owned()]);
    let mut table = Table::new(&heading.iter().map(String::as_str).collect::<Vec<&str>>());
    for play in PLAYS {
        let stage = Stage::of(play, data_mib);
        let mut found: Vec<Vec<Found>> = programs.iter().map(|_| Vec::new()).collect();
        for pair in 0..pairs {
            let mut order: Vec<usize> = (0..programs.len()).collect();
            if pair % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let program = programs[at].clone().with_memory(stage.memory_mib);
                found[at].push(measure(bench, &program, play, &stage, u64::from(pair))?);
            }
        }
        let rss = list(&found, |run| run.rss_bytes as f64 / f64::from(1 << 20));
        let cpu = list(&found, |run| run.cpu.as_secs_f64());
        let mut row = vec![play.name.to_owned(), stage.keys.to_string(), stage.memory_mib.to_string()];
        row.extend(compare(&found, |run| run.whole));
        row.extend([rss, cpu]);
        table.push(row);
        if play.phases.len() > 1 {
            for (number, sizes) in play.phases.iter().enumerate() {
                let mut row = vec![format!("{}. {sizes:?}", number + 1), String::new(), String::new()];
                row.extend(compare(&found, |run| run.phases[number]));
                row.extend([String::new(), String::new()]);
                table.push(row);
            }
        }
    }
    table.print();
    Ok(())
}

/// A figure of all servers.
fn list(found: &[Vec<Found>], figure: impl Fn(&Found) -> f64) -> String {
    let figures = found.iter().map(|runs| {
        let middle = median(runs.iter().map(&figure).collect());
        format!("{:.1}", middle.unwrap_or_default())
    });
    figures.collect::<Vec<String>>().join(" / ")
}

/// Miss ratios of all servers, and of the first to the second. That one is taken within a pair, in which both have had
/// the same requests.
fn compare(found: &[Vec<Found>], gets: impl Fn(&Found) -> Gets) -> Vec<String> {
    let ratios = |runs: &[Found]| -> Vec<f64> { runs.iter().map(|run| gets(run).miss_ratio()).collect() };
    let middle = |ratios| median(ratios).unwrap_or_default();
    let mut cells: Vec<String> = found.iter().map(|runs| format!("{:.4}", middle(ratios(runs)))).collect();
    cells.push(match found {
        [ours, theirs] => {
            let pairs = ratios(ours).into_iter().zip(ratios(theirs));
            format!("{:.3}", middle(pairs.map(|(our, their)| our / their).collect()))
        }
        _ => "-".to_owned(),
    });
    cells
}

impl Gets {
    fn of(tally: &Tally) -> Self {
        Self { hits: tally.hits, misses: tally.misses }
    }

    fn since(self, before: Self) -> Self {
        Self { hits: self.hits - before.hits, misses: self.misses - before.misses }
    }

    fn miss_ratio(self) -> f64 {
        self.misses as f64 / (self.hits + self.misses).max(1) as f64
    }
}

impl Stage {
    /// As many keys as make up the data, all phases taken together.
    fn of(play: &Play, data_mib: u32) -> Self {
        const SAMPLE: u32 = 100_000;
        let contents = Contents::new(play.phases);
        let phases = contents.phase_count();
        let item_bytes = |key: u32| -> u64 {
            let lens = (0..phases).filter_map(|phase| contents.len(key, phase));
            lens.map(|len| (KEY_BYTES + len) as u64).sum()
        };
        let bytes_of = |keys: u32| (0..keys).map(item_bytes).sum::<u64>() / u64::from(phases);
        let data = u64::from(data_mib) << 20;
        let keys = (data * u64::from(SAMPLE) / bytes_of(SAMPLE)) as u32;
        let memory_mib = (bytes_of(keys) as f64 / 10.0 / f64::from(1 << 20)).round() as u64;
        Self { keys, memory_mib: memory_mib.max(1), contents }
    }
}

fn measure(
    bench: &mut Bench,
    program: &Program,
    play: &Play,
    stage: &Stage,
    seed: u64,
) -> Result<Found, String> {
    let server = Server::start(program)?;
    let mut lanes = Lanes::open(server.address(), Protocol::of(program.kind), LANES, &stage.contents)?;
    let zipf = Zipf::new(stage.keys, play.exponent);
    let mut random = Random::new(seed);
    let gets = u64::from(stage.keys) * u64::from(GETS_PER_KEY);
    simulate(&mut lanes, play, 0, gets, &zipf, &mut random)?;
    let warm = Gets::of(&lanes.tally);
    let (mut before, mut phases) = (warm, Vec::new());
    for phase in 0..stage.contents.phase_count() {
        simulate(&mut lanes, play, phase, gets, &zipf, &mut random)?;
        let after = Gets::of(&lanes.tally);
        phases.push(after.since(before));
        before = after;
    }
    let tally = &lanes.tally;
    bench.count(program, tally);
    if tally.refused > 0 {
        eprintln!(
            "{}, {}: {} of {} SETs were refused",
            play.name,
            program.name,
            tally.refused,
            tally.requests()
        );
    }
    Ok(Found {
        whole: Gets::of(tally).since(warm),
        phases,
        rss_bytes: probe::rss_bytes(server.pid())?,
        cpu: cpu_time(server.pid())?,
    })
}

/// So many GETs in turns; what a turn has missed is stored in the next one, with the [`Updates`].
fn simulate(
    lanes: &mut Lanes<'_>,
    play: &Play,
    phase: u32,
    gets: u64,
    zipf: &Zipf,
    random: &mut Random,
) -> Result<(), String> {
    let mut requests = Vec::with_capacity(TURN);
    let mut absent: Vec<u32> = Vec::with_capacity(TURN);
    for turn in 0..gets.div_ceil(TURN as u64) {
        requests.clear();
        requests.extend((0..TURN).map(|_| Request::get(zipf.rank(random))));
        absent.clear();
        lanes.exchange(&requests, |request, seen| {
            let is_older = |generation| phase_of(generation) != phase;
            match seen {
                Seen::Miss => absent.push(request.key),
                Seen::Hit { generation } if play.updates == Updates::WhatIsOlder && is_older(generation) => {
                    absent.push(request.key);
                }
                _ => {}
            }
        })?;
        if let Updates::OneIn(one_in) = play.updates {
            absent.extend((0..TURN / one_in as usize).map(|_| zipf.rank(random)));
        }
        // A key that was missed twice in a turn is stored once. They are sorted, so the order is the same everywhere.
        absent.sort_unstable();
        absent.dedup();
        let version = turn as u32;
        requests.clear();
        requests.extend(absent.iter().map(|&key| Request::set(key, generation(phase, version))));
        lanes.exchange(&requests, |_, _| ())?;
    }
    Ok(())
}
