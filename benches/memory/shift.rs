//! Resident memory against the limit while the sizes of values shift.
//!
//! Each phase writes its memory several times over, with values of another length. A fifth of the SETs overwrite an item
//! of this phase or the last one. Beside them a tenth of the items of the first phase is read by Zipf's law, and stored
//! again where it has gone: these live through all phases, scattered over what the others leave. A memory that is cut
//! into pieces by an allocator for one length is then not free for another.

use std::time::Duration;

use crate::contents::{Contents, Sizes, generation};
use crate::items::KEY_BYTES;
use crate::lanes::{Lanes, Request, Seen};
use crate::probe::{self, Sampler};
use crate::random::{Random, Zipf};
use crate::server::{Program, Server, cpu_time};
use crate::syntax::Protocol;
use crate::table::Table;
use crate::{Bench, LANES, TURN};

const PHASES: &[(&str, Sizes)] = &[
    ("100 B", Sizes::Exactly(100)),
    ("1 KiB", Sizes::Exactly(1024)),
    ("200 B", Sizes::Exactly(200)),
    ("mixed", Sizes::Lognormal { median: 200.0, sigma: 1.8 }),
    ("4 KiB", Sizes::Exactly(4096)),
    ("100 B", Sizes::Exactly(100)),
];

/// In the second variant.
const LARGE_ONE_IN: u32 = 2000;
const LARGE_BYTES: usize = 1 << 20;

/// What an item is taken to need besides key and value, so that a phase writes what fills the memory so many times.
const OVERHEAD_BYTES: usize = 50;

const OVERWRITTEN_ONE_IN: u32 = 5;
const HOT_ONE_IN: u32 = 10;

struct Found {
    /// At the end of each phase.
    rss_bytes: Vec<u64>,
    rss_bytes_max: u64,
    items: u64,
    hit_ratio: f64,
    refused: u64,
    cpu: Duration,
}

pub(crate) fn run(bench: &mut Bench, memory_mib: u32, turns: u32) -> Result<(), String> {
    println!(
        "Size shift at -m {memory_mib}: {turns} times the memory written in each phase; resident MiB at the end of each, the most \
         at any time, and the same to -m\n"
    );
    let mut heading = vec!["server"];
    heading.extend(PHASES.iter().map(|(name, _)| name));
    heading.extend(["most", "end / -m", "most / -m", "items", "hits", "refused", "CPU s"]);
    let mut table = Table::new(&heading);
    let sizes: Vec<Sizes> = PHASES.iter().map(|&(_, sizes)| sizes).collect();
    let plain = Contents::new(&sizes);
    let large = plain.clone().with_large(LARGE_ONE_IN, LARGE_BYTES);
    for (what, contents) in [("", &plain), (", with 1 MiB", &large)] {
        for program in bench.programs(4) {
            // memcached's limit is of the whole item.
            let program = program.with_memory(u64::from(memory_mib)).with(&["-I", "2m"]);
            let found = measure(bench, &program, contents, memory_mib, turns)?;
            let mib = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
            let share =
                |bytes: u64| format!("{:.3}", bytes as f64 / (f64::from(memory_mib) * f64::from(1 << 20)));
            let end = found.rss_bytes.last().copied().unwrap_or_default();
            let mut row = vec![format!("{}{what}", program.name)];
            row.extend(found.rss_bytes.iter().copied().map(mib));
            row.extend([mib(found.rss_bytes_max), share(end), share(found.rss_bytes_max)]);
            row.extend([
                found.items.to_string(),
                format!("{:.3}", found.hit_ratio),
                found.refused.to_string(),
                format!("{:.1}", found.cpu.as_secs_f64()),
            ]);
            table.push(row);
        }
    }
    table.print();
    Ok(())
}

fn measure(
    bench: &mut Bench,
    program: &Program,
    contents: &Contents,
    memory_mib: u32,
    turns: u32,
) -> Result<Found, String> {
    let protocol = Protocol::of(program.kind);
    let server = Server::start(program)?;
    let sampler = Sampler::start(server.pid());
    let mut lanes = Lanes::open(server.address(), protocol, LANES, contents)?;
    let memory_bytes = u64::from(memory_mib) << 20;
    let mut writer = Writer {
        contents,
        random: Random::new(3),
        next_key: 0,
        last_first_key: 0,
        hot: Zipf::new(hot_count(memory_bytes), 0.9),
    };
    let mut rss_bytes = Vec::new();
    for phase in 0..contents.phase_count() {
        writer.phase(&mut lanes, phase, memory_bytes * u64::from(turns))?;
        rss_bytes.push(probe::rss_bytes(server.pid())?);
    }
    bench.count(program, &lanes.tally);
    let reads = lanes.tally.hits + lanes.tally.misses;
    Ok(Found {
        rss_bytes_max: sampler.rss_bytes_max().max(rss_bytes.iter().copied().max().unwrap_or_default()),
        rss_bytes,
        items: probe::item_count(server.address(), protocol)?,
        hit_ratio: lanes.tally.hits as f64 / reads.max(1) as f64,
        refused: lanes.tally.refused,
        cpu: cpu_time(server.pid())?,
    })
}

/// The items that are read: of those that the memory holds in the first phase, one in so many.
fn hot_count(memory_bytes: u64) -> u32 {
    let item_bytes = (KEY_BYTES + 100 + OVERHEAD_BYTES) as u64;
    (memory_bytes / item_bytes / u64::from(HOT_ONE_IN)).max(1) as u32
}

struct Writer<'a> {
    contents: &'a Contents,
    random: Random,
    /// Keys below it have been written.
    next_key: u32,
    /// The first key of the phase before this one.
    last_first_key: u32,
    hot: Zipf,
}

impl Writer<'_> {
    /// SETs and GETs in turns until so many bytes are written.
    fn phase(&mut self, lanes: &mut Lanes<'_>, phase: u32, bytes: u64) -> Result<(), String> {
        let (first_key, mut written, mut version) = (self.next_key, 0, 0);
        let mut requests = Vec::with_capacity(TURN);
        let mut absent: Vec<u32> = Vec::new();
        while written < bytes {
            version += 1;
            requests.clear();
            // Turns of large values are shorter, so that they do not pile up here.
            let mut turn_bytes = 0;
            while requests.len() < TURN && turn_bytes < 4 << 20 {
                let key = absent.pop().unwrap_or_else(|| self.key());
                let len = self.contents.len(key, phase).unwrap_or_default();
                turn_bytes += (KEY_BYTES + len + OVERHEAD_BYTES) as u64;
                requests.push(Request::set(key, generation(phase, version)));
            }
            written += turn_bytes;
            lanes.exchange(&requests, |_, _| ())?;
            requests.clear();
            requests
                .extend((0..TURN / 8).map(|_| Request::get(self.hot.rank(&mut self.random) * HOT_ONE_IN)));
            lanes.exchange(&requests, |request, seen| {
                if seen == Seen::Miss {
                    absent.push(request.key);
                }
            })?;
        }
        self.last_first_key = first_key;
        Ok(())
    }

    /// The key of a SET: mostly one that has never been.
    fn key(&mut self) -> u32 {
        let written = self.next_key - self.last_first_key;
        if written > 0 && self.random.below(OVERWRITTEN_ONE_IN) == 0 {
            return self.last_first_key + self.random.below(written);
        }
        self.next_key += 1;
        self.next_key - 1
    }
}
